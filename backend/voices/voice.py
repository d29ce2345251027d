"""A saved voice, its file, and what its texts may be."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import msgspec

from backend.core import LANGUAGES, ReferenceCodes
from backend.errors import BadField
from backend.voices import sealed
from backend.voices.name import checked_name, is_id

VOICE_SUFFIX = ".voice"
MAX_TRANSCRIPT_CHARACTERS = 5000
"""Several times what anybody says in the longest recording."""
MAX_DESCRIPTION_CHARACTERS = 1000
MAX_CODEBOOKS = 64
MAX_FRAMES = 12_000
"""A minute, which is the longest recording, at ten times the frame rate of the official codec."""
MAX_FILE_BYTES = 2 * MAX_CODEBOOKS * MAX_FRAMES + 64 * 1024
"""No voice's file is larger: the codes, and the texts at four bytes a character."""
_FRAME_RATES_HZ = (1.0, 1000.0)
_MAX_CODEC_ID_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class Voice:
    """What is known of a saved voice; its codes stay on disk until it speaks."""

    id: str
    """32 hexadecimal digits, drawn by chance; it outlasts a change of name."""
    name: str
    transcript: str
    """What is said in the recording, "" if unknown."""
    codec_id: str
    """`EngineInfo.codec_id` of the codec that its codes are for."""
    num_codebooks: int
    frames: int
    audio_s: float
    created_at: str
    """ISO 8601, UTC."""
    description: str = ""
    language: str = ""
    """One of `core.LANGUAGES` in which its texts are read unless they say another; "" is none."""
    is_shipped: bool = False
    """It came with the checkpoint, and stays as it is. No file says so: where it lies does."""


class Saved(msgspec.Struct, frozen=True):
    """A voice's file."""

    version: Literal[1]
    voice: Voice
    codes: bytes
    """As in `ReferenceCodes`."""

    def check(self) -> None:
        """Raise `DamagedFile` unless there are as many codes as the voice says, kept by us."""
        voice = self.voice
        if voice.num_codebooks < 1 or len(self.codes) != 2 * voice.num_codebooks * voice.frames:
            raise sealed.DamagedFile("its codes are not as long as it says")
        if voice.is_shipped:
            raise sealed.DamagedFile("it says that it ships with a checkpoint")


def new_time() -> str:
    """Now, as `Voice.created_at` has it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def new_voice(
    name: str,
    codes: ReferenceCodes,
    transcript: str,
    description: str,
    *,
    voice_id: str = "",
    language: str = "",
) -> Voice:
    """A voice of `codes`, made now; raises `BadField` where its texts are too long."""
    check_texts(transcript, description)
    return Voice(
        id=voice_id,
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


def open_foreign(data: bytes) -> Saved:
    """What is in a voice's file that came from elsewhere: anybody can seal anything.

    Raises `DamagedFile` unless it is what a server like this one writes. Its name is not looked at,
    nor whether its codes are ones that a codec knows: which those are, the codec's worker says.
    """
    if len(data) > MAX_FILE_BYTES:
        raise sealed.DamagedFile(f"it has {len(data)} bytes, and no voice has that many")
    saved = sealed.opened(data, Saved)
    check_foreign(saved)
    return saved


def check_foreign(saved: Saved) -> None:
    """Raise `DamagedFile` unless a server like this one might have written it."""
    saved.check()
    problem = _problem(saved.voice)
    if problem:
        raise sealed.DamagedFile(problem)


def check_names(voice: Voice) -> None:
    """Raise `DamagedFile` unless it may be called and described as it is."""
    try:
        checked_name(voice.name)
        check_texts(voice.transcript, voice.description)
    except BadField as error:
        raise sealed.DamagedFile(str(error).rstrip(".")) from None


def check_texts(transcript: str, description: str) -> None:
    """Raise `BadField` unless a voice may have them."""
    for field, text, most in (
        ("transcript", transcript, MAX_TRANSCRIPT_CHARACTERS),
        ("description", description, MAX_DESCRIPTION_CHARACTERS),
    ):
        if len(text) > most:
            raise BadField(f"{field} has {len(text)} characters; send at most {most}.")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise BadField(f"{field} holds half a character (a lone surrogate); send valid text.")


def _problem(voice: Voice) -> str:
    """What no voice of ours says of itself; "" if there is nothing."""
    codec_id = voice.codec_id
    is_plain = codec_id.isascii() and codec_id.isprintable()
    if not is_id(voice.id):
        return "its id is none"
    if not (is_plain and 0 < len(codec_id) <= _MAX_CODEC_ID_CHARACTERS):
        return "its codec_id is none"
    if not (1 <= voice.num_codebooks <= MAX_CODEBOOKS and 1 <= voice.frames <= MAX_FRAMES):
        return "it has more or fewer codes than any recording"
    least_hz, most_hz = _FRAME_RATES_HZ
    if not (math.isfinite(voice.audio_s) and voice.audio_s > 0):
        return "its audio_s is no length"
    if not least_hz <= voice.frames / voice.audio_s <= most_hz:
        return "its audio_s is not that of its frames"
    if voice.language and voice.language not in LANGUAGES:
        return "its language is none"
    return "" if _is_time(voice.created_at) else "its created_at is no time"


def _is_time(text: str) -> bool:
    """It is what `new_time` gives."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return False
    return text.endswith("+00:00") and time.isoformat(timespec="microseconds") == text
