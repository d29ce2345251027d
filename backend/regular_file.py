"""Files of folders that others write in, opened only where they are regular ones.

A pipe of that name would keep its reader waiting, a link would lead elsewhere, to a device without
an end.
"""

import os
import stat
from pathlib import Path
from typing import BinaryIO

_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a pipe must not keep us waiting for its writer
)


class NotRegular(OSError):
    """What is there is a link, a pipe, a device or a folder."""


def open_regular(path: Path) -> BinaryIO:
    """The file at `path`, to be read; raises OSError, of which `NotRegular` is one."""
    # Here for systems whose open() follows links; elsewhere O_NOFOLLOW leaves no gap.
    _check(path, path.lstat())
    descriptor = os.open(path, _FLAGS)
    try:
        _check(path, os.fstat(descriptor))
    except NotRegular:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def _check(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise NotRegular(f"{path} is no regular file")
