"""English text to the words that are said for it.

The rules go from the particular to the general: each turns what it knows into words, and leaves the
digits that it does not know to the next.
"""

import re

from backend.text.normalize.english_abbreviation import read_abbreviations, read_roman
from backend.text.normalize.english_date import read_dates, read_years
from backend.text.normalize.english_quantity import (
    NUMBER,
    read_codes,
    read_measures,
    read_money,
    read_number,
)
from backend.text.normalize.number import cardinal, ordinal, spelled

_LONG_NUMBER = re.compile(r"(?<!\d)(?:(\d{1,18})\.)?(\d{19,}+)(?:\.(\d++))?")
_SPACED_THOUSANDS = re.compile(r"(?<![\w.,] )(?<![\w.,])\d{1,3}(?: 000){1,4}(?![\w ]\d)(?!\d)")
_ORDINAL = re.compile(
    r"(?<![\w.,])(\d{1,3}(?:,\d{3}){1,5}|\d{1,18})(?:st|nd|rd|th)\b", re.IGNORECASE
)
_RANGE = re.compile(rf"(?<![\w.,/-])({NUMBER})(?: ?[–—] ?|-)(?={NUMBER}(?![\w/-]))")
_RATIO = re.compile(r"(?<![\w.,:])(\d{1,6}):(?=\d{1,6}(?![\w:]|[.,]\d))")
_MINUS = re.compile(r"(?<![\w.,)\]%/-])[-−](?=\.?\d)")
_NUMBER = re.compile(NUMBER)
_BARE_FRACTION = re.compile(r"(?<![\w.])\.(\d{1,18})(?![\d.])")
_REMAINING = re.compile(r"\d{1,18}")
_HYPHENED = re.compile(r"(?<=[A-Za-z])-(?=\d)")
_PLUS_AFTER = re.compile(r"(?<=\d)\+(?![\w+])")

_POWERS = {"²": "squared", "³": "cubed"}
_POWER = re.compile(r"(?<=[\w)])[²³]")
_SUPERSCRIPTS = re.compile("(?<=[\\w)])\\^?(⁻?[⁰⁴-⁹¹²³]{1,18})|(?<=[\\w)])\\^(-?\\d{1,18})")
_PLAIN_DIGITS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
_BETWEEN_NUMBERS = {
    "+": "plus",
    "-": "minus",
    "−": "minus",
    "*": "times",
    "×": "times",
    "·": "times",
    "÷": "divided by",
    "/": "divided by",
    "<": "is less than",
    ">": "is greater than",
}
_OPERATION = re.compile(r"(?<=[\d)]) ?([+−*×·÷]) ?(?=[\d(])|(?<=\d) ([-/<>]) (?=\d)")
_OPERATION_OF_NAMES = re.compile(r"(?<=\w) ([+−×÷]) (?=\w)")
_SYMBOLS = {
    "&": "and",
    "=": "equals",
    "≠": "is not equal to",
    "≈": "is about",
    "≤": "is at most",
    "≥": "is at least",
    "±": "plus or minus",
    "√": "square root of",
    "∞": "infinity",
    "→": "to",
    "⇒": "so",
    "°": "degrees",
    "@": "at",
}
_SYMBOL = re.compile(r" ?([≠≈≤≥±√∞→⇒°]) ?|(?<=[\w.)])(?: ?(&|=) ?| (@) )(?=[\w(-])")
_BEFORE_NUMBER = {"~": "about ", "<": "less than ", ">": "more than ", "#": "number "}
_SIGN_BEFORE_NUMBER = re.compile(r"(?<![\w~<>#&/|])([~<>#]) ?(?=\d)")
_SILENT = re.compile(r"[™®©]")
_SHARP = re.compile(r"\b([CFJ])#(?!\w)")


def read_english(text: str) -> str:
    """`text` with its numbers, dates, amounts, abbreviations and signs in words."""
    text = _LONG_NUMBER.sub(_long_number, text)
    text = _SPACED_THOUSANDS.sub(lambda found: found[0].replace(" ", ""), text)
    text = _SILENT.sub("", text)
    text = read_abbreviations(text)
    text = read_roman(text)
    text = read_dates(text)
    text = read_codes(text)
    text = _SIGN_BEFORE_NUMBER.sub(lambda sign: _BEFORE_NUMBER[sign[1]], text)
    text = read_money(text)
    text = read_years(text)
    text = read_measures(text)
    text = _ORDINAL.sub(lambda found: ordinal(found[1].replace(",", "")), text)
    text = _read_signs(text)
    text = _HYPHENED.sub(" ", text)
    text = _MINUS.sub("minus ", text)
    text = _BARE_FRACTION.sub(lambda found: f"point {spelled(found[1])}", text)
    return _REMAINING.sub(_number, _NUMBER.sub(_number, text))


def _read_signs(text: str) -> str:
    text = _SUPERSCRIPTS.sub(_power, text)
    text = _RANGE.sub(r"\1 to ", text)
    text = _RATIO.sub(r"\1 to ", text)
    text = _OPERATION.sub(lambda sign: f" {_BETWEEN_NUMBERS[sign[1] or sign[2]]} ", text)
    text = _OPERATION_OF_NAMES.sub(lambda sign: f" {_BETWEEN_NUMBERS[sign[1]]} ", text)
    text = _PLUS_AFTER.sub(" plus", text)
    text = _SHARP.sub(r"\1 sharp", text)
    return _SYMBOL.sub(lambda sign: f" {_SYMBOLS[sign[1] or sign[2] or sign[3]]} ", text)


def _power(found: re.Match[str]) -> str:
    if found[1] in _POWERS:
        return f" {_POWERS[found[1]]}"
    digits = found[1].translate(_PLAIN_DIGITS) if found[1] else found[2]
    sign = "minus " if digits.startswith("-") else ""
    return f" to the power of {sign}{cardinal(digits.lstrip('-'))}"


def _long_number(found: re.Match[str]) -> str:
    whole, digits, fraction = found.groups()
    words = f"{cardinal(whole)} point {spelled(digits)}" if whole else spelled(digits)
    return words + (f" point {spelled(fraction)}" if fraction else "")


def _number(found: re.Match[str]) -> str:
    """The number in words, with a space where letters touch it: "MP3"."""
    text, end = found.string, found.end()
    before = " " if found.start() and text[found.start() - 1].isalpha() else ""
    after = " " if end < len(text) and text[end].isalpha() else ""
    return before + read_number(found[0]) + after
