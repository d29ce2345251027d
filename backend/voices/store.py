"""Voices by name: those that were saved, and those that the checkpoint ships."""

import difflib
import secrets
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from backend.core import ReferenceCodes, VoicePrompt
from backend.errors import BadField, StorageFull, UnknownVoice, VoiceConflict, quoted
from backend.voices import sealed
from backend.voices.files import MISSED_S, Files, LocalFiles
from backend.voices.folder import VoiceFolder
from backend.voices.name import (
    MAX_NAME_CHARACTERS,
    MAX_UNCOMPOSED_CHARACTERS,
    checked_name,
    look_key,
    name_key,
)
from backend.voices.shipped import ShippedVoices
from backend.voices.voice import (
    VOICE_SUFFIX,
    Saved,
    Voice,
    check_texts,
    new_voice,
    open_foreign,
)

__all__ = ["Voice", "VoiceStore"]

_MAX_COMPARED = 1000


class VoiceStore:
    """The voices in one folder, at most `max_voices` of them in `max_bytes` of files.

    Thread-safe. What another process saves or deletes in the same folder is seen too. The folder is
    first looked at when it is first used, and made by the first voice.

    In a `place` that several servers share, a name is taken once for all of them, and whoever asks
    for what cannot be known, because the place does not answer, gets `StorageDown`.

    Beside them are the `shipped` ones, which count for neither and cannot be changed: a voice in
    the folder goes before one of its name, which is found by its id alone then.
    """

    def __init__(
        self,
        place: Path | Files,
        max_voices: int,
        max_bytes: int,
        shipped: ShippedVoices | None = None,
    ) -> None:
        """`place` is a folder of this machine alone, or one that servers share."""
        if isinstance(place, Path):
            self._folder = VoiceFolder(LocalFiles(place, VOICE_SUFFIX), max_bytes)
        else:
            self._folder = VoiceFolder(place, max_bytes, is_shared=True)
        self._max_voices = max_voices
        self._shipped = shipped or ShippedVoices()
        self._listed: tuple[Voice, ...] = ()
        """What `list` last returned."""
        self._lock = threading.Lock()

    def look(self) -> None:
        """See what others have changed. Where voices are kept elsewhere the first look waits for
        that place, and no other does."""
        with self._lock:
            self._folder.look()

    def list(self) -> tuple[Voice, ...]:
        """Every voice, the oldest first: the same tuple until there are others."""
        with self._lock:
            self._folder.look()
            if not self._folder.is_known:
                self._folder.check()
            found = tuple(sorted(self._all(), key=_age))
            if found != self._listed:
                self._listed = found
            return self._listed

    def damaged(self) -> tuple[str, ...]:
        """Ids of the files that hold no voice; `delete` takes them."""
        with self._lock:
            self._folder.look()
            entries = self._folder.entries.items()
            return tuple(sorted(voice_id for voice_id, each in entries if each.voice is None))

    def get(self, name_or_id: str) -> Voice:
        """The voice of that name, in upper or lower case, or id; `UnknownVoice` names near ones."""
        with self._lock:
            return self._find_anywhere(name_or_id)

    def known(self, name_or_id: str) -> Voice | None:
        """The voice of that name or id as far as is known without waiting for anybody; None where
        there is none. For names that mean something else where no voice has them."""
        with self._lock:
            self._folder.look()
            return self._known(name_or_id)

    def check_name(self, name: str) -> str:
        """`name` as a new voice would bear it.

        Raises what `create` would: `BadField`, `VoiceConflict` and, where no voice more may be
        kept, `StorageFull`.
        """
        with self._lock:
            self._look_now()
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
        voice = new_voice(name, codes, transcript, description, language=language)
        return self._add(voice, codes.codes)

    def export_file(self, name_or_id: str) -> tuple[Voice, bytes]:
        """A voice, and its file as `import_file` takes it; raises `UnknownVoice`, `StorageFull`."""
        with self._lock:
            saved = self._read(self._find_anywhere(name_or_id))
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

        Raises `UnknownVoice`, `BadField`, `VoiceConflict` where the name is taken or the voice is a
        shipped one, `StorageFull`.
        """
        check_texts(transcript or "", description or "")
        with self._lock:
            self._look_now()
            found = self._find_own(name_or_id)
            changed = replace(
                found,
                name=found.name if name in (None, found.name) else self._free_name(name, found.id),
                transcript=found.transcript if transcript is None else transcript,
                description=found.description if description is None else description,
                language=found.language if language is None else language,
            )
            if changed != found:
                self._folder.save(changed, self._read(found).codes)
            return changed

    def delete(self, name_or_id: str) -> None:
        """Delete a voice, or a damaged file by its id.

        Raises `UnknownVoice`, `VoiceConflict` for a shipped one, `StorageFull` where the disk
        refuses.
        """
        with self._lock:
            self._look_now()
            is_damaged = self._is_damaged(name_or_id)
            voice_id = name_or_id if is_damaged else self._find_own(name_or_id).id
            self._folder.delete(voice_id, name_or_id)

    def prompt(self, name_or_id: str, codec_id: str) -> VoicePrompt:
        """The voice as a model with the codec `codec_id` hears it.

        Raises `UnknownVoice`, and `VoiceConflict` where it was saved under another codec.
        """
        with self._lock:
            saved = self._read(self._find_anywhere(name_or_id))
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
            self._look_now()
            new = replace(voice, id=secrets.token_hex(16), name=self._new_name(voice.name))
            self._folder.save(new, codes)
            return new

    # -- what is known, all under the lock --------------------------------------------------------

    def _voices(self) -> Iterator[Voice]:
        """Those in the folder."""
        return (entry.voice for entry in self._folder.entries.values() if entry.voice is not None)

    def _all(self) -> Iterator[Voice]:
        """Those, and the shipped ones whose names they leave."""
        yield from self._voices()
        if self._shipped.voices:
            taken = {entry.key for entry in self._folder.entries.values()}
            yield from (each for each in self._shipped.voices if name_key(each.name) not in taken)

    def _named(self, name: str) -> Voice | None:
        """The oldest of that name: processes that save at once may make two."""
        if len(name) > MAX_UNCOMPOSED_CHARACTERS:
            return None
        key = name_key(name)
        entries = self._folder.entries.values()
        named = (each.voice for each in entries if each.voice is not None and each.key == key)
        return min(named, key=_age, default=None)

    def _is_damaged(self, voice_id: str) -> bool:
        entry = self._folder.entries.get(voice_id)
        return entry is not None and entry.voice is None

    def _known(self, name_or_id: str) -> Voice | None:
        entry = self._folder.entries.get(name_or_id)
        if entry is not None:
            return entry.voice
        return self._named(name_or_id) or self._shipped.find(name_or_id)

    def _find(self, name_or_id: str) -> Voice:
        """Of the voices that are known now."""
        found = self._known(name_or_id)
        if found is None:
            raise UnknownVoice(self._unknown(name_or_id))
        return found

    def _find_anywhere(self, name_or_id: str) -> Voice:
        """What is not known here may just have been saved by another server."""
        self._folder.look()
        found = self._known(name_or_id)
        if found is not None:
            return found
        self._folder.look(MISSED_S)
        self._folder.check()
        return self._find(name_or_id)

    def _look_now(self) -> None:
        """Before something is changed."""
        self._folder.look(0.0)
        self._folder.check()

    def _find_own(self, name_or_id: str) -> Voice:
        """A voice that may be changed."""
        found = self._find(name_or_id)
        if found.is_shipped:
            raise VoiceConflict(
                f"The voice {found.name} ships with the checkpoint and stays as it is; a voice of "
                "yours that is called so goes before it."
            )
        return found

    def _unknown(self, name_or_id: str) -> str:
        if self._is_damaged(name_or_id):
            return f"The file of the voice {name_or_id} is damaged; delete it, and create it again."
        key, shown = name_key(name_or_id[:MAX_NAME_CHARACTERS]), quoted(name_or_id)
        names = {name_key(v.name): v.name for v in islice(self._all(), _MAX_COMPARED)}
        near = [names[each] for each in difflib.get_close_matches(key, names, n=3)]
        if near:
            return f"No voice {shown}; did you mean {' or '.join(near)}?"
        advice = "GET /voices lists them" if names else "none is saved yet; POST /voices saves one"
        return f"No voice {shown}; {advice}."

    def _read(self, voice: Voice) -> Saved:
        return self._shipped.saved(voice) if voice.is_shipped else self._folder.read(voice)

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


def _age(voice: Voice) -> tuple[str, str]:
    return voice.created_at, voice.id
