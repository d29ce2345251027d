"""Markdown and HTML to the text that a reader sees, whole or while it is being written."""

import re

from backend.text.markup.inline import Inline
from backend.text.markup.lines import Lines
from backend.text.markup.marks import ITEM_END, STOP
from backend.text.markup.tags import Tags

_NO_TEXT = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\ufeff]")
_SPACES = {ord(mark): " " for mark in (*"\x1c\x1d", ITEM_END, STOP)}
_LINE_ENDS = {ord(c): "\n" for c in "\r\x0b\x0c\x85\u2028"} | {ord("\u2029"): "\n\n"}


class MarkupReader:
    """Takes text in pieces; what is returned joins to the same text however it was cut.

    Between two paragraphs it has a blank line, after an item of a list, a row of a table or a line
    of code `ITEM_END`; a line feed alone is a space. A heading and an item end as sentences do,
    cells of a table are separated by commas, links keep their text, code is read as it stands;
    rules, fences and lines of marks alone keep paragraphs apart. Brackets that are no link stay:
    "[sighs]" and "(laughing)" are for the model to act. Nothing that is a word is left out, but the
    name of a code block's language and where links lead.

    What is held back is bounded: a link, code or tag that may still end, a line whose beginning
    does not tell what it is, and headings, rows of tables and lines in bold, whose end tells it.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._is_after_return = False
        self._tags, self._lines, self._inline = Tags(), Lines(), Inline()

    def push(self, text: str) -> str:
        """What is certain now."""
        return self._inline.push(self._lines.push(self._tags.push(self._clean(text))))

    def flush(self) -> str:
        """The rest, at the end of the text; what is pushed later is another text."""
        rest = self._lines.push(self._tags.flush()) + self._lines.flush()
        read = self._inline.push(rest) + self._inline.flush()
        self._begin()
        return read

    def _clean(self, text: str) -> str:
        text = _NO_TEXT.sub("", text).translate(_SPACES)
        if not text:
            return ""
        if self._is_after_return and text[0] == "\n":
            text = text[1:]
            self._is_after_return = False
        if text:
            self._is_after_return = text[-1] == "\r"
        return text.replace("\r\n", "\n").translate(_LINE_ENDS)


def read_markup(text: str) -> str:
    """All of a text at once."""
    reader = MarkupReader()
    return reader.push(text) + reader.flush()
