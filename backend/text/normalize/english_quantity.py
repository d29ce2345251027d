"""English amounts: measures, rates and fractions."""

import re
import unicodedata
from fractions import Fraction

from backend.text.normalize.number import cardinal, decimal, ordinal

NUMBER = r"(?:\d{1,3}(?:,\d{3}){1,6}(?!\d)|\d{1,18}(?!\d))(?:\.\d{1,18}(?!\d))?"
NO_NUMBER_BEFORE = r"(?<![\w.,])"

SCALES = {
    "cr": "crore",
    "lac": "lakh",
    "k": "thousand",
    "m": "million",
    "mn": "million",
    "mm": "million",
    "b": "billion",
    "bn": "billion",
    "t": "trillion",
    "tn": "trillion",
}
_UNITS = {
    "km": "kilometer",
    "m": "meter",
    "cm": "centimeter",
    "mm": "millimeter",
    "µm": "micrometer",
    "nm": "nanometer",
    "mi": "mile",
    "ft": "foot",
    "yd": "yard",
    "kg": "kilogram",
    "g": "gram",
    "mg": "milligram",
    "µg": "microgram",
    "lb": "pound",
    "lbs": "pound",
    "oz": "ounce",
    "L": "liter",
    "l": "liter",
    "ml": "milliliter",
    "mL": "milliliter",
    "cl": "centiliter",
    "gal": "gallon",
    "s": "second",
    "sec": "second",
    "secs": "second",
    "ms": "millisecond",
    "µs": "microsecond",
    "ns": "nanosecond",
    "min": "minute",
    "mins": "minute",
    "h": "hour",
    "hr": "hour",
    "hrs": "hour",
    "KB": "kilobyte",
    "kB": "kilobyte",
    "MB": "megabyte",
    "GB": "gigabyte",
    "TB": "terabyte",
    "PB": "petabyte",
    "KiB": "kibibyte",
    "MiB": "mebibyte",
    "GiB": "gibibyte",
    "Kbps": "kilobit per second",
    "kbps": "kilobit per second",
    "Mbps": "megabit per second",
    "Gbps": "gigabit per second",
    "Hz": "hertz",
    "kHz": "kilohertz",
    "MHz": "megahertz",
    "GHz": "gigahertz",
    "W": "watt",
    "kW": "kilowatt",
    "MW": "megawatt",
    "GW": "gigawatt",
    "kWh": "kilowatt hour",
    "MWh": "megawatt hour",
    "mAh": "milliamp hour",
    "V": "volt",
    "mV": "millivolt",
    "kV": "kilovolt",
    "mA": "milliamp",
    "Ω": "ohm",
    "kcal": "kilocalorie",
    "cal": "calorie",
    "J": "joule",
    "kJ": "kilojoule",
    "N": "newton",
    "Pa": "pascal",
    "hPa": "hectopascal",
    "kPa": "kilopascal",
    "psi": "pound per square inch",
    "dB": "decibel",
    "ha": "hectare",
    "mph": "mile per hour",
    "kph": "kilometer per hour",
    "kmh": "kilometer per hour",
    "fps": "frame per second",
    "rpm": "revolution per minute",
    "px": "pixel",
    "°C": "degree Celsius",
    "°F": "degree Fahrenheit",
    "°": "degree",
    "℃": "degree Celsius",
    "℉": "degree Fahrenheit",
    "sq ft": "square foot",
    "sq. ft.": "square foot",
    "sq m": "square meter",
    "sq km": "square kilometer",
    "sq mi": "square mile",
    "cu ft": "cubic foot",
    "fl oz": "fluid ounce",
    "m2": "square meter",
    "km2": "square kilometer",
    "cm2": "square centimeter",
    "m3": "cubic meter",
    "cm3": "cubic centimeter",
    "tsp": "teaspoon",
    "tbsp": "tablespoon",
    "bpm": "beat per minute",
    "dpi": "dot per inch",
    "MP": "megapixel",
    "km²": "square kilometer",
    "m²": "square meter",
    "cm²": "square centimeter",
    "ft²": "square foot",
    "m³": "cubic meter",
    "cm³": "cubic centimeter",
}
_SAME_IN_PLURAL = ("hertz", "kilohertz", "megahertz", "gigahertz")
_PER = {
    "s²": "second squared",
    "s^2": "second squared",
    "h": "hour",
    "hr": "hour",
    "s": "second",
    "sec": "second",
    "min": "minute",
    "day": "day",
    "week": "week",
    "month": "month",
    "mo": "month",
    "year": "year",
    "yr": "year",
    "kg": "kilogram",
    "km": "kilometer",
    "m": "meter",
    "m²": "square meter",
    "m³": "cubic meter",
    "L": "liter",
    "l": "liter",
    "person": "person",
    "night": "night",
}
_UNIT = "|".join(re.escape(unit) for unit in sorted(_UNITS, key=len, reverse=True))
_MEASURE = re.compile(
    rf"(?<![A-Za-z0-9.,])(-|−)?({NUMBER})(?: ?(?:[–-]|to) ?({NUMBER}))?([ -]?)"
    rf"({_UNIT})(?![\w²³'’])(?:(?<=min|sec|hrs)\.(?= [a-z])|(?<=lb|oz|ft|yd|hr)\.(?=[,;]| [a-z]))?"
    rf"(?:/({'|'.join(map(re.escape, sorted(_PER, key=len, reverse=True)))})(?!\w))?"
)
_PER_AFTER_WORD = re.compile(r"(?<=[a-z])/(hour|second|minute|day|week|month|year|person|night)\b")
_MONEY_PER = re.compile(
    r"\b(dollars?|cents?|euros?|pounds?|pence|rupees?|yen|yuan|francs?|rubles?|lira|miles|pounds)/"
    r"(hr|mo|yr|wk|min|kg|lb|km|mi|L|gal|GB|MB|kWh|MWh|m²|night|head|share|unit|token|user|seat|ton)\b"
)
_MONEY_PER_NAMES = {"wk": "week", "lb": "pound", "mi": "mile", "gal": "gallon", "GB": "gigabyte"}
_MONEY_PER_NAMES |= {"MB": "megabyte", "kWh": "kilowatt hour", "MWh": "megawatt hour"}
_RATE_ALONE = re.compile(
    r"(?<![\w/])(km/h|m/s|mi/h|km/s|cm/s|ft/s|mg/dL|kB/s|MB/s|GB/s)(?![\w/²³])"
)
_SPAN = re.compile(rf"(?<![\w.,-])({NUMBER} ?({_UNIT})) ?[–-] ?(?={NUMBER} ?\2(?!\w))")
_ONE_THING = re.compile(
    r"-[a-z]| (?:sprint|race|dash|freestyle|hurdles|butterfly|backstroke|relay|run|swim|"
    r"pool|radius|dive|"
    r"drop|barrier|walk|mark|cable|telescope|drive|hard drive|battery|tank|bottle|bag|gap|"
    r"penalty|rule)\b"
)
_ANGLE = re.compile(
    r"(?<![\w.,])(\d{1,3}(?:\.\d{1,8})?)°"
    r"(?: ?(\d{1,2})['’′](?: ?(\d{1,2}(?:\.\d{1,4})?)(?:[\"″”]|''))?)?"
    r" ?([NSEW])?(?![\w°])"
)
_DIRECTIONS = {"N": "north", "S": "south", "E": "east", "W": "west"}
_FEET = re.compile(
    r"(?<![\w.,])(\d{1,2})['’′] ?(\d{1,2})(?:\"|”|″|''|’’)(?!\w)"
    r"|(?<![\w.,])([3-7])['’′](\d|1[01])(?![\w'’])"
)
_FEET_AND_INCHES = re.compile(
    r"(?<![\w.,])(\d{1,2}) ?ft\.? (\d{1,2}) ?in(?:ch(?:es)?\b|\.(?= [a-z])|\b)"
)
_INCHES = re.compile(r"(?<![\w.,\"“])(\d{1,3}(?:\.\d{1,2})?)[\"″](?=[ ,.;]|$)(?![^\"\n]{0,200}\")")
_PERCENT = re.compile(r"(?<=\d) ?(%|‰)")

_HYPHENED_MIXED = re.compile(r"(?<![\w.,/-])(\d{1,3})-(\d{1,2}/\d{1,2})(?![\w/]|[.,]\d)")
_FRACTION_OF_INCH = re.compile(r"(?<![\w.,/])(\d{1,2})/(\d{1,2})[\"″](?=[ ,.;]|$)")
_MIXED = re.compile(r"(?<![\w.,/])(\d{1,6}) (\d{1,3})/(\d{1,3})(?![\w/]|[.,]\d)")
_FRACTION = re.compile(r"(?<![\w.,/$])(\d{1,4})/(\d{1,4})(?![\w/]|[.,]\d)")
_SIGN_OF_FRACTION = re.compile(r"(?:(?<!\d)(\d{1,18}) ?)?([¼-¾⅐-⅞])")
_RATING = re.compile(r"(?<=\d\.\d)/(?=\d{1,3}(?![\w/]))")
_RATED = re.compile(
    r"(?<![\w.,/$])(\d{1,3})/(\d{1,3})(?= (?:stars?|points?)\b)"
    r"|\b([Pp]age|[Ss]tep|[Ss]lide|[Pp]art|[Cc]hapter|[Dd]ay|[Ll]evel|"
    r"[Rr]ound) (\d{1,4})/(\d{1,4})(?![\w/]|[.,]\d)"
)
_RHYTHM = re.compile(
    r"(?<![\w.,/$])(\d{1,2})/(\d{1,2})(?= (?:time|beat|meter|metre|rhythm|measure|"
    r"signature|bars?)\b)"
)
_ALWAYS = re.compile(r"(?<![\w./])24/7/365(?![\w/])")
_FIXED_FRACTIONS = {"4/20": "four twenty", "24/7": "twenty-four seven", "9/11": "nine eleven"}

_SIZE = re.compile(r"(?<=\d)(?:×(?!10[⁻⁰¹²³⁴-⁹^])| ?x ?)(?=\d)")
_TIMES = re.compile(rf"{NO_NUMBER_BEFORE}({NUMBER})[x×](?!\w| ?[-+−=*/^²³])")
_THOUSANDS = re.compile(rf"{NO_NUMBER_BEFORE}({NUMBER})(k|bn)\b")


def read_number(text: str) -> str:
    """What `NUMBER` matches, in words."""
    whole, _, fraction = text.replace(",", "").partition(".")
    return decimal(whole, fraction)


def read_measures(text: str) -> str:
    """Fractions, lengths, weights, speeds and other numbers with a unit."""
    text = _HYPHENED_MIXED.sub(r"\1 \2", text)
    text = _MIXED.sub(lambda m: f"{cardinal(m[1])} and {_fraction(m[2], m[3])}", text)
    text = _FRACTION_OF_INCH.sub(lambda m: f"{_fraction(m[1], m[2])} inch", text)
    text = _ANGLE.sub(_angle, text)
    text = _FEET.sub(lambda m: f"{_feet(m[1] or m[3])} {cardinal(m[2] or m[4])}", text)
    text = _FEET_AND_INCHES.sub(lambda m: f"{_feet(m[1])} {cardinal(m[2])}", text)
    text = _INCHES.sub(_inches, text)
    text = _ALWAYS.sub("twenty-four seven three sixty-five", text)
    text = _RATED.sub(_rated, text)
    text = _RHYTHM.sub(lambda m: f"{cardinal(m[1])} {cardinal(m[2])}", text)
    text = _RATING.sub(" out of ", text)
    text = _FRACTION.sub(lambda m: _FIXED_FRACTIONS.get(m[0]) or _fraction(m[1], m[2]), text)
    text = _SIGN_OF_FRACTION.sub(_fraction_sign, text)
    text = _SIZE.sub(" by ", text)
    text = _SPAN.sub(r"\1 to ", text)
    text = _MEASURE.sub(_measure, text)
    text = _PERCENT.sub(lambda m: " percent" if m[1] == "%" else " per mille", text)
    text = _THOUSANDS.sub(lambda m: f"{read_number(m[1])} {SCALES[m[2]]}", text)
    return _TIMES.sub(lambda m: f"{read_number(m[1])} times", text)


def unit_name(sign: str) -> str:
    """What "km" or "m/s" stands for, several of it; "" for what is no unit."""
    unit, _, per = sign.partition("/")
    if unit not in _UNITS or (per and per not in _PER):
        return ""
    return _plural(_UNITS[unit]) + (f" per {_PER[per]}" if per else "")


def read_rates(text: str) -> str:
    """Rates without a number, "km/h", and what something costs or makes "/hr"."""
    text = _RATE_ALONE.sub(_rate, text)
    text = _MONEY_PER.sub(_money_per, text)
    return _PER_AFTER_WORD.sub(r" per \1", text)


def _measure(m: re.Match[str]) -> str:
    minus, first, second, gap, unit, per = m.groups()
    if gap == "-" and len(unit) < 2:
        return m[0]  # a name such as 747-B
    words = ("minus " if minus else "") + read_number(first)
    if second:
        words += f" to {read_number(second)}"
    name = _UNITS[unit]
    is_adjective = gap == "-" or (
        _ONE_THING.match(m.string, m.end()) is not None and len(unit) < 3 and "°" not in unit
    )
    if is_adjective or (first == "1" and not second):
        return f"{words} {name}{f' per {_PER[per]}' if per else ''}"
    return f"{words} {_plural(name)}{f' per {_PER[per]}' if per else ''}"


def _money_per(m: re.Match[str]) -> str:
    return f"{m[1]} per {_MONEY_PER_NAMES.get(m[2]) or _PER.get(m[2], m[2])}"


def _angle(m: re.Match[str]) -> str:
    degrees, minutes, seconds, direction = m.groups()
    if not (minutes or direction):
        return m[0]
    parts = ((degrees, "degree"), (minutes, "minute"), (seconds, "second"))
    words = [
        f"{read_number(number)} {name}{'' if number == '1' else 's'}"
        for number, name in parts
        if number
    ]
    return " ".join([*words, *([_DIRECTIONS[direction]] if direction else [])])


def _rated(m: re.Match[str]) -> str:
    if m[1]:
        return f"{cardinal(m[1])} out of {cardinal(m[2])}"
    return f"{m[3]} {cardinal(m[4])} of {cardinal(m[5])}"


def _rate(m: re.Match[str]) -> str:
    unit, _, per = m[1].partition("/")
    names = {"dL": "deciliter", "mi": "mile", "h": "hour", "s": "second"}
    return f"{_plural(_UNITS[unit])} per {names[per]}"


def _plural(name: str) -> str:
    if name in _SAME_IN_PLURAL:
        return name
    for head in (" per ", " Celsius", " Fahrenheit"):
        if head in name:
            before, _, after = name.partition(head)
            return f"{before}s{head}{after}"
    return name[: -len("foot")] + "feet" if name.endswith("foot") else f"{name}s"


def _inches(m: re.Match[str]) -> str:
    line = m.string[max(0, m.start() - 400) : m.start()].rpartition("\n")[2]
    is_closing = line.count('"') % 2 == 1
    return m[0] if is_closing else f"{read_number(m[1])} {'inch' if m[1] == '1' else 'inches'}"


def _feet(digits: str) -> str:
    return f"{cardinal(digits)} {'foot' if digits == '1' else 'feet'}"


def _fraction(top: str, bottom: str) -> str:
    is_share = len(top) == len(bottom) == 2 and int(top) + int(bottom) == 100
    if top == bottom or is_share:
        return f"{cardinal(top)} {cardinal(bottom)}"
    if bottom in ("10", "100") or int(top) > int(bottom) > 4 or int(bottom) < 2:
        word = "out of" if bottom in ("10", "100") else "over"
        return f"{cardinal(top)} {word} {cardinal(bottom)}"
    if int(bottom) > 100:
        return f"{cardinal(top)} over {cardinal(bottom)}"
    is_one = int(top) == 1
    if bottom == "2":
        part = "half" if is_one else "halves"
    elif bottom == "4":
        part = "quarter" if is_one else "quarters"
    else:
        part = ordinal(bottom) + ("" if is_one else "s")
    return f"{cardinal(top)} {part}"


def _fraction_sign(m: re.Match[str]) -> str:
    value = Fraction(unicodedata.numeric(m[2])).limit_denominator(10)
    words = _fraction(str(value.numerator), str(value.denominator)).replace("out of", "over")
    if not m[1]:
        return words
    return (
        f"{cardinal(m[1])} and {words.replace('one ', 'a ') if value.denominator == 2 else words}"
    )
