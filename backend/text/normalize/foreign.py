"""Numbers, ordinals, dates, times, percentages and money in languages other than English."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from backend.text.normalize.foreign_words import WORDS, Words
from backend.text.normalize.number import cardinal, decimal, ordinal, spelled, year

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
_DATE = re.compile(
    r"(?<![\d./-])(?:(?P<day>\d{1,2})(?P<mark>[./-]) ?(?P<month>\d{1,2})(?P=mark) ?(?P<year>\d{4})"
    r"|(?P<year_first>\d{4})(?P<mark_first>[/-])(?P<month_second>\d{1,2})(?P=mark_first)"
    r"(?P<day_last>\d{1,2}))(?![\d/-])"
)
_TIME = re.compile(r"(?<![\d.,:/])([01]?\d|2[0-4]):([0-5]\d)(?![\d:])(?: ?(?:Uhr|heures)\b)?")
_CLOCK = re.compile(r"(?<![\d.,:/])([01]?\d|2[0-4]) ?h ?([0-5]\d)?\b")
_VERSION = re.compile(r"(?<![\w.,])\d{1,3}(?:\.\d{1,3}){2,8}(?![\w]|\.\d)")
_GROUPS_OF_THREE = re.compile(r"\d{1,3}(?:\.\d{3}){2,8}")
_FRENCH_ORDINAL = re.compile(r"(?<!\w)(\d{1,4})(ers?|[rè]?re|nde?|ème|eme|e)(?!\w)")
_ROMANCE_ORDINAL = re.compile(r"(?<!\w)(\d{1,4})\.?([ºª])(?!\w)")
_RUSSIAN_ORDINAL = re.compile(r"(?<!\w)(\d{1,4})-(й|ый|я|ая|е|ое|го|ого)(?!\w)")
_RUSSIAN_FORMS = {"й": {}, "я": {"gender": "f"}, "е": {"gender": "n"}, "о": {"case": "g"}}
_GERMAN_CASES = re.compile(r"\b(am|vom|zum|dem|den|des|im|beim|seit|der|die|das) $", re.IGNORECASE)
_GERMAN_CENTURIES = "Jahrhunderts?|Jahrestag|Geburtstag|Stock|Mal|Platz"
_KOREAN_HOURS = dict(
    enumerate(re.findall(r"\w+", "한 두 세 네 다섯 여섯 일곱 여덟 아홉 열 열한 열두"), 1)
)
_KOREAN_MONTHS = {"6": "유", "10": "시"}
_KOREAN_COUNTERS = re.compile(
    r" ?(?:시(?!간의)|개(?!월)|명|살|마리|번|잔|권|병|장|대|채|켤레|송이|사람|가지|달)"
)
"""After native numbers, which num2words has not; the model reads the digits itself."""


@dataclass(frozen=True)
class _Rules:
    grouped: re.Pattern[str]
    """The whole part of a number whose thousands are separated."""
    amount_after: re.Pattern[str]
    amount_before: re.Pattern[str]
    percent: re.Pattern[str]
    span: re.Pattern[str]
    minus: re.Pattern[str]
    numbers: re.Pattern[str]
    day: re.Pattern[str] | None
    abbreviation: re.Pattern[str] | None


def read_foreign(text: str, language: str) -> str:
    """`text` with its numbers in words of `language`; unchanged if there are none for it."""
    words = WORDS.get(language)
    if words is None:
        return text
    rules = _rules(language)
    text = _LONG_NUMBER.sub(lambda found: spelled(found[0], language), text)
    text = _read_abbreviations(text, words, rules)
    text = _DATE.sub(lambda found: _date(found, language), text)
    text = _TIME.sub(lambda found: _time(found, language), text)
    if language == "fr":
        text = _CLOCK.sub(lambda found: _time(found, language), text)
    text = _VERSION.sub(lambda found: _version(found, language), text)
    text = _read_ordinals(text, language, rules)
    number = _reader(language)
    text = rules.amount_before.sub(lambda m: _amount(m[2], m[1], language), text)
    text = rules.amount_after.sub(lambda m: _amount(m[1], m[2], language), text)
    text = rules.percent.sub(lambda m: _percent(m[1] or m[2], language), text)
    gap = "" if language == "ja" else " "
    text = rules.span.sub(lambda m: f"{m[1]}{gap}{words.span}{gap}", text)
    text = rules.minus.sub(words.minus + gap, text)
    text = text.replace(" & ", f" {words.ampersand} ")
    return rules.numbers.sub(number, text)


@cache
def _rules(language: str) -> _Rules:
    words = WORDS[language]
    group = f"[{words.groups}]"
    mark = r"\." if "," in words.groups else "[,.]"
    number = (
        rf"(?:\d{{1,3}}(?:{group}\d{{3}}){{1,5}}(?!\d)|\d{{1,18}}(?!\d))(?:{mark}\d{{1,18}}(?!\d))?"
    )
    start = r"(?<![\d.,])"
    signs = "|".join(re.escape(sign) for sign in sorted(words.currencies, key=len, reverse=True))
    months = words.months.replace(" ", "|")
    if language == "de":
        day = rf"(?<![\d.,])(\d{{1,2}})\. ?(?=(?:{months}|{_GERMAN_CENTURIES})\b)"
    elif language in ("pl", "ru"):
        day = rf"(?<![\d.,])(\d{{1,2}}) (?=(?:{months})\b)"
    else:
        day = ""
    shorts = "|".join(re.escape(short) for short, _ in words.abbreviations)
    return _Rules(
        grouped=re.compile(rf"\d{{1,3}}(?:{group}\d{{3}})+(?!\d)"),
        amount_after=re.compile(rf"{start}({number}) ?({signs})(?!\w)"),
        amount_before=re.compile(rf"(?<!\w)({signs}) ?({number})"),
        percent=re.compile(rf"(?<![\w%])%({number})|{start}({number}) ?[%٪]"),
        span=re.compile(rf"{start}({number})(?: ?[–—~〜] ?|-)(?={number}(?![\d/-]))"),
        minus=re.compile(r"(?<![\w.,)\]%/-])[-−](?=\d)"),
        numbers=re.compile(number),
        day=re.compile(day) if day else None,
        abbreviation=re.compile(rf"(?<![\w.])(?:{shorts})(?!\w)") if shorts else None,
    )


def _reader(language: str) -> Callable[[re.Match[str]], str]:
    def read(found: re.Match[str]) -> str:
        text, start, end = found.string, found.start(), found.end()
        if language == "ko" and _KOREAN_COUNTERS.match(text, end):
            return found[0]
        if language == "ko" and text.startswith("월", end) and found[0] in _KOREAN_MONTHS:
            return _KOREAN_MONTHS[found[0]]
        is_year = len(found[0]) == 4 and found[0].isdecimal() and 1100 <= int(found[0]) < 2100
        words = year(found[0], language) if is_year else _read(found[0], language)
        if language in ("ja", "ko"):
            return words
        before = " " if start and text[start - 1].isalpha() else ""
        after = " " if end < len(text) and text[end].isalpha() else ""
        return before + words + after

    return read


def _parts(number: str, language: str) -> tuple[str, str]:
    """Digits before and after the decimal mark."""
    grouped = _rules(language).grouped.match(number)
    end = grouped.end() if grouped else len(re.split("[.,]", number)[0])
    return "".join(_DIGITS.findall(number[:end])), number[end + 1 :]


def _read(number: str, language: str) -> str:
    return decimal(*_parts(number, language), language)


def _form(forms: str, whole: str, fraction: str) -> str:
    """The form of a noun after a number: of "one|many", or "one|few|many" in Slavic languages."""
    names = forms.split("|")
    count = int(whole[-2:])
    if len(names) < 3:
        return names[-1] if fraction or int(whole) != 1 else names[0]
    if fraction or (2 <= count % 10 <= 4 and not 12 <= count <= 14):
        return names[1]
    # Polish says "dwadzieścia jeden złotych", Russian "двадцать один рубль".
    is_one = whole == "1" or (names[0][0] > "а" and count % 10 == 1 and count != 11)
    return names[0] if is_one else names[2]


def _amount(number: str, sign: str, language: str) -> str:
    words = WORDS[language]
    whole, fraction = _parts(number, language)
    if not fraction.strip("0"):
        fraction = ""
    is_cents = len(fraction) == 2 and words.cents
    if is_cents:
        count = words.one if words.one and whole == "1" else cardinal(whole, language)
        name = _form(words.currencies[sign], whole, "")
        return f"{count} {name}{words.cents}{cardinal(str(int(fraction)), language)}"
    name = _form(words.currencies[sign], whole, fraction)
    is_one = words.one and whole == "1" and not fraction
    count = words.one if is_one else decimal(whole, fraction, language)
    return f"{count}{'' if language == 'ja' else ' '}{name}"


def _percent(number: str, language: str) -> str:
    before, _, forms = WORDS[language].percent.partition("{}")
    whole, fraction = _parts(number, language)
    name = _form(forms.strip(), whole, fraction) if "|" in forms else forms.strip()
    gap = " " if forms.startswith(" ") else ""
    return f"{before}{decimal(whole, fraction, language)}{gap}{name}"


def _date(found: re.Match[str], language: str) -> str:
    words = WORDS[language]
    day = found["day"] or found["day_last"]
    month = found["month"] or found["month_second"]
    digits = found["year"] or found["year_first"]
    if not (1 <= int(month) <= 12 and 1 <= int(day) <= 31):
        return found[0]
    if words.months:
        name = words.months.split()[int(month) - 1]
    else:
        name = cardinal(str(int(month)), language) + ("月" if language == "ja" else "월")
        name = {"육월": "유월", "십월": "시월"}.get(name, name)
    spoken_year = year(str(int(digits)), language)
    if language == "ru":
        spoken_year = ordinal(str(int(digits)), language, case="g")
    return words.date.format(day=_day(found, day, language), month=name, year=spoken_year)


def _day(found: re.Match[str], digits: str, language: str) -> str:
    """The day of a month, in the form that its language wants before the month."""
    number = str(int(digits))
    if language == "de":
        before = _GERMAN_CASES.search(found.string[max(0, found.start() - 6) : found.start()])
        article = before[1].lower() if before else ""
        ending = "r" if not before else "" if article in ("der", "die", "das") else "n"
        return ordinal(number, language) + ending
    if language == "ru":
        return ordinal(number, language, case="g")
    if language == "pl":
        return re.sub(
            r"[yi]\b", lambda end: {"y": "ego", "i": "iego"}[end[0]], ordinal(number, language)
        ).replace("giiego", "giego")
    if number == "1" and language in ("fr", "it"):
        return ordinal(number, language)
    return cardinal(number, language)


def _time(found: re.Match[str], language: str) -> str:
    words = WORDS[language]
    hour, minute = int(found[1]), int(found[2] or 0)
    spoken_hour = cardinal(str(hour), language)
    if language == "ko" and 1 <= hour <= 12:
        spoken_hour = _KOREAN_HOURS[hour]
    elif hour == 1 and words.one and "Uhr" in words.time:
        spoken_hour = words.one
    elif language == "fr" and hour == 1:
        return "une heure" + (f" {cardinal(str(minute), language)}" if minute else "")
    if not minute:
        return words.full_hour.format(spoken_hour)
    return words.time.format(spoken_hour, cardinal(str(minute), language))


def _version(found: re.Match[str], language: str) -> str:
    if _GROUPS_OF_THREE.fullmatch(found[0]):
        return found[0]  # a number with its thousands
    return " ".join(cardinal(part, language) for part in found[0].split("."))


def _read_ordinals(text: str, language: str, rules: _Rules) -> str:
    if rules.day:
        text = rules.day.sub(lambda found: _day(found, found[1], language) + " ", text)
    if language == "fr":
        return _FRENCH_ORDINAL.sub(_french_ordinal, text)
    if language in ("es", "it", "pt"):
        return _ROMANCE_ORDINAL.sub(lambda found: _romance_ordinal(found, language), text)
    if language == "ru":
        return _RUSSIAN_ORDINAL.sub(_russian_ordinal, text)
    return text


def _french_ordinal(found: re.Match[str]) -> str:
    if found[1] == "1":
        return "premier" if found[2].startswith("er") else "première"
    if found[1] == "2" and found[2].startswith("nd"):
        return "second" if found[2] == "nd" else "seconde"
    return ordinal(found[1], "fr")


def _romance_ordinal(found: re.Match[str], language: str) -> str:
    words = ordinal(found[1], language)
    return re.sub(r"o\b", "a", words) if found[2] == "ª" else words


def _russian_ordinal(found: re.Match[str]) -> str:
    ending = found[2]
    form = {"case": "g"} if ending.endswith("го") else _RUSSIAN_FORMS[ending[-1]]
    return ordinal(found[1], "ru", **form)


def _read_abbreviations(text: str, words: Words, rules: _Rules) -> str:
    if rules.abbreviation is None:
        return text
    spoken = dict(words.abbreviations)

    def read(found: re.Match[str]) -> str:
        following = found.string[found.end() : found.end() + 2].strip()
        is_last = not following or (found[0] in _LIST_ENDS and following.isupper())
        return spoken[found[0]] + ("." if is_last and found[0].endswith(".") else "")

    return rules.abbreviation.sub(read, text)
