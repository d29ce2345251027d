"""Text that is still being written, cut into sentences as soon as they are surely complete."""

from collections.abc import Iterator

from backend.core import Sentence
from backend.text.fold import Folder
from backend.text.sentences import (
    PARAGRAPH_PAUSE_S,
    SENTENCE_PAUSE_S,
    best_cut,
    cut_long,
    next_end,
)

_LOOKAHEAD = 64
"""Characters past the limit that are waited for: they hold the next word and any run of marks."""
_BLOCK = 1024
"""Characters taken at a time, so that a long push is not copied once for each of its sentences."""


class LiveSplitter:
    """Cuts text that arrives piece by piece, as a language model writes it.

    The sentences do not depend on how the text was cut into pieces. They are those of `split_text`,
    but for two things that need the text to come: very short sentences are spoken alone, so that a
    "Sure!" is heard at once, and what runs past the limit without an end is cut off at the limit
    instead of into pieces of about the same length. At most the limit and a little is held back.
    """

    def __init__(self, max_characters: int) -> None:
        if max_characters < 1:
            raise ValueError(f"sentences of {max_characters} characters cannot hold any text")
        self._max_characters = max_characters
        self._folder = Folder()
        self._buffer = ""
        """Folded text that is not returned yet, one or more paragraphs."""
        self._searched = 0

    def push(self, text: str) -> list[Sentence]:
        """The sentences that `text` completes."""
        return [
            sentence
            for start in range(0, len(text), _BLOCK)
            for sentence in self._take(self._folder.push(text[start : start + _BLOCK]), False)
        ]

    def flush(self) -> list[Sentence]:
        """The rest, at the end of the text; what is pushed later is another text."""
        rest = list(self._take(self._folder.flush(), True))
        self._folder = Folder()
        return rest

    def _take(self, folded: str, is_last: bool) -> Iterator[Sentence]:
        self._buffer += folded
        while self._buffer:
            line_feed = self._buffer.find("\n")
            paragraph = self._buffer if line_feed < 0 else self._buffer[:line_feed]
            # Beyond this nothing may decide: it would depend on how much was pushed at once.
            view = paragraph[: self._max_characters + _LOOKAHEAD]
            is_cut = len(view) < len(paragraph)
            is_complete = not is_cut and (line_feed >= 0 or is_last)
            end, self._searched = next_end(view, 0, self._searched, is_complete)
            if end is None and is_complete:
                end = len(view)
            if end is not None:
                is_end = is_complete and end == len(view)
                pause_s = PARAGRAPH_PAUSE_S if is_end else SENTENCE_PAUSE_S
                sentences = cut_long(view[:end], self._max_characters, pause_s)
                self._drop(end + (1 if is_end else 0))
            elif is_cut:
                end, pause_s = best_cut(view, self._max_characters, self._max_characters)
                sentences = iter([Sentence(view[:end], pause_s)])
                self._drop(end)
            else:
                return
            for sentence in sentences:
                yield Sentence(sentence.text.strip(), sentence.pause_s)

    def _drop(self, characters: int) -> None:
        self._buffer = self._buffer[characters:]
        self._searched = 0
