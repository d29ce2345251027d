"""Signs between and beside English numbers and letters: sums, ratios, verses, spans, powers."""

import re

from backend.text.normalize.english_quantity import NUMBER
from backend.text.normalize.number import cardinal

_TERM = r"\(?-?(?:\d{1,15}(?:\.\d{1,15})?[a-z]?|[a-zA-Z])[²³]?\)?"
_OPERATOR = r" ?[-+−–*/×·÷^] ?"
_SIDE = rf"{_TERM}(?:{_OPERATOR}{_TERM}){{0,12}}"
_EQUATION = re.compile(rf"(?<![\w.,/$%-]){_SIDE}(?: ?(?:=|≠|≈|≤|≥|<|>) ?{_SIDE}){{1,4}}(?![\w/$%])")
_IN_EQUATION = re.compile(
    r"(?<=[\w)²³]) ?([-−–*]) ?(?=[\w(.-])|(?<=[\w)²³]) ?(/) ?(?=[\w(.-])(?!\d{1,2}(?!\d))"
    r"|(?P<top>(?<!\w)\d{1,15}) ?/ ?(?P<bottom>\d{1,2})(?!\d)"
)
_FACTOR = re.compile(r"(?<!\w)(\d{1,15})(?=[a-z](?!\w))")
_SIGNED = re.compile(r"(?<![\w)²³] )(?<![\w)²³])[-−](?=[\w(])")

_BOOKS = (
    r"(?:(?:[1-3]|I{1,3}|First|Second|Third) )?(?:Genesis|Gen\.?|Exodus|Exod?\.?|Leviticus|Lev\.?|"
    r"Numbers|Num\.?|Deuteronomy|Deut\.?|Joshua|Josh\.?|Judges|Judg\.?|Ruth|Samuel|Sam\.?|Kings|"
    r"Chronicles|Chron?\.?|Ezra|Nehemiah|Neh\.?|Esther|Esth?\.?|Job|Psalms?|Pss?\.?|Proverbs|Prov\.?|"
    r"Ecclesiastes|Eccl?\.?|Song of (?:Songs|Solomon)|Isaiah|Isa\.?|Jeremiah|Jer\.?|"
    r"Lamentations|Lam\.?|"
    r"Ezekiel|Ezek\.?|Daniel|Dan\.?|Hosea|Hos\.?|Joel|Amos|Obadiah|Jonah|Micah|Mic\.?|Nahum|Habakkuk|"
    r"Hab\.?|Zephaniah|Zeph\.?|Haggai|Hag\.?|Zechariah|Zech\.?|Malachi|Mal\.?|Matthew|Matt?\.?|Mark|Mk\.?|"
    r"Luke|Lk\.?|John|Jn\.?|Acts|Romans|Rom\.?|Corinthians|Cor\.?|Galatians|Gal\.?|Ephesians|Eph\.?|"
    r"Philippians|Phil\.?|Colossians|Col\.?|Thessalonians|Thess\.?|Timothy|Tim\.?|Titus|Philemon|"
    r"Hebrews|Heb\.?|James|Jas\.?|Peter|Pet\.?|Jude|Revelation|Rev\.?|Tobit|Judith|Wisdom|Sirach|Baruch|"
    r"Maccabees|Macc\.?|Qur['’]?an|Quran|Surah|Sura)"
)
_FULL_BOOKS = {
    "Gen": "Genesis",
    "Ex": "Exodus",
    "Exod": "Exodus",
    "Lev": "Leviticus",
    "Num": "Numbers",
    "Deut": "Deuteronomy",
    "Ps": "Psalm",
    "Pss": "Psalms",
    "Prov": "Proverbs",
    "Isa": "Isaiah",
    "Jer": "Jeremiah",
    "Matt": "Matthew",
    "Mat": "Matthew",
    "Mk": "Mark",
    "Lk": "Luke",
    "Jn": "John",
    "Rom": "Romans",
    "Cor": "Corinthians",
    "Gal": "Galatians",
    "Eph": "Ephesians",
    "Phil": "Philippians",
    "Col": "Colossians",
    "Thess": "Thessalonians",
    "Tim": "Timothy",
    "Heb": "Hebrews",
    "Pet": "Peter",
    "Rev": "Revelation",
    "Sam": "Samuel",
    "Dan": "Daniel",
    "Ezek": "Ezekiel",
    "Eccl": "Ecclesiastes",
}
_PASSAGE = re.compile(
    rf"\b(?P<book>{_BOOKS}) (?P<chapter>\d{{1,3}}):(?P<verses>\d{{1,3}}[a-c]?(?:(?:, ?|"
    rf"[–-])\d{{1,3}}[a-c]?(?!:| [A-Z]|\d)){{0,8}})"
    r"(?:[–-](?P<last>\d{1,3}:\d{1,3}))?(?![\w:])"
)
_VERSES = re.compile(
    r"(?<![\w.,:/$-])(?P<chapter>\d{1,3}):(?P<verses>\d{1,3}[–-]\d{1,3})(?![\w:/-]|[.,]\d|"
    r" ?[aApP]\.?[mM])"
)
_PLACES = {"1": "First", "2": "Second", "3": "Third", "I": "First", "II": "Second", "III": "Third"}
_RATIO = re.compile(
    r"(?<![\w.,:])\d{1,6}(?:\.\d{1,3})?(?: ?: ?\d{1,6}(?:\.\d{1,3})?){1,5}(?![\w:]|[.,]\d)"
)

_RANGE = re.compile(rf"(?<![\w.,/-])({NUMBER})(?: ?[–—] ?|-)(?={NUMBER}(?![\w/-]))")
_SPACED_SPAN = re.compile(
    r"(\b(?:[Pp]ages?|[Pp]p?\.|[Aa]ges?|[Aa]ged|[Cc]hapters?|[Vv]erses?|[Ll]ines?|[Ll]evels?|[Gg]rades?|"
    r"[Ss]teps?|[Ii]tems?|[Qq]uestions?|[Dd]ays?|[Ww]eeks?|[Ww]on|[Ll]ost|[Ss]core) )"
    r"(\d{1,4}) - (?=\d{1,4}\b)"
)
_INDEX = re.compile(r"(?<!\w)([A-Za-z])_(?=(?:\d{1,2}|[a-z])(?!\w))")
_EQUAL_HALVES = re.compile(r"(?<![\w.,/-])(\d{2})[-/–]\1(?![\w/-]|[.,]\d| ?%)")
_PERCENT_SPAN = re.compile(r"(?<= percent) ?[–-] ?(?=[\w])|(?<=\d%) ?[–-] ?(?=\d)")
_MINUS = re.compile(r"(?<![\w.,)\]%/-])[-−](?=\.?\d)|(?:(?<=[\s(])(?<!\d\s)|^)–(?=\.?\d)", re.M)
_HYPHENED = re.compile(r"(?<=[A-Za-z])-(?=\d)")
_PLUS_AFTER = re.compile(r"(?<=\d)\+(?![\w+])")
_PLUS_BEFORE = re.compile(r"(?<![\w)+])\+(?=\.?\d)")
_EXPONENT = re.compile(r"(?<![\w.,/$-])(-?\d{1,15}(?:\.\d{1,15})?)[eE]([-+−]?)(\d{1,3})(?![\w.-])")

_POWERS = {"²": "squared", "³": "cubed", "2": "squared", "3": "cubed"}
_SUPERSCRIPTS = re.compile(
    "(?<=[\\w)])\\^?(⁻?[⁰⁴-⁹¹²³]{1,18})|(?<=[\\w)])\\^(-?\\d{1,18}|[a-z](?!\\w)|\\(-?\\d{1,18}\\))"
)
_PLAIN_DIGITS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
_BETWEEN_NUMBERS = {
    "+": "plus",
    "-": "minus",
    "−": "minus",
    "–": "minus",
    "*": "times",
    "×": "times",
    "·": "times",
    "÷": "divided by",
    "/": "divided by",
    "<": "is less than",
    ">": "is greater than",
}
_OPERATION = re.compile(r"(?<=[\d)]) ?([+−*×·÷]) ?(?=[\d(])|(?<=\d) ([-/<>]) (?=\d)")
_OPERATION_OF_NAMES = re.compile(r"(?<=\w) ([+−×÷]) (?=\w)|(?<=[A-Za-z\d])(\+)(?=[A-Za-z\d])")
_COMPARISON_OF_NAMES = re.compile(r"(?<=\b[a-zA-Z]) ?([<>]) ?(?=-?\d|-?[A-Za-z](?![\w<>'’-]))")
_COMPOSED = {
    ">=": "≥",
    "<=": "≤",
    "!=": "≠",
    "==": "=",
    "===": "=",
    "!==": "≠",
    ":=": "=",
    "+/-": "±",
    "+-": "±",
    "->": "→",
    "-->": "→",
    "=>": "⇒",
    "==>": "⇒",
    "<->": "↔",
    "<=>": "⇔",
}
_COMPOSED_SIGN = re.compile(
    r"(?<![<>=!+:/-])(?:"
    + "|".join(re.escape(sign) for sign in sorted(_COMPOSED, key=len, reverse=True))
    + r")(?![<>=!+:/-])(?=\s|[\w(.-])"
)
_SYMBOLS = {
    "&": "and",
    "=": "equals",
    "≠": "is not equal to",
    "≈": "is about",
    "≤": "is at most",
    "≥": "is at least",
    "≡": "is equivalent to",
    "≅": "is congruent to",
    "∝": "is proportional to",
    "±": "plus or minus",
    "√": "square root of",
    "∛": "cube root of",
    "∑": "sum of",
    "∏": "product of",
    "∫": "integral of",
    "∂": "partial",
    "∇": "nabla",
    "∈": "is in",
    "∉": "is not in",
    "⊂": "is a subset of",
    "∪": "union",
    "∩": "intersection",
    "∀": "for all",
    "∃": "there exists",
    "∅": "the empty set",
    "∞": "infinity",
    "→": "to",
    "↔": "to",
    "⇒": "so",
    "⇔": "if and only if",
    "∴": "therefore",
    "°": "degrees",
    "@": "at",
}
_ALWAYS_READ = "".join(sign for sign in _SYMBOLS if sign not in "&=@")
_SYMBOL = re.compile(rf" ?([{_ALWAYS_READ}]) ?|(?<=[\w.)])(?: ?(&|=) ?| (@) )(?=[\w(-])")
_BEFORE_NUMBER = {"~": "about ", "<": "less than ", ">": "more than ", "#": "number "}
_SIGN_BEFORE_NUMBER = re.compile(r"(?<![\w~<>#&/|])([~<>#]) ?(?=\d)")
_GREEK_WORDS = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma "
    "sigma tau upsilon phi chi psi omega"
)
_GREEK_NAMES = _GREEK_WORDS.split()
_GREEK = {
    **{chr(0x3B1 + index): name for index, name in enumerate(_GREEK_NAMES)},
    **{chr(0x391 + index): name for index, name in enumerate(_GREEK_NAMES) if index != 17},
}
_GREEK_LETTER = re.compile(
    "(?<![\u0370-\u03ff\u1f00-\u1fff])[α-ωΑ-Ω](?![\u0370-\u03ff\u1f00-\u1fff])"
)


def read_formulas(text: str) -> str:
    """Equations and passages of scripture, before their parts are taken for dates or spans."""
    text = _COMPOSED_SIGN.sub(lambda sign: _COMPOSED[sign[0]], text)
    text = _EXPONENT.sub(_exponent, text)
    text = _COMPARISON_OF_NAMES.sub(lambda sign: f" {_BETWEEN_NUMBERS[sign[1]]} ", text)
    text = _EQUATION.sub(_equation, text)
    text = _PASSAGE.sub(_passage, text)
    return _VERSES.sub(_verses, text)


def read_before_numbers(text: str) -> str:
    """ "~5", "<5", "#5"."""
    return _SIGN_BEFORE_NUMBER.sub(lambda sign: _BEFORE_NUMBER[sign[1]], text)


def read_signs(text: str) -> str:
    """Powers, spans, ratios, operations and symbols, and signs of numbers."""
    text = _SUPERSCRIPTS.sub(_power, text)
    text = _INDEX.sub(r"\1 sub ", text)
    text = _EQUAL_HALVES.sub(lambda both: f"{cardinal(both[1])} {cardinal(both[1])}", text)
    text = _PERCENT_SPAN.sub(" to ", text)
    text = _SPACED_SPAN.sub(r"\1\2 to ", text)
    text = _RANGE.sub(r"\1 to ", text)
    text = _RATIO.sub(lambda ratio: ratio[0].replace(" ", "").replace(":", " to "), text)
    text = _OPERATION.sub(lambda sign: f" {_BETWEEN_NUMBERS[sign[1] or sign[2]]} ", text)
    text = _OPERATION_OF_NAMES.sub(lambda sign: f" {_BETWEEN_NUMBERS[sign[1] or sign[2]]} ", text)
    text = _PLUS_AFTER.sub(" plus", text)
    text = _SYMBOL.sub(_symbol, text)
    text = _GREEK_LETTER.sub(_greek, text)
    text = _HYPHENED.sub(" ", text)
    return _PLUS_BEFORE.sub("plus ", _MINUS.sub("minus ", text))


def _equation(found: re.Match[str]) -> str:
    written = found[0]
    if not any(c.isdecimal() for c in written):
        return written
    written = _FACTOR.sub(r"\1 ", written)
    return _SIGNED.sub("minus ", _IN_EQUATION.sub(_in_equation, written))


def _in_equation(found: re.Match[str]) -> str:
    if found["top"] is None:
        return f" {_BETWEEN_NUMBERS[found[1] or found[2]]} "
    if int(found["top"]) < int(found["bottom"]):
        return found[0]  # a fraction
    return f"{found['top']} divided by {found['bottom']}"


def _passage(found: re.Match[str]) -> str:
    place, _, name = found["book"].rpartition(" ")
    if place not in _PLACES:
        place, name = "", found["book"]
    name = _FULL_BOOKS.get(name.rstrip("."), name)
    last = f" to {found['last'].replace(':', ' ')}" if found["last"] else ""
    words = f"{found['chapter']} {_spans(found['verses'])}{last}"
    return f"{_PLACES[place] + ' ' if place else ''}{name} {_plain(words)}"


def _verses(found: re.Match[str]) -> str:
    return _plain(f"{found['chapter']} {_spans(found['verses'])}")


def _spans(verses: str) -> str:
    return verses.replace("–", "-").replace("-", " to ")


def _plain(words: str) -> str:
    """The numbers in words: no rule for years or times shall see them."""
    return re.sub(r"\d+", lambda digits: cardinal(digits[0]), words)


def _exponent(found: re.Match[str]) -> str:
    sign = "minus " if found[2] in ("-", "−") else ""
    return f"{found[1]} times ten to the power of {sign}{cardinal(str(int(found[3])))}"


def _power(found: re.Match[str]) -> str:
    written = found[1] or found[2]
    if written in _POWERS and (found[1] or not found.string[found.start() - 1].isdecimal()):
        return f" {_POWERS[written]}"
    if written.isalpha():
        return f" to the power of {written}"
    digits = written.translate(_PLAIN_DIGITS).strip("()")
    sign = "minus " if digits.startswith("-") else ""
    return f" to the power of {sign}{cardinal(digits.lstrip('-'))}"


def _symbol(found: re.Match[str]) -> str:
    is_last = found.string[found.end() : found.end() + 1] in (*".,;:!?)", "")
    return f" {_SYMBOLS[found[1] or found[2] or found[3]]}" + ("" if is_last else " ")


def _greek(found: re.Match[str]) -> str:
    text, start, end = found.string, found.start(), found.end()
    before = " " if start and text[start - 1].isalnum() else ""
    after = " " if end < len(text) and text[end].isalnum() else ""
    return before + _GREEK[found[0]] + after
