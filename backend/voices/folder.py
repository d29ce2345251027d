"""Saved voices, a file each: which there are, what they may take, and what is damaged."""

import hashlib
import time
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from loguru import logger

from backend.errors import StorageDown, StorageFull, UnknownVoice, VoiceConflict
from backend.voices import sealed
from backend.voices.files import SEEN_S, Files, Found, Unreachable
from backend.voices.name import is_id, look_key, name_key
from backend.voices.voice import MAX_FILE_BYTES, Saved, Voice, check_foreign, check_names

RENAMED_S = 60.0
"""A file that a rename left behind goes after so long: who renames has long been done with it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that was found, and the voice in it; None if it is damaged."""

    file: str
    """Its name."""
    stamp: Hashable
    size_bytes: int
    changed_s: float
    voice: Voice | None
    key: str = ""
    """`name_key` of its name."""


class VoiceFolder:
    """The voices in `files`, at most `max_bytes` of them. Not thread-safe: `VoiceStore` locks it.

    What others save or delete there is seen by `look`. Each file is called by the id of its voice;
    in a place that several servers share (`is_shared`) by the name, so that of several who save a
    name at once one finds it free.
    """

    def __init__(self, files: Files, max_bytes: int, *, is_shared: bool = False) -> None:
        self.files = files
        self.entries: dict[str, Entry] = {}
        """By id, as they were at the last look; of damaged ones by the name of the file."""
        self._max_bytes, self._is_shared = max_bytes, is_shared
        self._found: dict[str, Entry] = {}
        """By the name of the file; of a rename that was cut off both."""
        self._problem = ""
        """Why the last look failed."""
        self._warned_of = ""
        self.is_known = not is_shared
        """It could be looked at once; a folder of this machine needs no such look."""

    def look(self, max_age_s: float = SEEN_S) -> None:
        """See what has changed since the last look, as of at most `max_age_s` ago: everything at
        the first. Where that cannot be known, what is known stays, and a warning says so."""
        try:
            found = self.files.look(max_age_s)
        except OSError as error:
            self._problem = _reason(error)
            self._warn(error)
            return
        self._problem, self.is_known = "", True
        if found is None:
            return
        names = {name: each for name, each in found.items() if is_id(name)}
        new = {name: each for name, each in names.items() if self._is_new(name, each)}
        kept = {name: entry for name, entry in self._found.items() if name in names}
        self._found = kept | {entry.file: entry for entry in self._read_new(new)}
        self._sort_out()

    def check(self) -> None:
        """Raise `StorageDown` where it cannot be said now which voices there are."""
        if self._is_shared and self._problem:
            raise StorageDown(
                f"Voices cannot be looked up in {self.files.where}: {self._problem}; "
                f"{self.files.advice}. Without voice, the default one speaks."
            )

    def delete(self, voice_id: str, called: str) -> None:
        """Delete the file of the voice that is `called` so; raises `StorageFull`, `StorageDown`."""
        entry = self.entries[voice_id]
        try:
            self.files.delete(entry.file)
        except OSError as error:
            told = f"The voice {called} cannot be deleted from {self.files.where}"
            raise self._refusal(error, f"{told}: {_reason(error)}.") from None
        self._found.pop(entry.file)
        self._sort_out()

    def read(self, voice: Voice) -> Saved:
        """What the file of `voice` holds; raises `UnknownVoice`, `StorageFull`, `StorageDown`."""
        entry = self.entries[voice.id]
        try:
            data = self.files.read(entry.file, MAX_FILE_BYTES, entry.stamp)
            return self._opened(entry.file, data)
        except (FileNotFoundError, sealed.DamagedFile):
            self.files.look_again()
            raise UnknownVoice(
                f"The file of the voice {voice.name} is damaged or gone; create it again."
            ) from None
        except OSError as error:
            told = f"The voice {voice.name} cannot be read in {self.files.where}"
            raise self._refusal(error, f"{told}: {_reason(error)}; {self.files.advice}.") from None

    def save(self, voice: Voice, codes: bytes) -> None:
        """Put the file of `voice` in place; raises `StorageFull`, `StorageDown`, and where another
        server has just taken its name `VoiceConflict`; then nothing has changed."""
        data, kept = sealed.seal(Saved(1, voice, codes)), self.entries.get(voice.id)
        others_bytes = sum(e.size_bytes for e in self._found.values() if e is not kept)
        if others_bytes + len(data) > self._max_bytes:
            raise StorageFull(
                f"Saved voices take {others_bytes} of {self._max_bytes} bytes, and this one does "
                "not fit beside them; delete one, or raise SHOAL_VOICES_LIMIT_MB."
            )
        name = self._file_of(voice)
        is_new = self._is_shared and (kept is None or kept.file != name)
        try:
            there = (self.files.create if is_new else self.files.write)(name, data)
        except FileExistsError:
            self.files.look_again()
            raise VoiceConflict(
                f"A voice is called {voice.name} already; choose another name, or delete that one."
            ) from None
        except OSError as error:
            told = f"The voice cannot be saved in {self.files.where}"
            raise self._refusal(error, f"{told}: {_reason(error)}; {self.files.advice}.") from None
        if kept is not None and kept.file != name:
            self._leave(kept)
        self._found[name] = _entry(name, there, voice)
        self._sort_out()

    # -- files and entries ------------------------------------------------------------------------

    def _file_of(self, voice: Voice) -> str:
        return file_of_name(voice.name) if self._is_shared else voice.id

    def _is_new(self, name: str, found: Found) -> bool:
        known = self._found.get(name)
        return known is None or known.stamp != found.stamp

    def _read_new(self, found: dict[str, Found]) -> Iterable[Entry]:
        """What is in these files; of one that is gone, or that cannot be read now, nothing."""
        for name, answer in self.files.read_all(found, MAX_FILE_BYTES).items():
            try:
                if isinstance(answer, Exception):
                    raise answer
                voice = self._opened(name, answer).voice
            except FileNotFoundError:
                self.files.look_again()
            except OSError as error:  # it may pass: too many open files, a scanner on Windows
                self.files.look_again()
                self._warn(error)
            except sealed.DamagedFile as error:
                logger.warning(
                    "A saved voice is left out, its file {} in {} is damaged: {}.",
                    *(name, self.files.where, error),
                )
                yield _entry(name, found[name], None)
            else:
                yield _entry(name, found[name], voice)

    def _opened(self, name: str, data: bytes) -> Saved:
        """The voice in a file; raises `DamagedFile` where it is not one we wrote there."""
        saved = sealed.opened(data, Saved)
        if name != self._file_of(saved.voice):
            raise sealed.DamagedFile("it is another voice's")
        if self._is_shared:  # others write there too
            check_foreign(saved)
            check_names(saved.voice)
        else:
            saved.check()
        return saved

    def _sort_out(self) -> None:
        """Of a voice that a rename was cut off of, the later file counts, and the other goes."""
        if not self._is_shared:  # a file is called by its voice's id
            self.entries = self._found
            return
        self.entries = {}
        for entry in sorted(self._found.values(), key=lambda each: (each.changed_s, each.file)):
            voice_id = entry.voice.id if entry.voice is not None else entry.file
            earlier = self.entries.get(voice_id)
            if earlier is not None and time.time() - entry.changed_s > RENAMED_S:
                self._leave(earlier)
            self.entries[voice_id] = entry

    def _leave(self, entry: Entry) -> None:
        """Take away a file whose voice has another name now; what cannot be, is later."""
        try:
            self.files.delete(entry.file)
        except OSError as error:
            self._warn(error)
        else:
            self._found.pop(entry.file, None)

    def _refusal(self, error: OSError, told: str) -> StorageFull | StorageDown:
        return StorageDown(told) if isinstance(error, Unreachable) else StorageFull(told)

    def _warn(self, error: OSError) -> None:
        if _reason(error) != self._warned_of:
            self._warned_of = _reason(error)
            logger.warning("Voices cannot be read in {}: {}.", self.files.where, self._warned_of)


def file_of_name(name: str) -> str:
    """What the file of a voice of that name is called where several servers share it: the same for
    names that only one voice may have."""
    return hashlib.blake2b(look_key(name_key(name)).encode(), digest_size=16).hexdigest()


def _entry(name: str, found: Found, voice: Voice | None) -> Entry:
    key = name_key(voice.name) if voice is not None else ""
    return Entry(name, found.stamp, found.size_bytes, found.changed_s, voice, key)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
