"""HTML in text that comes in pieces: what Markdown has too becomes that, the rest is dropped."""

import re

import regex

from backend.text.markup.code import NONE, WAIT, code_end, held

_INLINE = (
    "a|b|i|u|s|em|strong|span|code|sup|sub|img|small|mark|font|del|ins|body|html|kbd|abbr|cite|q|"
    "wbr|speak|break|prosody|emphasis|voice"
)
_BLOCKS = (
    "p|div|ul|ol|table|blockquote|pre|section|article|header|footer|figure|figcaption|details|"
    "summary|dl|dt|dd|thead|tbody|tfoot|center"
)
_VALUE = r"\"[^\"<>]{0,400}\"|'[^'<>]{0,400}'|[^\s\"'<>=]{1,400}"
_ATTRIBUTE = (
    rf"\s{{1,8}}+(?:[\w:@.-]{{1,40}}+\s{{0,2}}+=\s{{0,2}}+(?:{_VALUE})"
    r"|checked|disabled|hidden|open|reversed|controls)"
)
_TAG = regex.compile(
    rf"<(/?)(br|hr|h[1-6]|li|tr|td|th|{_BLOCKS}|{_INLINE})(?:{_ATTRIBUTE}){{0,12}}+\s{{0,8}}+/?>",
    regex.IGNORECASE,
)
_COMMENT = "<!--"
_LONGEST_COMMENT = 1000
_SPECIAL = re.compile(r"[<`\\]")

_OPENING = {"br": "\n", "hr": "\n\n---\n\n", "li": "\n- ", "tr": "\n| "}
_CLOSING = {"li": "\n", "tr": "\n", "td": " | ", "th": " | "}
_HEADING = re.compile("h[1-6]")
_BLOCK = re.compile(_BLOCKS)


class Tags:
    """Reads tags and comments; what is returned joins to the same text however it was cut.

    "<i" and the like are held back until they are a tag or cannot be one.
    """

    def __init__(self) -> None:
        self._held = ""

    def push(self, text: str) -> str:
        """What is certain now."""
        return self._read(self._held + text, is_last=False)

    def flush(self) -> str:
        """The rest."""
        return self._read(self._held, is_last=True)

    def _read(self, text: str, is_last: bool) -> str:
        read: list[str] = []
        start = 0
        self._held = ""
        while special := _SPECIAL.search(text, start):
            at = special.start()
            read.append(text[start:at])
            end, said = _take(text, at, is_last)
            if end == WAIT:
                self._held = held(text[at:])
                return "".join(read)
            read.append(said)
            start = end
        return "".join(read) + text[start:]


def _take(text: str, at: int, is_last: bool) -> tuple[int, str]:
    """What begins there: (its end or `WAIT`, what it becomes)."""
    c = text[at]
    if c == "\\":  # it takes its power from what follows
        return (WAIT, "") if at + 1 == len(text) and not is_last else (at + 2, text[at : at + 2])
    if c == "`":
        end = code_end(text, at, is_last)
        if end == NONE:
            end = at + len(text[at:]) - len(text[at:].lstrip("`"))
        return end, text[at:end]
    if text.startswith(_COMMENT, at):
        return _comment(text, at, is_last)
    tag = _TAG.match(text, at, partial=not is_last)
    if tag is None:
        is_open = not is_last and _COMMENT.startswith(text[at:])
        return (WAIT, "") if is_open else (at + 1, c)
    return (WAIT, "") if tag.partial else (tag.end(), _becomes(tag[2], bool(tag[1])))


def _comment(text: str, at: int, is_last: bool) -> tuple[int, str]:
    most = at + _LONGEST_COMMENT
    end = text.find("-->", at + len(_COMMENT), most)
    if end >= 0:
        return end + 3, ""
    return (at + 1, "<") if is_last or len(text) >= most else (WAIT, "")


def _becomes(name: str, is_closing: bool) -> str:
    name = name.lower()
    if _HEADING.fullmatch(name):
        return "\n\n" if is_closing else f"\n\n{'#' * int(name[1])} "
    if _BLOCK.fullmatch(name):
        return "\n\n"
    return (_CLOSING if is_closing else _OPENING).get(name, "")
