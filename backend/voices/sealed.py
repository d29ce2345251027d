"""Small files that are whole or not there: put in place in one step, and sealed with a digest."""

import hashlib
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec
import psutil

from backend.regular_file import NotRegular, open_regular

T = TypeVar("T")

_MAGIC = b"shoal\x01"
_DIGEST_BYTES = 16
_ABANDONED_S = 3600.0
"""What another machine was writing so long ago, it writes no more."""
_UNFINISHED = re.compile(r".*\.(\d{1,9})\.tmp")
"""What a file is called while process N writes it."""


class DamagedFile(Exception):
    """A file is not what was written."""


def seal(value: object) -> bytes:
    """The bytes of a file that holds `value`."""
    body = msgspec.msgpack.encode(value)
    return _MAGIC + _digest(body) + body


def write(path: Path, data: bytes, *, is_new: bool = False, writer: str = "") -> None:
    """Put what `seal` gave at `path`, in the place of what was there, and its folder if need be.

    `writer` is what nobody else who writes there is called; not given, this process's number, which
    is enough on one machine. Raises OSError, and then what was there still is: `FileExistsError`
    where `is_new` and something was. Once it returns, the file outlives a loss of power where the
    system lets a folder be synced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{writer or os.getpid()}.tmp")
    try:
        unfinished.unlink(missing_ok=True)
        with unfinished.open("xb") as file:  # new: through a link it would be another's
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            path.hardlink_to(unfinished)  # of all ways to a name, the one that takes nobody's place
            unfinished.unlink()
        else:
            unfinished.replace(path)
    except OSError:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def read(path: Path, kind: type[T], max_bytes: int) -> T:
    """What was sealed in the file at `path`; raises as `contents`."""
    return opened(contents(path, max_bytes), kind)


def contents(path: Path, max_bytes: int) -> bytes:
    """What is in the file at `path`; raises OSError, or `DamagedFile`.

    More than `max_bytes` are damage, and so is what is no regular file: neither is read.
    """
    try:
        with open_regular(path) as file:
            data = file.read(max_bytes + 1)
    except NotRegular:
        raise DamagedFile("it is no regular file") from None
    return checked(data, max_bytes)


def checked(data: bytes, max_bytes: int) -> bytes:
    """`data`; raises `DamagedFile` where it is longer than `max_bytes`."""
    if len(data) > max_bytes:
        raise DamagedFile(f"it has more than {max_bytes} bytes")
    return data


def opened(data: bytes, kind: type[T]) -> T:
    """What `seal` made `data` of; raises `DamagedFile`, whatever `data` is."""
    body = data[len(_MAGIC) + _DIGEST_BYTES :]
    if not data.startswith(_MAGIC + _digest(body)):
        raise DamagedFile("its digest is another's")
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except (ValueError, RecursionError) as error:  # text that is no UTF-8 and depth are among them
        raise DamagedFile(str(error)) from None


def remove_unfinished(folder: Path, *, is_shared: bool = False) -> None:
    """Remove what writers that were killed left in `folder`; one at work keeps its own.

    Where other machines write, nobody knows which are at work: what is old is left.
    """
    if is_shared:
        for path in folder.glob("*.tmp"):
            with suppress(OSError):
                if time.time() - path.lstat().st_mtime > _ABANDONED_S:
                    path.unlink(missing_ok=True)
        return
    for path in folder.glob("*.tmp"):
        writer = _UNFINISHED.fullmatch(path.name)
        if writer is None:
            continue
        pid = int(writer[1])
        # In a container each start has the same number, and this one has not begun to write.
        if pid == os.getpid() or not psutil.pid_exists(pid):
            with suppress(OSError):
                path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Let what was put in `folder`, or taken out, outlive a loss of power, where that can be."""
    with suppress(OSError):  # Windows opens no folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest()
