"""What is spoken of a request: as far as the limit goes, in sentences, with their voices."""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from backend.core import FLUSH, Line, Sentence, SpeechRequest
from backend.errors import BlankText, TextTooLong
from backend.serving.fair_thread import FairThread
from backend.text.fold import is_kept
from backend.text.limit import truncate
from backend.text.normalize import in_words
from backend.text.normalize.language import rules_for
from backend.text.reading import Reading

_DIGIT_CHARACTERS = 6
"""Of a digit that is read as a word by itself, "seven" and a space say."""
_MAX_GROWTH = 3
"""Characters spoken of one that may be sent: prose with dates and prices in it takes two."""
PORTION_CHARACTERS = 2000
"""Read in one go: other clients have their turns in between."""
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

    def reading(
        self, language: str, *, is_live: bool = False, words: list[str] | None = None
    ) -> Reading:
        """What reads a text that is said in `language`; `words` as in `Reading`."""
        say = partial(in_words, language=language) if self.is_normalized else None
        return Reading(self.max_characters, say, is_live=is_live, words=words)

    def voiced(self, sentences: list[Sentence], voice: str) -> list[Sentence]:
        """`sentences` in `voice`, with the pauses that the request asked for."""
        return [
            replace(each, voice=voice, pause_s=self.pauses * each.pause_s) for each in sentences
        ]


def lines(request: SpeechRequest) -> tuple[Line, ...]:
    """Each line of the request with its voice; one line where it is no dialogue."""
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


def characters_for(script: tuple[Line, ...], limit: int) -> int:
    """`limit`, or fewer where its characters hold so many figures that the words of these take
    several times as long to speak."""
    kept = "".join(line.text for line in shorten(script, limit))
    digits = sum(map(str.isdecimal, kept))
    spoken = len(kept) + (_DIGIT_CHARACTERS - 1) * digits
    return min(limit, max(1, len(kept) * _MAX_GROWTH * limit // max(1, spoken)))


def written(script: tuple[Line, ...], spelling: Spelling) -> Iterator[list[Sentence]]:
    """The sentences of text that is there, a portion of it at each step; some steps have none."""
    for number, line in enumerate(script, start=1):
        reading = spelling.reading(rules_for(line.text, spelling.language))
        for portion in _portions(line.text):
            yield spelling.voiced(reading.push(portion), line.voice)
        rest = spelling.voiced(reading.flush(), line.voice)
        if rest and number < len(script):
            rest[-1] = replace(rest[-1], pause_s=spelling.pauses * TURN_PAUSE_S)
        yield rest


class Script:
    """The sentences of text of so many `characters` that is there, made in turns with other clients
    as they are needed."""

    def __init__(
        self, steps: Iterator[list[Sentence]], characters: int, thread: FairThread, client: str
    ) -> None:
        self._steps: Iterator[list[Sentence] | None] = steps
        self._characters, self._thread, self._client = characters, thread, client
        self._ready: list[Sentence] = []
        self._is_whole = False

    async def begin(self) -> None:
        """Read as far as the first sentence; `BlankText` where nothing can be spoken."""
        while not self._ready and not self._is_whole:
            await self._read()
        if not self._ready:
            raise BlankText("text holds nothing that can be spoken; send words.")

    async def whole(self) -> tuple[Sentence, ...]:
        """All sentences, before any is taken; `BlankText` as `begin`."""
        await self.begin()
        while not self._is_whole:
            await self._read()
        return tuple(self._ready)

    async def sentences(self) -> AsyncIterator[Sentence]:
        """One after another, as a session asks for them."""
        while self._ready or not self._is_whole:
            ready, self._ready = self._ready, []
            for sentence in ready:
                yield sentence
            if not self._ready and not self._is_whole:
                await self._read()

    async def _read(self) -> None:
        step = await self._thread.read(
            self._client, self._characters, lambda: next(self._steps, None)
        )
        if step is None:
            self._is_whole = True
        else:
            self._ready += step


async def live(
    texts: AsyncIterator[str],
    voice: str,
    spelling: Spelling,
    max_characters: int,
    thread: FairThread,
    client: str,
) -> AsyncIterator[Sentence]:
    """The sentences of text that comes piece by piece, each as soon as it is whole.

    `TextTooLong` past `max_characters` in all.
    """
    reading = spelling.reading(spelling.language, is_live=True)
    characters, is_blank = 0, True
    async for piece in texts:
        characters += len(piece) if piece != FLUSH else 0
        if characters > max_characters:
            raise TextTooLong(f"the text has more than {max_characters} characters; send less.")
        is_blank = is_blank and _is_blank(piece)
        for step in _steps(reading, piece):
            for sentence in spelling.voiced(await thread.run(client, step), voice):
                yield sentence
    for sentence in spelling.voiced(await thread.run(client, reading.flush), voice):
        yield sentence
    if is_blank:
        raise BlankText("text is blank; send what is to be spoken.")


def check_text(text: str, max_characters: int) -> None:
    """Raise unless `text` can be spoken at all."""
    if len(text) > max_characters:
        raise TextTooLong(
            f"text has {len(text)} characters; send at most {max_characters} at once."
        )
    if _is_blank(text):
        raise BlankText("text is blank; send what is to be spoken.")


def _is_blank(text: str) -> bool:
    return not any(is_kept(c) and not c.isspace() for c in text)


def _portions(text: str) -> Iterator[str]:
    for start in range(0, len(text), PORTION_CHARACTERS):
        yield text[start : start + PORTION_CHARACTERS]


def _steps(reading: Reading, piece: str) -> Iterator[Callable[[], list[Sentence]]]:
    """What is to be done in turns for `piece`: each returns the sentences that it completes."""
    if piece == FLUSH:
        yield reading.flush
    else:
        yield from (partial(reading.push, portion) for portion in _portions(piece))
