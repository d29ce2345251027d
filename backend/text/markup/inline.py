"""Markup within a paragraph: links, code, emphasis, entities, escapes."""

import html
import re
import unicodedata
from dataclasses import dataclass

import regex

from backend.text.fold import is_kept
from backend.text.markup.code import NONE, WAIT, Taken, code_end, held
from backend.text.markup.formula import block, bracketed, in_dollars
from backend.text.markup.marks import ITEM_END, PARAGRAPH_END, STOP

_PIECE_END = re.compile(f"{PARAGRAPH_END}|{ITEM_END}|{STOP}")
_SPECIAL = re.compile(r"[\\`*_~\[!<&$\u2500-\u25ff]|[-=#]+")
_RUN = re.compile(r"\*+|_+|~+|`+|[-]+|=+|#+|[\u2500-\u25ff]+")
_LONGEST_ORNAMENT = 4
"""Of the same mark in a row; more are an ornament wherever they stand, three at an end."""

_ESCAPED = frozenset("\\`*_{}[]()#+.!|-~<>$\"'&=:")
_ENTITY = regex.compile(r"&(?:[A-Za-z]{2,8}\d{0,2}|#\d{1,7}|#[xX][0-9A-Fa-f]{1,6});")
_AUTO_LINK = regex.compile(
    r"<((?:https?://|ftp://|mailto:)[^<>\s]{1,800}+|[\w.+-]{1,64}+@[\w.-]{1,255}+)>"
)
_LABEL = r"\[((?:[^\[\]\\]|\\.|\[[^\[\]]{0,200}+\](?:\([^()\s]{0,800}+\))?){0,400}+)\]"
_WHERE = r"<[^<>\n]{0,800}+>|(?:[^()\s<]|\([^()\s]{0,400}+\)){0,800}+"
_TITLE = r"\"[^\"]{0,400}+\"|'[^']{0,400}+'|\([^()]{0,400}+\)"
_LINK = regex.compile(
    rf"{_LABEL}\(\s{{0,8}}+({_WHERE})(?:\s{{1,8}}+(?:{_TITLE}))?\s{{0,8}}+\)", regex.DOTALL
)
_REFERENCE = regex.compile(r"\[([^\[\]]{1,400}+)\]\[([^\[\]]{0,100}+)\]")
_WIKI = regex.compile(r"\[\[([^\[\]|]{1,200}+)(?:\|([^\[\]|]{1,200}+))?\]\]")
_NOTE = regex.compile(r"\[\^[^\[\]\s]{1,40}+\]")
_CITATION = re.compile(r"\s*\d{1,3}\s*")
"""It stays as "[2]": what numbers say, others know."""
_WORD = re.compile(r"[^\W\d_]+")
_TARGET = re.compile(r"[./#:<]")
_CLOSER_WITHIN = 60
"""Characters after emphasis that begins within a word in which its end is looked for."""
_STARS = re.compile(r"\*+")
_LETTERS = re.compile(r"[^\W\d_]+")
_POWER = re.compile(r"-?\d{1,20}")

_ENDS = re.compile(r"[.!?…:;,。！？：；，、।؟][\"'”’»)\]」』]*\s*$")
_TAIL = 12


@dataclass(frozen=True, slots=True)
class _Run:
    """The same mark several times, and what stands around it."""

    mark: str
    count: int
    before: str
    """The character before it; "" at the beginning."""
    after: str

    @property
    def opens(self) -> bool:
        """It stands at the beginning of a word."""
        return not self.after.isspace() and self.after != "" and not self.before.isalnum()

    @property
    def closes(self) -> bool:
        """It stands at the end of one."""
        return not self.before.isspace() and self.before != "" and not self.after.isalnum()

    @property
    def is_within(self) -> bool:
        """It stands between two letters or digits."""
        return self.before.isalnum() and self.after.isalnum()

    @property
    def is_between_caseless(self) -> bool:
        """It stands beside a letter of a script in which emphasis needs no space, as Chinese."""
        return any(c.isalpha() and c.upper() == c.lower() for c in (self.before, self.after))


class Inline:
    """Reads what `Lines` passes on; what is returned joins to the same text however it was cut.

    What may yet become a link or code is held back to its greatest length at most.
    """

    def __init__(self) -> None:
        self._held = ""
        self._tail = ""
        """The end of what was returned of this piece of text."""
        self._forget()

    def push(self, text: str) -> str:
        """What is certain now."""
        read: list[str] = []
        start = 0
        for end in _PIECE_END.finditer(text):
            read.append(self._whole(text[start : end.start()], end[0]))
            start = end.end()
        return "".join(read) + self._said(self._read(self._held + text[start:], is_last=False))

    def flush(self) -> str:
        """The rest."""
        return self._whole("", "")

    def _whole(self, text: str, end: str) -> str:
        """The last of a piece of text, with what ends it."""
        read = self._said(self._read(self._held + text, is_last=True))
        if end == STOP:
            return read if not self._tail.strip() or _ENDS.search(self._tail) else f"{read}."
        self._tail = ""
        self._forget()
        return read + end

    def _forget(self) -> None:
        self._before = ""
        """The last character that was read, of the text as written."""
        self._open: set[str] = set()
        """Emphasis whose end is still to come."""

    def _said(self, text: str) -> str:
        self._tail = (self._tail + text)[-_TAIL:]
        return text

    def _read(self, text: str, is_last: bool) -> str:
        read: list[str] = []
        start = 0
        self._held = ""
        while special := _SPECIAL.search(text, start):
            at = special.start()
            if at > start:
                read.append(text[start:at])
                self._before = text[at - 1]
            end, said = self._take(text, at, is_last)
            if end == WAIT:
                self._held = held(text[at:])
                return "".join(read)
            read.append(said)
            self._before = text[end - 1]
            start = end
        if start < len(text):
            self._before = text[-1]
        return "".join(read) + text[start:]

    def _take(self, text: str, at: int, is_last: bool) -> Taken:
        c = text[at]
        match c:
            case "\\":
                return _escaped(text, at, self._before, is_last)
            case "&":
                return _matched(_ENTITY, text, at, is_last)
            case "$":
                return in_dollars(text, at, is_last)
            case "<":
                return _matched(_AUTO_LINK, text, at, is_last)
            case "!":
                if at + 1 == len(text):
                    return (at + 1, c) if is_last else (WAIT, "")
                if text[at + 1] != "[":
                    return at + 1, c
                return _bracket(text, at, at + 1, is_last)
            case "[":
                return _bracket(text, at, at, is_last)
            case "`":
                end = code_end(text, at, is_last)
                if end == NONE:
                    return self._run(text, at, is_last)
                return end, "" if end == WAIT else _stripped(text[at:end])
        return self._run(text, at, is_last)

    def _run(self, text: str, at: int, is_last: bool) -> Taken:
        run = _RUN.match(text, at)
        assert run is not None
        end = run.end()
        if end == len(text) and not is_last:
            return WAIT, ""
        found = _Run(run[0][0], len(run[0]), self._before, text[end : end + 1])
        match found.mark:
            case "`":
                return end, ""
            case "~":
                return end, run[0] if found.count == 1 else ""
            case "*" | "_":
                return self._emphasis(found, text, end, is_last)
            case "-" | "=" | "#":
                return end, _ornament(found, run[0])
        is_between = found.before.strip() and found.after.isalnum()
        return end, " " if is_between else ""

    def _emphasis(self, run: _Run, text: str, end: int, is_last: bool) -> Taken:
        mark = run.mark * run.count
        key = run.mark if run.count == 1 else run.mark * 2
        is_alone = not run.before.strip() and not run.after.strip()
        if is_alone:
            return end, mark if mark == "*" and run.before else ""  # "2 * 3"
        if run.mark == "_":
            return end, self._underscore(run, mark, key)
        if run.is_within or (run.before in ")]" and run.before and run.after.isalnum()):
            return self._within(run, key, text, end, is_last)
        if (
            run.before.isalnum()
            and run.after
            and run.after in "(["
            and run.count == 1
            and key not in self._open
        ):
            return end, mark  # "a*(b)"
        if run.before.isdigit() and mark == "*" and "*" not in self._open:
            return end, mark  # "5* hotel"
        if run.closes:
            self._open.discard(key)
        else:
            self._open.add(key)
        return end, ""

    def _underscore(self, run: _Run, mark: str, key: str) -> str:
        if run.is_within and not run.is_between_caseless:
            return mark if run.count < 3 else " "
        if run.opens and run.before not in tuple("/@.:=-#&"):
            self._open.add(key)
            return ""
        if key in self._open or run.count > 1:
            self._open.discard(key)
            return ""
        return "" if run.is_between_caseless else mark

    def _within(self, run: _Run, key: str, text: str, end: int, is_last: bool) -> Taken:
        """Asterisks within a word or sum: emphasis, a product, a power, or letters left out."""
        mark = run.mark * run.count
        if key in self._open:
            self._open.discard(key)
            return end, ""
        if run.is_between_caseless or run.count > _LONGEST_ORNAMENT:
            return end, ""
        if run.count == 1 and (run.before.isdigit() or run.after.isdigit() or run.before in ")]"):
            return end, mark
        window = text[end : end + _CLOSER_WITHIN]
        is_cut = len(window) < _CLOSER_WITHIN and not is_last
        closes = _closes_within(window if is_cut else window + "\n", mark)
        if closes is None and is_cut:
            return WAIT, ""
        if closes:
            self._open.add(key)
            return end, ""
        return end, "^" if run.count == 2 and _POWER.match(window) else mark


def _closes_within(window: str, mark: str) -> bool | None:
    """Whether emphasis that began within a word ends in what follows; None is not yet.

    "un**believ**able" is one, "x**2 + y**2" and "f**k" are none.
    """
    if len(mark) == 1:
        letters = _LETTERS.match(window)
        word = letters[0] if letters else ""
        following = window[len(word) : len(word) + 2]
        if not following:
            return None
        if following[0] != "*" or len(word) < 2:
            return False
        return following != "**" if len(following) == 2 else None
    for found in _STARS.finditer(window):
        is_end = found.end() == len(window)
        if len(found[0]) != len(mark):
            if is_end and len(found[0]) < len(mark):
                return None
            continue
        if is_end:
            return None
        is_word = not any(c.isspace() for c in window[: found.start()])
        follows_word = not window[found.start() - 1].isspace() if found.start() else False
        if follows_word and (is_word or not window[found.end()].isalnum()):
            return True
    return None


def _ornament(run: _Run, marks: str) -> str:
    if run.count < 3 or (run.mark == "#" and run.count < _LONGEST_ORNAMENT):
        return marks
    is_edge = run.before in ("", "\n") or run.after in ("", "\n")
    if run.mark == "-" and not is_edge:
        return "—"
    return "" if is_edge or run.count > _LONGEST_ORNAMENT else marks


def _escaped(text: str, at: int, before: str, is_last: bool) -> Taken:
    if len(text) < at + 3 and not is_last:
        return WAIT, ""
    c, after = text[at + 1 : at + 2], text[at + 2 : at + 3]
    if c == "b":
        return block(text, at, is_last)
    if c == "`" or (c == "*" and not _is_between(before, after)):
        return at + 2, ""  # nobody says it
    if c and c in "([" and (formula := bracketed(text, at, is_last)):
        return formula
    return (at + 2, c) if c and c in _ESCAPED else (at + 1, "\\")


def _is_between(before: str, after: str) -> bool:
    """Whether a sign stands in a sum: "2*3" or "2 * 3"."""
    return (before.isalnum() and after.isalnum()) or (before.isspace() and after.isspace())


def _matched(pattern: regex.Pattern[str], text: str, at: int, is_last: bool) -> Taken:
    """An entity or an address in angle brackets."""
    found = pattern.match(text, at, partial=not is_last)
    if found is None:
        return at + 1, text[at]
    if found.partial:
        return WAIT, ""
    if pattern is _AUTO_LINK:
        return found.end(), found[1]
    return found.end(), "".join(
        c if unicodedata.category(c) == "Zs" or not c.isspace() else " "
        for c in html.unescape(found[0])
        if c.isspace() or is_kept(c)
    )


def _bracket(text: str, at: int, bracket: int, is_last: bool) -> Taken:
    """A link, from its "!" or its bracket on."""
    for pattern in (_NOTE, _LINK, _REFERENCE, _WIKI):
        found = pattern.match(text, bracket, partial=not is_last)
        if found is None:
            continue
        if found.partial:
            return WAIT, ""
        if (label := _label(pattern, found, is_image=bracket > at)) is not None:
            return found.end(), label
    return at + 1, text[at]


def _label(pattern: regex.Pattern[str], found: regex.Match[str], is_image: bool) -> str | None:
    """What is read of a link; None where it is none."""
    if pattern is _NOTE:
        return ""
    if pattern is _WIKI:
        return None if _CITATION.fullmatch(found[1]) else found[2] or found[1]
    if pattern is _LINK:
        # "[sighs](excited)" is for the model to act.
        is_link = is_image or not found[2] or _TARGET.search(found[2])
        is_citation = _CITATION.fullmatch(found[1]) and not is_image
        label = f"[{found[1]}]" if is_citation else read_inline(found[1])
        return label if is_link else None
    if _CITATION.fullmatch(found[1]):
        return None
    is_acted = _WORD.fullmatch(found[1]) and _WORD.fullmatch(found[2])
    return None if is_acted else read_inline(found[1])


def _stripped(code: str) -> str:
    code = code.strip("`")
    return code[1:-1] if code.strip() and code[0] == code[-1] == " " else code


def read_inline(text: str) -> str:
    """A whole piece of text without its markup."""
    inline = Inline()
    return inline.push(text) + inline.flush()
