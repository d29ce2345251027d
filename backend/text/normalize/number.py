"""Digits to words: by num2words, and by tables of ours in Chinese and Hindi, which it has not."""

import re
import threading
from decimal import Decimal
from functools import lru_cache

from num2words import num2words  # type: ignore[import-untyped]

from backend.text.normalize.number_tables import chinese, hindi

LONGEST_NUMBER = 15
"""Digits that are still read as one number; more are read one by one."""

_TURKISH_WORD = re.compile(
    "sıfır|bir|iki|üç|dört|beş|altmış|altı|yedi|sekiz|dokuz|on|yirmi|otuz|kırk|elli|yetmiş|seksen|"
    "doksan|yüz|bin|milyon|milyar|trilyon|katrilyon|[^ ]+"
)
_TURKISH_ENDING = re.compile(" (?=[ıiuü]?nc[ıiuü]$)")
"""Before that of an ordinal."""
_POINTS = {
    "en": "point",
    "de": "Komma",
    "fr": "virgule",
    "es": "coma",
    "pl": "przecinek",
    "ru": "запятая",
    "it": "virgola",
    "pt": "vírgula",
    "ar": "فاصلة",
    "tr": "virgül",
    "ja": "点",
    "ko": "점",
    "zh": "点",
    "hi": "दशमलव",
}
_GAPLESS = ("ja", "zh")
_TABLES = {"zh": chinese, "hi": hindi}
_ORDINALS = {"zh": "第{}", "hi": "{}वाँ"}
_FRACTION_IS_NUMBER = ("fr", "es", "it", "pt", "pl", "tr", "ar")
"""Languages that say "three point fourteen"."""
_ONE_AT_A_TIME = threading.Lock()
"""num2words keeps the number it works on in one converter for all threads."""


@lru_cache(maxsize=4096)
def cardinal(digits: str, language: str = "en", **form: str) -> str:
    """A whole number without separators; one with leading zeros, or a very long one, digit by
    digit. `form` is the gender of the Russian one."""
    if len(digits) > LONGEST_NUMBER or (len(digits) > 1 and int(digits[0]) == 0):
        return spelled(digits, language)
    return _words(int(digits), language, "cardinal", **form)


@lru_cache(maxsize=4096)
def decimal(whole: str, fraction: str, language: str = "en") -> str:
    """The number `whole`.`fraction`, both digits without separators; `fraction` may be ""."""
    if not fraction:
        return cardinal(whole, language)
    if language == "ru" and len(whole) <= LONGEST_NUMBER and len(fraction) <= 3:
        return _words(Decimal(f"{whole}.{fraction}"), language, "cardinal")
    # num2words drops the decimals of Italian and rounds those of Turkish.
    is_number = language in _FRACTION_IS_NUMBER and len(fraction) < 3 and int(fraction[0]) > 0
    places = cardinal(fraction, language) if is_number else spelled(fraction, language)
    words = f"{cardinal(whole, language)} {_POINTS[language]} {places}"
    return words.replace(" ", "") if language in _GAPLESS else words


@lru_cache(maxsize=1024)
def ordinal(digits: str, language: str = "en", **form: str) -> str:
    """The place in a row that `digits` name, "twenty-first" say; `form` is the case and gender of
    the Russian one, as num2words names them."""
    if len(digits) > LONGEST_NUMBER:
        return spelled(digits, language)
    return _words(int(digits), language, "ordinal", **form)


@lru_cache(maxsize=1024)
def year(digits: str, language: str = "en") -> str:
    """A year of up to four digits as it is said."""
    # Japanese would become an era, Korean gets the word for year twice.
    kind = "year" if language in ("en", "de") else "cardinal"
    return _words(int(digits), language, kind)


def spelled(digits: str, language: str = "en") -> str:
    """Digit by digit."""
    gap = "" if language == "zh" else " "
    return gap.join(_words(int(digit), language, "cardinal") for digit in digits)


@lru_cache(maxsize=4096)
def _words(value: int | Decimal, language: str, kind: str, **form: str) -> str:
    if language in _TABLES:
        words = _TABLES[language](int(value))
        return _ORDINALS[language].format(words) if kind == "ordinal" else words
    with _ONE_AT_A_TIME:
        words = str(num2words(value, lang=language, to=kind, **form))
    if language == "en":
        return words.replace(",", "").replace("oh-", "oh ")
    if language == "tr":
        return _TURKISH_ENDING.sub("", " ".join(_TURKISH_WORD.findall(words)))
    if language == "ar":
        return words.replace(" و ", " و")
    return words
