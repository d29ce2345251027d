"""What is spoken of a request: as far as the limit goes, in sentences, with their voices."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace

from backend.core import FLUSH, Line, Sentence, SpeechRequest
from backend.errors import BlankText, TextTooLong
from backend.text.fold import fold
from backend.text.limit import truncate
from backend.text.live import LiveSplitter
from backend.text.normalize import normalize
from backend.text.sentences import split_text

TURN_PAUSE_S = 0.35
"""Between two speakers of a dialogue."""


@dataclass(frozen=True, slots=True)
class Spelling:
    """How text becomes sentences."""

    language: str
    is_normalized: bool
    max_characters: int
    """Of one sentence."""
    pauses: float = 1.0
    """How long the silence between sentences is, against the usual."""

    def sentences(self, line: Line) -> Iterator[Sentence]:
        """The sentences of `line`, in its voice."""
        text = normalize(line.text, self.language) if self.is_normalized else line.text
        for sentence in split_text(text, self.max_characters):
            yield replace(sentence, voice=line.voice, pause_s=self.pauses * sentence.pause_s)


def lines(request: SpeechRequest) -> tuple[Line, ...]:
    """Who says what."""
    return request.dialogue or (Line(request.text, request.voice),)


def shorten(script: tuple[Line, ...], limit: int) -> tuple[Line, ...]:
    """The lines as far as they have `limit` characters together."""
    kept: list[Line] = []
    for line in script:
        if limit <= 0:
            break
        text = truncate(line.text, limit)
        kept.append(replace(line, text=text))
        limit -= len(line.text)
    return tuple(kept)


def written(script: tuple[Line, ...], spelling: Spelling) -> tuple[Sentence, ...]:
    """The sentences of text that is there; `BlankText` where nothing can be spoken.

    A long text takes a while, in which others want to be served: call it in a thread.
    """
    told: list[Sentence] = []
    for number, line in enumerate(script, start=1):
        sentences = list(spelling.sentences(line))
        if sentences and number < len(script):
            sentences[-1] = replace(sentences[-1], pause_s=spelling.pauses * TURN_PAUSE_S)
        told += sentences
    if not told:
        raise BlankText("text holds nothing that can be spoken; send words.")
    return tuple(told)


async def one_by_one(sentences: tuple[Sentence, ...]) -> AsyncIterator[Sentence]:
    """`sentences` as a session asks for them."""
    for sentence in sentences:
        yield sentence


async def live(
    texts: AsyncIterator[str], voice: str, spelling: Spelling, max_characters: int
) -> AsyncIterator[Sentence]:
    """The sentences of text that comes piece by piece, each as soon as it is whole.

    `TextTooLong` past `max_characters` in all.
    """
    splitter = LiveSplitter(spelling.max_characters)
    characters = 0
    async for piece in texts:
        characters += len(piece) if piece != FLUSH else 0
        if characters > max_characters:
            raise TextTooLong(f"the text has more than {max_characters} characters; send less.")
        whole = splitter.flush() if piece == FLUSH else splitter.push(piece)
        for sentence in _spelled(whole, voice, spelling):
            yield sentence
    for sentence in _spelled(splitter.flush(), voice, spelling):
        yield sentence


def check_text(text: str, max_characters: int) -> None:
    """Raise unless `text` can be spoken at all."""
    if len(text) > max_characters:
        raise TextTooLong(
            f"text has {len(text)} characters; send at most {max_characters} at once."
        )
    if not fold(text):
        raise BlankText("text is blank; send what is to be spoken.")


def _spelled(whole: list[Sentence], voice: str, spelling: Spelling) -> Iterator[Sentence]:
    for sentence in whole:
        spoken = list(spelling.sentences(Line(sentence.text, voice)))
        if spoken:
            spoken[-1] = replace(spoken[-1], pause_s=spelling.pauses * sentence.pause_s)
        yield from spoken
