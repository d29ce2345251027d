"""English dates and years.

Dates of numbers alone are read month first, as in America, unless only day first is possible; with
dots between them day first. Years are read in pairs: "nineteen eighty-four".
"""

import re

from backend.text.normalize.english_time import read_times
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
_YEAR_FIRST = re.compile(
    r"(?<![\w./-])(1\d{3}|20\d{2})([/.])(0?[1-9]|1[0-2])\2(0?[1-9]|[12]\d|3[01])(?![\w/-]|[.,]\d)"
)
_SLASHED = re.compile(r"(?<![\w./-])(\d{1,2})([/.-])(\d{1,2})\2(\d{4})(?![\w/-])")
_SHORT_SLASHED = re.compile(r"(?<![\w./-])(\d{1,2})/(\d{1,2})/(\d{2})(?![\w/-]|[.,]\d)")
_MONTH_AND_DAY = re.compile(
    r"(?P<before>\b(?:[Oo]n|[Uu]ntil|[Ss]ince|[Dd]ue(?: by)?|[Mm]on(?:day)?|[Tt]ue(?:s|sday)?|"
    r"[Ww]ed(?:nesday)?|[Tt]hu(?:rs|rsday)?|[Ff]ri(?:day)?|[Ss]at(?:urday)?|[Ss]un(?:day)?),? )"
    r"(?P<month>0?[1-9]|1[0-2])/(?P<day>0?[1-9]|[12]\d|3[01])(?![\w/-]|[.,]\d)"
    r"(?! (?:of|cup|inch|mile|the)\b)(?:[–-](?P<to>(?:0?[1-9]|1[0-2])/(?:0?[1-9]|[12]\d|3[01])))?"
)
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
_FIRST_DECADES = {"0": "two thousands", "1": "tens"}
_ERA = re.compile(r"(?<![\w.,])(\d{1,4}) ?(BCE?|CE|AD|B\.C\.E\.|B\.C\.|A\.D\.|C\.E\.)(?!\w)")
_YEARS = re.compile(rf"(?<![\w.,$€£¥/:-]){_YEAR} ?[–—-] ?(\d{{4}}|\d{{2}})(?![\w/:-]|[.,]\d)")
_BARE_YEAR = re.compile(
    r"(?<![\w.,$€£¥/:+*=-])(1[1-9]\d\d|20\d\d)(?![\w/:%°+*=]|[.,]\d|-\d)(?= ?([a-z]+)?)"
)
_COUNTED = re.compile(
    r"(?!(?:was|is|has|as|its|his|this|does|across|always|perhaps|towards|s)$)"
    r"(?:[a-z]+s|people|men|women|children|percent|more|hundred|thousand|million|billion|of|"
    r"different|square|cubic|degrees|x|or)$"
)
_LAST_CENTURY_FROM = 56
"""Years of two figures before this are of the century from 2000 on."""


def read_dates(text: str) -> str:
    """Dates and times, then what else is surely a year."""
    text = _ISO.sub(_iso, text)
    text = _YEAR_FIRST.sub(
        lambda found: f"{_MONTH_NAMES[int(found[3]) - 1]} {_day(found[4])}, {year(found[1])}", text
    )
    text = _SLASHED.sub(_slashed, text)
    text = _SHORT_SLASHED.sub(_short_slashed, text)
    text = _MONTH_AND_DAY.sub(_month_and_day, text)
    text = read_times(text)
    text = _MONTH_DAYS.sub(_month_days, text)
    text = _DAYS_MONTH.sub(_days_month, text)
    text = _MONTH_DAY.sub(_month_day, text)
    text = _DAY_MONTH.sub(_day_month, text)
    return _MONTH_YEAR.sub(lambda found: f"{_month(found[1])} {year(found[2])}", text)


_MONTH_DAYS = re.compile(
    rf"\b{_MONTH} (\d{{1,2}})(?:st|nd|rd|th)? ?[–-] ?(\d{{1,2}})(?:st|nd|rd|th)?(?![\w:%/-]|[.,]\d)"
    rf"(?:(,?) {_YEAR}(?![\w:%]|[.,]\d))?"
)
_DAYS_MONTH = re.compile(
    rf"(?<![\w.,:/$-])(?:the )?(\d{{1,2}})(?:st|nd|rd|th)? ?[–-] ?(\d{{1,2}})(?:st|nd|rd|"
    rf"th)?(?: of)? {_MONTH}"
)
_WEEKDAYS = {
    "Mon": "Monday",
    "Tue": "Tuesday",
    "Tues": "Tuesday",
    "Wed": "Wednesday",
    "Thu": "Thursday",
    "Thur": "Thursday",
    "Thurs": "Thursday",
    "Fri": "Friday",
    "Sat": "Saturday",
    "Sun": "Sunday",
}
_MONTH_NAMED = _MONTH.replace("(", "(?:", 1)
_WEEKDAY = "|".join(sorted(_WEEKDAYS, key=len, reverse=True))
_DATED = re.compile(
    rf"\b({_WEEKDAY})\.?(?=,? (?:the )?\d{{1,2}}(?::\d\d)?(?: ?[ap]\.?m|\b)(?! ?%)|"
    rf",? {_MONTH_NAMED} \d)"
    rf"|\b({_WEEKDAY})(?=(?: ?[–-] ?)(?:{_WEEKDAY})\b)|(?<=(?:Mon|Tue|Wed|Thu|Fri|Sat|"
    rf"Sun)[–-])({_WEEKDAY})\b"
)
_WEEKDAY_SPAN = re.compile(r"(?<=day) ?[–-] ?(?=(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day\b)")
_SEASON = re.compile(rf"(?<![\w/.-]){_YEAR}/(\d\d)(?![\w/-]|[.,]\d)")
_FISCAL = re.compile(r"\b([FC]Y) ?(20\d\d)(?!\w)")
_SHORT_YEAR = re.compile(r"(?<!\w)['’](\d\d)(?![\w'’\"]|[.,]\d)")
_DECADES = re.compile(r"(?<=\d0s) ?[–-] ?(?=['’]?\d)")


def read_weekdays(text: str) -> str:
    """Days of the week, shortened, before a date and in spans."""
    return _WEEKDAY_SPAN.sub(" to ", _DATED.sub(_dated, text))


def read_years(text: str) -> str:
    """Decades, spans of years, and numbers of four digits from 1100 to 2099 that nothing counts."""
    text = _DECADES.sub(" to ", text)
    text = _SEASON.sub(_season, text)
    text = _FISCAL.sub(lambda found: f"{found[1]} {year(found[2])}", text)
    text = _SHORT_YEAR.sub(
        lambda found: cardinal(found[1]) if found[1] > "09" else f"oh {cardinal(found[1][1])}", text
    )
    text = _SHORT_DECADE.sub(
        lambda found: _decade(found[1]) if int(found[1]) > 1 else _FIRST_DECADES[found[1]], text
    )
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


def _short_slashed(found: re.Match[str]) -> str:
    """A year of two figures: the nearest one up to thirty years from now."""
    first, second, digits = found.groups()
    month, day = (second, first) if int(first) > 12 else (first, second)
    if not (1 <= int(month) <= 12 and 1 <= int(day) <= 31):
        return found[0]
    century = "20" if int(digits) < _LAST_CENTURY_FROM else "19"
    return f"{_MONTH_NAMES[int(month) - 1]} {_day(day)}, {year(century + digits)}"


def _month_and_day(found: re.Match[str]) -> str:
    words = f"{_MONTH_NAMES[int(found['month']) - 1]} {_day(found['day'])}"
    if found["to"]:
        month, _, day = found["to"].partition("/")
        words += f" to {_MONTH_NAMES[int(month) - 1]} {_day(day)}"
    return found["before"] + words


def _any_year(digits: str) -> str:
    return year(str(int(digits)))


def _month_day(found: re.Match[str]) -> str:
    name, day, _, digits = found.groups()
    if not 1 <= int(day) <= 31:
        return found[0]
    return f"{_month(name)} {_day(day)}" + (f", {year(digits)}" if digits else "")


def _dated(found: re.Match[str]) -> str:
    return _WEEKDAYS[found[1] or found[2] or found[3]]


def _month_days(found: re.Match[str]) -> str:
    name, first, last, _, digits = found.groups()
    if not 1 <= int(first) < int(last) <= 31:
        return found[0]
    return f"{_month(name)} {_day(first)} to {_day(last)}" + (f", {year(digits)}" if digits else "")


def _days_month(found: re.Match[str]) -> str:
    first, last, name = found.groups()
    if not 1 <= int(first) < int(last) <= 31:
        return found[0]
    return f"the {_day(first)} to the {_day(last)} of {_month(name)}"


def _season(found: re.Match[str]) -> str:
    first, last = found.groups()
    is_next = (int(first) + 1) % 100 == int(last)
    return f"{year(first)} {cardinal(last)}" if is_next else found[0]


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
