"""What is spoken of a request: as far as the limit goes, in sentences, with their voices."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from backend.core import FLUSH, Line, Sentence, SpeechRequest
from backend.errors import BlankText, TextTooLong
from backend.serving.fair_thread import FairThread
from backend.text.fold import is_kept
from backend.text.limit import truncate
from backend.text.normalize import in_words
from backend.text.normalize.language import Languages
from backend.text.reading import Reading
from backend.text.sentences import PARAGRAPH_PAUSE_S

_DIGIT_CHARACTERS = 6
"""Of a digit that is read as a word by itself, "seven" and a space say."""
_MAX_GROWTH = 3
"""Characters spoken of one that may be sent: prose with dates and prices in it takes two."""
PORTION_CHARACTERS = 2000
"""Read in one go: other clients have their turns in between."""
TURN_PAUSE_S = 0.45
"""Between two speakers of a dialogue."""
ReadIn = Mapping[str, Languages]
"""What each voice of a text is read in."""
UNSPEAKABLE = "text holds nothing that can be spoken; send words."


@dataclass(frozen=True, slots=True)
class Spelling:
    """How text becomes sentences."""

    language: str
    """As the request says; "auto" for what its voice or its text speaks for."""
    is_normalized: bool
    max_characters: int
    """Of one sentence."""
    pauses: float = 1.0
    """How long the silence between sentences is, against the usual."""
    voice_languages: Mapping[str, str] = field(default_factory=dict)
    """The languages that voices carry, by the names that the request gives them."""

    def languages(self, voice: str) -> Languages:
        """Those that a text in `voice` is read in, before any of it was heard."""
        return Languages(self.language, self.voice_languages.get(voice, ""))

    def main(self, text: str) -> str:
        """The language of `text` in the voice that is not named."""
        languages = self.languages("")
        languages.hear(text)
        return languages.main

    def reading(self, languages: Languages, *, is_live: bool = False) -> Reading:
        """What reads a text that is said in `languages`; text that is being written tells them."""

        def say(sentence: str) -> str:
            if is_live:
                languages.hear(sentence)
            return in_words(sentence, languages)

        return Reading(self.max_characters, say if self.is_normalized else None, is_live=is_live)

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


def written(
    script: tuple[Line, ...], spelling: Spelling, read_in: ReadIn | None = None
) -> Iterator[list[Sentence]]:
    """The sentences of text that is there, a portion of it at each step; some steps have none.

    `read_in` is what `languages_of` the same makes, where that is known.
    """
    if read_in is None:
        read_in = languages_of(script, spelling)
    for number, line in enumerate(script, start=1):
        reading = spelling.reading(read_in[line.voice])
        for portion in _portions(line.text):
            yield spelling.voiced(reading.push(portion), line.voice)
        rest = spelling.voiced(reading.flush(), line.voice)
        if rest and number < len(script):
            rest[-1] = replace(rest[-1], pause_s=spelling.pauses * TURN_PAUSE_S)
        yield rest


def in_paragraphs(sentences: tuple[Sentence, ...]) -> str:
    """The words of `sentences`; a blank line stands where a paragraph ended."""
    said = [
        sentence.text + ("\n\n" if sentence.pause_s >= PARAGRAPH_PAUSE_S else " ")
        for sentence in sentences
    ]
    return "".join(said).strip()


def languages_of(script: tuple[Line, ...], spelling: Spelling) -> ReadIn:
    """Those that each voice is read in, which all lines together speak for."""
    whole = "\n".join(line.text for line in script)
    read_in = {line.voice: spelling.languages(line.voice) for line in script}
    alike: dict[str, Languages] = {}
    for voice, languages in read_in.items():
        if alike.setdefault(languages.named, languages) is languages:
            languages.hear(whole)
        read_in[voice] = alike[languages.named]
    return read_in


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
            raise BlankText(UNSPEAKABLE)

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

    One without text stands where text was flushed in which there is nothing to say.
    `TextTooLong` past `max_characters` in all.
    """
    reading = spelling.reading(spelling.languages(voice), is_live=True)
    characters, is_blank = 0, True
    is_unsaid = False  # something came since the last flush, and nothing of it was said yet
    async for piece in texts:
        characters += len(piece) if piece != FLUSH else 0
        if characters > max_characters:
            raise TextTooLong(f"the text has more than {max_characters} characters; send less.")
        if not _is_blank(piece):
            is_blank, is_unsaid = False, True
        for step in _steps(reading, piece):
            for sentence in spelling.voiced(await thread.run(client, step), voice):
                is_unsaid = False
                yield sentence
        if piece == FLUSH:
            if is_unsaid:
                yield Sentence("", 0.0, voice)
            is_unsaid = False
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
