"""English abbreviations, as the words that they stand for."""

import re

_TITLES = {
    "Mr": "Mister",
    "Mrs": "Missus",
    "Ms": "Ms",
    "Dr": "Doctor",
    "Prof": "Professor",
    "Gen": "General",
    "Col": "Colonel",
    "Sgt": "Sergeant",
    "Capt": "Captain",
    "Lt": "Lieutenant",
    "Maj": "Major",
    "Cmdr": "Commander",
    "Rev": "Reverend",
    "Hon": "Honorable",
    "Adm": "Admiral",
    "Brig": "Brigadier",
    "Cpl": "Corporal",
    "Pvt": "Private",
    "Supt": "Superintendent",
    "Insp": "Inspector",
    "Det": "Detective",
    "Atty": "Attorney",
    "Amb": "Ambassador",
    "Cllr": "Councillor",
    "Drs": "Doctors",
    "Fr": "Father",
    "Gov": "Governor",
    "Sen": "Senator",
    "Rep": "Representative",
    "Pres": "President",
    "Messrs": "Messrs",
    "Mt": "Mount",
    "Ft": "Fort",
}
"""Before a name; the stop is part of the abbreviation."""
_WORDS = {
    "e.g.": "for example",
    "i.e.": "that is",
    "approx.": "approximately",
    "cf.": "compare",
    "viz.": "namely",
    "ca.": "circa",
    "w/o": "without",
    "w/": "with",
    "b/c": "because",
    "a.k.a.": "also known as",
    "et al.": "and others",
    "dept.": "department",
    "Dept.": "Department",
    "govt.": "government",
    "min.": "minimum",
    "max.": "maximum",
    "avg.": "average",
    "est.": "established",
    "incl.": "including",
    "excl.": "excluding",
    "resp.": "respectively",
    "Univ.": "University",
    "Assn.": "Association",
    "Intl.": "International",
    "Natl.": "National",
    "Mfg.": "Manufacturing",
    "Apt.": "Apartment",
    "c/o": "care of",
    "n/a": "not applicable",
    "sq. ft.": "square feet",
}
_CAPITAL_WORDS = frozenset(("E.G.", "I.E.", "APPROX.", "DEPT.", "A.K.A.", "N/A", "C/O", "W/O"))
_LAST = {
    "etc.": "et cetera",
    "Inc.": "Incorporated",
    "Ltd.": "Limited",
    "Corp.": "Corporation",
    "Co.": "Company",
    "Pty.": "Proprietary",
    "Assoc.": "Associates",
    "Bros.": "Brothers",
    "Jr.": "Junior",
    "Sr.": "Senior",
    "Ave.": "Avenue",
    "Blvd.": "Boulevard",
    "Rd.": "Road",
    "Ph.D.": "PhD",
    "Esq.": "Esquire",
}
"""What can end a sentence: then a stop stays."""
_NUMBERED = {
    "No": "number",
    "no": "number",
    "Nos": "numbers",
    "nos": "numbers",
    "№": "number",
    "p": "page",
    "pp": "pages",
    "vol": "volume",
    "vols": "volumes",
    "fig": "figure",
    "figs": "figures",
    "ch": "chapter",
    "sec": "section",
    "art": "article",
    "eq": "equation",
    "op": "opus",
    "ext": "extension",
    "tel": "telephone",
    "§": "section",
    "§§": "sections",
}


def _any_of(names: dict[str, str]) -> str:
    return "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))


_TITLE = re.compile(rf"\b({_any_of(_TITLES)})\.(?: ?(?=[A-Z])|(?= (?:and|&) (?:Mr|Ms|Dr)))")
_SMALL_TITLE = re.compile(r"(?<!\d )\b(mr|mrs|ms|dr|prof)\. ?(?=[^\W\d_]{2})")
_CAPITAL_TITLE = re.compile(
    r"\b(MR|MRS|DR) (?=[A-Z]{2,})|\b(MR|MRS|MS|DR|PROF|GEN|COL|SGT|CAPT|LT|REV|GOV|"
    r"SEN)\. ?(?=[A-Z])"
)
_DRIVE = re.compile(r"(?<=[a-z] )Dr\.?(?=[,;]| [a-z]|\s*$)", re.MULTILINE)
_WORD = re.compile(rf"(?<![\w.])(?<!\d )({_any_of(_WORDS)})(?!\w)", re.IGNORECASE)
_VERSUS = re.compile(r"(?<![\w.])vs\.?(?!\w)", re.IGNORECASE)
_COMPANY_END = re.compile(r",? (?:Ltd|Inc|LLC|Corp|Co|Pty|Pvt|Bros|plc|PLC|KG|CEO|CFO|CTO|COO)\b")
_LAST_WORD = re.compile(rf"(?<![\w.])(?<!\d )({_any_of(_LAST)})(?!\w)")
_IN_NUMBERS = re.compile(rf"(?<![\w.])({_any_of(_NUMBERED)})\.? ?(?=\d)", re.IGNORECASE)
_STREET = re.compile(r"(?<=[a-z\d] )St\.?(?=[,;]| [a-z]|\s*$)|(?<=[a-z\d] )St\.(?= [A-Z])", re.M)
_SAINT = re.compile(r"\bSt\.? ?(?=[A-Z][a-z])")
_END = re.compile(r"\s+[A-Z\"“(]|\s*$|[ \t]*\n")
_AFTER_STREET = re.compile(
    r" (?:The|A|An|It|He|She|We|They|You|I|This|That|There|But|And|So|Then|In|On|At|Turn|My)\b"
)
_BEFORE_STREET = re.compile(r"(?:[A-Z][a-z]+(?:['’]s)?|\d+(?:st|nd|rd|th)) $")
_HONOURED = re.compile(r"\b(Mr|Mrs|Ms|Dr)(?= [A-Z][a-z])")


def read_abbreviations(text: str) -> str:
    """Titles, abbreviations, "No. 5", "Main St." and "St. Peter"; a stop that ends a sentence as
    well stays."""
    text = _IN_NUMBERS.sub(_numbered, text)
    text = _DRIVE.sub("Drive", text)
    text = _TITLE.sub(_title, text)
    text = _CAPITAL_TITLE.sub(lambda title: _said_title((title[1] or title[2]).capitalize()), text)
    text = _SMALL_TITLE.sub(lambda title: _said_title(title[1].capitalize()).lower(), text)
    text = _HONOURED.sub(lambda title: _TITLES[title[1]], text)
    text = _STREET.sub(_street, text)
    text = _SAINT.sub("Saint ", text)
    text = _VERSUS.sub(lambda found: "Versus" if found[0] == "Vs." else "versus", text)
    text = _WORD.sub(_word, text)
    return _LAST_WORD.sub(_last_word, text)


def _title(found: re.Match[str]) -> str:
    is_pair = found.string.startswith((" and", " &"), found.end())
    return _TITLES[found[1]] + ("" if is_pair else " ")


def _said_title(name: str) -> str:
    return _TITLES[name] + " "


def _numbered(found: re.Match[str]) -> str:
    name = found[1]
    is_word = name.lower() in (
        "no",
        "art",
        "p",
        "op",
        "ch",
        "sec",
        "fig",
        "eq",
        "ext",
        "tel",
        "nos",
    )
    if is_word and "." not in found[0]:
        return found[0]  # "no 5 of them"
    words = _NUMBERED.get(name) or _NUMBERED[name.lower()]
    return (words.capitalize() if name[0].isupper() and name[1:].islower() else words) + " "


def _word(found: re.Match[str]) -> str:
    name = found[1]
    words = _WORDS.get(name) or _WORDS.get(name.lower())
    if name.isupper() and len(name) > 2 and name not in _CAPITAL_WORDS:
        return name  # "EST." is a time, "CA." a state
    if words is None or (name in ("min.", "max.") and _END.match(found.string, found.end())):
        return name  # "Max." is a name
    if name in ("Max.", "Min.", "Est.", "Ca.", "Resp."):
        return name
    return words.capitalize() if name[0].isupper() and words.islower() else words


def _last_word(found: re.Match[str]) -> str:
    text, end = found.string, found.end()
    is_end = _END.match(text, end) and not _COMPANY_END.match(text, end)
    return _LAST[found[1]] + ("." if is_end else "")


def _street(found: re.Match[str]) -> str:
    text, start, end = found.string, found.start(), found.end()
    if not _BEFORE_STREET.search(text[max(0, start - 24) : start]):
        return found[0]
    is_end = found[0].endswith(".") and _END.match(text, end)
    is_name = text[end : end + 1] == " " and text[end + 1 : end + 2].isupper()
    if is_name and not _AFTER_STREET.match(text, end):
        return found[0]
    return "Street" + ("." if is_end else "")
