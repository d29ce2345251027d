"""Dates and times of day in languages other than English."""

import re

from backend.text.normalize.counting import GAPLESS, before_noun, counted
from backend.text.normalize.foreign_ordinals import day_ordinal
from backend.text.normalize.foreign_units import UNITS
from backend.text.normalize.foreign_words import WORDS, Words
from backend.text.normalize.number import cardinal, ordinal, spelled, year
from backend.text.normalize.number_tables import native_korean

_DATE = re.compile(
    r"(?<![\d./-])(?:(?P<day>\d{1,2})(?P<mark>[./-]) ?(?P<month>\d{1,2})(?P=mark) ?"
    r"(?P<year>\d{4}|(?<=\d\d\.)\d\d(?!\.?\d))"
    r"|(?P<year_first>\d{4})(?P<mark_first>[/-])(?P<month_second>\d{1,2})(?P=mark_first)"
    r"(?P<day_last>\d{1,2}))(?![\d/-])"
)
_DAY_AND_MONTH = re.compile(r"(?<![\d.,])(\d{1,2})\. ?(\d{1,2})\.(?! ?\d)")
_TIME = re.compile(
    r"(?<![\d.,:/])([01]?\d|2[0-4]):([0-5]\d)(?![\d:])(?: ?(?:Uhr|heures|बजे)(?!\w))?"
)
_SECONDS = re.compile(r"(?<![\d.,:/])([01]?\d|2[0-4]):([0-5]\d):([0-5]\d)(?![\d:])")
_DOTTED_TIME = re.compile(r"(?<![\d.,:/])([01]?\d|2[0-4])\.([0-5]\d) ?Uhr\b")
_CLOCK = re.compile(r"(?<![\d.,:/])([01]?\d|2[0-4]) ?h ?([0-5]\d)?\b")
_FULL_CLOCK = re.compile(r"(?<![\d.,:/])([01]?\d|2[0-4])h([0-5]\d)\b")
_RUSSIAN_YEAR = re.compile(
    r"(?<!\w)([вВ]о? )?(1[1-9]\d\d|20\d\d) ?(?:(год[ауе]?|годом)(?!\w)|г\.|г(?!\w))"
)
_LAST_WORD = re.compile(
    r"\b(?:am|vom|zum|dem|den|des|bis|ab|seit|der|die|das|beim|im) $", re.IGNORECASE
)
"""German words that decide the ending of a day after them."""


def read_dates(text: str, language: str) -> str:
    """`text` with its dates and times of day as words."""
    text = _DATE.sub(lambda found: _date(found, language), text)
    return _read_days(_read_times(text, language), language)


def _date(found: re.Match[str], language: str) -> str:
    words = WORDS[language]
    day = found["day"] or found["day_last"]
    month = found["month"] or found["month_second"]
    digits = found["year"] or found["year_first"]
    if not (1 <= int(month) <= 12 and 1 <= int(day) <= 31):
        return found[0]
    if language == "ru" and len(digits) == 4:
        spoken_year = ordinal(str(int(digits)), language, case="g")
    else:
        spoken_year = (
            spelled(digits, "zh") if language == "zh" else year(str(int(digits)), language)
        )
    return words.date.format(
        day=_day(found, day, language), month=_month(month, words, language), year=spoken_year
    )


def _month(digits: str, words: Words, language: str) -> str:
    if words.months:
        return words.months.split()[int(digits) - 1]
    name = cardinal(str(int(digits)), language) + words.month
    return {"육월": "유월", "십월": "시월"}.get(name, name)


def _day(found: re.Match[str], digits: str, language: str) -> str:
    """The day of a month, after the word that it follows."""
    before = _LAST_WORD.search(found.string[max(0, found.start() - 12) : found.start()])
    return day_ordinal(digits, language, before[0].strip() if before else "")


def _read_days(text: str, language: str) -> str:
    """Days and months without a year, in German; years with their word, in Russian."""
    if language == "ru":
        return _RUSSIAN_YEAR.sub(_russian_year, text)
    if language != "de":
        return text

    def read(found: re.Match[str]) -> str:
        day, month = int(found[1]), int(found[2])
        is_date = 1 <= day <= 31 and 1 <= month <= 12
        before = found.string[max(0, found.start() - 8) : found.start()]
        # "Kapitel 3.5." is none.
        if not is_date or not _LAST_WORD.search(before):
            return found[0]
        end = "" if found.string[found.end() : found.end() + 1].strip() else "."
        if found.string[found.end() : found.end() + 2].strip():
            end = ""
        return f"{_day(found, found[1], 'de')} {_month(found[2], WORDS['de'], 'de')}{end}"

    return _DAY_AND_MONTH.sub(read, text)


def _russian_year(found: re.Match[str]) -> str:
    before, digits, noun = found[1] or "", found[2], found[3]
    if not noun:
        noun = "году" if before else "года"
    case = {"год": "n", "года": "g", "годом": "i"}.get(noun, "p")
    following = found.string[found.end() : found.end() + 2].strip()
    end = "." if found[0].endswith(".") and not following else ""
    return f"{before}{ordinal(digits, 'ru', case=case)} {noun}{end}"


def _read_times(text: str, language: str) -> str:
    text = _SECONDS.sub(lambda found: _time_with_seconds(found, language), text)
    text = _TIME.sub(lambda found: _time(found, language), text)
    if language == "de":
        return _DOTTED_TIME.sub(lambda found: _time(found, language), text)
    if language == "fr":
        return _CLOCK.sub(lambda found: _time(found, language), text)
    if language in ("pt", "es"):
        return _FULL_CLOCK.sub(lambda found: _time(found, language), text)
    return text


def _time(found: re.Match[str], language: str) -> str:
    words = WORDS[language]
    hour, minute = int(found[1]), int(found[2] or 0)
    spoken_hour = cardinal(str(hour), language)
    if language == "ko" and 1 <= hour <= 12:
        spoken_hour = native_korean(hour)
    elif language == "zh" or (language == "de" and hour == 1):
        spoken_hour = before_noun(str(hour), "m", language)
    elif language == "fr" and hour < 2:
        name = "une heure" if hour else "zéro heure"
        return name + (f" {cardinal(str(minute), language)}" if minute else "")
    if not minute:
        return words.full_hour.format(spoken_hour)
    spoken_minute = cardinal(str(minute), language)
    if language == "zh" and minute < 10:
        spoken_minute = cardinal("0", language) + spoken_minute
    return words.time.format(spoken_hour, spoken_minute)


def _time_with_seconds(found: re.Match[str], language: str) -> str:
    gap = "" if language in GAPLESS else " "
    seconds = counted(UNITS[language]["s"], str(int(found[3])), "", language)
    return _time(found, language) + gap + seconds
