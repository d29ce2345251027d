"""Temporary files of uploads and answers, on a disk that may be full."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from backend.errors import StorageFull

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def on_disk() -> Iterator[None]:
    """Raises `StorageFull` where what is written within finds no room."""
    try:
        yield
    except OSError as error:
        # tempfile names no file where it finds no folder that it can write to.
        has_no_folder = isinstance(error, FileNotFoundError) and error.filename is None
        if error.errno not in _NO_ROOM and not has_no_folder:
            raise
        raise StorageFull(
            f"The server has no room for temporary files ({error.strerror or error}); make room "
            "where TMPDIR is, or send less at once."
        ) from error
