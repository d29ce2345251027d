"""Text to segments: pieces that a checkpoint speaks in one breath, cut where a reader would pause.

`fold` decides what is text at all; `split_sentences` cuts it. Every cut keeps both sides, so the
segments joined together are the folded text, whitespace aside.
"""

import re
import unicodedata
from collections.abc import Iterator

from backend.text.limit import last_character_end

SHORT_CHARACTERS = 12
"""A shorter sentence is spoken together with its neighbour: alone it has no melody."""

# Each pattern can begin at few places only and never backtracks far: texts come from strangers.
_LINE_END = re.compile(r"\r\n?|[\x0b\x0c\x85\u2028]")
_PARAGRAPH_END = re.compile(r"\n[^\S\n]*\n\s*|\u2029\s*")
_CLOSERS = "\"'”’»›)]}」』】）〉》"
_STOP = re.compile(
    rf"(?<![.!?…])[.!?…]++[{re.escape(_CLOSERS)}]*+\s+|[。！？｡।॥]++[{re.escape(_CLOSERS)}]*+\s*"
)
_CLAUSE = re.compile(rf"[,;:—–][{re.escape(_CLOSERS)}]*+\s+|\s[—–-]\s+|[、，；：]\s*")
_SPACE = re.compile(r"\s+")
_LAST_WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|\.)*$")

_TITLES = frozenset(
    re.findall(
        r"\w+",
        "mr mrs ms dr prof st mme mlle hr fr sr gen col sgt capt lt rev hon gov sen rep "
        "vs cf approx dept est",
    )
)
"""Abbreviations that a name follows: the stop after them ends nothing."""
_BEFORE_NUMBERS = frozenset(("no", "nos", "nr", "fig", "figs", "vol", "p", "pp", "ca", "sec"))
"""Abbreviations when a number follows, words or the end of a sentence otherwise."""

_LONGEST_WORD = 12
"""Characters to look back for an abbreviation."""


def fold(text: str) -> str:
    """Composed (NFC), without control characters, each run of whitespace one space."""
    kept = "".join(c for c in unicodedata.normalize("NFC", text) if _is_kept(c))
    return " ".join(kept.split())


def _is_kept(c: str) -> bool:
    # Cs: half of a surrogate pair, which no encoding can write; U+FEFF: a pasted byte order mark.
    return c.isspace() or (unicodedata.category(c) not in ("Cc", "Cs") and c != "\ufeff")


def split_sentences(text: str, max_characters: int) -> tuple[str, ...]:
    """Segments of `text`, in order, none longer than `max_characters`; none at all for blank text.

    A segment is a sentence. One that is too long is cut at its clauses, else between words, else
    between characters; one that is very short joins its neighbour.
    """
    if max_characters < 1:
        raise ValueError(f"segments of {max_characters} characters cannot hold any text")
    lines = _LINE_END.sub("\n", text)
    paragraphs = (fold(paragraph) for paragraph in _PARAGRAPH_END.split(lines))
    sentences = [
        sentence
        for paragraph in paragraphs
        if paragraph
        for sentence in _sentences(paragraph + " ")
    ]
    pieces = [piece for sentence in sentences for piece in _cut_long(sentence, max_characters)]
    joined = _join_short(pieces, max_characters)
    return tuple(segment.strip() for segment in joined if segment.strip())


def _sentences(paragraph: str) -> Iterator[str]:
    start = 0
    for stop in _STOP.finditer(paragraph):
        if _ends_sentence(paragraph, start, stop):
            yield paragraph[start : stop.end()]
            start = stop.end()
    if start < len(paragraph):
        yield paragraph[start:]


def _ends_sentence(paragraph: str, start: int, stop: re.Match[str]) -> bool:
    if stop.end() == len(paragraph) or stop.group()[0] in "。！？｡।॥":
        return True
    following = paragraph[stop.end()]
    if following.islower():
        return False  # e.g. "etc. and", or '"Stop!" he said'
    if not stop.group().startswith(". "):
        return True
    word = _LAST_WORD.search(paragraph, max(start, stop.start() - _LONGEST_WORD), stop.start())
    if word is None:
        return True
    if word.group().lower() in _BEFORE_NUMBERS:
        return not following.isdigit()
    is_initial = len(word.group()) == 1 and word.group() != "I" and word.group().isupper()
    return not is_initial and word.group().lower() not in _TITLES


def _cut_long(sentence: str, max_characters: int) -> Iterator[str]:
    """`sentence` in as few pieces as fit, of about the same length."""
    while len(sentence.rstrip()) > max_characters:
        pieces = -(-len(sentence.rstrip()) // max_characters)
        cut = _best_cut(sentence, len(sentence) // pieces, max_characters)
        yield sentence[:cut]
        sentence = sentence[cut:]
    yield sentence


def _best_cut(sentence: str, target: int, max_characters: int) -> int:
    """The strongest boundary at which both halves stay speakable, the one nearest to `target`."""
    # Whitespace at the cut is stripped later, so a boundary may lie one space past the limit.
    window = sentence[: max_characters + 1]
    for pattern in (_STOP, _CLAUSE, _SPACE):
        ends = [found.end() for found in pattern.finditer(window)]
        cuts = [
            end
            for end in ends
            if end > target // 2 and len(window[:end].rstrip()) <= max_characters
        ]
        if cuts:
            return min(cuts, key=lambda end: abs(end - target))
    return last_character_end(sentence, max_characters)


def _join_short(pieces: list[str], max_characters: int) -> list[str]:
    """Neighbours joined where one is very short and both fit."""
    joined: list[str] = []
    for piece in pieces:
        if joined:
            both = joined[-1] + piece
            is_short = min(len(joined[-1].strip()), len(piece.strip())) < SHORT_CHARACTERS
            if is_short and len(both.strip()) <= max_characters:
                joined[-1] = both
                continue
        joined.append(piece)
    return joined
