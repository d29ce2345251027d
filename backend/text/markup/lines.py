"""Lines of Markdown to pieces of text: paragraphs, headings, items of lists, rows of tables."""

import re

from backend.text.markup.line_kinds import Kind, Line, line_of
from backend.text.markup.marks import ITEM_END, PARAGRAPH_END, STOP

_SENTENCES = (Kind.HEADING, Kind.STRONG, Kind.ITEM, Kind.NUMBERED, Kind.ROW, Kind.CODE)
"""What ends as a sentence does, whether it has a full stop or not."""
_OF_A_LIST = (Kind.ITEM, Kind.NUMBERED, Kind.ROW, Kind.CODE)
_TITLES = (Kind.HEADING, Kind.STRONG)
_GOES_ON = (Kind.PROSE, Kind.NOTE, Kind.ITEM, Kind.NUMBERED)
"""What the next line may belong to."""

_CELL_END = re.compile(r"(?<![ \t])[ \t]+\|(?:[ \t]+\|)*(?:[ \t]+|$)")
_EMPTY_CELLS = re.compile(r"(?:\| ){2,}")
_MOST_SPACES = 64
_NUMBER = re.compile(r"\d+")
_CLOSED = frozenset(".!?:;。！？：")
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})")


class Lines:
    """Takes text in pieces, with line feeds as the only ends of lines.

    What is returned joins to pieces of text, each without the marks of its lines, and between two
    of them `PARAGRAPH_END` or `ITEM_END`, with a `STOP` before it where a sentence is to end. A
    line feed within a piece is a space. A line of prose is passed on while it comes, as soon as
    its beginning tells that it is one.
    """

    def __init__(self) -> None:
        self._line = ""
        """What is not passed on of a line that is not told yet, or the spaces at its end."""
        self._is_told = False
        """The rest of this line is text of `_piece`."""
        self._piece: Kind | None = None
        """What is being passed on, or was last."""
        self._before: Kind | None = None
        """The piece before it."""
        self._is_apart = False
        """A blank line or a rule came since."""
        self._is_table = False
        self._fence = ""
        """The marks of the fence that is open."""
        self._last = ""
        """The last character that was passed on."""
        self._passed: list[str] = []

    def push(self, text: str) -> str:
        """What is certain now."""
        first, *rest = text.split("\n")
        self._go_on(first)
        for line in rest:
            self._end_line()
            self._go_on(line)
        return self._take()

    def flush(self) -> str:
        """The rest, at the end of the text."""
        self._end_line()
        is_list = self._piece is Kind.NUMBERED and self._before is Kind.NUMBERED
        if is_list or self._piece in (Kind.HEADING, Kind.ITEM, Kind.ROW):
            self._passed.append(STOP)
        return self._take()

    def _take(self) -> str:
        passed = "".join(self._passed)
        self._passed.clear()
        return passed

    def _go_on(self, text: str) -> None:
        """With more of the line."""
        self._line += text.replace("\t", " ") if text.isspace() else text
        if self._is_told:
            self._pass(is_whole=False)
        elif self._line and (line := line_of(self._line, False, self._is_table)):
            self._begin(line)
            self._is_told = True
            self._pass(is_whole=False)
        elif self._line.endswith(" " * _MOST_SPACES):
            self._line = self._line.rstrip(" ") + " "

    def _end_line(self) -> None:
        if not self._is_told and (line := line_of(self._line, True, self._is_table)):
            self._begin(line)
        self._pass(is_whole=True)
        self._line, self._is_told = "", False

    def _begin(self, line: Line) -> None:
        """A line whose kind is known; `_line` is its text from now on."""
        self._line, kind = line.text, line.kind
        if self._is_table and kind not in (Kind.ROW, Kind.TABLE_RULE):
            self._is_table = False
        match kind:
            case Kind.BLANK | Kind.RULE | Kind.UNDERLINE | Kind.TABLE_RULE:
                self._part(kind)
            case Kind.FENCE:
                self._turn(line.fence)
                if line.text:
                    self._open(Kind.CODE)
            case Kind.NOTHING:
                pass
            case Kind.PROSE:
                self._prose(line)
            case Kind.NUMBERED if not self._may_be_numbered(line.text):
                self._prose(line)
            case _:
                self._open(kind)

    def _part(self, kind: Kind) -> None:
        """Take a line that only keeps others apart."""
        is_under = self._piece is Kind.PROSE and not self._is_apart
        if is_under and kind is Kind.UNDERLINE and not self._fence:
            self._piece = Kind.HEADING
        if kind is Kind.TABLE_RULE:
            self._is_table = True
            if is_under:
                self._piece = Kind.ROW
        if not self._fence or kind is Kind.BLANK:
            self._is_apart = True

    def _turn(self, fence: str) -> None:
        """Open a fence, or close the one that is open."""
        if not self._fence:
            self._fence = fence
        elif self._closes(fence):
            self._fence = ""

    def _closes(self, fence: str) -> bool:
        return fence[0] == self._fence[0] and len(fence) >= len(self._fence)

    def _prose(self, line: Line) -> None:
        if self._fence and (fence := _FENCE.match(line.text)) and self._closes(fence[1]):
            self._fence = ""  # and goes on in the same line
            self._open(Kind.PROSE)
        elif self._fence:
            self._open(Kind.CODE)
        elif self._is_apart or self._piece not in _GOES_ON or not self._belongs(line):
            self._open(Kind.PROSE)
        else:
            self._say("\n")

    def _belongs(self, line: Line) -> bool:
        """Whether a line goes on with what was before it."""
        if self._piece not in _OF_A_LIST or line.is_indented:
            return True
        return line.text[0].islower()

    def _may_be_numbered(self, text: str) -> bool:
        """Whether a number begins an item, and is not one of prose that happens to begin a line."""
        if self._is_apart or self._piece is not Kind.PROSE or self._last in _CLOSED:
            return True
        number = _NUMBER.match(text)
        return number is not None and int(number[0]) == 1

    def _open(self, kind: Kind) -> None:
        """Begin a piece of text."""
        if self._piece is not None:
            if self._piece in _SENTENCES:
                self._passed.append(STOP)
            is_list = self._piece in _OF_A_LIST or kind in _OF_A_LIST
            is_title = self._piece in _TITLES or kind in _TITLES
            is_near = is_list and not is_title and not self._is_apart
            self._passed.append(ITEM_END if is_near else PARAGRAPH_END)
        self._before, self._piece = self._piece, kind
        self._is_apart = False
        self._last = ""

    def _pass(self, is_whole: bool) -> None:
        """Pass on what is certain of the line."""
        text, self._line = self._line, ""
        if is_whole:
            text = _without_end(text)
        else:
            at = _last_spaces(text)
            text, self._line = text[:at], text[at:]
            if len(self._line) > _MOST_SPACES:
                self._line = _EMPTY_CELLS.sub("| ", " " + " ".join(self._line.split()) + " ")
        if text:
            self._say(_CELL_END.sub(", ", text))

    def _say(self, text: str) -> None:
        self._passed.append(text)
        self._last = text.rstrip()[-1:] or self._last


def _last_spaces(text: str) -> int:
    """Where spaces and ends of cells begin at the end of `text`: what they are, the next tells."""
    if text.endswith("\\"):
        return len(text) - (2 if text.endswith("\\\\") else 1)
    rest = len(text.rstrip(" \t|"))
    spaces = [at for at in (text.find(" ", rest), text.find("\t", rest)) if at >= 0]
    return min(spaces, default=len(text))


def _without_end(text: str) -> str:
    """A line without spaces at its end, the end of its last cell, or the mark of its own end."""
    if text.endswith("\\"):  # two end a line of a formula
        return text if text.endswith("\\\\") else text[:-1]
    text = text.rstrip(" \t")
    return text[:-2].rstrip(" \t|") if text.endswith((" |", "\t|")) else text
