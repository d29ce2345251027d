"""English thousands that are kept apart by something other than a comma.

"10 000", with any kind of space, "1,00,000" as in India, "1'000" as in Switzerland, "1_000" as in
programs.
"""

import re

_NARROW = "[\u00a0\u2007\u2008\u2009\u200a\u202f]"
_START = r"(?<![\w.,/'’-])"
_NARROW_GROUPS = re.compile(
    rf"{_START}\d{{1,3}}(?:{_NARROW}\d{{3}}){{1,5}}(?!{_NARROW}?\d)(?![\w-]\d)"
)
_INDIAN = re.compile(rf"{_START}\d{{1,2}}(?:,\d{{2}}){{1,5}},\d{{3}}(?![\d,]\d|\d)")
_SWISS = re.compile(r"(?<![\w.,/-])\d{1,3}(?:['’]\d{3}){1,5}(?!\d|['’]\d)")
_UNDERSCORED = re.compile(r"(?<![\w.,/-])\d{1,3}(?:_\d{3}){1,5}(?!\w)")
_SPACED = re.compile(
    r"(?<![\w.,/:'’()+#–-])(?<![\w)][+/:#–-])(?<!\d )(?<!\d, )[1-9]\d{0,2}(?: \d{3}){1,5}"
    r"(?![\d/:'’–-]| ?[-/]?\d|\.\d{3}|[A-Za-z]?\d|th\b|,\d)"
)
_EUROPEAN = re.compile(
    r"(?<![\w.,/-])([1-9]\d{0,2}(?:[ .]\d{3}){1,4}),(\d\d)(?= ?(?:€|EUR\b|zł|PLN\b|kr\b|"
    r"SEK\b|NOK\b))"
)
_SPACED_SPAN = re.compile(
    r"(?<![\w.,/:'’-])(?<!\d )([1-9]\d{0,2}(?: \d{3}){1,4})( ?[–-] ?)([1-9]\d{0,2}"
    r"(?: \d{3}){1,4})(?![ -]?\d)"
)
_NO_AMOUNT_BEFORE = re.compile(
    r"(?:\b(?:January|February|March|April|May|June|July|August|September|October|November|December|"
    r"Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec|Room|Chapter|Page|Apollo|Windows|Flight|Route|"
    r"Highway|Section|Figure|Table|No|Bus|Line|Day|Week|Year|Version|call|Call|phone|Phone|Tel|tel|"
    r"dial|Dial|text|Text|code|Code|number|fax|Fax)\.?:? )$"
)


def join_narrow_groups(text: str) -> str:
    """`text` with the numbers whose thousands are kept apart by spaces that no word is."""
    return _NARROW_GROUPS.sub(_joined, text)


def join_groups(text: str) -> str:
    """`text` with commas in its spaced, Indian, Swiss and underscored numbers."""
    text = _INDIAN.sub(_joined, text)
    text = _SWISS.sub(_joined, text)
    text = _UNDERSCORED.sub(_joined, text)
    text = _EUROPEAN.sub(lambda found: f"{_commas(found[1])}.{found[2]}", text)
    text = _SPACED_SPAN.sub(lambda span: f"{_commas(span[1])}{span[2]}{_commas(span[3])}", text)
    return _SPACED.sub(_spaced, text)


def _joined(found: re.Match[str]) -> str:
    return _commas(found[0])


def _commas(number: str) -> str:
    """Its figures with commas: without them 1984 would be a year."""
    return f"{int(''.join(c for c in number if c.isdecimal())):,}"


def _spaced(found: re.Match[str]) -> str:
    """The number; not where the first of its figures belong to what stands before."""
    start = found.start()
    before = found.string[max(0, start - 16) : start]
    if _NO_AMOUNT_BEFORE.search(before):
        return found[0]
    groups = found[0].split(" ")
    is_sure = len(groups) > 2 or groups[1] == "000" or len(groups[0]) > 1
    if not is_sure and before.strip() and before.split()[-1][:1].isupper() and before[-1:] == " ":
        return found[0]  # a name: "Apollo 8 300 km up"
    if len(groups) > 2 and _is_a_list(groups):
        return found[0]
    return _commas(found[0])


def _is_a_list(groups: list[str]) -> bool:
    """Hundreds that go up: "100 200 300"."""
    return groups == sorted(set(groups)) and all(
        len(each) == 3 and each.endswith("00") for each in groups
    )
