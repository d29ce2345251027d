"""Formulas in LaTeX as they are read aloud, in English: "$E = mc^2$", "\\(x_1\\)", "\\alpha".

What stands between two dollar signs may be money: it is a formula only where it looks like one.
"""

import re
from itertools import chain

from backend.text.normalize.english_quantity import unit_name
from backend.text.normalize.latex_words import (
    ACCENTS,
    COMMANDS,
    ESCAPED,
    FUNCTION_WORDS,
    FUNCTIONS,
    GREEK,
    SIGNS,
    SUMS,
    TEXTS,
)
from backend.text.normalize.number import cardinal, decimal, ordinal

MOST_CHARACTERS = 1000
"""Of a formula."""
DEEPEST = 16
"""Groups within groups."""
_INSIDE = r"(?:[^$\\\n]|\\[^\n])"
_DISPLAYED = re.compile(
    r"(?<![\\$])\$\$(?P<dollars>(?:[^$\\]|\\[\s\S]){1,1000}+)\$\$"
    r"|\\\[(?P<bracket>(?:[^\\]|\\[^\]\[]){1,1000}+)\\\]"
    r"|\\begin\{(?:equation|align|gather|math|displaymath|eqnarray|multline)\*?\}"
    r"(?P<block>(?:[^\\]|\\(?!begin\{|end\{(?:eq|al|ga|ma|di|mu))[\s\S]){1,1000}+)"
    r"\\end\{\w{1,20}\*?\}"
)
_INLINE = re.compile(
    rf"(?<![\w\\$])\$(?P<dollars>(?!\s){_INSIDE}{{1,400}}+)(?<!\s)(?<!\s\\)\$(?!\d)"
    r"(?=(?:th|st|s|D|d|[mglLFAVW])?(?!\w))"
    r"|\\\((?P<round>(?:[^\\\n]|\\[^()\n]){1,400}+)\\\)"
)
_SPACED = re.compile(rf"(?<![\w\\$])\$ (?P<dollars>(?!\s){_INSIDE}{{1,400}}+) ?\$(?!\w)")
_DEGREES = re.compile(r"(?<=\d) ?(?:\$\^(?:\\circ|\{\\circ\})\$|\^\\circ|\^\{\\circ\})")
_UNIT_AFTER = re.compile(r"[mglLFAVW](?!\w)")
_BARE = re.compile(r"(?<![\\A-Za-z_:])\\(?P<name>[A-Za-z]{2,20})(?![A-Za-z\\:])")
_TOKEN = re.compile(r"\\[A-Za-z]+|\\[\s\S]|\d{1,18}(?:,\d{3})*(?:\.\d{1,18})?|\s+|[\s\S]")
_MARK = re.compile(
    r"[\\^_=<>+]|\d[A-Za-z]|[A-Za-z]['\d]?\(|[A-Za-z] ?[-*/] ?[\w(]|[A-Za-z]!|\|[A-Za-z]"
)
_ABSOLUTE = re.compile(r"(?<![\\|])\|([^|\n]{1,80})\|(?!\|)")
_ALIGNMENT = re.compile(r"(?<!\\)&")
_STRONG_MARK = re.compile(r"[\\^_=]")
_NUMBER_ALONE = re.compile(r"-?\d{1,18}(?:\.\d{1,18})?°?")
_VARIABLE = re.compile(r"\(?[A-Za-z](?:, ?[A-Za-z]){0,5}'{0,2}\)?|[A-Z]{2,3}")
_TEXT = re.compile(
    rf"\\(?:{'|'.join(sorted(TEXTS))})\{{[^{{}}]{{0,200}}\}}|\\[A-Za-z]+|\{{[a-z]+\}}"
)
_WORD = re.compile(r"(?<![A-Za-z])[A-Za-z]{2,}(?![A-Za-z(])")
_BEFORE_MARK = re.compile(r" +(?=[,.;:!?)])|(?<=\() +")
_READ_AS_IS = "(),.;:?"
_KNOWN = frozenset(chain(GREEK, SUMS, TEXTS, COMMANDS, ("frac", "dfrac", "tfrac", "sqrt", "binom")))
_TOO_COMMON = frozenset(("in", "to", "ne", "ni", "left", "right", "label", "text", "tag", "top"))
"""Words of paths and of other languages of commands: alone they are no formula."""
_ENDS_ROOT = frozenset(("]",))


def read_latex(text: str) -> str:
    """`text` with its formulas in words."""
    if "$" not in text and "\\" not in text:
        return text
    text = _DEGREES.sub("°", text)
    text = _DISPLAYED.sub(_displayed, text)
    text = _INLINE.sub(_inline, text)
    text = _SPACED.sub(_spaced, text)
    if "\\" in text:
        text = _read_bare(text)
    return text.replace("\\$", "$").replace("\\%", "%")


def _displayed(found: re.Match[str]) -> str:
    content = found["dollars"] or found["bracket"] or found["block"]
    if found["block"] is None and not _is_formula(content.strip()):
        return found[0]
    return f" {_words(content)} "


def _inline(found: re.Match[str]) -> str:
    content = found["dollars"] or found["round"]
    if not _is_formula(content.strip()):
        return found[0]
    before = " " if found.string[found.start() - 1 : found.start()].isalnum() else ""
    after = " " if _UNIT_AFTER.match(found.string, found.end()) else ""
    return before + _words(content) + after


def _spaced(found: re.Match[str]) -> str:
    content = found["dollars"].strip()
    words = _WORD.findall(_TEXT.sub(" ", content))
    if not _STRONG_MARK.search(content) or any(len(word) > 2 for word in words):
        return found[0]
    return _words(content)


def _is_formula(content: str) -> bool:
    if _NUMBER_ALONE.fullmatch(content) or _VARIABLE.fullmatch(content):
        return True
    if not _MARK.search(content):
        return False
    words = [
        word for word in _WORD.findall(_TEXT.sub(" ", content)) if word.lower() not in FUNCTIONS
    ]
    if content[0].isdecimal() and not any(mark in content for mark in "\\^_="):
        return not words
    return sum(len(word) > 2 for word in words) < 2 and sum(len(word) > 3 for word in words) < 1


def _words(content: str) -> str:
    content = _ABSOLUTE.sub(r" \\abs{\1} ", content)
    if "matrix" not in content and "cases" not in content:
        content = _ALIGNMENT.sub(" ", content)
    return _tidy(_Reader(content[:MOST_CHARACTERS], 0).read())


def _tidy(words: str) -> str:
    return _BEFORE_MARK.sub("", " ".join(words.split())).strip(" ,;")


def _read_bare(text: str) -> str:
    """Commands outside of a formula, with what belongs to them."""
    read, position = [], 0
    for found in _BARE.finditer(text):
        if found.start() < position or found["name"] not in _KNOWN:
            continue
        if found["name"] in _TOO_COMMON and text[found.end() : found.end() + 1] != "{":
            continue
        reader = _Reader(text, found.start())
        words = _tidy(reader.term(0))
        before = text[position : found.start()]
        read += [before, " " if before[-1:].isalnum() else "", words]
        position = reader.position
        while text[position - 1].isspace():  # it looked for an index
            position -= 1
        if text[position : position + 1].isalnum() or text.startswith("\\", position):
            read.append(" ")
    return "".join([*read, text[position:]])


class _Reader:
    """Reads a formula from `position` on; whatever is not closed ends with the formula."""

    def __init__(self, content: str, position: int) -> None:
        self._content, self.position = content, position
        self._end = min(len(content), position + MOST_CHARACTERS)

    def read(self, depth: int = 0, closing: frozenset[str] = frozenset()) -> str:
        """Up to one of `closing`, which is read, too."""
        words: list[str] = []
        while (token := self._peek()) and token not in closing:
            words.append(self.term(depth))
        self._take()
        return " ".join(words)

    def term(self, depth: int) -> str:
        """What stands next, with its index and its power."""
        token = self._peek()
        if token[:1] == "\\" and token[1:] in SUMS:
            return self._sum(SUMS[self._take()[1:]], depth)
        words = self._atom(depth)
        while (mark := self._peek()) in ("^", "_", "'"):
            self._take()
            is_base = mark == "_" and words == "log"
            script = " prime" if mark == "'" else self._script(mark, depth)
            words += script.replace(" sub ", " base ", 1) + " of" if is_base else script
        return words

    def _atom(self, depth: int) -> str:
        token = self._take()
        if token == "{":
            return self.read(depth + 1, frozenset("}")) if depth < DEEPEST else ""
        if token[:1] == "\\":
            return self._command(token[1:], depth)
        if token[:1].isdecimal():
            whole, _, fraction = token.replace(",", "").partition(".")
            return decimal(whole, fraction)
        if token.isalpha():
            return self._letters(token)
        return token if token in _READ_AS_IS else SIGNS.get(token, "")

    def _letters(self, first: str) -> str:
        """A function's name, or letters that are multiplied."""
        end = self.position
        while end < self._end and end - self.position < 8 and self._content[end].isalpha():
            end += 1
        name = first + self._content[self.position : end]
        if name in FUNCTIONS:
            self.position = end
            return FUNCTION_WORDS.get(name, name)
        if first in "fghFGOPp" and self._content[self.position : self.position + 1] == "(":
            return f"{first} of"
        return first

    def _command(self, name: str, depth: int) -> str:
        if name in GREEK:
            return name.lower()
        if name in FUNCTIONS:
            return FUNCTION_WORDS.get(name, name)
        if name in ("frac", "dfrac", "tfrac", "cfrac"):
            return self._fraction(depth)
        if name in ("binom", "tbinom", "dbinom"):
            return f"{self._argument(depth)} choose {self._argument(depth)}"
        if name == "sqrt":
            return self._root(depth)
        if name == "abs":
            return f"the absolute value of {self._argument(depth)}"
        if name == "vec":
            return f"vector {self._argument(depth)}"
        if name in TEXTS:
            return self._plain()
        if name in ("begin", "end"):
            self._plain()
            return ""
        if name in ACCENTS:
            return f"{self._argument(depth)} {ACCENTS[name]}"
        if name in COMMANDS:
            return COMMANDS[name]
        if len(name) == 1 and not name.isalpha():
            return ESCAPED.get(name, "")
        return name if name.isalpha() else ""

    def _sum(self, name: str, depth: int) -> str:
        lower = upper = ""
        while (mark := self._peek()) in ("^", "_") or mark in ("\\limits", "\\nolimits"):
            self._take()
            if mark == "_":
                lower = self._argument(depth)
            elif mark == "^":
                upper = self._argument(depth)
        if name == "the limit":
            return (
                f"the limit as {lower.replace(' to ', ' goes to ')} of" if lower else "the limit of"
            )
        start = ("over" if not upper else "from") + f" {lower}" if lower else ""
        return f"{name} {start} {f'to {upper}' if upper else ''} of"

    def _script(self, mark: str, depth: int) -> str:
        start = self.position
        words = _tidy(self._argument(depth))
        written = self._content[start : self.position].strip(" {}")
        if mark == "_":
            is_word = written.isalpha() and len(written) > 2
            return f" sub {written if is_word else words}"
        if written in ("2", "3"):
            return " squared" if written == "2" else " cubed"
        if written in ("\\circ", "\\degree"):
            return " degrees"
        if written in ("T", "\\top", "\\intercal", "\\mathsf{T}"):
            return " transpose"
        if written in ("*", "\\ast", "\\star", "\\dagger", "\\prime", "'", "+"):
            return {"\\prime": " prime", "'": " prime", "\\dagger": " dagger", "+": " plus"}.get(
                written, " star"
            )
        if written in ("th", "st", "nd", "rd") or written.startswith("\\text"):
            return written if written.isalpha() else words
        return f" to the power of {words}"

    def _fraction(self, depth: int) -> str:
        start = self.position
        top = _tidy(self._argument(depth))
        middle = self.position
        bottom = _tidy(self._argument(depth))
        written = (self._content[start:middle].strip(" {}"), self._content[middle : self.position])
        digits = written[0], written[1].strip(" {}")
        if all(each.isdecimal() and len(each) < 3 for each in digits) and int(digits[1]) > 1:
            return _share(*digits)
        comma = "," if len(top.split()) > 3 else ""
        return f"{top}{comma} over {bottom}"

    def _root(self, depth: int) -> str:
        degree = ""
        if self._peek() == "[":
            self._take()
            degree = _tidy(self.read(depth + 1, _ENDS_ROOT)) if depth < DEEPEST else ""
        of = _tidy(self._argument(depth))
        if degree in ("", "two"):
            return f"the square root of {of}"
        name = "cube root" if degree == "three" else f"root of order {degree}"
        return f"the {name} of {of}"

    def _argument(self, depth: int) -> str:
        if depth >= DEEPEST:
            self._take()
            return ""
        token = self._peek()
        if token[:1].isdecimal() and len(token) > 1:  # x^12 is x to the power of 1, times 2
            self.position += 1
            return cardinal(token[0])
        return self._atom(depth + 1)

    def _plain(self) -> str:
        """The argument of a command, as text."""
        if self._peek() != "{":
            return ""
        end = self._content.find("}", self.position, self._end)
        end = self._end if end < 0 else end
        text = self._content[self.position + 1 : end]
        self.position = end + 1
        return unit_name(text.strip()) or text

    def _peek(self) -> str:
        found = _TOKEN.match(self._content, self.position, self._end)
        while found and found[0].isspace():
            self.position = found.end()
            found = _TOKEN.match(self._content, self.position, self._end)
        return found[0] if found else ""

    def _take(self) -> str:
        token = self._peek()
        self.position = min(self._end, self.position + len(token))
        return token


def _share(top: str, bottom: str) -> str:
    is_one = top == "1"
    names = {"2": ("half", "halves"), "4": ("quarter", "quarters")}
    one, many = names.get(bottom, (ordinal(bottom), ordinal(bottom) + "s"))
    if int(top) >= int(bottom):
        return f"{cardinal(top)} over {cardinal(bottom)}"
    return f"{cardinal(top)} {one if is_one else many}"
