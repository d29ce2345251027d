"""What a client of `WS /v1/audio/stream` sends: messages, and the text that comes in them."""

import asyncio
from collections import deque
from typing import Literal, Self

from pydantic import BaseModel

from backend.api.json_body import read_object
from backend.api.openai.body import VoiceName
from backend.api.schemas import SpeechFields, parse
from backend.core import FLUSH, MIB, AudioFormat
from backend.errors import BadField, TextTooLong, UploadTooLarge

_MESSAGE_CHARACTERS = MIB
"""Longest message: room for the longest text, escaped."""


class SessionStart(SpeechFields):
    """How the text is to be spoken: those fields of `POST /tts` that say so."""

    type: Literal["session.start"] = "session.start"
    voice: VoiceName = ""
    response_format: AudioFormat = "pcm"


class TextPiece(BaseModel):
    """Some more of the text."""

    type: Literal["text"]
    text: str


class Flush(BaseModel):
    """Speak what is there."""

    type: Literal["flush"]


class End(BaseModel):
    """The text is complete."""

    type: Literal["end"]


FromClient = SessionStart | TextPiece | Flush | End
_MESSAGES: dict[str, tuple[type[FromClient], tuple[str, ...]]] = {
    "session.start": (
        SessionStart,
        (
            *("type", "voice", "response_format", "sample_rate", "speed", "pauses"),
            *("language", "lang_code", "normalize"),
            *("temperature", "top_p", "repetition_penalty", "seed"),
        ),
    ),
    "text": (TextPiece, ("type", "text")),
    "flush": (Flush, ("type",)),
    "end": (End, ("type",)),
}
"""Of each type of message its class, and the fields that it may have."""


def parse_message(message: str) -> FromClient:
    """What a client says in a text frame; raises `BadField`, and `UploadTooLarge` for too much."""
    if len(message) > _MESSAGE_CHARACTERS:
        raise UploadTooLarge("The message is too long; send the text in several.")
    try:
        values = read_object(message.encode())
    except BadField:
        raise BadField(
            "The message is not valid JSON, or no object; send an object with a type."
        ) from None
    kind = values.get("type")
    if not isinstance(kind, str) or kind not in _MESSAGES:
        raise BadField(f"The message has no type that is known; type is {', '.join(_MESSAGES)}.")
    model, names = _MESSAGES[kind]
    return parse(model, values, names, keeps_empty=True)


class LiveText:
    """What the client has written so far: iterate over it as it comes.

    Writing never waits, so that a client that leaves is noticed while it is spoken to; what is
    kept is bounded by `max_characters` of all that is ever written.
    """

    def __init__(self, max_characters: int) -> None:
        self._left = self._max_characters = max_characters
        self._pieces: deque[str] = deque()
        self._more = asyncio.Event()
        self.is_flushed = False
        """What was written is to be spoken, whatever follows."""
        self.is_pending = False
        """Something was written that waits for what follows, or for a flush."""
        self.has_ended = False

    def write(self, text: str) -> None:
        """Add a piece; `TextTooLong` where it is one too many."""
        if self.has_ended:
            raise BadField("The text has ended; open another connection for the next.")
        self._left -= len(text)
        if self._left < 0:
            raise TextTooLong(
                f"The text has more than {self._max_characters} characters; end it before that, "
                "and open another connection for the rest."
            )
        if text:
            self._push(text.replace(FLUSH, " "))
            self.is_flushed = False
            self.is_pending = self.is_pending or not text.isspace()

    def flush(self) -> None:
        """What is there is to be spoken."""
        self.is_pending = False
        if self._left < self._max_characters and not self.is_flushed:
            self._push(FLUSH)
            self.is_flushed = True

    def end(self) -> None:
        """Nothing is added any more."""
        self.is_pending = False
        self.has_ended = True
        self._more.set()

    async def begun(self) -> None:
        """Wait until there is something to read, or never will be."""
        await self._more.wait()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        while not self._pieces:
            if self.has_ended:
                raise StopAsyncIteration
            self._more.clear()
            await self._more.wait()
        return self._pieces.popleft()

    def _push(self, piece: str) -> None:
        self._pieces.append(piece)
        self._more.set()
