"""Encoded references, remembered in memory and on disk, so that no recording is encoded twice."""

import hashlib
import os
import threading
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

from loguru import logger

from backend.core import ReferenceCodes
from backend.voices import sealed
from backend.voices.voice import MAX_FILE_BYTES

_SUFFIX = ".codes"
_ENTRY_BYTES = 512
"""What Python takes for an entry beside its codes."""


class ReferenceCache:
    """Codes by recording and codec, the least recently used forgotten first. Thread-safe.

    On disk they outlive the process, in `directory`; None or `disk_bytes` 0 keeps none there. What
    the disk refuses is one warning: references are then encoded again.
    """

    def __init__(self, directory: Path | None, memory_bytes: int, disk_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._codes: OrderedDict[str, ReferenceCodes] = OrderedDict()
        self._held_bytes = 0
        self._disk = _Disk(directory, disk_bytes) if directory and disk_bytes > 0 else None
        self._lock = threading.Lock()

    @staticmethod
    def key(audio: bytes, codec_id: str) -> str:
        """What the codes of a whole audio file under a codec are kept by."""
        digest = hashlib.blake2b(codec_id.encode(), digest_size=16).digest()
        return hashlib.blake2b(audio, digest_size=16, key=digest).hexdigest()

    @property
    def held_bytes(self) -> int:
        """Memory that remembered codes take."""
        return self._held_bytes

    def get(self, key: str) -> ReferenceCodes | None:
        """What was put there; None if it is forgotten."""
        with self._lock:
            if (codes := self._codes.get(key)) is not None:
                self._codes.move_to_end(key)
                return codes
            if self._disk is not None and (codes := self._disk.get(key)) is not None:
                self._remember(key, codes)
            return codes

    def put(self, key: str, codes: ReferenceCodes) -> None:
        """Remember `codes`."""
        with self._lock:
            self._remember(key, codes)
            if self._disk is not None:
                self._disk.put(key, codes)

    def clear(self) -> int:
        """Forget what is in memory, not what is on disk; the bytes that were held."""
        with self._lock:
            freed_bytes, self._held_bytes = self._held_bytes, 0
            self._codes.clear()
            return freed_bytes

    def _remember(self, key: str, codes: ReferenceCodes) -> None:
        if (known := self._codes.pop(key, None)) is not None:
            self._held_bytes -= _size_bytes(known)
        self._codes[key] = codes
        self._held_bytes += _size_bytes(codes)
        while self._held_bytes > self._memory_bytes:
            _, oldest = self._codes.popitem(last=False)
            self._held_bytes -= _size_bytes(oldest)


class _Disk:
    """The files, which another process may share; each counts what it knows of."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._sizes: OrderedDict[Path, int] | None = None
        """Size of each file in bytes, the longest unused first; None until the first look."""
        self._has_warned = False

    def get(self, key: str) -> ReferenceCodes | None:
        path = self._path(key)
        try:
            sizes = self._look()
            codes = sealed.read(path, ReferenceCodes, MAX_FILE_BYTES)
            sizes[path] = path.stat().st_size
            sizes.move_to_end(path)
        except FileNotFoundError:
            return None
        except sealed.DamagedFile:
            self._remove(path)
            return None
        except OSError as error:
            self._warn(error)
            return None
        with suppress(OSError):  # a disk that is only read still serves
            os.utime(path)  # the next process forgets by age
        return codes

    def put(self, key: str, codes: ReferenceCodes) -> None:
        path, data = self._path(key), sealed.seal(codes)
        if len(data) > min(self._max_bytes, MAX_FILE_BYTES):
            return
        try:
            sizes = self._look()
            sizes.pop(path, None)
            while sum(sizes.values()) + len(data) > self._max_bytes:
                self._remove(next(iter(sizes)))
            sealed.write(path, data)
            sizes[path] = len(data)
        except OSError as error:
            self._warn(error)

    def _path(self, key: str) -> Path:
        return self._directory / f"{key}{_SUFFIX}"

    def _look(self) -> OrderedDict[Path, int]:
        if self._sizes is None:
            sealed.remove_unfinished(self._directory)
            found = []
            for path in self._directory.glob(f"*{_SUFFIX}"):
                with suppress(FileNotFoundError):
                    status = path.lstat()
                    found.append((status.st_mtime_ns, path, status.st_size))
            self._sizes = OrderedDict((path, size) for _, path, size in sorted(found))
        return self._sizes

    def _remove(self, path: Path) -> None:
        """Take `path` away; raises nothing, for what stays is found at the next start."""
        if self._sizes is not None:
            self._sizes.pop(path, None)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            self._warn(error)

    def _warn(self, error: OSError) -> None:
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "Encoded references cannot be kept in {}: {}. They are encoded again instead; make "
                "room, or set SHOAL_DATA_DIR.",
                self._directory,
                error.strerror or error,
            )


def _size_bytes(codes: ReferenceCodes) -> int:
    return len(codes.codes) + _ENTRY_BYTES
