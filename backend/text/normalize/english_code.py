"""English numbers that are names: telephone numbers, cards, serial numbers, versions, models.

They are read figure by figure in their groups, or part by part; never as an amount.
"""

import re

from backend.text.normalize.english_noun import NOUNS
from backend.text.normalize.number import cardinal, spelled

_DIGITS = re.compile(r"\d+")
_START = r"(?<![\w.,/+-])"
_END = r"(?![\w-]|[.,/]\d)"
_INTERNATIONAL = re.compile(
    r"(?<![\w+])\+\d{1,3}(?:[ .-]?\(\d{1,5}\) ?\d{0,5}|[ .-]\d{1,5})(?:[ .-]\d{2,8}){1,5}"
    r"(?:-\d)?(?![\w-]|[.,]\d)"
    r"|(?<![\w+])\+\d{7,15}(?!\w)"
)
_AMERICAN = re.compile(
    rf"{_START}(?:1[ .-])?(?:\(\d{{3}}\) ?|\d{{3}}[ .-])\d{{3}}[ .-]\d{{4}}{_END}"
    rf"|(?<![\w.,/-])\(\d{{2,5}}\) ?\d{{3,4}}[ .-]?\d{{3,4}}{_END}"
)
_NATIONAL = re.compile(
    rf"{_START}0\d{{1,4}}(?:[ -]\d{{2,8}}){{1,4}}{_END}|{_START}0\d{{1,4}}/\d{{4,8}}{_END}"
    rf"|{_START}0\d{{9,10}}{_END}|{_START}1[38]00 \d{{3}} \d{{3}}{_END}"
)
_LEAST_NATIONAL = 8
_MOST_NATIONAL = 12
_LOCAL = re.compile(rf"{_START}(\d{{3}})-(\d{{4}}){_END}")
_TOLL_FREE = re.compile(r"(?<![\w.,/-])(1-)?(8(?:00|33|44|55|66|77|88))-(?=[A-Z][A-Z-]{3,12}\b)")
_CALLED = re.compile(
    r"\b([Cc]all|[Dd]ial|[Tt]ext|[Pp]hone|[Rr]ing|[Ff]ax|[Tt]el\.?:?|[Tt]elephone:?|[Mm]obile:?|"
    r"[Cc]ell:?|[Hh]otline:?|[Nn]umber is|[Ee]xt\.?|[Ee]xtension) "
    r"(?:(at|on|us at|me at|me on|us on) )?(\d{3,8})(?:[ -](\d{3,4}))?"
    r"(?![\w-]|[.,:/]\d| ?%|'| (?:[a-z]+s|people|men|women|children|of|more|times|or)\b)"
)
_SHORT_NUMBERS = "911 112 999 411 311 211 511 611 711 811 988 101 111 116 100 102 108"
_TEXTED = re.compile(r"\b([Tt]ext [A-Z]{2,12} to )(\d{4,8})(?!\w)")
_EMERGENCY = frozenset(_SHORT_NUMBERS.split())
_CODE_OF_FIGURES = re.compile(
    r"\b((?:PIN|pin code|PIN code|[Pp]asscode|[Pp]assword|[Cc]ode|OTP|ZIP|[Zz]ip(?: code)?|"
    r"[Pp]ostcode|[Pp]ostal code|ID|[Aa]ccount(?: number| no\.)?|[Oo]rder(?: number| no\.)?|"
    r"[Ii]nvoice(?: number| no\.)?|[Tt]icket(?: number| no\.)?|[Tt]racking(?: number| no\.)?|"
    r"[Cc]onfirmation(?: number| code)?|[Rr]eference(?: number| no\.)?|[Ss]erial(?: number| no\.)?|"
    r"[Rr]outing(?: number)?|[Ss]ort code|IMEI|SSN|VAT|[Cc]ard(?: number)?|ending in|EIN|"
    r"[Cc]ase(?= (?:number |no\. |#)?\d+-)(?: number| no\.)?)"
    r"(?: is|:)? ?#?)(\d{4,18}|\d{2,8}(?:-\d{2,8}){1,4})"
    r"(?![\w-]|[.,:/]\d| ?%| (?:[a-z]+s|people|of|more)\b)"
)
_CARD = re.compile(
    rf"{_START}(?:\d{{4}}([ -])\d{{4}}\1\d{{4}}\1\d{{1,7}}|\d{{4}}([ -])\d{{6}}\2\d{{4,5}}){_END}"
)
_IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,3})?\b(?! ?[a-z])")
_POSTCODE = re.compile(rf"{_START}\d{{5}}-\d{{4}}{_END}")
_LONG = re.compile(r"(?<![\w.,/:-])(\d{10,18})(?![\w%-]|[.,/:]\d)")
_COUNTED = re.compile(rf" {NOUNS}\b")
_ROUND = re.compile(r"[1-9]\d{0,2}(?:000){3,5}")
_GROUPS = re.compile(r"(?<![\w.,/-])\d{1,12}(?:-\d{1,12}){2,8}(?:-X)?(?![\w-]|[.,]\d)")
_ISBN = re.compile(r"\b(ISBN(?:-1[03])?:? ?)(\d[\d -]{8,16}[\dX])\b")

_AIRCRAFT = (
    r"(?:Boeing|Airbus|Embraer|Bombardier|Antonov|Tupolev|Ilyushin|Fokker|McDonnell Douglas|"
    r"[Ff]light|[Mm]odel|Cessna|Canon|Nikon|Lenovo|ThinkPad|Core|Ryzen)"
)
_MODEL = re.compile(
    rf"(?<![\w.,-])(?P<named>(?<=\b)(?:{_AIRCRAFT}) )?(?P<type>[A-Z]{{0,3}}\d{{2,4}})-"
    r"(?P<series>\d{1,4})(?P<letters>[A-Z]{1,3})?(?P<several>s)?(?![\w-]|[.,]\d)"
)
_BOEING = re.compile(r"7[0-8]7")
_BOEING_SERIES = re.compile(r"[1-9]00|8|9|10|7|SP")
_NAMED_NUMBER = re.compile(
    r"\b(Boeing|Airbus|[Ff]light|[Rr]oom|[Hh]ighway|[Rr]oute|[Bb]us|Interstate|I|US|A|B|M|"
    r"Area|Title|Form|Peugeot|Porsche|Ferrari|Levi's|Levi’s) (\d{3})(?![\w-]|[.,:/]\d| ?%|[ -]\d)"
)
_NOTATION_OF_SCREENS = re.compile(r"(?<![\w.,])(480|540|720|1080|1440|2160|4320)([pi])\b")
_WIRELESS = re.compile(r"(?<![\w.,])802\.(\d{1,2})([a-z]{0,2})\b")

_CODEC = re.compile(r"(?<![\w.])([A-Zx])\.(\d{3,4})(?![\w.]\d)(?!\w)")
_VERSION = re.compile(
    r"(?<![\w.,])(?:(?:([vV])\.? ?|[vV]ersion ))?(\d{1,18}(?:\.\d{1,18}){2,8})"
    r"(?:-(alpha|beta|rc|dev|pre|SNAPSHOT)\.?(\d{1,3})?|\+(?=\w))?(?![\w]|\.\d)"
)
_SHORT_VERSION = re.compile(
    r"(?<![\w.,])(?:v|V(?=\. ?\d|\d{1,18}\.\d))\.? ?(\d{1,18}(?:\.\d{1,18})?)(?![\w]|\.\d)"
)
_SOFTWARE = (
    "Python|Java|Node(?:\\.js)?|iOS|iPadOS|macOS|OS X|watchOS|Android|Windows|Ubuntu|Debian|Fedora|"
    "PHP|Ruby|Go|Rust|Swift|Kotlin|Scala|Perl|Lua|Django|Flask|Rails|React|Angular|Vue|Chrome|"
    "Firefox|Safari|Linux|[Kk]ernel|TypeScript|JavaScript|Postgres|PostgreSQL|MySQL|SQLite|Redis|"
    "CUDA|PyTorch|TensorFlow|NumPy|Kubernetes|Docker|Minecraft|Bluetooth|USB|HTTP|TLS|HDMI|OpenGL|"
    "Unity|Blender|\\.NET|\\.NET Core|C\\+\\+|[Vv]ersion|[Rr]elease|[Vv]er\\.|[Uu]pdate|"
    "[Bb]uild|[Pp]atch"
)
_NAMED_VERSION = re.compile(
    rf"(?<!\w)((?:{_SOFTWARE})(?: version)? ?[/>=]{{0,2}} ?)(\d{{1,4}})\.(\d{{2,4}})"
    rf"(?![\w%]|[.,]\d)"
)
_THOUSANDS_DOTTED = re.compile(r"(?<![\w.,])\d{1,3}(?:\.\d{3}){1,4}\.000(?![\w.])")
_PORT = re.compile(r"(?<![\w.])(\d{1,3}(?:\.\d{1,3}){3})([:/])(\d{1,5})(?!\w)")


def read_codes(text: str) -> str:
    """Numbers that are names, in figures or parts."""
    text = _THOUSANDS_DOTTED.sub(lambda found: found[0].replace(".", ""), text)
    text = _ISBN.sub(lambda found: found[1].rstrip(": ") + " " + _grouped(found[2]), text)
    text = _IBAN.sub(lambda found: _characters(found[0]), text)
    text = _CARD.sub(lambda found: _grouped(found[0]), text)
    text = _INTERNATIONAL.sub(lambda found: "plus " + _grouped(found[0]), text)
    text = _AMERICAN.sub(lambda found: _grouped(found[0]), text)
    text = _NATIONAL.sub(_national, text)
    text = _TOLL_FREE.sub(lambda found: _grouped(found[0]) + ", ", text)
    text = _LOCAL.sub(_local, text)
    text = _POSTCODE.sub(lambda found: _grouped(found[0]), text)
    text = _TEXTED.sub(lambda found: found[1] + _long(found[2]), text)
    text = _CALLED.sub(_called, text)
    text = _CODE_OF_FIGURES.sub(lambda found: found[1].rstrip("#") + _code(found[2]), text)
    text = _LONG.sub(_ungrouped, text)
    text = _PORT.sub(_port, text)
    text = _CODEC.sub(lambda found: f"{found[1]} point {paired(found[2])}", text)
    text = _WIRELESS.sub(_wireless, text)
    text = _VERSION.sub(_version, text)
    text = _SHORT_VERSION.sub(lambda found: f"version {_dotted(found[1])}", text)
    text = _NAMED_VERSION.sub(lambda found: f"{found[1]}{_dotted(f'{found[2]}.{found[3]}')}", text)
    text = _MODEL.sub(_model, text)
    text = _GROUPS.sub(_listed, text)
    text = _NAMED_NUMBER.sub(lambda found: f"{found[1]} {paired(found[2])}", text)
    return _NOTATION_OF_SCREENS.sub(lambda found: f"{paired(found[1])} {found[2]}", text)


def _grouped(written: str) -> str:
    """Figure by figure, with a pause between the groups."""
    last = ", X" if written.endswith("X") else ""
    return ", ".join(spelled(group) for group in _DIGITS.findall(written)) + last


def _characters(written: str) -> str:
    return ", ".join(
        " ".join(spelled(c) if c.isdecimal() else c for c in group) for group in written.split()
    )


def _national(found: re.Match[str]) -> str:
    figures = sum(map(str.isdecimal, found[0]))
    if not _LEAST_NATIONAL <= figures <= _MOST_NATIONAL:
        return found[0]
    return _grouped(found[0]) if figures < len(found[0]) else _long(found[0])


def _local(found: re.Match[str]) -> str:
    first, second = found.groups()
    if int(first) < int(second) and int(first) % 50 == 0 and int(second) % 50 == 0:
        return found[0]  # from 500 to 1000
    return _grouped(found[0])


def _called(found: re.Match[str]) -> str:
    verb, at, number, rest = found.groups()
    if (
        len(number) == 3
        and not rest
        and number not in _EMERGENCY
        and verb[:3].lower() not in ("ext", "tel")
    ):
        return found[0]
    groups = [number, rest] if rest else [number]
    return f"{verb} {at + ' ' if at else ''}" + ", ".join(_long(group) for group in groups)


def _long(digits: str) -> str:
    """Figures that were written without groups, in those that a reader makes of them."""
    length = len(digits)
    sizes = {
        7: (3, 4),
        8: (4, 4),
        10: (3, 3, 4),
        16: (4, 4, 4, 4),
        15: (4, 6, 5),
        12: (4, 4, 4),
        13: (3, 1, 5, 4),
    }
    if length <= 6:
        return spelled(digits)
    groups: tuple[int, ...]
    if length == 11:
        groups = (5, 3, 3) if digits[0] == "0" else (1, 3, 3, 4)
    else:
        groups = sizes.get(length) or (*(3,) * ((length - 1) // 3), (length - 1) % 3 + 1)
    parts, start = [], 0
    for size in groups:
        parts.append(spelled(digits[start : start + size]))
        start += size
    return ", ".join(parts)


def _code(digits: str) -> str:
    return _grouped(digits) if "-" in digits else _long(digits)


def _port(found: re.Match[str]) -> str:
    name = "port" if found[2] == ":" else "slash"
    return f"{_dotted(found[1])} {name} {found[3]}"


def _ungrouped(found: re.Match[str]) -> str:
    """A number of ten figures and more, which nobody would count with."""
    is_amount = _ROUND.fullmatch(found[0]) or _COUNTED.match(found.string, found.end())
    return found[0] if is_amount else _long(found[0])


def _listed(found: re.Match[str]) -> str:
    groups = _DIGITS.findall(found[0])
    if found[0].endswith("X") or any(len(group) > 2 for group in groups):
        return _grouped(found[0])
    return ", ".join(cardinal(group) for group in groups)


def _dotted(number: str) -> str:
    return " point ".join(_part(part) for part in number.split("."))


def _part(digits: str) -> str:
    """A part of a version: that of Ubuntu 22.04 is "oh four"."""
    if len(digits) == 2 and digits[0] == "0" and digits[1] != "0":
        return f"oh {cardinal(digits[1])}"
    return cardinal(digits)


def _version(found: re.Match[str]) -> str:
    letter, number, stage, count = found.groups()
    name = "version " if letter or found[0][:1] in "vV" else ""
    after = (f" {stage}" if stage else "") + (f" {count}" if count else "")
    if stage == "rc":
        after = after.replace("rc", "R C")
    return name + _dotted(number) + after + (" plus " if found[0].endswith("+") else "")


def _wireless(found: re.Match[str]) -> str:
    letters = " ".join(found[2])
    return f"eight oh two point {cardinal(found[1])}" + (f" {letters}" if letters else "")


def paired(digits: str) -> str:
    """As names are read: "seven thirty-seven", "ten eighty", "eight hundred", "one oh one"."""
    if digits.endswith("00") and len(digits) == 3:
        return f"{cardinal(digits[0])} hundred"
    head, tail = digits[:-2], digits[-2:]
    if not head or len(digits) > 4:
        return cardinal(digits)
    if head[0] == "0":
        return spelled(digits)
    if tail == "00":
        return f"{cardinal(head)} hundred"
    return f"{cardinal(head)} {f'oh {cardinal(tail[1])}' if tail[0] == '0' else cardinal(tail)}"


def several(words: str) -> str:
    """The plural of a number in words."""
    if words.endswith("y"):
        return words[:-1] + "ies"
    return words + ("es" if words.endswith("x") else "s")


def _model(found: re.Match[str]) -> str:
    named, kind, series, letters = (found[name] for name in ("named", "type", "series", "letters"))
    is_boeing = _BOEING.fullmatch(kind) and _BOEING_SERIES.fullmatch(series)
    is_lettered = kind[0].isalpha() and kind[-3:].isdecimal()
    if not (named or is_boeing or is_lettered):
        return found[0]
    prefix = "".join(c for c in kind if c.isalpha())
    number, last = paired(kind[len(prefix) :]), paired(series)
    last = several(last) if found["several"] else last
    after = f" {' '.join(letters)}" if letters else ""
    return f"{named or ''}{prefix + ' ' if prefix else ''}{number} {last}{after}"
