"""Characters that only look different, ligatures, wide and styled letters say, as those they are.

NFKC would do it, and too much: powers, fractions and "…" would be lost, and Thai and Korean letters
be taken apart. So each range that is read is named here.
"""

import re
import unicodedata

_WIDE_MARKS = "！＂＇（），．：；＜＞？［］｛｝～"
"""Punctuation of Chinese, Japanese and Korean: elsewhere the narrow marks are meant."""
_EAST_ASIAN = ("zh", "ja", "ko")
_WIDE_MARK = re.compile(
    f"(?<![\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3])[{_WIDE_MARKS}]"
    "(?![\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3])"
)
_RANGES = (
    # Latin: ĳ, ŀ, ŉ, ſ, ǆ to ǌ, ǳ
    *(0x132, 0x133, 0x140, 0x140, 0x149, 0x149, 0x17F, 0x17F, 0x1C4, 0x1CC, 0x1F1, 0x1F3),
    # raised and lowered letters, lowered figures; raised figures are powers
    *(0x2B0, 0x2B8, 0x2E0, 0x2E4, 0x1D2C, 0x1D6A, 0x1D78, 0x1D78, 0x1D9B, 0x1DBF),
    *(0x2071, 0x2071, 0x207F, 0x207F, 0x2080, 0x208E, 0x2090, 0x209C),
    # other forms of Greek letters
    *(0x3D0, 0x3D2, 0x3D5, 0x3D6, 0x3F0, 0x3F2, 0x3F5, 0x3F5),
    # double exclamation and question marks
    *(0x203C, 0x203C, 0x2047, 0x2049),
    # ℀ to ⅉ, without №, ℠, ™, Ω and ℹ
    *(0x2100, 0x2103, 0x2105, 0x2107, 0x2109, 0x2113, 0x2115, 0x2115, 0x2119, 0x211D),
    *(0x2124, 0x2124, 0x2128, 0x2128, 0x212C, 0x212D, 0x212F, 0x2131, 0x2133, 0x2134),
    *(0x213C, 0x213F, 0x2145, 0x2149),
    # in circles and brackets; radicals; squares such as ㎏
    *(0x2460, 0x24EA, 0x2E80, 0x2FD5, 0x3200, 0x33FF),
    # ligatures and forms of Latin, Armenian, Hebrew and Arabic; small and upright marks
    *(0xFB00, 0xFB06, 0xFB13, 0xFB17, 0xFB1D, 0xFDFB, 0xFE10, 0xFE19, 0xFE30, 0xFE6B),
    *(0xFE70, 0xFEFC),
    # wide and narrow forms
    *(0xFF01, 0xFF9F, 0xFFA1, 0xFFDC, 0xFFE0, 0xFFE1, 0xFFE5, 0xFFE6),
    # bold, script, double-struck … of mathematics; letters in brackets and squares
    *(0x1D400, 0x1D7FF, 0x1F100, 0x1F10A, 0x1F110, 0x1F149, 0x1EE00, 0x1EEBB),
)
"""First and last of each."""
_KEPT = "㈜"
_OTHERS = {
    "⁄": "/",
    "‐": "-",
    "‑": "-",
    "‒": "-",
    "˚": "°",
    "∘": "°",
    "℡": "tel. ",
    "⓿": "0",
    # white letters on black circles and squares
    **{chr(start + index): chr(65 + index) for start in (0x1F150, 0x1F170) for index in range(26)},
    # ❶, ➀ and ➊ to ten, ⓫ to twenty
    **{
        chr(start + index): str(first + index)
        for start, first in ((0x2776, 1), (0x2780, 1), (0x278A, 1), (0x24EB, 11))
        for index in range(10)
    },
}
_ROMAN = re.compile("[\u2160-\u2188]+")
_ROMAN_VALUES = {
    c: int(unicodedata.numeric(c))
    for c in map(chr, range(0x2160, 0x2189))
    if unicodedata.numeric(c, 0)
}
_DEGREE = re.compile(r"(?<=\d)( ?)[ºᵒ](?= ?[CF]\b)")
_SPACED_DEGREE = re.compile(r"(?<=\d) ?[°˚] (?=[CF]\b)")
_NUMERO = re.compile(r"\b([Nn])[ºᵒ°]\.? ?(?=\d)")
_MICRO = re.compile(r"(?<=\d)( ?)μ(?=[mgsLlFHAVWM]\b)")
_CIRCLED = "[\u2460-\u249b\u24ea-\u24ff\u2776-\u2793\u3251-\u325f\u32b1-\u32bf]"
_CIRCLED_IN_A_ROW = re.compile(f"(?<={_CIRCLED})(?={_CIRCLED})")
_BETWEEN_FIGURES = re.compile(r"(?<=\d)[：．](?=\d)")
_SMALL_CAPITALS = dict(zip("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘꞯʀꜱᴛᴜᴠᴡʏᴢ", "abcdefghijklmnopqrstuvwyz", strict=True))
_SMALL = re.compile(f"[{''.join(_SMALL_CAPITALS)}x]{{3,}}")


def _simple(c: str) -> str:
    """`c` taken apart as often as it is a form of something, but no power is lost: ㎡ is m²."""
    taken = unicodedata.decomposition(c)
    kind, _, codes = taken.partition("> ")
    if not kind.startswith("<"):
        return unicodedata.normalize("NFC", c)
    parts = "".join(chr(int(code, 16)) for code in codes.split())
    return "".join(part if part in "²³" else _simple(part) for part in parts)


def _table() -> dict[int, str]:
    table = {
        code: _simple(chr(code))
        for first, last in zip(_RANGES[::2], _RANGES[1::2], strict=True)
        for code in range(first, last + 1)
        if chr(code) not in _KEPT + _WIDE_MARKS
        and unicodedata.decomposition(chr(code)).startswith("<")
    }
    # A letter within brackets is a list's, "⑴" say: without them it is read as well.
    table |= {code: text.strip("()") for code, text in table.items() if len(text) > 2}
    return table | {ord(c): text for c, text in _OTHERS.items()}


_TABLE = _table()


def read_compatibility(text: str, language: str) -> str:
    """`text` with plain characters for those that are the same but for their form.

    Powers, fractions, ellipses and the wide marks of East Asian languages stay. Roman numerals that
    are one character, "Ⅳ", become letters in English, where what they count is known, and
    figures elsewhere.
    """
    if text.isascii():
        return text
    text = _DEGREE.sub(r"\1°", text)
    text = _SPACED_DEGREE.sub("°", text)
    text = _MICRO.sub(r"\1µ", text)
    text = _CIRCLED_IN_A_ROW.sub(" ", text)
    text = _BETWEEN_FIGURES.sub(lambda mark: ":" if mark[0] == "：" else ".", text)
    if language == "en":
        text = text.replace("♯", "#").replace("♭", " flat")
        text = _NUMERO.sub(r"\1o. ", text)
        text = _ROMAN.sub(lambda found: unicodedata.normalize("NFKC", found[0]).upper(), text)
        text = _SMALL.sub(_capitals, text)
    else:
        text = _ROMAN.sub(lambda found: str(_roman_value(found[0])), text)
    text = text.translate(_TABLE)
    if language not in _EAST_ASIAN:
        text = _WIDE_MARK.sub(lambda mark: unicodedata.normalize("NFKC", mark[0]), text)
    return unicodedata.normalize("NFC", text)


def _roman_value(numeral: str) -> int:
    values = [_ROMAN_VALUES.get(c, 0) for c in numeral]
    pairs = zip(values, [*values[1:], 0], strict=True)
    return sum(-value if value < after else value for value, after in pairs)


def _capitals(found: re.Match[str]) -> str:
    return "".join(_SMALL_CAPITALS.get(c, c) for c in found[0])
