"""English names that are written with signs: "C++", "F#", ".NET", "TCP/IP", "Ctrl+C", grades."""

import re

_PLUS_PLUS = re.compile(r"(?<![\w+])([A-Za-z][A-Za-z]{0,15})\+\+(\d{2})?(?![\w+])")
_SHARP = re.compile(r"\b([A-GJ])#(?!\w)|\b([A-G])#(?=(?:m|maj|min|dim|sus|aug)?\d?\b)")
_DOT_NET = re.compile(
    r"(?<![\w.])\.NET\b|(?<=\b(?:ASP|ADO))\.NET\b|(?<=\b(?:VB|ML))\.NET\b|(?<=[CF]#)\.NET\b"
)
_INITIALS = re.compile(r"(?<![\w/.])[A-Z][A-Z0-9]{0,4}(?:/[A-Z][A-Z0-9]{0,4}){1,4}(?![\w/])")
_NOT_APPLICABLE = re.compile(r"(?<![\w/])N/A(?![\w/])")
_GRADE = re.compile(
    r"(?<=\b(?:an|or|to) )([A-F])([+−-])(?=[\s,.;!?]|$)|(?<=\b[aA] )([B-F])([+−-])(?=[\s,.;!?]|$)"
    r"|\b([A-F])(\+)(?=[\s,.;!?]|$)"
)
_PLUS_NAME = re.compile(r"(?<=[A-Za-z]{3})\+(?![\w+])")
_KEYS = {"Ctrl": "Control", "Cmd": "Command", "Alt": "Alt", "Shift": "Shift", "Win": "Windows"}
_KEY = re.compile(
    r"\b(Ctrl|Cmd|Alt|Shift|Win|Option|Fn)(?=(?: ?\+ ?|-)(?:[A-Z]|F\d|\w{2,9})(?:\b|\+))"
)
_KEY_JOINT = re.compile(
    r"\b(Control|Command|Alt|Shift|Windows|Option|Fn)(?: ?\+ ?|-(?=[A-Z]\b))(?=\w)"
)


def read_names(text: str) -> str:
    """Such names in words."""
    text = _PLUS_PLUS.sub(lambda found: f"{found[1]} plus plus {found[2] or ''}".rstrip(), text)
    text = _DOT_NET.sub(_dot_net, text)
    text = _SHARP.sub(
        lambda found: f"{found[1] or found[2]} sharp" + (" " if found[2] else ""), text
    )
    text = _NOT_APPLICABLE.sub("not applicable", text)
    text = _INITIALS.sub(lambda found: found[0].replace("/", " "), text)
    text = _KEY.sub(lambda found: _KEYS.get(found[1], found[1]), text)
    text = _KEY_JOINT.sub(r"\1 plus ", text)
    text = _GRADE.sub(_grade, text)
    return _PLUS_NAME.sub(" plus", text)


def _dot_net(found: re.Match[str]) -> str:
    is_part = found.start() > 0 and (
        found.string[found.start() - 1].isalnum() or found.string[found.start() - 1] == "#"
    )
    return " dot NET" if is_part else "dot NET"


def _grade(found: re.Match[str]) -> str:
    letter, sign = (found[index] or found[index + 2] or found[index + 4] for index in (1, 2))
    return f"{letter} {'plus' if sign == '+' else 'minus'}"
