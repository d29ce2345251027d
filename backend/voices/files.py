"""Where small files are kept: in a folder of this machine, or in a store elsewhere (`remote`)."""

import os
import secrets
import time
from collections.abc import Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from backend.voices import sealed

SEEN_S = 5.0
"""What another server saves, changes or deletes in a store elsewhere is seen after so long."""
MISSED_S = 0.2
"""And after so long where it is asked for by a name that is not known here."""

_SETTLED_NS = 3_000_000_000
"""A folder that changed within the last seconds may change again without its time telling: some
file systems count in steps of two seconds."""


class Unreachable(OSError):
    """A store elsewhere does not answer, or answers that it cannot."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file that is there."""

    stamp: Hashable
    """Another once the file is another."""
    size_bytes: int
    changed_s: float
    """Seconds since 1970."""


class Files(Protocol):
    """Files of one kind, by name, in one place. What is told of a name that is not there is
    `FileNotFoundError`; every other refusal is another OSError."""

    where: str
    """The place, as people are told it."""
    advice: str
    """What they are to do where it refuses."""

    def look(self, max_age_s: float = SEEN_S) -> Mapping[str, Found] | None:
        """All that are there, as of at most `max_age_s` ago; None where nothing has changed since
        the last look. Raises OSError where that cannot be known."""

    def look_again(self) -> None:
        """Let the next look tell all, changed or not."""

    def read(self, name: str, max_bytes: int, stamp: Hashable = None) -> bytes:
        """A file, as it was with `stamp` if it is at hand; raises OSError, or `DamagedFile` where
        it is longer."""

    def read_all(
        self, found: Mapping[str, Found], max_bytes: int
    ) -> Mapping[str, bytes | Exception]:
        """What `read` gives or raises of each of several."""

    def write(self, name: str, data: bytes) -> Found:
        """Put it in place in one step, in the place of what was there."""

    def create(self, name: str, data: bytes) -> Found:
        """As `write`, where nothing of that name is there: of several who try at once, one does;
        the others get `FileExistsError`."""

    def delete(self, name: str) -> None:
        """Take it away, if it is there."""

    def touch(self, name: str) -> None:
        """It was used: of what is there, it is the last to be forgotten."""


class LocalFiles:
    """The files of a folder that end in `suffix`. The folder is made by the first of them."""

    def __init__(self, directory: Path, suffix: str, shared_by: str = "") -> None:
        """`shared_by` is the setting by which other machines write there too."""
        self.where = str(directory)
        self.advice = f"make room, or set {shared_by or 'SHOAL_DATA_DIR'}"
        self._is_shared = bool(shared_by)
        self._writer = f"{secrets.token_hex(8)}-" if shared_by else ""
        self._directory, self._suffix = directory, suffix
        self._is_clean = False
        self._looked_at_ns: int | None = None
        """When the folder had last changed as it was last read; None asks for another look."""

    def look(self, max_age_s: float = SEEN_S) -> Mapping[str, Found] | None:
        """As `Files` says; a look at the folder's time is cheap, and never an old one."""
        try:
            if not self._is_clean:
                sealed.remove_unfinished(self._directory, is_shared=self._is_shared)
                self._is_clean = True
            changed_ns = self._directory.stat().st_mtime_ns
            if changed_ns == self._looked_at_ns:
                return None
            paths = [each for each in self._directory.iterdir() if each.suffix == self._suffix]
        except FileNotFoundError:  # nothing was ever saved, or somebody took it all away
            self._looked_at_ns = None
            return {}
        found = {}
        for path in paths:
            with suppress(FileNotFoundError):
                found[path.stem] = _found(path)
        is_settled = abs(time.time_ns() - changed_ns) > _SETTLED_NS
        is_complete = len(found) == len(paths)
        self._looked_at_ns = changed_ns if is_settled and is_complete else None
        return found

    def look_again(self) -> None:
        """As `Files` says."""
        self._looked_at_ns = None

    def read(self, name: str, max_bytes: int, stamp: Hashable = None) -> bytes:
        """As `Files` says."""
        return sealed.contents(self._path(name), max_bytes)

    def read_all(
        self, found: Mapping[str, Found], max_bytes: int
    ) -> Mapping[str, bytes | Exception]:
        """As `Files` says."""
        return {name: self._read_or_say(name, max_bytes) for name in found}

    def write(self, name: str, data: bytes) -> Found:
        """As `Files` says."""
        self._looked_at_ns = None
        sealed.write(self._path(name), data, writer=self._writer)
        return _found(self._path(name))

    def create(self, name: str, data: bytes) -> Found:
        """As `Files` says."""
        self._looked_at_ns = None
        sealed.write(self._path(name), data, is_new=True, writer=self._writer)
        return _found(self._path(name))

    def delete(self, name: str) -> None:
        """As `Files` says."""
        self._looked_at_ns = None
        self._path(name).unlink(missing_ok=True)
        sealed.sync_folder(self._directory)

    def touch(self, name: str) -> None:
        """As `Files` says."""
        os.utime(self._path(name))

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}{self._suffix}"

    def _read_or_say(self, name: str, max_bytes: int) -> bytes | Exception:
        try:
            return self.read(name, max_bytes)
        except (OSError, sealed.DamagedFile) as error:
            return error


def _found(path: Path) -> Found:
    status = path.lstat()
    stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
    return Found(stamp, status.st_size, status.st_mtime)
