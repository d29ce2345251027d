"""English times of day: with and without AM or PM, spans of them, seconds and time zones."""

import re

from backend.text.normalize.number import cardinal

_HALF = r"(?:[ap]m\b|[AP]M\b|[ap]\.m\.|[AP]\.M\.)"
_TIME = re.compile(
    r"(?<![\w.,:/])([01]?\d|2[0-4]):([0-5]\d)(?::([0-5]\d)(?:\.(\d{1,6})(?!\d))?)?(?![\d:])"
    rf"( ?{_HALF})?(?:(?<=\d)(?:(Z)(?!\w)| ?([+−-])([01]\d):?([0-5]\d)(?!\d)))?"
)
_DOTTED_TIME = re.compile(rf"(?<![\w.,:/])(1[0-2]|0?[1-9])\.([0-5]\d)(?= ?{_HALF})")
_TIME_SPAN = re.compile(
    r"(?<=\d:\d\d) ?[–-] ?(?=\d{1,2}:\d\d)|(?<=\d[apAP][mM]) ?[–-] ?(?=\d)|"
    r"(?<=\d [apAP][mM]) ?[–-] ?(?=\d)"
    r"|(?<=[apAP]\.[mM]\.) ?[–-] ?(?=\d)"
)
_HOURS_SPAN = re.compile(
    rf"(?<![\w.,:/$-])(\d{{1,2}}|\d{{1,2}}:[0-5]\d) ?[–-] ?(?=(?:1[0-2]|0?[1-9])"
    rf"(?::[0-5]\d)? ?{_HALF})"
)
_HOUR = re.compile(
    r"(?<![\w.,:/])(1[0-2]|0?[1-9]) ?(?:([ap])m\b|([AP])M\b|([ap])\.m\.|([AP])\.M\.)"
)
_MILITARY = re.compile(
    r"(?<![\w.,:/-])([01]\d|2[0-3])([0-5]\d)(?= ?(?:hours|hrs|h)\b)( ?(?:hrs|h)\b)?"
)
_OFFSET = re.compile(r"\b(UTC|GMT) ?([+−-])(\d{1,2})(?::?([0-5]\d))?(?!\d)")
_FOLLOWED = re.compile(r"\s+[A-Z\"“]|\s*$|\s*\n")
_ZONE = re.compile(
    r" (?:[PMCEA][SDT]?T|AK[SD]T|HST|UTC|GMT|BST|CES?T|WES?T|EES?T|IST|JST|KST|SGT|HKT|"
    r"MSK|A[EWC][SD]T|"
    r"NZ[SD]T|Z|Pacific|Eastern|Central|Mountain)\b"
)


def read_times(text: str) -> str:
    """Times of day in words; the names of their zones stay."""
    text = _DOTTED_TIME.sub(r"\1:\2", text)
    text = _HOURS_SPAN.sub(r"\1 to ", text)
    text = _TIME_SPAN.sub(" to ", text)
    text = _MILITARY.sub(_military, text)
    text = _TIME.sub(_time, text)
    text = _HOUR.sub(_hour, text)
    return _OFFSET.sub(_offset, text)


def _time(found: re.Match[str]) -> str:
    hour, minute, second, fraction, half, zulu, sign, hours, minutes = found.groups()
    words = cardinal(str(int(hour)))
    if int(minute):
        words += (" oh " if minute[0] == "0" else " ") + cardinal(str(int(minute)))
    elif not half:
        words += " o'clock" if 1 <= int(hour) <= 12 else " hundred"
    if second:
        words += f" and {cardinal(str(int(second)))}"
        words += f" point {' '.join(cardinal(digit) for digit in fraction)}" if fraction else ""
        words += " seconds"
    if half:
        return words + _half(half.strip()[0], half[-1], found)
    if zulu:
        return words + " UTC"
    if sign:
        return words + " UTC" + _shift(sign, hours, minutes)
    return words


def _shift(sign: str, hours: str, minutes: str | None) -> str:
    """How far a zone is from UTC."""
    if not int(hours) and not int(minutes or 0):
        return ""
    words = f" {'plus' if sign == '+' else 'minus'} {cardinal(str(int(hours)))}"
    return words + (f" {cardinal(str(int(minutes)))}" if minutes and int(minutes) else "")


def _offset(found: re.Match[str]) -> str:
    return found[1] + _shift(found[2], found[3], found[4])


def _military(found: re.Match[str]) -> str:
    hour, minute, unit = found.groups()
    words = f"oh {cardinal(hour[1])}" if hour[0] == "0" else cardinal(hour)
    if hour == "00":
        words = "zero"
    words += (
        " hundred"
        if minute == "00"
        else " " + (f"oh {cardinal(minute[1])}" if minute[0] == "0" else cardinal(minute))
    )
    return words + (" hours" if unit else "")


def _hour(found: re.Match[str]) -> str:
    letter = next(letter for letter in found.groups()[1:] if letter)
    return cardinal(str(int(found[1]))) + _half(letter, found[0][-1], found)


def _half(letter: str, last: str, found: re.Match[str]) -> str:
    """AM or PM, and the stop of "p.m." where it ends a sentence too."""
    text, end = found.string, found.end()
    is_end = last == "." and _FOLLOWED.match(text, end) and not _ZONE.match(text, end)
    return f" {letter.upper()}M" + ("." if is_end else "")
