"""What a letter after an English number means: "5m 30s" is a time, "2.3m people" are millions, "the
90s" are years and "two 747s" are aircraft.
"""

import re

from backend.text.normalize.english_code import paired, several
from backend.text.normalize.english_noun import NOUNS
from backend.text.normalize.number import cardinal, decimal

_NAMES = {
    "w": "week",
    "d": "day",
    "h": "hour",
    "hr": "hour",
    "hrs": "hour",
    "m": "minute",
    "min": "minute",
    "mins": "minute",
    "s": "second",
    "sec": "second",
    "secs": "second",
    "ms": "millisecond",
}
_HOURS, _MINUTES, _SECONDS = r"h(?:rs?)?", r"m(?:ins?)?", r"s(?:ecs?)?"
_COUNT = r"\d{1,5}"
_GAP = r"(?: |, |,| and )?"


def _sequence(*units: str) -> str:
    """The units in this order, each with its count; the first and another must be there."""
    first, *others = units
    rest = "".join(rf"(?:{_GAP}{_COUNT} ?{unit}(?![\w²³/]))?" for unit in others)
    before = "".join(rf"(?={_GAP}{_COUNT} ?[wdhms])" for _ in others[:1])
    return rf"{_COUNT} ?{first}{before}{rest}"


_TIMES = re.compile(
    r"(?<![\w.,$€£¥-])(?:"
    + "|".join(
        (
            _sequence("w", "d", _HOURS, _MINUTES, _SECONDS),
            _sequence("d", _HOURS, _MINUTES, _SECONDS),
            _sequence(_HOURS, _MINUTES, _SECONDS),
            _sequence(_MINUTES, r"s(?:ecs?)?(?:\b)"),
            _sequence(_SECONDS, "ms"),
        )
    )
    + r")(?![\w²³/])"
)
_PART = re.compile(rf"({_COUNT}) ?([a-z]+)")
_HOURS_AND_MINUTES = re.compile(r"(?<![\w.,$€£¥-])(\d{1,3})h([0-5]\d)(?![\w.:])")

_MILLIONS = re.compile(
    rf"(?<![\w.,$€£¥₹])(\d{{1,3}}(?:,\d{{3}})*(?:\.\d{{1,3}})?)([kKmMbB]|mn|MM|bn|tn)(?= "
    rf"(?:[a-z]+(?:ed|ing|al|ive|ew|er|ly)? )?"
    rf"{NOUNS}\b|\+? (?:{NOUNS})\b)"
)
_MILLIONS_AFTER = re.compile(
    r"(\b(?:population|audience|circulation|membership|turnover|sales|users|followers|subscribers|"
    r"views|readership) (?:of|is|was|reached|hit|rose to|grew to|fell to) (?:about |"
    r"around |over |nearly |some )?)"
    r"(\d{1,3}(?:\.\d{1,3})?)([mMbB])\b"
)
_SPAN = re.compile(
    r"(?<![\w.,/$€£¥₹-])(\d{1,3}(?:\.\d{1,3})?)[–-](?=\d{1,3}(?:\.\d{1,3})?(?:[kKMx]|bn|mn|tn)\b)"
)
_MN = re.compile(r"(?<![\w.,$€£¥₹])(\d{1,3}(?:,\d{3})*(?:\.\d{1,3})?) ?(mn|tn)\b")
_SCALES = {
    "k": "thousand",
    "bn": "billion",
    "m": "million",
    "mm": "million",
    "mn": "million",
    "b": "billion",
    "tn": "trillion",
}

_BARE_SECONDS = re.compile(r"(?<![\w.,$€£¥:/'’-])(\d{2,4})s\b")
_DECADE_BEFORE = re.compile(
    r"(?:\b(?:the|her|his|their|my|your|our|its|early|mid|late|this|those|pre|post|of the)|mid-|"
    r"'|’|\d0s(?: and| or| to|,| &|/)) ?$",
    re.IGNORECASE,
)
_DECADE_AFTER = re.compile(
    r" (?:music|kids?|fashion|nostalgia|hits|rock|pop|styles?|movies?|films?|shows?|"
    r"songs?|vibes?|era|"
    r"hip|party|bands?|sitcoms?|cartoons?|anime|aesthetic|decade|child|icons?|stars?|dance|disco|hair|"
    r"computers?|games?|classics?|TV|house|metal|punk|jazz|and \d0s|or \d0s|to \d0s|"
    r"ladies|women|men)\b"
)
_SECONDS_BEFORE = re.compile(
    r"\b(?:wait(?:ed|ing)?|for|after|in|within|every|takes?|took|lasts?|lasted|about|under|over|only|"
    r"another|just|last|next|first|sleep|pause|delay|than|timeout|limit|of|to|at|is|was|=|"
    r":|until) ?$",
    re.IGNORECASE,
)
_SECONDS_AFTER = re.compile(
    r" (?:timeouts?|timers?|delays?|limits?|pauses?|windows?|later|ago|each|per|left|"
    r"remaining|long|"
    r"intervals?|breaks?|cooldown|clips?|videos?|ads?|spots?|sprints?|rest|apart|early|late|behind|ahead)\b"
)
_COUNTED_BEFORE = re.compile(
    r"\b(?:two|three|four|five|six|seven|eight|nine|ten|several|many|few|some|both|these|those|all|"
    r"boeing|the|of|old|new|more|most|get|getting|got|no|porsche|levi['’]s) $",
    re.IGNORECASE,
)


def read_durations(text: str) -> str:
    """Times of several units, millions, and what an "s" after a number means."""
    text = _TIMES.sub(_times, text)
    text = _HOURS_AND_MINUTES.sub(
        lambda found: f"{_count(found[1], 'h')} {_count(str(int(found[2])), 'm')}", text
    )
    text = _SPAN.sub(r"\1 to ", text)
    text = _MILLIONS.sub(lambda found: f"{_read(found[1])} {_SCALES[found[2].lower()]}", text)
    text = _MILLIONS_AFTER.sub(
        lambda found: f"{found[1]}{_read(found[2])} {_SCALES[found[3].lower()]}", text
    )
    text = _MN.sub(lambda found: f"{_read(found[1])} {_SCALES[found[2]]}", text)
    return _BARE_SECONDS.sub(_seconds, text)


def _times(found: re.Match[str]) -> str:
    parts = _PART.findall(found[0])
    if len(parts) < 2:
        return found[0]
    return " ".join(_count(count, unit) for count, unit in parts)


def _count(count: str, unit: str) -> str:
    name = _NAMES[unit]
    return f"{cardinal(str(int(count)))} {name}{'' if int(count) == 1 else 's'}"


def _read(number: str) -> str:
    whole, _, fraction = number.replace(",", "").partition(".")
    return decimal(whole, fraction)


def _seconds(found: re.Match[str]) -> str:
    """Seconds, years or several of what the number names."""
    digits, text = found[1], found.string
    before, end = text[max(0, found.start() - 24) : found.start()], found.end()
    is_round = digits.endswith("0")
    if len(digits) == 4 and is_round and digits[0] in "12":
        return "thousands" if digits == "1000" and text.startswith(" of ", end) else found[0]
    if is_round and len(digits) < 4:
        if text.startswith(" of ", end) and digits in ("10", "100"):
            return "tens" if digits == "10" else "hundreds"
        if len(digits) == 2 and not _is_time(before, text, end):
            return found[0]  # years, or nothing
        return _count(digits, "s")
    if len(digits) == 2:
        return _count(digits, "s")
    if _SECONDS_AFTER.match(text, end) or (
        _SECONDS_BEFORE.search(before) and not _COUNTED_BEFORE.search(before)
    ):
        return _count(digits, "s")
    return several(paired(digits))


def _is_time(before: str, text: str, end: int) -> bool:
    if _DECADE_BEFORE.search(before) or _DECADE_AFTER.match(text, end):
        return False
    return bool(_SECONDS_AFTER.match(text, end) or _SECONDS_BEFORE.search(before))
