"""Emoji: pictures that stand for a thing are read, in English; the rest is tone, and dropped."""

import re
import unicodedata

_EMOJI = re.compile(
    "(?:[\u2190-\u21ff\u2300-\u23ff\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff]\ufe0f"
    "|[\u2600-\u27bf\u2b50\u2b55\u231a\u231b\u23e9-\u23fa]"
    "|[\U0001f000-\U0001faff]|[\U000e0020-\U000e007f])[\ufe0f\u200d\u20e3]*+"
)
_RUN = re.compile(rf"(?<![ \t])[ \t]*+(?:{_EMOJI.pattern}[ \t]*+)++")
_KEYCAP = re.compile("([0-9#*])\ufe0f?\u20e3")
_INVISIBLE = re.compile("[\u200b\u2060\u00ad\ufe0e\ufe0f\u200e\u200f\u202a-\u202e]")

_NAMES = {
    "❤": "heart",
    "♥": "heart",
    "⭐": "star",
    "☕": "coffee",
    "⚽": "football",
    "☀": "sun",
    "⛄": "snowman",
    "✈": "airplane",
    "👍": "thumbs up",
    "👎": "thumbs down",
    "🎉": "party",
    "🍕": "pizza",
    "🍺": "beer",
    "🚗": "car",
    "🐶": "dog",
    "🐱": "cat",
    "🔥": "fire",
}
_TONE = re.compile(
    r"FACE|SMIL|HAND|FINGER|PERSON|HEART|SPARK|SYMBOL|INDICATOR|MODIFIER|SIGN|MARK|ARROW|BLACK|WHITE|"
    r"LARGE|CIRCLE|SQUARE|DIAMOND|TAG|VARIATION|WOMAN|MAN\b|TILE|CARD|SELECTOR|COMPONENT"
)
"""Pictures of these are gestures and decoration, or have names that nobody says."""


def read_emoji(text: str, language: str) -> str:
    """Emoji of things as their names where `language` is English; all others are dropped.

    What stands several times in a row is read once; skin tones and the parts of joined emoji after
    the first are not read. Invisible marks of direction and layout are dropped too.
    """
    text = _KEYCAP.sub(r"\1", text)
    text = _RUN.sub(lambda run: _read(run, language), text)
    return _INVISIBLE.sub("", text)


def _read(run: re.Match[str], language: str) -> str:
    names: list[str] = []
    is_joined = False
    for found in _EMOJI.finditer(run[0]):
        name = "" if is_joined or language != "en" else _name(found[0][0])
        is_joined = found[0].endswith("\u200d")
        if name and name not in names:
            names.append(name)
    is_first = run.start() == 0 or run.string[run.start() - 1].isspace()
    before = "" if is_first else " "
    is_last = run.end() == len(run.string) or run.string[run.end()] in "\n.,!?;:)"
    if not names:
        return "" if is_last else before
    return before + ", ".join(names) + ("" if is_last else " ")


def _name(c: str) -> str:
    if c in _NAMES:
        return _NAMES[c]
    name = unicodedata.name(c, "")
    return "" if ord(c) < 0x1F300 or not name or _TONE.search(name) else name.lower()
