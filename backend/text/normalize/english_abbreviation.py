"""English abbreviations and Roman numerals, as the words that they stand for."""

import re

from backend.text.normalize.number import cardinal, ordinal

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
    "vs.": "versus",
    "vs": "versus",
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
    "Bros.": "Brothers",
}
_LAST = {
    "etc.": "et cetera",
    "Inc.": "Incorporated",
    "Ltd.": "Limited",
    "Corp.": "Corporation",
    "Co.": "Company",
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
    "ext": "extension",
    "tel": "telephone",
    "§": "section",
    "§§": "sections",
}


def _any_of(names: dict[str, str]) -> str:
    return "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))


_TITLE = re.compile(rf"\b({_any_of(_TITLES)})\.(?= ?[A-Z]| and (?:Mr|Ms|Dr))")
_DRIVE = re.compile(r"(?<=[a-z] )Dr\.?(?=[,;]| [a-z]|\s*$)", re.MULTILINE)
_WORD = re.compile(rf"(?<![\w.])(?<!\d )({_any_of(_WORDS)})(?!\w)", re.IGNORECASE)
_LAST_WORD = re.compile(rf"(?<![\w.])(?<!\d )({_any_of(_LAST)})(?!\w)")
_IN_NUMBERS = re.compile(rf"(?<![\w.])({_any_of(_NUMBERED)})\.? ?(?=\d)", re.IGNORECASE)
_STREET = re.compile(r"(?<=[a-z\d] )St\.?(?=[,;]| [a-z]|\s*$)|(?<=[a-z\d] )St\.(?= [A-Z])", re.M)
_SAINT = re.compile(r"\bSt\.? ?(?=[A-Z][a-z])")
_END = re.compile(r"\s+[A-Z\"“(]|\s*$|[ \t]*\n")
_AFTER_STREET = re.compile(
    r" (?:The|A|An|It|He|She|We|They|You|I|This|That|There|But|And|So|Then|In|On|At|Turn|My)\b"
)
_BEFORE_STREET = re.compile(r"(?:[A-Z][a-z]+|\d+(?:st|nd|rd|th)) $")
_HONOURED = re.compile(r"\b(Mr|Mrs|Ms|Dr)(?= [A-Z][a-z])")

_ROMAN = r"(X{0,3}(?:IX|IV|V?I{0,3}))"
_VALUES = {"I": 1, "V": 5, "X": 10}
_PART = re.compile(
    rf"\b(World War|Chapter|CHAPTER|Volume|Vol\.|Act|Scene|Book|Part|Phase|Type|Section|Article|"
    rf"Super Bowl|Appendix|Episode|Season|Stage|Mark|Title|Psalm|Apollo|Gemini|Rocky) {_ROMAN}\b"
)
_RULERS = (
    "Henry Elizabeth Louis Charles George Edward James William Richard Philip John Paul Benedict "
    "Pius Gregory Leo Innocent Clement Napoleon Nicholas Alexander Catherine Peter Ivan Frederick "
    "Wilhelm Ramses Ramesses Ptolemy Mary Xerxes Darius Otto Ferdinand Francis Joseph Leopold "
    "Albert Christian Gustav Carl Haakon Harald Carlos Felipe Alfonso Juan Pedro Umberto Victor "
    "Emmanuel Urban Boniface Adrian Julius Mehmed Murad Selim Cleopatra Margaret Margrethe Robert "
    "Malcolm David Constantine Justinian Theodosius Casimir Sigismund Stephen Baldwin"
)
_RULER = re.compile(rf"\b({_RULERS.replace(' ', '|')}) {_ROMAN}\b(?!['’])")
_NO_RULER = re.compile(r"^(?:I|)$|^X$")


def read_abbreviations(text: str) -> str:
    """Titles, abbreviations, "No. 5", "Main St." and "St. Peter"; a stop that ends a sentence as
    well stays."""
    text = _IN_NUMBERS.sub(_numbered, text)
    text = _DRIVE.sub("Drive", text)
    text = _TITLE.sub(lambda title: _TITLES[title[1]], text)
    text = _HONOURED.sub(lambda title: _TITLES[title[1]], text)
    text = _STREET.sub(_street, text)
    text = _SAINT.sub("Saint ", text)
    text = _WORD.sub(_word, text)
    return _LAST_WORD.sub(_last_word, text)


def read_roman(text: str) -> str:
    """Roman numerals after what is counted with them, and after names of kings and popes."""
    text = _PART.sub(_part, text)
    return _RULER.sub(_ruler, text)


def _numbered(found: re.Match[str]) -> str:
    name = found[1]
    is_word = name.lower() in ("no", "art", "p", "ch", "sec", "fig", "eq", "ext", "tel", "nos")
    if is_word and "." not in found[0]:
        return found[0]  # "no 5 of them"
    words = _NUMBERED.get(name) or _NUMBERED[name.lower()]
    return (words.capitalize() if name[0].isupper() and name[1:].islower() else words) + " "


def _word(found: re.Match[str]) -> str:
    name = found[1]
    words = _WORDS.get(name) or _WORDS.get(name.lower())
    if words is None or (name in ("min.", "max.") and _END.match(found.string, found.end())):
        return name  # "Max." is a name
    if name in ("Max.", "Min.", "Est.", "Ca.", "Resp."):
        return name
    return words.capitalize() if name[0].isupper() and words.islower() else words


def _last_word(found: re.Match[str]) -> str:
    is_end = _END.match(found.string, found.end())
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


def _value(roman: str) -> str:
    values = [_VALUES[letter] for letter in roman]
    pairs = zip(values, [*values[1:], 0], strict=True)
    return str(sum(-value if value < after else value for value, after in pairs))


def _part(found: re.Match[str]) -> str:
    name, roman = found.groups()
    follows = found.string[found.end() : found.end() + 2]
    is_pronoun = roman == "I" and name != "World War" and follows[:1] in (" ", "'", "’")
    if not roman or is_pronoun:
        return found[0]
    return f"{'Volume' if name == 'Vol.' else name} {cardinal(_value(roman))}"


def _ruler(found: re.Match[str]) -> str:
    if _NO_RULER.match(found[2]):
        return found[0]  # the pronoun, or Malcolm X
    return f"{found[1]} the {ordinal(_value(found[2]))}"
