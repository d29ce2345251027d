"""What of a text is text at all: composed characters, single spaces, ends of paragraphs."""

import unicodedata

ITEM_END = "\x1e"
"""Whitespace that ends a sentence, and no paragraph: after an item of a list, say."""
_LINE_ENDS = frozenset("\n\r\x0b\x0c\x85\u2028")
_PARAGRAPH_END = "\u2029"
_LONGEST_CLUSTER = 32
"""A character and its marks that wait for their composition; no language stacks half as many."""


def fold(text: str) -> str:
    """Composed (NFC), without control characters, each run of whitespace one space."""
    return fold_paragraphs(text).replace("\n", " ").replace(ITEM_END, " ")


def fold_paragraphs(text: str) -> str:
    """As `fold`, but a run of whitespace that holds a blank line is one line feed, else `ITEM_END`
    where it holds that."""
    folder = Folder()
    return folder.push(text) + folder.flush()


def is_kept(c: str) -> bool:
    """Whether a character that is no whitespace is text."""
    # Cs: half of a surrogate pair, which no encoding can write; U+FEFF: a pasted byte order mark.
    return unicodedata.category(c) not in ("Cc", "Cs") and c != "\ufeff"


class Folder:
    """Does what `fold_paragraphs` does, to text that arrives piece by piece.

    However the text is cut into pieces, what is returned joins to the same folded text.
    """

    def __init__(self) -> None:
        self._cluster = ""
        self._is_gap = False
        self._line_ends = 0
        self._is_item_end = False
        self._last_space = ""

    def push(self, text: str) -> str:
        """What `text` adds to the folded text, except its last character: a mark may follow."""
        folded: list[str] = []
        for c in text:
            if c.isspace():
                self._space(c)
            elif is_kept(c):
                if not self._is_gap and self._is_composed_with(c):
                    self._cluster += c
                    continue
                folded.append(self._take())
                self._cluster = c
        return "".join(folded)

    def flush(self) -> str:
        """The rest, without whitespace at the end of the text."""
        self._is_gap = False
        return self._take()

    def _space(self, c: str) -> None:
        is_pair = c == "\n" and self._last_space == "\r"
        if c in _LINE_ENDS and not is_pair:
            self._line_ends += 1
        elif c == _PARAGRAPH_END:
            self._line_ends += 2
        elif c == ITEM_END:
            self._is_item_end = True
        self._is_gap, self._last_space = True, c

    def _is_composed_with(self, c: str) -> bool:
        is_mark = unicodedata.category(c).startswith("M") or "\u1160" <= c <= "\u11ff"
        return is_mark and 0 < len(self._cluster) < _LONGEST_CLUSTER

    def _take(self) -> str:
        gap = ""
        if self._is_gap and self._cluster:
            gap = "\n" if self._line_ends > 1 else ITEM_END if self._is_item_end else " "
        taken = unicodedata.normalize("NFC", self._cluster) + gap
        self._cluster, self._is_gap, self._last_space = "", False, ""
        self._line_ends, self._is_item_end = 0, False
        return taken
