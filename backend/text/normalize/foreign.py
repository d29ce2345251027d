"""Numbers, money, units, dates, times and the like in languages other than English."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

from backend.text.normalize.counting import (
    GAPLESS,
    before_noun,
    counted,
    form,
    gender_before,
)
from backend.text.normalize.foreign_date import read_dates
from backend.text.normalize.foreign_ordinals import read_ordinals
from backend.text.normalize.foreign_units import UNITS
from backend.text.normalize.foreign_words import WORDS, Words
from backend.text.normalize.number import cardinal, decimal, spelled, year
from backend.text.normalize.number_tables import native_korean

_DIGITS = re.compile(r"\d+")
_LIST_ENDS = (
    "usw.",
    "etc.",
    "ecc.",
    "itd.",
    "itp.",
    "т. д.",
    "т.д.",
    "т. п.",
    "т.п.",
    "vb.",
    "vs.",
)
"""Abbreviations that end a list, and often the sentence."""
_LONG_NUMBER = re.compile(r"\d{19,}+")
_PHONE = re.compile(
    r"(?<![\w.,+])(?:\+\d{1,3}(?:[ /.-]?\(?\d{1,5}\)?){2,6}"
    r"|0\d{1,4}[ /-]\d{2,8}(?:[ -]\d{2,6}){0,4})(?![\w,]|[./-]\d)"
)
_PHONE_DIGITS = 7
_VERSION = re.compile(r"(?<![\w.,])\d{1,3}(?:\.\d{1,3}){2,8}(?![\w]|\.\d)")
_GROUPS_OF_THREE = re.compile(r"\d{1,3}(?:\.\d{3}){2,8}")
_FRACTION = re.compile(r"(?<![\d/.,])(\d{1,3})/(\d{1,3})(?![\d/.,])")
_CELSIUS = re.compile(r"(?<=\d) ?(?:[°º] ?([CFС])\b|(℃)|(℉))")
_BELOW_ZERO = re.compile(r"(?<![\w.,)\]%/-])[-−](?=\d[\d.,]{0,9}°)")
_PLUS = re.compile(r"(?<![\w+])\+(?=\d)|(?<=\d) ?\+ ?(?=\d)")
_TIMES = re.compile(r"(?<=\d) ?[×*] ?(?=\d)|(?<=\d) x (?=\d)")
_EQUALS = re.compile(r"(?<=\d) ?= ?(?=[\d−-])")
_SHARES = {"zh": "{1}分之{0}", "ja": "{1}分の{0}", "ko": "{1}분의 {0}"}
_KOREAN_COUNTERS = re.compile(
    r" ?(?:시(?!속)|개(?!월)|명|살|마리|번(?!호|지)|잔|권|병|장|대(?!\s*\d)|채|켤레|송이|사람|가지|"
    r"달(?!러)|군데|그루|벌|쌍|척|통|곡)"
)
"""After native numbers."""
_KOREAN_MONTHS = {"6": "유", "10": "시"}
_CHINESE_COUNTERS = re.compile(
    r" ?(?:[个個只隻条條张張本位名次天年点點只件岁歲层層台辆輛周块塊元杯瓶种種家座把双雙对對间間"
    r"份场場句段米升克斤]|小时|分钟|星期|公里|公斤|盏|倍|人(?!民))"
)
"""Before these two is 两."""
_CHINESE_DECADE = re.compile(r"(?<!\d)\d0(?=[后後](?!\d))")
"""Of birth: "90后"."""


@dataclass(frozen=True)
class _Rules:
    grouped: re.Pattern[str]
    """The whole part of a number whose thousands are separated."""
    amount_after: re.Pattern[str]
    amount_before: re.Pattern[str]
    unit: re.Pattern[str]
    percent: re.Pattern[str]
    span: re.Pattern[str]
    minus: re.Pattern[str]
    numbers: re.Pattern[str]
    sign: re.Pattern[str]
    """Of money, after an amount in words."""
    abbreviation: re.Pattern[str] | None


def read_foreign(text: str, language: str) -> str:
    """`text` with its numbers in words of `language`; unchanged if there are none for it."""
    words, rules = WORDS[language], _rules(language)
    gap = "" if language in GAPLESS else " "
    text = _LONG_NUMBER.sub(lambda found: spelled(found[0], language), text)
    text = _read_abbreviations(text, words, rules)
    text = _CELSIUS.sub(lambda found: "°F" if found[1] == "F" or found[3] else "°C", text)
    if language == "ar":
        text = text.replace("٫", ".").replace("٬", ",").replace("٪", "%")
    text = read_dates(text, language)
    text = _PHONE.sub(lambda found: _phone(found[0], language), text)
    text = _VERSION.sub(lambda found: _version(found, language), text)
    text = read_ordinals(text, language, words.months)
    text = rules.span.sub(lambda m: f"{m[1]}{gap}{words.span}{gap}", text)
    if language == "zh":
        text = _BELOW_ZERO.sub("零下", text)
        text = _CHINESE_DECADE.sub(lambda found: spelled(found[0], language).replace(" ", ""), text)
    if language in _SHARES:
        text = _FRACTION.sub(lambda found: _share(found, language), text)
    text = _PLUS.sub(lambda m: f"{' ' if m.start() and gap else ''}{words.plus}{gap}", text)
    text = _TIMES.sub(f"{gap}{words.times}{gap}", text)
    text = _EQUALS.sub(f"{gap}{words.equals}{gap}", text)
    text = rules.minus.sub(words.minus + gap, text)
    text = rules.amount_before.sub(lambda m: _amount(m[2], m[1], language), text)
    text = rules.amount_after.sub(
        lambda m: _amount(m[1], m[2], language) + _full_stop(m, m[2]), text
    )
    text = rules.percent.sub(lambda m: _percent(m[1] or m[2], language), text)
    text = rules.unit.sub(lambda found: _unit(found, language), text)
    text = text.replace(" & ", f" {words.ampersand} ")
    text = rules.numbers.sub(_reader(language), text)
    return rules.sign.sub(
        lambda m: m[1] + gap + form(words.currencies[m[2]], "5", "", language), text
    )


@cache
def _rules(language: str) -> _Rules:
    words = WORDS[language]
    group = f"[{words.groups}]"
    mark = r"\." if "," in words.groups else "[,.]"
    least = 2 if language == "hi" else 3
    whole = rf"\d{{1,3}}(?:{group}\d{{{least},3}}){{1,5}}(?!\d)"
    number = rf"(?:{whole}|\d{{1,18}}(?!\d))(?:{mark}\d{{1,18}}(?!\d))?"
    start = r"(?<![\d.,])"
    signs = _any(words.currencies)
    # "5 руб 3 коп", and the "р." at a word's end: what is short for a word follows a figure.
    leading = _any(sign for sign in words.currencies if not sign[0].islower())
    symbols = _any(sign for sign in words.currencies if not sign.rstrip(".").isalpha())
    shorts = _any(short for short, _ in words.abbreviations)
    # In Chinese and Japanese words follow without a space, and are word characters.
    is_close = language in (*GAPLESS, "ko")
    after_sign = r"(?![A-Za-z\d])" if is_close else r"(?!\w)"
    before_unit = r"(?<![A-Za-z\d.,])" if is_close else r"(?<![\w.,])"
    end = r"(?![A-Za-z0-9²³/])" if is_close else r"(?![\w²³/])"
    if language in ("fr", "it"):  # "les 5 l'ont dit"
        end = r"(?![\w²³/'’])"
    return _Rules(
        grouped=re.compile(rf"\d{{1,3}}(?:{group}\d{{{least},3}})+(?!\d)"),
        amount_after=re.compile(rf"{start}({number})(?:,[-–—])? ?({signs}){after_sign}"),
        amount_before=re.compile(rf"(?<!\w)({leading}) ?({number})(?!\d)"),
        unit=re.compile(rf"{before_unit}({number}) ?({_any(UNITS[language])}){end}"),
        percent=re.compile(rf"(?<![\w%])% ?({number})|{start}({number}) ?[%％]"),
        span=re.compile(rf"{start}({number})(?: ?[–—~〜～] ?|-)(?={number}(?![\d/-]))"),
        minus=re.compile(r"(?<![\w.,)\]%/-])[-−](?=\d)"),
        numbers=re.compile(number),
        sign=re.compile(rf"([^\W\d])(?: ?(?={symbols})| )({signs}){end}"),
        abbreviation=re.compile(rf"(?<![\w.])(?:{shorts})(?!\w)") if shorts else None,
    )


def _any(signs: Iterable[str]) -> str:
    """A pattern of any of `signs`, the longest first."""
    return "|".join(re.escape(sign) for sign in sorted(signs, key=len, reverse=True))


def _reader(language: str) -> Callable[[re.Match[str]], str]:
    def read(found: re.Match[str]) -> str:
        text, start, end = found.string, found.start(), found.end()
        whole, fraction = _parts(found[0], language)
        if language == "ko":
            return _korean(text, end, whole, fraction)
        words = _plain(text, start, end, whole, fraction, language)
        if language in GAPLESS:
            return words
        before = " " if start and text[start - 1].isalpha() else ""
        after = " " if end < len(text) and text[end].isalpha() else ""
        return before + words + after

    return read


def _plain(text: str, start: int, end: int, whole: str, fraction: str, language: str) -> str:
    """The number at `start` to `end` of `text`, which is nothing but a number."""
    if fraction:
        return decimal(whole, fraction, language)
    is_year = end - start == 4 and text[start:end].isdecimal() and 1100 <= int(whole) < 2100
    if language == "zh":
        is_named = is_year and text.startswith("年", end)
        is_phone = len(whole) == 11 and int(whole[0]) == 1 and end - start == 11
        if is_named or is_phone:
            return spelled(whole, language)
        is_counted = _CHINESE_COUNTERS.match(text, end) and not text.endswith("第", 0, start)
        return before_noun(whole, "m", language) if is_counted else cardinal(whole, language)
    gender = gender_before(text, end, whole, language)
    if gender:
        return before_noun(whole, gender, language)
    return year(whole, language) if is_year else cardinal(whole, language)


def _korean(text: str, end: int, whole: str, fraction: str) -> str:
    """A number in Korean: small ones have words of their own before what is counted."""
    if fraction:
        return decimal(whole, fraction, "ko")
    counter = _KOREAN_COUNTERS.match(text, end)
    is_small = len(whole) < 3 and 1 <= int(whole) <= 99 and int(whole[0]) > 0
    is_late = counter is not None and counter[0].strip() == "시" and int(whole) > 12
    if counter and is_small and not (is_late and not text.startswith("시간", end)):
        return native_korean(int(whole)) + ("" if counter[0].startswith(" ") else " ")
    if text.startswith("월", end) and whole in _KOREAN_MONTHS:
        return _KOREAN_MONTHS[whole]
    return cardinal(whole, "ko")


def _parts(number: str, language: str) -> tuple[str, str]:
    """Digits before and after the decimal mark."""
    grouped = _rules(language).grouped.match(number)
    end = grouped.end() if grouped else len(re.split("[,.]", number)[0])
    return "".join(_DIGITS.findall(number[:end])), number[end + 1 :]


def _amount(number: str, sign: str, language: str) -> str:
    words = WORDS[language]
    whole, fraction = _parts(number, language)
    if not fraction.strip("0"):
        fraction = ""
    forms = words.currencies[sign]
    if len(fraction) != 2 or language == "ja":
        return counted(forms, whole, fraction, language)
    hundredths = str(int(fraction))
    if language == "zh":
        if forms == "元":
            return _yuan(whole, fraction)
        return counted(forms, whole, fraction.rstrip("0"), language)
    if int(whole) == 0 and sign in words.cents:
        return counted(words.cents[sign], hundredths, "", language)
    told = cardinal(hundredths, language)
    if words.names_cents and sign in words.cents:
        told = counted(words.cents[sign], hundredths, "", language)
    return counted(forms, whole, "", language) + words.between_cents + told


def _yuan(whole: str, fraction: str) -> str:
    """An amount of Chinese money, with its tenths and hundredths."""
    tenth, hundredth = fraction[0], fraction[1]
    told = counted("元", whole, "", "zh") if int(whole) else ""
    if int(tenth):
        told += cardinal(tenth, "zh") + "角"
    elif told:
        told += "零"
    return told + (cardinal(hundredth, "zh") + "分" if int(hundredth) else "")


def _unit(found: re.Match[str], language: str) -> str:
    whole, fraction = _parts(found[1], language)
    words = counted(UNITS[language][found[2]], whole, fraction, language)
    return words + _full_stop(found, found[2])


def _full_stop(found: re.Match[str], sign: str) -> str:
    """That of the sentence, where the one of an abbreviated `sign` is its last."""
    following = found.string[found.end() : found.end() + 2].strip()
    is_last = not following or following[0].isupper()
    return "." if sign.endswith(".") and is_last else ""


def _percent(number: str, language: str) -> str:
    before, _, forms = WORDS[language].percent.partition("{}")
    whole, fraction = _parts(number, language)
    name = form(forms.strip(), whole, fraction, language) if "|" in forms else forms.strip()
    gap = " " if forms.startswith(" ") else ""
    return f"{before}{decimal(whole, fraction, language)}{gap}{name}"


def _phone(number: str, language: str) -> str:
    """Digit by digit, in the groups that it was written in."""
    groups = _DIGITS.findall(number)
    if sum(map(len, groups)) < _PHONE_DIGITS:
        return number
    plus = f"{WORDS[language].plus} " if number.startswith("+") else ""
    return plus + ", ".join(spelled(group, language) for group in groups)


def _version(found: re.Match[str], language: str) -> str:
    if _GROUPS_OF_THREE.fullmatch(found[0]):
        return found[0]  # a number with its thousands
    return " ".join(cardinal(part, language) for part in found[0].split("."))


def _share(found: re.Match[str], language: str) -> str:
    part, whole = (cardinal(found[place], language) for place in (1, 2))
    return _SHARES[language].format(part, whole)


def _read_abbreviations(text: str, words: Words, rules: _Rules) -> str:
    if rules.abbreviation is None:
        return text
    spoken = dict(words.abbreviations)

    def read(found: re.Match[str]) -> str:
        following = found.string[found.end() : found.end() + 2].strip()
        is_last = not following or (found[0] in _LIST_ENDS and following.isupper())
        return spoken[found[0]] + ("." if is_last and found[0].endswith(".") else "")

    return rules.abbreviation.sub(read, text)
