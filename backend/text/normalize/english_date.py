"""English dates, years and times of day.

Dates of numbers alone are read month first, as in America, unless only day first is possible; with
dots between them day first. Years are read in pairs: "nineteen eighty-four".
"""

import re

from backend.text.normalize.number import cardinal, ordinal, year

_MONTHS = "January February March April May June July August September October November December"
_MONTH_NAMES = tuple(_MONTHS.split())
_MONTH = (
    r"(Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|"
    r"Sep(?:t|tember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)\b\.?"
)
_YEAR = r"(1[0-9]{3}|20[0-9]{2})"
_ISO = re.compile(
    rf"(?<![\w./-]){_YEAR}[-/](0[1-9]|1[0-2])[-/](0[1-9]|[12]\d|3[01])(?![\w/-])"
    r"|(?<![\w./-])(?P<year>1\d{3}|20\d{2})-(?P<month>0[1-9]|1[0-2])-(?P<day>0[1-9]|[12]\d|3[01])T(?=\d\d:)"
)
_SLASHED = re.compile(r"(?<![\w./-])(\d{1,2})([/.-])(\d{1,2})\2(\d{4})(?![\w/-])")
_MONTH_DAY = re.compile(
    rf"\b{_MONTH} (\d{{1,2}})(?:st|nd|rd|th)?(?![\w:%]|[.,]\d)(?:(,?) {_YEAR}(?![\w:%]|[.,]\d))?"
)
_DAY_MONTH = re.compile(
    rf"(?<![\w.,:/-])(the )?(\d{{1,2}})(?:st|nd|rd|th)?(?: of)? {_MONTH}"
    rf"(?:,? {_YEAR}(?!\w|[.,]\d))?"
)
_MONTH_YEAR = re.compile(rf"\b{_MONTH},? {_YEAR}(?!\w|[.,]\d)")
_SHORT_MONTHS = {name[:3]: name for name in _MONTH_NAMES}

_DECADE = re.compile(r"(?<![\w.,$€£¥])(1[0-9]|20)?([0-9])0['’]?s\b")
_SHORT_DECADE = re.compile(r"['’](\d)0s\b")
_ERA = re.compile(r"(?<![\w.,])(\d{1,4}) ?(BCE?|CE|AD|B\.C\.|A\.D\.)(?!\w)")
_YEARS = re.compile(rf"(?<![\w.,$€£¥/:-]){_YEAR} ?[–—-] ?(\d{{4}}|\d{{2}})(?![\w/:-]|[.,]\d)")
_BARE_YEAR = re.compile(
    r"(?<![\w.,$€£¥/:+*=-])(1[1-9]\d\d|20\d\d)(?![\w/:%°+*=]|[.,]\d|-\d)(?= ?([a-z]+)?)"
)
_COUNTED = re.compile(
    r"(?!(?:was|is|has|as|its|his|this|does|across|always|perhaps|towards|s)$)"
    r"(?:[a-z]+s|people|men|women|children|percent|more|hundred|thousand|million|billion|of|"
    r"different|square|cubic|degrees|x|or)$"
)
_CENTURY_LEFT = {"1": "teens", "0": ""}

_TIME = re.compile(
    r"(?<![\w.,:/])([01]?\d|2[0-4]):([0-5]\d)(?::([0-5]\d))?(?![\d:])"
    r"( ?(?:[ap]m\b|[AP]M\b|[ap]\.m\.|[AP]\.M\.))?"
)
_TIME_SPAN = re.compile(r"(?<=\d:\d\d) ?[–-] ?(?=\d{1,2}:\d\d)|(?<=\d[apAP][mM])[–-](?=\d)")
_HOUR = re.compile(
    r"(?<![\w.,:/])(1[0-2]|0?[1-9]) ?(?:([ap])m\b|([AP])M\b|([ap])\.m\.|([AP])\.M\.)"
)
_FOLLOWED = re.compile(r"\s+[A-Z\"“]|\s*$|\s*\n")


def read_dates(text: str) -> str:
    """Dates and times, then what else is surely a year."""
    text = _ISO.sub(_iso, text)
    text = _SLASHED.sub(_slashed, text)
    text = _TIME_SPAN.sub(" to ", text)
    text = _TIME.sub(_time, text)
    text = _HOUR.sub(_hour, text)
    text = _MONTH_DAY.sub(_month_day, text)
    text = _DAY_MONTH.sub(_day_month, text)
    return _MONTH_YEAR.sub(lambda found: f"{_month(found[1])} {year(found[2])}", text)


def read_years(text: str) -> str:
    """Decades, spans of years, and numbers of four digits from 1100 to 2099 that nothing counts."""
    text = _SHORT_DECADE.sub(lambda found: _decade(found[1]), text)
    text = _DECADE.sub(_whole_decade, text)
    text = _ERA.sub(lambda found: f"{year(found[1])} {' '.join(found[2].replace('.', ''))}", text)
    text = _YEARS.sub(_span, text)
    return _BARE_YEAR.sub(_bare_year, text)


def _month(name: str) -> str:
    return _SHORT_MONTHS[name[:3]]


def _day(digits: str) -> str:
    return ordinal(str(int(digits)))


def _iso(found: re.Match[str]) -> str:
    parts = [part for part in found.groups() if part is not None]
    name = _MONTH_NAMES[int(parts[1]) - 1]
    at = " at " if found["year"] else ""
    return f"{name} {_day(parts[2])}, {year(parts[0])}{at}"


def _slashed(found: re.Match[str]) -> str:
    first, separator, second, digits = found.groups()
    month, day = (second, first) if separator == "." or int(first) > 12 else (first, second)
    if not (1 <= int(month) <= 12 and 1 <= int(day) <= 31):
        return found[0]
    return f"{_MONTH_NAMES[int(month) - 1]} {_day(day)}, {_any_year(digits)}"


def _any_year(digits: str) -> str:
    return year(str(int(digits)))


def _month_day(found: re.Match[str]) -> str:
    name, day, _, digits = found.groups()
    if not 1 <= int(day) <= 31:
        return found[0]
    return f"{_month(name)} {_day(day)}" + (f", {year(digits)}" if digits else "")


def _day_month(found: re.Match[str]) -> str:
    _, day, name, digits = found.groups()
    if not 1 <= int(day) <= 31:
        return found[0]
    return f"the {_day(day)} of {_month(name)}" + (f" {year(digits)}" if digits else "")


def _decade(tens: str) -> str:
    names = "hundreds tens twenties thirties forties fifties sixties seventies eighties nineties"
    return names.split()[int(tens)]


def _whole_decade(found: re.Match[str]) -> str:
    century, tens = found.groups()
    if century is None:
        return _decade(tens) if int(tens) > 1 else found[0]
    if tens == "0":
        return "two thousands" if century == "20" else f"{cardinal(century)} hundreds"
    return f"{cardinal(century)} {_decade(tens)}"


def _span(found: re.Match[str]) -> str:
    last = found[2]
    return f"{year(found[1])} to {year(last) if len(last) == 4 else cardinal(last)}"


def _bare_year(found: re.Match[str]) -> str:
    if found[2] and _COUNTED.match(found[2]):
        return found[0]
    return year(found[1])


def _time(found: re.Match[str]) -> str:
    hour, minute, second, half = found.groups()
    words = cardinal(str(int(hour)))
    if int(minute):
        words += (" oh " if minute[0] == "0" else " ") + cardinal(str(int(minute)))
    elif not half:
        words += " o'clock" if 1 <= int(hour) <= 12 else " hundred"
    if second:
        words += f" and {cardinal(str(int(second)))} seconds"
    return words + (_half(half.strip()[0], half[-1], found) if half else "")


def _hour(found: re.Match[str]) -> str:
    letter = next(letter for letter in found.groups()[1:] if letter)
    return cardinal(str(int(found[1]))) + _half(letter, found[0][-1], found)


def _half(letter: str, last: str, found: re.Match[str]) -> str:
    """AM or PM, and the stop of "p.m." where it ends a sentence too."""
    is_end = last == "." and _FOLLOWED.match(found.string, found.end())
    return f" {letter.upper()}M" + ("." if is_end else "")
