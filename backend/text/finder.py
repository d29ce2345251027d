"""Sentences of text that comes in pieces, each found as soon as it is surely complete."""

from collections.abc import Iterator

from backend.core import Sentence
from backend.text.fold import ITEM_END, Folder
from backend.text.sentences import PARAGRAPH_PAUSE_S, SENTENCE_PAUSE_S, best_cut, next_end

LOOKAHEAD = 64
"""Characters past the most that are waited for: they hold the next word and any run of marks."""
_BLOCK = 1024
"""Characters taken at a time, so that a long push is not copied once for each of its sentences."""


class SentenceFinder:
    """Finds sentences, which do not depend on how the text was cut into pieces.

    One that has no end within `most_characters` and `LOOKAHEAD` is cut at the first. No more than
    that is held back. A space at its end shows that another follows in the same piece of text.
    """

    def __init__(self, most_characters: int) -> None:
        if most_characters < 1:
            raise ValueError(f"sentences of {most_characters} characters cannot hold any text")
        self._most_characters = most_characters
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
            # Beyond the view nothing may decide: it would depend on how much was pushed at once.
            view = self._buffer[: self._most_characters + LOOKAHEAD + 1]
            piece_end = min(
                (at for at in (view.find("\n"), view.find(ITEM_END)) if at >= 0), default=len(view)
            )
            has_end = piece_end < len(view)
            is_cut = piece_end > self._most_characters + LOOKAHEAD
            is_complete = has_end or (is_last and not is_cut)
            view = view[: min(piece_end, self._most_characters + LOOKAHEAD)]
            end, self._searched = next_end(view, 0, self._searched, is_complete)
            if end is None and is_complete:
                end = len(view)
            is_end = is_complete and end == len(view)
            is_item = has_end and self._buffer[piece_end] == ITEM_END
            if end is not None:
                pause_s = PARAGRAPH_PAUSE_S if is_end and not is_item else SENTENCE_PAUSE_S
                self._drop(end + (1 if is_end and has_end else 0))
            elif is_cut:
                end, pause_s = best_cut(view, self._most_characters, self._most_characters)
                self._drop(end)
            else:
                return
            yield Sentence(view[:end] + (" " if is_end and is_item else ""), pause_s)

    def _drop(self, characters: int) -> None:
        self._buffer = self._buffer[characters:]
        self._searched = 0
