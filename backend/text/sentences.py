"""Text to sentences: pieces that a checkpoint speaks in one breath, cut where a reader would pause.

Every cut keeps both sides, so the pieces joined together are the folded text, whitespace aside.

Why not the `sentencex` package, which was tried on the cases of tests/test_text_sentences.py: it is
wrong in some that these rules get right and the other way round, so both have to be corrected by
hand; it wants to be told the language, which a request need not name; it cuts nothing inside
quotation marks, however long the speech; 100,000 opening quotation marks take it seconds; and
whether a stop ends a sentence can depend on any later text, so it cannot cut text that still
arrives.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from backend.core import Sentence
from backend.text.fold import fold_paragraphs
from backend.text.limit import last_character_end

SENTENCE_PAUSE_S = 0.3
"""Between two sentences, from the last that is heard to the first: readers take a third of a
second."""
PARAGRAPH_PAUSE_S = 0.6
"""After a paragraph: readers pause there two to three times as long as after a sentence."""
CLAUSE_PAUSE_S = 0.15
"""After a clause, where a sentence was too long for one piece."""
WORD_PAUSE_S = 0.0
"""Where a piece had to be cut between words: nobody would pause there."""

SHORT_CHARACTERS = 12
"""A shorter sentence is spoken together with its neighbour: alone it has no melody."""

# Each pattern can begin at few places only and never backtracks far: texts come from strangers.
# Folded text has one space where there was whitespace.
_CLOSERS = re.escape("\"'”’»›)]}」』】）〉》*_")
_CLOSED_STOPS = "。！？｡।॥"
_STOP = re.compile(
    rf"(?<![.!?…؟۔])[.!?…؟۔]++[{_CLOSERS}]*+(?: [»›](?= |$))?+(?: |$)"
    rf"|[{_CLOSED_STOPS}]++[{_CLOSERS}]*+ ?"
)
_CLAUSE = re.compile(rf"[,;:—–،؛][{_CLOSERS}]*+ | [—–-] |[、，；：][{_CLOSERS}]*+ ?")
_SPACE = re.compile(" ")
_SAYABLE = re.compile(r"[^\W_]")
_MARKS = 48
"""Marks after an end that are waited through for a word."""
_LAST_WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|\.)*$")
_LAST_NUMBER = re.compile(r"(?<!\S)\d{1,3}$")
_NEXT_WORD = re.compile(r"[^\W\d_]{1,16}+")
_INITIALS = re.compile(r"[^\W\d_]{1,2}(?:\.[^\W\d_]{1,2})+")
_LONGEST_WORD = 12
"""Characters to look back for an abbreviation."""
_QUOTED = ("と", "っ")
"""Japanese goes on so after a quoted sentence."""


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


_NEVER_LAST = _names(
    "mr mrs ms mx dr prof mme mlle mlles mm hr hrn fr frl sr sra srta sres dra sig dott avv ing "
    "gen col sgt capt lt maj cmdr rev hon gov sen rep messrs pres supt drs "
    "vs cf viz approx e.g i.e ca bzw vgl z d z.b d.h u.a np tzn tzw tj św ul im inż "
    "ул им проф тов ср напр т.е т.к örn bkz doç yrd"
)
"""Titles that a name follows, and other abbreviations that something always follows."""
_SELDOM_LAST = _names("st mt ft inc corp ltd co bros dept est univ ave blvd rd jr")
"""Abbreviations that end a sentence only before a word that often begins one."""
_BEFORE_NUMBERS = _names(
    "no nos nr fig figs vol vols p pp sec art abs kap ch op par eq tab abb pág núm "
    "jan feb mar apr jun jul aug sep sept oct nov dec"
)
"""Abbreviations when a number follows, words or the end of a sentence otherwise."""
_ZONES = _names(
    "EST EDT ET CST CDT CT MST MDT MT PST PDT PT AKST HST UTC GMT BST CET CEST WET EET IST JST "
    "KST SGT AEST ACST AWST NZST"
)
"""Time zones, which go on with what a time of day began."""
_STARTERS = _names(
    "the a an this that these those it he she they we you i there here his her their our my your "
    "but and so then now however when while if in on at as after before what why how where "
    "der die das er sie es wir ich ihr aber und dann il elle nous vous ils elles je et y ele ela "
    "lei lui ona on ale он она они мы я но и это потом bu bir ve"
)
"""Words that begin a sentence much oftener than they are a name."""
_MONTHS = _names(
    "januar jänner februar märz april mai juni juli august september oktober november dezember "
    "jahrhundert jahrhunderts"
)
"""After a number and a stop they make a date: "am 3. Oktober"."""


def split_text(text: str, max_characters: int) -> tuple[Sentence, ...]:
    """Sentences of `text` in order, each with the silence that follows it; none for blank text.

    None is longer than `max_characters`: a sentence that is too long is cut at its clauses, else
    between words, else between characters. One that is very short joins its neighbour. The silence
    after the last is that after a paragraph.
    """
    joiner = Joiner(max_characters)
    whole = [
        sentence
        for paragraph in fold_paragraphs(text).split("\n")
        for piece in sentences_of(paragraph, max_characters)
        for sentence in joiner.push(piece)
    ]
    return (*whole, *joiner.flush())


class Joiner:
    """Takes sentences one by one and joins those that are very short to their neighbours.

    What is returned is stripped, and no longer than `max_characters` where no sentence is.
    """

    def __init__(self, max_characters: int) -> None:
        if max_characters < 1:
            raise ValueError(f"sentences of {max_characters} characters cannot hold any text")
        self._max_characters = max_characters
        # What follows decides whether a very short sentence joins it or what was before.
        self._before: Sentence | None = None
        self._latest: Sentence | None = None

    def push(self, piece: Sentence) -> list[Sentence]:
        """The sentences that are certain now."""
        certain = self._settle(is_last=False)
        self._latest = piece
        return certain

    def flush(self) -> list[Sentence]:
        """The rest, at the end of the text; what is pushed later is another text."""
        rest = self._settle(is_last=True)
        if self._before is not None:
            rest.append(_stripped(self._before))
        self._before = self._latest = None
        return rest

    def _settle(self, is_last: bool) -> list[Sentence]:
        """Decide where the latest piece belongs, once it is known whether one follows."""
        before, piece = self._before, self._latest
        if piece is None:
            return []
        if before is None:
            self._before = piece
            return []
        is_paragraph = before.pause_s == PARAGRAPH_PAUSE_S
        # A paragraph carries no space at its end.
        both = before.text + (" " if is_paragraph else "") + piece.text
        # A heading goes with what follows it; else the pause between paragraphs is kept.
        can_join_back = not is_paragraph or is_last
        is_joined = _is_short(before) or (can_join_back and _is_short(piece))
        if is_joined and len(both.strip()) <= self._max_characters:
            self._before = replace(piece, text=both)
            return []
        self._before = piece
        return [_stripped(before)]


def cut_long(sentence: str, max_characters: int, pause_s: float) -> Iterator[Sentence]:
    """`sentence` in as few pieces as fit, of about the same length; `pause_s` after the last."""
    while len(sentence.rstrip()) > max_characters:
        pieces = -(-len(sentence.rstrip()) // max_characters)
        cut, cut_pause_s = best_cut(sentence, len(sentence) // pieces, max_characters)
        yield Sentence(sentence[:cut], cut_pause_s)
        sentence = sentence[cut:]
    if sentence.strip():
        yield Sentence(sentence, pause_s)


def best_cut(sentence: str, target: int, max_characters: int) -> tuple[int, float]:
    """Where to cut a sentence that is too long, and the silence there in seconds: the strongest
    boundary at which both halves stay speakable, the one nearest to `target` characters."""
    # The space at the cut is stripped later, so a boundary may lie one space past the limit.
    window = sentence[: max_characters + 1]
    for pattern, pause_s in (
        (_STOP, SENTENCE_PAUSE_S),
        (_CLAUSE, CLAUSE_PAUSE_S),
        (_SPACE, WORD_PAUSE_S),
    ):
        ends = [found.end() for found in pattern.finditer(window)]
        cuts = [
            end
            for end in ends
            if end > target // 2 and len(window[:end].rstrip()) <= max_characters
        ]
        if cuts:
            return min(cuts, key=lambda end: abs(end - target)), pause_s
    return last_character_end(sentence, max_characters), WORD_PAUSE_S


def next_end(text: str, start: int, searched: int, is_complete: bool) -> tuple[int | None, int]:
    """(end of the sentence that begins at `start`, or None; where to search on with more text).

    `text` is one paragraph or, unless `is_complete`, the beginning of one: then only an end is told
    that nothing which may follow can change. `searched` is `start` or what was returned last.
    """
    while stop := _STOP.search(text, searched):
        is_end = _is_end(text, start, stop, is_complete)
        if is_end is None:
            break
        # Marks alone are no sentence: a few of them stay with what was before them.
        most = stop.end() + _MARKS
        if is_end and len(text) < most and not _SAYABLE.search(text, stop.end()):
            break
        searched = stop.end()
        if is_end:
            return searched, searched
    return None, searched


def is_sayable(text: str) -> bool:
    """Whether there is a letter or a digit in it: of marks alone a model babbles."""
    return _SAYABLE.search(text) is not None


def sentences_of(paragraph: str, max_characters: int) -> Iterator[Sentence]:
    """The sentences of a folded paragraph; the pause after the last is the paragraph's."""
    start = 0
    while start < len(paragraph):
        end, _ = next_end(paragraph, start, start, is_complete=True)
        end = end or len(paragraph)
        pause_s = SENTENCE_PAUSE_S if end < len(paragraph) else PARAGRAPH_PAUSE_S
        yield from cut_long(paragraph[start:end], max_characters, pause_s)
        start = end


def _is_end(text: str, start: int, stop: re.Match[str], is_complete: bool) -> bool | None:
    """Whether the sentence ends at `stop`; None is that what follows must be known first."""
    if stop.end() == len(text):
        return True if is_complete else None
    mark = stop.group().rstrip()
    if mark[0] in _CLOSED_STOPS:
        return mark[-1] in _CLOSED_STOPS or not text.startswith(_QUOTED, stop.end())
    following = text[stop.end()]
    if following == "[" and not is_complete and stop.end() + 1 == len(text):
        return None
    if following == "[" and text[stop.end() + 1 : stop.end() + 2].isdigit():
        return False  # "It is so. [2] Others say no."
    if following.islower():
        return False  # e.g. "etc. and", or '"Stop!" he said'
    if mark != ".":
        return True
    word = _LAST_WORD.search(text, max(start, stop.start() - _LONGEST_WORD), stop.start())
    if word is None:
        return _number_ends(text, start, stop, is_complete)
    name = word.group().lower()
    if name in _NEVER_LAST:
        return False
    if name in _BEFORE_NUMBERS:
        return not following.isdigit()
    if name in ("a.m", "p.m"):
        return _is_no_zone(text, stop.end(), is_complete)
    is_initial = len(name) == 1 and word.group() != "I" and word.group().isupper()
    is_initials = _INITIALS.fullmatch(name)
    if is_initial or is_initials or name in _SELDOM_LAST:
        return _is_next_word(text, stop.end(), _STARTERS, is_complete)
    return True


def _is_no_zone(text: str, position: int, is_complete: bool) -> bool | None:
    """Whether a time of day ends before the word there; None as in `_is_end`."""
    word = _NEXT_WORD.match(text, position)
    if word is not None and word.end() == len(text) and not is_complete:
        return None
    return word is None or word.group() not in _ZONES


def _number_ends(text: str, start: int, stop: re.Match[str], is_complete: bool) -> bool | None:
    number = _LAST_NUMBER.search(text, max(start, stop.start() - 3), stop.start())
    if number is None:
        return True
    if number.start() == start:
        return False  # "1. First we cook."
    is_month = _is_next_word(text, stop.end(), _MONTHS, is_complete)
    return None if is_month is None else not is_month


def _is_next_word(
    text: str, position: int, words: frozenset[str], is_complete: bool
) -> bool | None:
    """Whether the word there is one of `words`, and no initial; None as in `_is_end`."""
    word = _NEXT_WORD.match(text, position)
    if word is None:
        return False
    if word.end() == len(text):
        return word.group().lower() in words if is_complete else None
    return word.group().lower() in words and text[word.end()] != "."


def _stripped(sentence: Sentence) -> Sentence:
    return replace(sentence, text=sentence.text.strip())


def _is_short(sentence: Sentence) -> bool:
    return len(sentence.text.strip()) < SHORT_CHARACTERS
