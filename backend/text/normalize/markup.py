"""Markdown and HTML to the text that a reader sees."""

import html
import re

_FENCE = re.compile(r"^[ \t]*+(?:```|~~~)[^\n]*$", re.MULTILINE)
_RULE = re.compile(
    r"^[ \t]*+(?:(?:\*[ \t]*+){3,}+|(?:-[ \t]*+){3,}+|(?:_[ \t]*+){3,}+|={3,}+)$", re.M
)
_TABLE_RULE = re.compile(
    r"^(?=[^|\n]*+\|)[ \t]*+\|?+(?:[ \t]*+:?-{2,}+:?[ \t]*+(?:\||$))++$", re.MULTILINE
)
_TABLE_ROW = re.compile(r"^[ \t]*+\|([^\n]*)$", re.MULTILINE)
_HEADING = re.compile(r"^[ \t]{0,3}#{1,6}[ \t]+([^\n]*)$", re.MULTILINE)
_HEADING_END = re.compile(r"(?<=[ \t])#+$")
_QUOTE = re.compile(r"^[ \t]{0,3}(?:>[ \t]?){1,8}", re.MULTILINE)
_ITEM = re.compile(r"^[ \t]*+[-*+•‣◦▪][ \t]+(?:\[[ xX]\][ \t]+)?(\S[^\n]*)$", re.MULTILINE)
_NUMBERED_ITEM = re.compile(r"^([ \t]*+\d{1,3}[.)][ \t]+)(\S[^\n]*)$", re.MULTILINE)
_LINK = re.compile(r"!?\[([^\[\]\n]{0,400})\]\(([^()\s]{1,800})(?:[ \t]+\"[^\"\n]{0,200}\")?\)")
_REFERENCE = re.compile(r"\[([^\[\]\n]{1,400})\]\[[^\[\]\n]{0,100}\]")
_AUTO_LINK = re.compile(r"<((?:https?://|mailto:)[^<>\s]{1,800})>")
_TARGET = re.compile(r"[./#:]")
_CODE = re.compile(r"(`{1,3})([^`\n]{1,1000})\1")
_STRONG = re.compile(r"(?<!\w)(\*{1,3}|~~|__)(?=\S)([^*~_\n]{1,1000}?)(?<=\S)\1")
_EMPHASIS = re.compile(r"(?<![\w_])_(?=\S)([^_\n]{1,1000}?)(?<=\S)_(?![\w_])")
_LEFT_OVER = re.compile(r"\*{2,}|(?<!\S)\*(?=\S)|(?<=[^\s\d])\*(?!\w)|`+")
_ESCAPE = re.compile(r"\\([\\`*_{}\[\]()#+.!|-])")

_ENTITY = re.compile(r"&(?:[A-Za-z]{2,8}|#\d{1,6}|#[xX][0-9A-Fa-f]{1,6});")
_BLOCK_TAG = re.compile(
    r"</?(?:p|br|div|li|ul|ol|tr|h[1-6]|hr|table|blockquote)\b[^<>]{0,400}>", re.IGNORECASE
)
_TAG = re.compile(
    r"</?(?:a|b|i|u|s|em|strong|span|code|pre|sup|sub|img|td|th|small|mark|font|del|ins|body|html|"
    r"speak|break|prosody|emphasis|voice)\b[^<>]{0,400}>|<!--[^<>]{0,1000}-->",
    re.IGNORECASE,
)
_ENDS = re.compile(r"[.!?…:;,。！？：；，、।؟][\"'”’»)\]*_]*\s*$")


def plain(text: str) -> str:
    """`text` without its markup.

    A heading becomes a paragraph and a list item a sentence; cells of a table are separated by
    commas; links keep their text; rules and fences are dropped. Brackets that are no link stay:
    "[sighs]" and "(laughing)" are for the model to act.
    """
    text = _ENTITY.sub(lambda entity: html.unescape(entity.group()), text)
    text = _TAG.sub("", _BLOCK_TAG.sub("\n", text))
    text = _FENCE.sub("", text)
    text = _TABLE_RULE.sub("", _RULE.sub("\n", text))
    text = _TABLE_ROW.sub(_row, text)
    text = _QUOTE.sub("", text)
    text = _HEADING.sub(_heading, text)
    text = _ITEM.sub(lambda item: _sentence(item[1]), text)
    if len(_NUMBERED_ITEM.findall(text)) > 1:  # one alone may be a date: "3. Oktober"
        text = _NUMBERED_ITEM.sub(lambda item: item[1] + _sentence(item[2]), text)
    text = _LINK.sub(_link, text)
    text = _REFERENCE.sub(r"\1", text)
    text = _AUTO_LINK.sub(r"\1", text)
    text = _CODE.sub(r"\2", text)
    for _ in range(2):  # bold within italics
        text = _STRONG.sub(r"\2", text)
    text = _EMPHASIS.sub(r"\1", text)
    return _ESCAPE.sub(r"\1", _LEFT_OVER.sub("", text))


def _sentence(line: str) -> str:
    line = line.rstrip()
    return line if not line or _ENDS.search(line[-8:]) else f"{line}."


def _heading(heading: re.Match[str]) -> str:
    return f"\n{_sentence(_HEADING_END.sub('', heading[1].rstrip()))}\n"


def _row(row: re.Match[str]) -> str:
    cells = [cell.strip() for cell in row[1].split("|")]
    return _sentence(", ".join(cell for cell in cells if cell))


def _link(link: re.Match[str]) -> str:
    return link[1] if _TARGET.search(link[2]) else link[0]
