"""Formulas in LaTeX, which pass as they stand: what is in them is no Markdown."""

import re

from backend.text.markup.code import WAIT, Taken

LONGEST_FORMULA = 1000
"""Characters."""
_BEGIN = "\\begin{"
_BLOCK_END = re.compile(r"\\end\{\w{1,20}\*?\}")
_FORMULA_END = re.compile(r"(?<!\\)\$|[.!?]\s|\n")
_OF_A_FORMULA = re.compile(r"[\\^_={}]")


def in_dollars(text: str, at: int, is_last: bool) -> Taken:
    """What stands between dollar signs, where it is a formula: "$5 and $6" is none."""
    mark = "$$" if text.startswith("$$", at) else "$"
    begin, most = at + len(mark), at + LONGEST_FORMULA
    if text[begin : begin + 1].isdigit():
        return at + 1, "$"
    if mark == "$$":
        end = text.find(mark, begin, most)
        is_open = end < 0
    else:
        found = _FORMULA_END.search(text, begin, most)
        is_open = found is None or found.end() == len(text)
        end = found.start() if found and found[0] == "$" else -1
    if is_open and len(text) < most and not is_last:
        return WAIT, ""
    if end > begin and _OF_A_FORMULA.search(text, begin, end):
        return end + len(mark), text[at : end + len(mark)]
    return at + 1, "$"


def block(text: str, at: int, is_last: bool) -> Taken:
    """A formula from its "begin" to its "end"."""
    if text.startswith(_BEGIN, at):
        most = at + LONGEST_FORMULA
        if found := _BLOCK_END.search(text, at, most):
            return found.end(), text[at : found.end()]
        is_open = len(text) < most
    else:
        is_open = _BEGIN.startswith(text[at:])
    return (WAIT, "") if is_open and not is_last else (at + 1, "\\")


def bracketed(text: str, at: int, is_last: bool) -> Taken | None:
    """A formula between backslashes with brackets; None where there is none."""
    most = at + LONGEST_FORMULA
    end = text.find("\\)" if text[at + 1] == "(" else "\\]", at + 2, most)
    if end < 0 and len(text) < most and not is_last:
        return WAIT, ""
    is_formula = end > 0 and _OF_A_FORMULA.search(text, at + 2, end)
    return (end + 2, text[at : end + 2]) if is_formula else None
