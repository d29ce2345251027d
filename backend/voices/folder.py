"""The folder of saved voices: a file each, named by a random id, put in place in one step."""

import time
from dataclasses import dataclass
from pathlib import Path

from loguru import logger

from backend.errors import StorageFull, UnknownVoice
from backend.voices import sealed
from backend.voices.name import is_id, name_key
from backend.voices.voice import MAX_FILE_BYTES, VOICE_SUFFIX, Saved, Voice

_SETTLED_NS = 3_000_000_000
"""A folder that changed within the last seconds may change again without its time telling: some
file systems count in steps of two seconds."""

_Stamp = tuple[int, int, int]
"""Time of change in ns, size in bytes and inode of a file: another if it was replaced."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that was found, and the voice in it; None if it is damaged."""

    stamp: _Stamp
    voice: Voice | None
    key: str = ""
    """`name_key` of its name."""

    @property
    def size_bytes(self) -> int:
        """Of the file."""
        return self.stamp[1]


class VoiceFolder:
    """What lies in `directory`, at most `max_bytes`. Not thread-safe: `VoiceStore` locks it.

    What another process saves or deletes is seen by `look`. The folder is made by the first voice.
    """

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self.directory = directory
        self.entries: dict[str, Entry] = {}
        """By id, as they were at the last look."""
        self._max_bytes = max_bytes
        self._is_loaded = False
        self._problem = ""
        self._looked_at_ns: int | None = None
        """When the folder had last changed as it was last read; None asks for another look."""

    def look(self) -> None:
        """Read what has changed in the folder since the last look; everything at the first."""
        try:
            if not self._is_loaded:
                sealed.remove_unfinished(self.directory)
                self._is_loaded = True
            changed_ns = self.directory.stat().st_mtime_ns
            if changed_ns == self._looked_at_ns:
                return
            files = self.directory.iterdir()
            paths = [path for path in files if path.suffix == VOICE_SUFFIX and is_id(path.stem)]
        except FileNotFoundError:  # nothing was ever saved, or somebody took it all away
            self.entries = {}
            return
        except OSError as error:
            self._warn(error)
            return
        found = ((path.stem, self._entry(path)) for path in paths)
        self.entries = {stem: entry for stem, entry in found if entry is not None}
        is_settled = abs(time.time_ns() - changed_ns) > _SETTLED_NS
        is_complete = len(self.entries) == len(paths)
        self._looked_at_ns = changed_ns if is_settled and is_complete else None

    def delete(self, voice_id: str, called: str) -> None:
        """Delete the file of the voice that is `called` so; raises `StorageFull`."""
        try:
            self._path(voice_id).unlink(missing_ok=True)
        except OSError as error:
            raise StorageFull(
                f"The voice {called} cannot be deleted from {self.directory}: {_reason(error)}."
            ) from None
        sealed.sync_folder(self.directory)
        self._looked_at_ns = None
        del self.entries[voice_id]

    def read(self, voice: Voice) -> Saved:
        """What the file of `voice` holds; raises `UnknownVoice`, `StorageFull`."""
        try:
            return _load(self._path(voice.id))
        except (FileNotFoundError, sealed.DamagedFile):
            self._looked_at_ns = None
            raise UnknownVoice(
                f"The file of the voice {voice.name} is damaged or gone; create it again."
            ) from None
        except OSError as error:
            raise StorageFull(
                f"The voice {voice.name} cannot be read in {self.directory}: {_reason(error)}."
            ) from None

    def save(self, voice: Voice, codes: bytes) -> None:
        """Put the file of `voice` in place; raises `StorageFull`, and then nothing has changed."""
        path, data = self._path(voice.id), sealed.seal(Saved(1, voice, codes))
        kept = self.entries.get(voice.id)
        others_bytes = sum(e.size_bytes for e in self.entries.values() if e is not kept)
        if others_bytes + len(data) > self._max_bytes:
            raise StorageFull(
                f"Saved voices take {others_bytes} of {self._max_bytes} bytes, and this one does "
                "not fit beside them; delete one, or raise SHOAL_VOICES_LIMIT_MB."
            )
        try:
            sealed.write(path, data)
            self.entries[voice.id] = Entry(_stamp(path), voice, name_key(voice.name))
        except OSError as error:
            raise StorageFull(
                f"The voice cannot be saved in {self.directory}: {_reason(error)}; make room, or "
                "set SHOAL_DATA_DIR."
            ) from None
        finally:
            self._looked_at_ns = None

    def _path(self, voice_id: str) -> Path:
        return self.directory / f"{voice_id}{VOICE_SUFFIX}"

    def _entry(self, path: Path) -> Entry | None:
        """The file at `path`, read if it is not the one that is known; None if it is gone."""
        known = self.entries.get(path.stem)
        try:
            stamp = _stamp(path)
            if known is not None and known.stamp == stamp:
                return known
            voice = _load(path).voice
        except FileNotFoundError:
            return None
        except OSError as error:  # it may pass: too many open files, a scanner on Windows
            self._warn(error)
            return known
        except sealed.DamagedFile as error:
            logger.warning("A saved voice is left out, its file {} is damaged: {}.", path, error)
            return Entry(stamp, None)
        return Entry(stamp, voice, name_key(voice.name))

    def _warn(self, error: OSError) -> None:
        if _reason(error) != self._problem:
            self._problem = _reason(error)
            logger.warning("Voices cannot be read in {}: {}.", self.directory, self._problem)


def _load(path: Path) -> Saved:
    """The voice in a file; raises OSError, or `DamagedFile` where it is not one we wrote."""
    saved = sealed.read(path, Saved, MAX_FILE_BYTES)
    if saved.voice.id != path.stem:
        raise sealed.DamagedFile("it is another voice's")
    saved.check()
    return saved


def _stamp(path: Path) -> _Stamp:
    status = path.lstat()
    return status.st_mtime_ns, status.st_size, status.st_ino


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
