"""Encoded references, remembered in memory and on disk, so that no recording is encoded twice."""

import hashlib
import threading
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

from loguru import logger

from backend.core import ReferenceCodes
from backend.voices import sealed
from backend.voices.files import Files, LocalFiles
from backend.voices.voice import MAX_FILE_BYTES

SUFFIX = ".codes"
"""Of their files."""
_ENTRY_BYTES = 512
"""What Python takes for an entry beside its codes."""


class ReferenceCache:
    """Codes by recording and codec, the least recently used forgotten first. Thread-safe.

    On disk they outlive the process, in `directory`; None or `disk_bytes` 0 keeps none there. In
    `shared`, of which `disk_bytes` are used too, other servers find them. What either refuses is
    one warning: references are then encoded again.
    """

    def __init__(
        self,
        directory: Path | None,
        memory_bytes: int,
        disk_bytes: int,
        shared: Files | None = None,
    ) -> None:
        self._memory_bytes = memory_bytes
        self._codes: OrderedDict[str, ReferenceCodes] = OrderedDict()
        self._held_bytes = 0
        local = LocalFiles(directory, SUFFIX) if directory is not None else None
        self._disk = _Disk(local, disk_bytes) if local and disk_bytes > 0 else None
        self._shared = _Disk(shared, disk_bytes) if shared and disk_bytes > 0 else None
        self._lock = threading.Lock()
        self._sharing = threading.Lock()
        """Of its own: nobody waits for what others have who only wants what is here."""

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

    @property
    def is_shared(self) -> bool:
        """Other servers may have encoded a recording."""
        return self._shared is not None

    def fetch(self, key: str) -> ReferenceCodes | None:
        """What another server has put there, remembered; None if there is nothing."""
        if self._shared is None:
            return None
        with self._sharing:
            codes = self._shared.get(key)
        if codes is not None:
            self.put(key, codes)
        return codes

    def share(self, key: str, codes: ReferenceCodes) -> None:
        """Let other servers find `codes`."""
        if self._shared is not None:
            with self._sharing:
                self._shared.put(key, codes)

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

    def __init__(self, files: Files, max_bytes: int) -> None:
        self._files = files
        self._max_bytes = max_bytes
        self._sizes: OrderedDict[str, int] | None = None
        """Size of each file in bytes, the longest unused first; None until the first look."""
        self._has_warned = False

    def get(self, key: str) -> ReferenceCodes | None:
        try:
            data = self._files.read(key, MAX_FILE_BYTES)
            codes = sealed.opened(data, ReferenceCodes)
        except FileNotFoundError:
            return None
        except sealed.DamagedFile:
            self._remove(key)
            return None
        except OSError as error:
            self._warn(error)
            return None
        if self._sizes is not None:
            self._sizes[key] = len(data)
            self._sizes.move_to_end(key)
        with suppress(OSError):  # a disk that is only read still serves
            self._files.touch(key)  # the next process forgets by age
        return codes

    def put(self, key: str, codes: ReferenceCodes) -> None:
        data = sealed.seal(codes)
        if len(data) > min(self._max_bytes, MAX_FILE_BYTES):
            return
        try:
            sizes = self._look()
            sizes.pop(key, None)
            while sum(sizes.values()) + len(data) > self._max_bytes:
                self._remove(next(iter(sizes)))
            self._files.write(key, data)
            sizes[key] = len(data)
        except OSError as error:
            self._warn(error)

    def _look(self) -> OrderedDict[str, int]:
        if self._sizes is None:
            found = self._files.look(0.0) or {}
            by_age = sorted(found, key=lambda name: found[name].changed_s)
            self._sizes = OrderedDict((name, found[name].size_bytes) for name in by_age)
        return self._sizes

    def _remove(self, key: str) -> None:
        """Take it away; raises nothing, for what stays is found at the next start."""
        if self._sizes is not None:
            self._sizes.pop(key, None)
        try:
            self._files.delete(key)
        except OSError as error:
            self._warn(error)

    def _warn(self, error: OSError) -> None:
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "Encoded references cannot be kept in {}: {}. They are encoded again instead; {}.",
                *(self._files.where, error.strerror or error, self._files.advice),
            )


def _size_bytes(codes: ReferenceCodes) -> int:
    return len(codes.codes) + _ENTRY_BYTES
