"""Saved voices: a file each, named by a random id, put in place in one step."""

import difflib
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from loguru import logger

from backend.core import ReferenceCodes, VoicePrompt
from backend.errors import BadField, StorageFull, UnknownVoice, VoiceConflict, quoted
from backend.voices import sealed
from backend.voices.name import (
    MAX_NAME_CHARACTERS,
    MAX_UNCOMPOSED_CHARACTERS,
    checked_name,
    is_id,
    look_key,
    name_key,
)
from backend.voices.voice import MAX_FILE_BYTES, Saved, Voice, check_texts, new_time, open_foreign

__all__ = ["Voice", "VoiceStore"]

_SUFFIX = ".voice"
_SETTLED_NS = 3_000_000_000
"""A folder that changed within the last seconds may change again without its time telling: some
file systems count in steps of two seconds."""
_MAX_COMPARED = 1000


_Stamp = tuple[int, int, int]
"""Time of change in ns, size in bytes and inode of a file: another if it was replaced."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file that was found, and the voice in it; None if it is damaged."""

    stamp: _Stamp
    voice: Voice | None
    key: str = ""
    """`name_key` of its name."""

    @property
    def size_bytes(self) -> int:
        return self.stamp[1]


class VoiceStore:
    """The voices in one folder, at most `max_voices` of them in `max_bytes` of files.

    Thread-safe. What another process saves or deletes in the same folder is seen too. The folder is
    first looked at when it is first used, and made by the first voice.
    """

    def __init__(self, directory: Path, max_voices: int, max_bytes: int) -> None:
        self._directory = directory
        self._max_voices = max_voices
        self._max_bytes = max_bytes
        self._entries: dict[str, _Entry] = {}
        self._listed: tuple[Voice, ...] = ()
        """What `list` last returned."""
        self._lock = threading.Lock()
        self._is_loaded = False
        self._problem = ""
        self._looked_at_ns: int | None = None
        """When the folder had last changed as it was last read; None asks for another look."""

    def list(self) -> tuple[Voice, ...]:
        """Every voice, the oldest first: the same tuple until there are others."""
        with self._lock:
            self._look()
            found = tuple(sorted(self._voices(), key=_age))
            if found != self._listed:
                self._listed = found
            return self._listed

    def damaged(self) -> tuple[str, ...]:
        """Ids of the files that hold no voice; `delete` takes them."""
        with self._lock:
            self._look()
            return tuple(sorted(stem for stem, e in self._entries.items() if e.voice is None))

    def get(self, name_or_id: str) -> Voice:
        """The voice of that name, in upper or lower case, or id; `UnknownVoice` names near ones."""
        with self._lock:
            self._look()
            return self._find(name_or_id)

    def check_name(self, name: str) -> str:
        """`name` as a new voice would bear it.

        Raises what `create` would: `BadField`, `VoiceConflict` and, where no voice more may be
        kept, `StorageFull`.
        """
        with self._lock:
            self._look()
            return self._new_name(name)

    def create(
        self,
        name: str,
        codes: ReferenceCodes,
        transcript: str = "",
        description: str = "",
        language: str = "",
    ) -> Voice:
        """Save a voice.

        Raises `BadField`, `VoiceConflict` where the name is taken, `StorageFull`.
        """
        check_texts(transcript, description)
        voice = Voice(
            id="",
            name=name,
            transcript=transcript,
            codec_id=codes.codec_id,
            num_codebooks=codes.num_codebooks,
            frames=codes.frames,
            audio_s=codes.audio_s,
            created_at=new_time(),
            description=description,
            language=language,
        )
        return self._add(voice, codes.codes)

    def export_file(self, name_or_id: str) -> tuple[Voice, bytes]:
        """A voice, and its file as `import_file` takes it; raises `UnknownVoice`, `StorageFull`."""
        with self._lock:
            self._look()
            saved = self._read(self._find(name_or_id))
        return saved.voice, sealed.seal(saved)

    def import_file(self, data: bytes, name: str = "") -> Voice:
        """Save the voice of a file that `export_file` gave, under `name` if there is one.

        It gets an id of its own. Raises `BadField` where the file is damaged or none of ours,
        `VoiceConflict` where the name is taken, `StorageFull`.
        """
        try:
            saved = open_foreign(data)
        except sealed.DamagedFile as error:
            raise BadField(
                f"file is damaged, or no exported voice: {error}. Send what GET "
                "/voices/{name}/export answers."
            ) from None
        voice = replace(saved.voice, name=name) if name else saved.voice
        check_texts(voice.transcript, voice.description)
        return self._add(voice, saved.codes)

    def update(
        self,
        name_or_id: str,
        name: str | None = None,
        transcript: str | None = None,
        description: str | None = None,
        language: str | None = None,
    ) -> Voice:
        """Change what is said of a voice; None leaves it. The voice as it is then.

        Raises `UnknownVoice`, `BadField`, `VoiceConflict` where the name is taken, `StorageFull`.
        """
        check_texts(transcript or "", description or "")
        with self._lock:
            self._look()
            found = self._find(name_or_id)
            changed = replace(
                found,
                name=found.name if name in (None, found.name) else self._free_name(name, found.id),
                transcript=found.transcript if transcript is None else transcript,
                description=found.description if description is None else description,
                language=found.language if language is None else language,
            )
            if changed != found:
                self._save(changed, self._read(found).codes)
            return changed

    def delete(self, name_or_id: str) -> None:
        """Delete a voice, or a damaged file by its id.

        Raises `UnknownVoice`, `StorageFull` where the disk refuses.
        """
        with self._lock:
            self._look()
            is_damaged = self._is_damaged(name_or_id)
            voice_id = name_or_id if is_damaged else self._find(name_or_id).id
            try:
                self._path(voice_id).unlink(missing_ok=True)
            except OSError as error:
                raise StorageFull(
                    f"The voice {name_or_id} cannot be deleted from {self._directory}: "
                    f"{_reason(error)}."
                ) from None
            sealed.sync_folder(self._directory)
            self._looked_at_ns = None
            del self._entries[voice_id]

    def prompt(self, name_or_id: str, codec_id: str) -> VoicePrompt:
        """The voice as a model with the codec `codec_id` hears it.

        Raises `UnknownVoice`, and `VoiceConflict` where it was saved under another codec.
        """
        with self._lock:
            self._look()
            saved = self._read(self._find(name_or_id))
        voice = saved.voice
        if voice.codec_id != codec_id:
            raise VoiceConflict(
                f"The voice {voice.name} was saved under a checkpoint with another codec; create "
                "it again under the one that is loaded."
            )
        codes = ReferenceCodes(saved.codes, voice.num_codebooks, voice.codec_id, voice.audio_s)
        return VoicePrompt(codes, voice.transcript)

    def _add(self, voice: Voice, codes: bytes) -> Voice:
        """Save `voice` as a new one: with another id, and its name as it is kept."""
        with self._lock:
            self._look()
            new = replace(voice, id=secrets.token_hex(16), name=self._new_name(voice.name))
            self._save(new, codes)
            return new

    # -- what is known, all under the lock --------------------------------------------------------

    def _voices(self) -> Iterator[Voice]:
        return (entry.voice for entry in self._entries.values() if entry.voice is not None)

    def _named(self, name: str) -> Voice | None:
        """The oldest of that name: processes that save at once may make two."""
        if len(name) > MAX_UNCOMPOSED_CHARACTERS:
            return None
        key = name_key(name)
        named = (e.voice for e in self._entries.values() if e.voice is not None and e.key == key)
        return min(named, key=_age, default=None)

    def _is_damaged(self, voice_id: str) -> bool:
        entry = self._entries.get(voice_id)
        return entry is not None and entry.voice is None

    def _find(self, name_or_id: str) -> Voice:
        entry = self._entries.get(name_or_id)
        found = entry.voice if entry is not None else self._named(name_or_id)
        if found is None:
            raise UnknownVoice(self._unknown(name_or_id))
        return found

    def _unknown(self, name_or_id: str) -> str:
        if self._is_damaged(name_or_id):
            return f"The file of the voice {name_or_id} is damaged; delete it, and create it again."
        key, shown = name_key(name_or_id[:MAX_NAME_CHARACTERS]), quoted(name_or_id)
        names = {name_key(v.name): v.name for v in islice(self._voices(), _MAX_COMPARED)}
        near = [names[each] for each in difflib.get_close_matches(key, names, n=3)]
        if near:
            return f"No voice {shown}; did you mean {' or '.join(near)}?"
        advice = "GET /voices lists them" if names else "none is saved yet; POST /voices saves one"
        return f"No voice {shown}; {advice}."

    def _new_name(self, name: str) -> str:
        free = self._free_name(name)
        if sum(1 for _ in self._voices()) >= self._max_voices:
            raise StorageFull(
                f"{self._max_voices} voices are saved, the most that are kept; delete one, or "
                "raise SHOAL_MAX_VOICES."
            )
        return free

    def _free_name(self, name: str, own_id: str = "") -> str:
        checked = checked_name(name)
        key = look_key(checked)
        holder = self._named(checked) or next(
            (voice for voice in self._voices() if look_key(voice.name) == key), None
        )
        if holder is not None and holder.id != own_id:
            raise VoiceConflict(
                f"A voice is called {holder.name} already; choose another name, or delete that one."
            )
        return checked

    # -- the folder, all under the lock -----------------------------------------------------------

    def _path(self, voice_id: str) -> Path:
        return self._directory / f"{voice_id}{_SUFFIX}"

    def _look(self) -> None:
        """Read what has changed in the folder since the last look; everything at the first."""
        try:
            if not self._is_loaded:
                sealed.remove_unfinished(self._directory)
                self._is_loaded = True
            changed_ns = self._directory.stat().st_mtime_ns
            if changed_ns == self._looked_at_ns:
                return
            paths = [p for p in self._directory.iterdir() if p.suffix == _SUFFIX and is_id(p.stem)]
        except FileNotFoundError:  # nothing was ever saved, or somebody took it all away
            self._entries = {}
            return
        except OSError as error:
            self._warn(error)
            return
        found = ((path.stem, self._entry(path)) for path in paths)
        self._entries = {stem: entry for stem, entry in found if entry is not None}
        is_settled = abs(time.time_ns() - changed_ns) > _SETTLED_NS
        is_complete = len(self._entries) == len(paths)
        self._looked_at_ns = changed_ns if is_settled and is_complete else None

    def _entry(self, path: Path) -> _Entry | None:
        """The file at `path`, read if it is not the one that is known; None if it is gone."""
        known = self._entries.get(path.stem)
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
            return _Entry(stamp, None)
        return _Entry(stamp, voice, name_key(voice.name))

    def _warn(self, error: OSError) -> None:
        if _reason(error) != self._problem:
            self._problem = _reason(error)
            logger.warning("Voices cannot be read in {}: {}.", self._directory, self._problem)

    def _read(self, voice: Voice) -> Saved:
        try:
            return _load(self._path(voice.id))
        except (FileNotFoundError, sealed.DamagedFile):
            self._looked_at_ns = None
            raise UnknownVoice(
                f"The file of the voice {voice.name} is damaged or gone; create it again."
            ) from None
        except OSError as error:
            raise StorageFull(
                f"The voice {voice.name} cannot be read in {self._directory}: {_reason(error)}."
            ) from None

    def _save(self, voice: Voice, codes: bytes) -> None:
        """Put the file of `voice` in place; raises `StorageFull`, and then nothing has changed."""
        path, data = self._path(voice.id), sealed.seal(Saved(1, voice, codes))
        kept = self._entries.get(voice.id)
        others_bytes = sum(e.size_bytes for e in self._entries.values() if e is not kept)
        if others_bytes + len(data) > self._max_bytes:
            raise StorageFull(
                f"Saved voices take {others_bytes} of {self._max_bytes} bytes, and this one does "
                "not fit beside them; delete one, or raise SHOAL_VOICES_LIMIT_MB."
            )
        try:
            sealed.write(path, data)
            self._entries[voice.id] = _Entry(_stamp(path), voice, name_key(voice.name))
        except OSError as error:
            raise StorageFull(
                f"The voice cannot be saved in {self._directory}: {_reason(error)}; make room, or "
                "set SHOAL_DATA_DIR."
            ) from None
        finally:
            self._looked_at_ns = None


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


def _age(voice: Voice) -> tuple[str, str]:
    return voice.created_at, voice.id


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
