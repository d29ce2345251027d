"""Text to what is spoken of it, in sentences, whole or while it is being written."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from backend.core import Sentence
from backend.text.finder import SentenceFinder
from backend.text.fold import ITEM_END, fold_paragraphs
from backend.text.markup.reader import MarkupReader
from backend.text.sentences import PARAGRAPH_PAUSE_S, Joiner, is_sayable, sentences_of

LONGEST_SENTENCE = 6000
"""Characters of a sentence as it is written; one that runs on without an end is cut there, so that
nobody waits for it."""


class Reading:
    """Takes text in pieces, and returns each sentence once it is certain, in the words of `say`.

    Markup is read, sentences are found, and each is put into words; one that holds neither a letter
    nor a digit, before or then, is left out: "...", or an emoji alone. Without `say` the text is
    spoken as it stands, markup and all.

    `words` is given all that was said, with the space after each sentence, long ones whole.

    What is returned does not depend on how the text was cut into pieces. While it is being written
    (`is_live`) the sentences are those of the whole, but for two things that need the text to
    come: very short ones are spoken alone, so that a "Sure!" is heard at once, and what runs past
    `max_characters` without an end is cut off there instead of into pieces of about one length.
    """

    def __init__(
        self,
        max_characters: int,
        say: Callable[[str], str] | None = None,
        *,
        is_live: bool = False,
        words: list[str] | None = None,
    ) -> None:
        self._words = words
        self._max_characters, self._say, self._is_live = max_characters, say, is_live
        self._markup = MarkupReader() if say else None
        self._finder = SentenceFinder(max_characters if is_live else LONGEST_SENTENCE)
        self._joiner = Joiner(max_characters)

    def push(self, text: str) -> list[Sentence]:
        """The sentences that are certain now."""
        if self._markup:
            return self._read(self._finder.push(self._markup.push(text)))
        return self._read(self._finder.push(text.replace(ITEM_END, " ")))

    def flush(self) -> list[Sentence]:
        """The rest, at the end of the text; what is pushed later is another text."""
        found = self._finder.push(self._markup.flush()) if self._markup else []
        return self._read([*found, *self._finder.flush()]) + self._joiner.flush()

    def _read(self, found: list[Sentence]) -> list[Sentence]:
        read: list[Sentence] = []
        for sentence in found:
            for piece in self._pieces(sentence):
                read += self._joiner.push(piece)
            if self._is_live:
                read += self._joiner.flush()
        return read

    def _pieces(self, sentence: Sentence) -> Iterator[Sentence]:
        """A sentence as it was written in words, and in the pieces that are spoken."""
        if not is_sayable(sentence.text):
            return
        said = self._say(sentence.text) if self._say else sentence.text
        if self._words is not None:
            self._words.append(said.strip())
            self._words.append(_space_after(sentence))
        # Words may bring ends of sentences and of paragraphs, where "[2]" was between two, say.
        pieces = [
            piece
            for paragraph in fold_paragraphs(said).split("\n")
            for piece in sentences_of(paragraph, self._max_characters)
            if is_sayable(piece.text)
        ]
        if not pieces:
            return
        yield from pieces[:-1]
        gap = " " if sentence.text.endswith(" ") else ""
        yield replace(pieces[-1], text=pieces[-1].text + gap, pause_s=sentence.pause_s)


def _space_after(sentence: Sentence) -> str:
    if sentence.text.endswith(" "):
        return " "
    return "\n\n" if sentence.pause_s == PARAGRAPH_PAUSE_S else ""
