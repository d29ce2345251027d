"""Ordinals in languages other than English: "3.", "1er", "2ª", "5-го", "XXI"."""

import re

from backend.text.normalize.number import cardinal, ordinal

_DAY = r"(?<![\d.,])(\d{1,2})"
_GERMAN = re.compile(
    r"(?<!\w)((?:der|die|das|dem|den|des|am|im|vom|zum|beim|seit|zur|bis|ab|jeder|jede|jedes|jeden|"
    r"ein|eine|einen|einem|einer|mein|meine|meinen|meinem|meiner|sein|seine|seinen|ihr|ihre|ihren|"
    r"unser|unsere|unseren) )?(\d{1,3})\. ?(?=([A-ZÄÖÜ]\w+))",
    re.IGNORECASE,
)
_GERMAN_NOUNS = re.compile(r"(?:Jahrhunderts?|Jahrestag|Geburtstag|Stock|Mal|Platz|Etage)\b")
_GERMAN_ENDINGS = {
    **dict.fromkeys(["der", "die", "das", "jede", "eine", "meine", "seine", "ihre", "unsere"], ""),
    **dict.fromkeys(["ein", "mein", "sein", "ihr", "unser"], "r"),
}
"""Of an ordinal after these; "n" after all others."""
_NEUTER = re.compile(r"(?:Mal|Jahr|Kind|Buch|Haus|Spiel|Tor|Semester|Quartal|Kapitel|Stockwerk)\b")
_FRENCH = re.compile(r"(?<!\w)(\d{1,4})(ers?|ères?|res?|nde?|[eè]mes?|es?)(?!\w)")
_ROMANCE = re.compile(r"(?<!\w)(\d{1,4})\.?(?:([ºª])(?![\wCF])|([ao])(?= [a-zà-ú]{3}))")
_DEGREE = re.compile(
    r"(?<!\w)((?:il|lo|la|al|del|nel|dal|el|en|do|o|a|no|na) )(\d{1,2})°(?= [a-zà-ú])"
)
_SPANISH = re.compile(r"(?<!\w)(\d{1,3})(er|ro|ra|do|da|to|ta|vo|va|mo|ma|no|na)(?!\w)")
_RUSSIAN = re.compile(
    r"(?<!\w)(\d{1,4})-(й|ый|ой|ий|я|ая|е|ое|ые|го|ого|его|му|ому|ему|м|ым|им|ом|ю|ую|х|ых|их)(?!\w)"
)
_RUSSIAN_FORMS: dict[str, dict[str, str]] = {
    "й": {},
    "я": {"gender": "f"},
    "е": {"gender": "n"},
    "о": {"case": "g"},
    "у": {"case": "d"},
    "м": {"case": "p"},
    "ю": {"case": "a", "gender": "f"},
}
_DOTTED = re.compile(r"(?<![\d.,])(\d{1,3})\. (?=([a-ząćęłńóśźżçğıöşü]{2,}))")
_HINDI = re.compile(r"(?<!\w)(\d{1,4})(?:-)?(वाँ|वां|वीं|वें|वे)(?!\w)")
_ROMAN = r"(?<!\w)([IVX]{1,7})"
_CENTURIES = {
    "fr": re.compile(_ROMAN + r"(er|e|ème)(?= siècle)"),
    "es": re.compile(rf"(?<=siglo )(){_ROMAN}(?!\w)"),
    "pt": re.compile(rf"(?<=século )(){_ROMAN}(?!\w)"),
    "it": re.compile(_ROMAN + r"()(?= secolo)"),
    "pl": re.compile(_ROMAN + r"()(?= wiek)"),
    "ru": re.compile(_ROMAN + r"()(?= ве[кч])"),
    "tr": re.compile(_ROMAN + r"(\.)(?= yüzyıl)"),
}
_ROMAN_DIGITS = {"I": 1, "V": 5, "X": 10}
_BEFORE_A_NOUN = {"primero": "primer", "tercero": "tercer"}


def read_ordinals(text: str, language: str, months: str) -> str:
    """`text` with its ordinals as words; `months` are those names, separated by spaces."""
    century = _CENTURIES.get(language)
    if century:
        text = century.sub(lambda found: _century(found, language), text)
    match language:
        case "de":
            return _GERMAN.sub(lambda found: _german(found, months), text)
        case "pl" | "ru":
            day = re.compile(rf"{_DAY} (?=(?:{months.replace(' ', '|')})\b)")
            text = day.sub(lambda found: day_ordinal(found[1], language) + " ", text)
            if language == "pl":
                return _DOTTED.sub(_polish, text)
            return _RUSSIAN.sub(_russian, text)
        case "fr":
            return _FRENCH.sub(_french, text)
        case "es" | "it" | "pt":
            text = _DEGREE.sub(lambda f: f"{f[1]}{ordinal(f[2], language)}", text)
            text = _ROMANCE.sub(lambda found: _romance(found, language), text)
            return _SPANISH.sub(_spanish, text) if language == "es" else text
        case "tr":
            return _DOTTED.sub(lambda found: ordinal(found[1], "tr") + " ", text)
        case "hi":
            return _HINDI.sub(lambda f: cardinal(f[1], "hi") + f[2], text)
    return text


def day_ordinal(digits: str, language: str, before: str = "") -> str:
    """The day of a month, in the form that its language wants before the month; `before` is the
    word that it follows."""
    number = str(int(digits))
    if language == "de":
        return ordinal(number, language) + _german_ending(before)
    if language == "ru":
        return ordinal(number, language, case="g")
    if language == "pl":
        return re.sub(
            r"[yi]\b", lambda end: {"y": "ego", "i": "iego"}[end[0]], ordinal(number, language)
        ).replace("giiego", "giego")
    if number == "1" and language in ("fr", "it"):
        return ordinal(number, language)
    return cardinal(number, language)


def _german_ending(before: str) -> str:
    return _GERMAN_ENDINGS.get(before.lower(), "n") if before else "r"


def _german(found: re.Match[str], months: str) -> str:
    before, number, noun = found[1] or "", found[2], found[3]
    is_date = noun in months.split()
    if not (before or is_date or _GERMAN_NOUNS.match(noun)):
        return found[0]
    if before.lower() == "bis " and not is_date:
        return found[0]
    ending = _german_ending(before.strip())
    if ending == "r" and _NEUTER.match(noun):
        ending = "s"
    return f"{before}{ordinal(str(int(number)), 'de')}{ending} "


def _french(found: re.Match[str]) -> str:
    number, ending = found[1], found[2]
    plural = "s" if ending.endswith("s") else ""
    if number == "1":
        return ("premier" if ending.startswith("er") else "première") + plural
    if number == "2" and ending.startswith("nd"):
        return "second" if ending == "nd" else "seconde"
    return ordinal(number, "fr") + plural


def _romance(found: re.Match[str], language: str) -> str:
    words = ordinal(found[1], language)
    return re.sub(r"o\b", "a", words) if (found[2] or found[3]) in "ªa" else words


def _spanish(found: re.Match[str]) -> str:
    words = ordinal(found[1], "es")
    if found[2] == "er":
        return _BEFORE_A_NOUN.get(words, words)
    if words.endswith(found[2]):
        return words
    return words[:-1] + "a" if words[:-1] + "a" == words[:-2] + found[2] else found[0]


def _russian(found: re.Match[str]) -> str:
    number, ending = found[1], found[2]
    if ending.endswith("х"):
        return ordinal(number, "ru", case="g", plural="1")
    if ending == "ые" or (ending == "е" and len(number) > 1 and number[-1] == "0"):
        return ordinal(number, "ru", plural="1")
    form = {"case": "g"} if ending.endswith("го") else _RUSSIAN_FORMS[ending[-1]]
    return ordinal(number, "ru", **form)


def _polish(found: re.Match[str]) -> str:
    words, noun = ordinal(found[1], "pl"), found[2]
    endings = {"a": ("a", "a"), "e": ("e", "ie"), "o": ("e", "ie"), "ę": ("ą", "ą")}
    if noun[-1] not in endings:
        return words + " "
    after_y, after_i = endings[noun[-1]]
    soft = {"a": "a", "ie": "ie", "ą": "ą"}[after_i]
    return re.sub(r"y\b", after_y, re.sub(r"i\b", soft, words)).replace("gie ", "gie ") + " "


def _century(found: re.Match[str], language: str) -> str:
    roman = found[1] or found[2]
    values = [_ROMAN_DIGITS[c] for c in roman]
    total = sum(-a if a < b else a for a, b in zip(values, [*values[1:], 0], strict=True))
    number = str(total)
    if language in ("es", "pt"):
        return cardinal(number, language)
    if language == "fr":
        return "premier" if total == 1 else ordinal(number, "fr")
    return ordinal(number, language)
