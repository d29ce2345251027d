"""English text to the words that are said for it.

The rules go from the particular to the general: each turns what it knows into words, and leaves the
digits that it does not know to the next.
"""

import re

from backend.text.normalize.english_abbreviation import read_abbreviations
from backend.text.normalize.english_code import read_codes
from backend.text.normalize.english_date import read_dates, read_weekdays, read_years
from backend.text.normalize.english_duration import read_durations
from backend.text.normalize.english_grouping import join_groups
from backend.text.normalize.english_money import read_money
from backend.text.normalize.english_name import read_names
from backend.text.normalize.english_quantity import (
    NUMBER,
    read_measures,
    read_number,
    read_rates,
)
from backend.text.normalize.english_roman import read_roman
from backend.text.normalize.english_sign import read_before_numbers, read_formulas, read_signs
from backend.text.normalize.number import cardinal, ordinal, spelled

_ORDINAL_SPAN = re.compile(r"(?<=\d(?:st|nd|rd|th)) ?[–-] ?(?=\d{1,4}(?:st|nd|rd|th)\b)")
_LONG_NUMBER = re.compile(r"(?<!\d)(?:(\d{1,18})\.)?(\d{19,}+)(?:\.(\d++))?")
_ORDINAL = re.compile(
    r"(?<![\w.,])(\d{1,3}(?:,\d{3}){1,5}|\d{1,18})(?:st|nd|rd|th)\b", re.IGNORECASE
)
_NUMBER = re.compile(NUMBER)
_BARE_FRACTION = re.compile(r"(?<![\w.])\.(\d{1,18})(?![\d.])")
_REMAINING = re.compile(r"\d{1,18}")
_SILENT = re.compile(r"[™®©℠℗]|(?<![\w$])\$(?=\{?[A-Za-z_])")
"""The dollar sign of a variable or of a share is not said either."""

# What a text has not need not be looked for: most have no figures, and hardly a sign.
_FIGURE = re.compile(r"[\d¼-¾⅐-⅞²³¹⁰⁴-⁹]")
_NUMERAL = re.compile(r"\b[IVXLCDM]+\b|\b[ivxl]{2,}\b")
_SIGN_IN_NAME = re.compile(r"[+#/]|\.NET")
_SIGN = re.compile(r"[^\w\s.,;:!?'\"‘’“”()\[\]…–—/-]|[/–-] ?[\d(]|[Α-ω]")


def read_english(text: str) -> str:
    """`text` with its numbers, dates, amounts, abbreviations and signs in words."""
    text = _SILENT.sub("", text)
    if _SIGN_IN_NAME.search(text):
        text = read_names(text)
    has_figures = _FIGURE.search(text) is not None
    if has_figures:
        text = _LONG_NUMBER.sub(_long_number, text)
        text = join_groups(text)
    text = read_abbreviations(text)
    if has_figures or "-" in text or "–" in text:
        text = read_weekdays(text)
    if _NUMERAL.search(text):
        text = read_roman(text)
    has_signs = has_figures or _SIGN.search(text) is not None
    if has_signs:
        text = read_formulas(text)
    if has_figures:
        text = _read_figures(text)
    if "/" in text:
        text = read_rates(text)
    if has_signs:
        text = read_signs(text)
    if has_figures:
        text = _BARE_FRACTION.sub(lambda found: f"point {spelled(found[1])}", text)
        text = _REMAINING.sub(_number, _NUMBER.sub(_number, text))
    return text


def _read_figures(text: str) -> str:
    text = read_dates(text)
    text = read_durations(text)
    text = read_codes(text)
    text = read_before_numbers(text)
    text = read_money(text)
    text = read_years(text)
    text = read_measures(text)
    text = _ORDINAL_SPAN.sub(" to ", text)
    return _ORDINAL.sub(lambda found: ordinal(found[1].replace(",", "")), text)


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
