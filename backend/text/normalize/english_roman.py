"""English Roman numerals, where what stands before them says that they are numbers."""

import re

from backend.text.normalize.number import cardinal, ordinal, year

_NUMERAL = r"(?=[IVXLCDM])M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})(?!\w)"
_SMALL_NUMERAL = r"(?=[ivxl])(?:xl|l?x{0,3})(?:ix|iv|v?i{0,3})(?!\w)"
_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
_PARTS = (
    "World War|Mk|Mk\\.|Chapter|CHAPTER|Volume|Vol\\.|VOLUME|Act|ACT|Scene|SCENE|Book|"
    "BOOK|Part|PART|Phase|Type|"
    "Section|SECTION|Article|ARTICLE|Super Bowl|Appendix|Episode|EPISODE|Season|Stage|"
    "Mark|Title|Psalm|"
    "Apollo|Gemini|Rocky|Canto|Verse|Lesson|Unit|Round|Level|Grade|Class|Category|Tier|Figure|Table|"
    "Schedule|Division|Amendment|Factor|Game|Chapters|Parts|Acts|Books|Volumes|Final Fantasy|"
    "Resident Evil|Civilization|Diablo|Dragon Quest|Street Fighter|Grand Theft Auto|GTA|Star Wars|"
    "Vatican|Olympiad|Symphony|Sonata|Cycle|Group|Region|Corps|Saturn|Titan|Trident|Polaris|Pentium|"
    "Playstation|PlayStation|StarCraft|Warcraft|Fallout|Elder Scrolls|Bloodlines|Creed|"
    "Halo|Quake|Doom"
)
_PART = re.compile(rf"\b({_PARTS}) ({_NUMERAL})\b(?!-?[a-z])(?!\.[A-Z])")
_SMALL_PART = re.compile(
    r"\b((?i:chapter|volume|vol\.|act|scene|book|part|phase|type|section|article|appendix|episode|season|"
    rf"stage|level|grade|class|category|tier|figure|table|canto|verse|world war|page|p\.|"
    rf"pp\.|factor)) "
    rf"({_NUMERAL}|{_SMALL_NUMERAL})\b(?!-?[a-z])(?!\.[A-Za-z])"
)
_MORE = re.compile(
    rf"(?P<before>(?:\b(?:{_PARTS}) [a-z-]{{3,40}}))(?P<joint> and | or | to |, |"
    rf"[–-])(?P<numeral>{_NUMERAL})\b(?![’'])"
)
_COUNTED_UP = re.compile(
    r"\bI(?=,? ?(?:and |or |& |to |[–-])?II\b)(?P<rest>(?:(?:, and |, or |, | and | or |"
    r" & | to |[–-])(?:II|III|IV|V|VI|VII|VIII|IX|X|XI|XII)(?!\w)){1,12})"
)
_SMALL_NUMBER = re.compile(r"\b[IVX]+\b|[–-]")
_RULERS = (
    "Henry Elizabeth Louis Charles George Edward James William Richard Philip John Paul "
    "Benedict Pius Gregory Leo Innocent Clement Napoleon Nicholas Alexander Catherine Peter "
    "Ivan Frederick Wilhelm Ramses Ramesses Ptolemy Mary Xerxes Darius Otto Ferdinand Francis "
    "Joseph Leopold Albert Christian Gustav Carl Haakon Harald Carlos Felipe Alfonso Juan "
    "Pedro Umberto Victor Emmanuel Urban Boniface Adrian Julius Mehmed Murad Selim Cleopatra "
    "Margaret Margrethe Robert Malcolm David Constantine Justinian Theodosius Casimir "
    "Sigismund Stephen Baldwin Thutmose Amenhotep Seti Artaxerxes Antiochus Seleucus Cyrus "
    "Basil Romanos Maximilian Rudolf Rudolph Ludwig Franz Josef Ernest Augustus Gustavus "
    "Christina Isabella Anne Matilda Eric Erik Olaf Sverre Valdemar Canute Edmund Donald "
    "Kenneth Duncan Sixtus Eugene Callixtus Martin Honorius Celestine Lucius Sylvester "
    "Marcellus Callistus Suleiman Ahmed Mustafa Osman Bayezid Akbar Abdullah Hussein Hassan "
    "Mohammed Muhammad Reza Thomas Michael Walter Boris Vasily Dmitry Feodor Theodore"
)
_ANY_RULER = _RULERS.replace(" ", "|")
_RULER = re.compile(rf"\b({_ANY_RULER}) ({_NUMERAL})\b(?!['’](?!s\b))(?!\.[A-Z])")
_REIGNS = re.compile(
    r"\b(?:King|Queen|Emperor|Empress|Pope|Tsar|Czar|Kaiser|Sultan|Prince|Pharaoh|Saint|"
    r"Duke|Shah) $"
)
_AFTER_FIRST = re.compile(r"['’]s\b| of (?:[A-Z]|the)|[,;:)]|\.(?:\s|$)| \(|$| and [A-Z]\w* II")
_NO_NUMERAL = frozenset(
    ("C", "D", "M", "L", "X", "MD", "CD", "DC", "DI", "MI", "CI", "LI", "MC", "CV", "MM")
)
"""Initials and words oftener than numbers."""
_SURNAMED = re.compile(
    rf"\b((?:{_ANY_RULER}) (?:[A-Z]\.? )?"
    rf"(?:[A-Z][a-z]+ ){{1,2}})(II|III|IV)\b(?!['’](?!s\b))"
)
_ALONE = re.compile(r"(?<=[a-z] )(II|III|VII|VIII|XII|XIII|XIV|XVI|XVII|XVIII)\b(?![’'.-]?\w)")
_CAPITALISED_BEFORE = re.compile(r"\b[A-Z][a-z]{2,} $")
_CENTURY = re.compile(rf"\b({_NUMERAL[:-6]})(th|st|nd|rd)?(?= (?:[Cc]entury|[Cc]enturies)\b)")
_YEAR = re.compile(
    r"\bM(?:CM|D|DC{1,3})?(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})\b|\bMM(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})\b"
)
_HEADING = re.compile(
    r"^([ \t]*)((?:X{0,3}(?:IX|IV|V?I{1,3}))|X{1,3}|V)([.)])(?=[ \t]+[A-Z\"“(])", re.MULTILINE
)


_NEVER_PRONOUN = frozenset(
    ("World War", "Type", "Phase", "Stage", "Class", "Grade", "Level", "Category")
)


_LETTERED = frozenset(("type", "level", "class", "grade", "page", "table", "figure", "category"))
"""A letter after them is more often a name: "of type V"."""


def read_roman(text: str) -> str:
    """Roman numerals after what is counted with them, after names of kings and popes and of others
    who bear their father's, before centuries and at the head of a line; and years."""
    text = _YEAR.sub(_year, text)
    text = _COUNTED_UP.sub(_counted_up, text)
    text = _CENTURY.sub(_century, text)
    text = _PART.sub(_part, text)
    text = _SMALL_PART.sub(_part, text)
    text = _MORE.sub(_more, text)
    text = _RULER.sub(_ruler, text)
    text = _SURNAMED.sub(lambda found: f"{found[1]}the {ordinal(str(value(found[2])))}", text)
    text = _ALONE.sub(_alone, text)
    if len(_HEADING.findall(text)) > 1:
        text = _HEADING.sub(
            lambda found: f"{found[1]}{cardinal(str(value(found[2])))}{found[3]}", text
        )
    return text


def value(roman: str) -> int:
    """The number that `roman` writes."""
    values = [_VALUES[letter] for letter in roman.upper()]
    pairs = zip(values, [*values[1:], 0], strict=True)
    return sum(-value if value < after else value for value, after in pairs)


def _year(found: re.Match[str]) -> str:
    return (
        year(str(value(found[0])))
        if len(found[0]) > 4 or found[0] in ("MMXX", "MMXV")
        else found[0]
    )


def _counted_up(found: re.Match[str]) -> str:
    """ "I, II and III": the pronoun is followed by no number."""
    return _SMALL_NUMBER.sub(
        lambda each: " to " if each[0] in "–-" else cardinal(str(value(each[0]))), found[0]
    )


def _century(found: re.Match[str]) -> str:
    return found[0] if found[1] in _NO_NUMERAL - {"X"} else ordinal(str(value(found[1])))


def _part(found: re.Match[str]) -> str:
    name, roman = found.groups()
    follows = found.string[found.end() : found.end() + 2]
    is_pronoun = roman == "I" and name not in _NEVER_PRONOUN and follows[:1] in (" ", "'", "’")
    is_letter = roman.islower() and len(roman) == 1 and follows[:1] not in tuple(",.;:)")
    is_letter = is_letter or (len(roman) == 1 and roman != "I" and name in _LETTERED)
    if not roman or is_pronoun or is_letter or roman.upper() in _NO_NUMERAL - {"X", "L"}:
        return found[0]
    spoken = {
        "Mk": "Mark",
        "Mk.": "Mark",
        "Vol.": "Volume",
        "vol.": "volume",
        "p.": "page",
        "pp.": "pages",
    }.get(name, name)
    return f"{spoken} {cardinal(str(value(roman)))}"


def _more(found: re.Match[str]) -> str:
    numeral = found["numeral"]
    if numeral == "I" or numeral in _NO_NUMERAL:
        return found[0]
    joint = " to " if found["joint"] in "–-" else found["joint"]
    return f"{found['before']}{joint}{cardinal(str(value(numeral)))}"


def _ruler(found: re.Match[str]) -> str:
    name, roman = found.groups()
    text, start, end = found.string, found.start(), found.end()
    if roman in _NO_NUMERAL:
        return found[0]  # Malcolm X
    if roman == "I":
        is_king = _REIGNS.search(text[max(0, start - 12) : start])
        if not (is_king or _AFTER_FIRST.match(text, end)):
            return found[0]  # the pronoun
    return f"{name} the {ordinal(str(value(roman)))}"


def _alone(found: re.Match[str]) -> str:
    before = found.string[max(0, found.start() - 30) : found.start()]
    if not _CAPITALISED_BEFORE.search(before):
        return found[0]
    return cardinal(str(value(found[1])))
