"""Voices that come with a checkpoint: exported ones in its folder, read once and never changed."""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Self

from loguru import logger

from backend.core import MIB, ReferenceCodes
from backend.errors import BadField
from backend.voices import sealed
from backend.voices.name import MAX_UNCOMPOSED_CHARACTERS, checked_name, name_key
from backend.voices.voice import (
    MAX_FILE_BYTES,
    VOICE_SUFFIX,
    Saved,
    Voice,
    check_foreign,
    check_texts,
    new_voice,
)

VOICES_FOLDER = "voices"
"""Where they lie in a checkpoint's folder."""
MAX_SHIPPED = 256
"""Files that are looked at; what lies behind them in the order of their names is left out."""
MAX_SHIPPED_BYTES = 16 * MIB
"""Of all of them, which are held in memory: a hundred of the official codec's longest ones take
three."""


class ShippedVoices:
    """Voices by id and by name, their codes in memory."""

    def __init__(self, saved: Iterable[Saved] = ()) -> None:
        self._saved = {each.voice.id: each for each in saved}
        self.voices = tuple(replace(s.voice, is_shipped=True) for s in self._saved.values())
        """What is known of them."""
        self._named = {name_key(voice.name): voice for voice in self.voices}
        self._identified = {voice.id: voice for voice in self.voices}

    @classmethod
    def read(cls, folder: Path, codec_id: str) -> Self:
        """The voices of `folder` that the codec `codec_id` understands.

        A file that cannot be read, holds no voice, was made under another codec or repeats a name
        is left out, with a warning that says why.
        """
        found: dict[str, Saved] = {}
        room = MAX_SHIPPED_BYTES
        try:
            paths = sorted(path for path in folder.iterdir() if path.suffix == VOICE_SUFFIX)
        except OSError as error:
            _leave_out(folder, error.strerror or str(error))
            return cls()
        if len(paths) > MAX_SHIPPED:
            _leave_out(paths[MAX_SHIPPED], f"it and what follows are more than {MAX_SHIPPED}")
        for path in paths[:MAX_SHIPPED]:
            try:
                saved = _read(path, min(room, MAX_FILE_BYTES), codec_id)
                _check_new(saved.voice, found)
            except OSError as error:
                _leave_out(path, error.strerror or str(error))
            except (BadField, sealed.DamagedFile) as error:
                _leave_out(path, str(error))
            else:
                found[name_key(saved.voice.name)] = saved
                room -= len(saved.codes)
        return cls(found.values())

    def find(self, name_or_id: str) -> Voice | None:
        """The voice of that id or name, in upper or lower case."""
        if len(name_or_id) > MAX_UNCOMPOSED_CHARACTERS:
            return None
        return self._identified.get(name_or_id) or self._named.get(name_key(name_or_id))

    def saved(self, voice: Voice) -> Saved:
        """What the file of one of `voices` holds."""
        return self._saved[voice.id]


def write_shipped(
    folder: Path, name: str, codes: ReferenceCodes, transcript: str = "", description: str = ""
) -> Path:
    """Put a voice into the folder that `ShippedVoices.read` reads; its file.

    Its id follows from its name, so that it is the same in the next checkpoint's. Raises OSError,
    and `BadField` where a saved voice could not be called or described so.
    """
    checked = checked_name(name)
    voice_id = hashlib.blake2b(name_key(checked).encode(), digest_size=16).hexdigest()
    voice = new_voice(checked, codes, transcript, description, voice_id=voice_id)
    path = folder / f"{checked}{VOICE_SUFFIX}"
    sealed.write(path, sealed.seal(Saved(1, voice, codes.codes)))
    return path


def _read(path: Path, most_bytes: int, codec_id: str) -> Saved:
    """The voice in a file; raises OSError, `DamagedFile` or `BadField` where there is none."""
    saved = sealed.read(path, Saved, most_bytes)
    check_foreign(saved)
    voice = saved.voice
    check_texts(voice.transcript, voice.description)
    if voice.codec_id != codec_id:
        raise sealed.DamagedFile("it was made under another codec than this checkpoint's")
    return Saved(saved.version, replace(voice, name=checked_name(voice.name)), saved.codes)


def _check_new(voice: Voice, found: dict[str, Saved]) -> None:
    """Raise `DamagedFile` where its name or id is another's."""
    is_known = any(voice.id == each.voice.id for each in found.values())
    if is_known or name_key(voice.name) in found:
        raise sealed.DamagedFile(f"another file holds {voice.name}, or a voice of the same id")


def _leave_out(path: Path, reason: str) -> None:
    logger.warning("A voice of the checkpoint is left out, {}: {}.", path, reason.rstrip("."))
