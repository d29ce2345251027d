"""A number before what it counts: "one" and "two" by gender, and the noun's form by the number."""

import re

from backend.text.normalize.number import cardinal, decimal


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


GAPLESS = ("ja", "zh")
"""Languages that put nothing between a number and what it counts."""
_INFLECTED = ("de", "fr", "es", "it", "pt", "pl", "ru")

_GERMAN_FEMININE = re.compile(r"(?:ung|heit|keit|schaft|tät|ion|ik|ei|ur|icht|e)$")
_GERMAN_IN_E = _listed(
    "Name Käse Junge Hase Kunde Löwe Affe Bote Erbe Gedanke Buchstabe Auge Ende Gebäude Gemüse "
    "Gebirge Interesse Kollege Neffe Zeuge Experte Gericht Gesicht Gewicht Licht Gedicht "
    "Getreide Bulle Rabe Schimpanse Russe Franzose Türke Pole"
)
_GERMAN_ADJECTIVE = re.compile(r" (?:[a-zäöüß]{2,}(e|er|es)) (?=[A-ZÄÖÜ])")
_FRENCH_FEMININE = re.compile(
    r"(?:tion|sion|té|ée|ence|ance|ette|elle|ure|aine|ine|ille|ude|erie|ote)s?$"
)
_A_FEMININE = re.compile(r"(?:a|ión|dad|tad|ione|tà|ção|dade|agem)s?$|(?:iones|dades|ções|agens)$")
_A_MASCULINE = re.compile(r"(?:blema|stema|grama|idioma|clima|planeta)s?$")
_NOUNS = {
    "de": _listed(
        "Person Frau Stadt Nacht Tür Wand Hand Bank Mail App Zahl Zeit Art Fahrt Antwort Nummer "
        "Mutter Tochter Schwester Feder Kugel Regel Gabel Tafel"
    ),
    "fr": _listed(
        "minute minutes heure heures seconde secondes semaine semaines fois personne personnes "
        "page pages lampe lampes porte portes chambre chambres voiture question lumière nuit "
        "journée pièce pièces tasse tasses table chaise femme fille filles livre-sterling tonne "
        "tonnes alarme nouvelle autre bouteille carte main mer vie ville rue école place part "
        "route tête"
    ),
    "es": _listed(
        "luz luces noche noches vez veces mujer mujeres calle calles clase clases llave llaves "
        "parte partes flor flores mano manos tarde tardes libra libras"
    ),
    "it": _listed(
        "notte notti luce luci chiave chiavi parte parti volte ore mano classe classi voce voci "
        "persone lampade porte finestre settimane pagine camere"
    ),
    "pt": _listed(
        "luz luzes noite noites vez vezes mulher mulheres parte partes chave chaves tarde tardes"
    ),
    "pl": _listed(
        "minuty godziny sekundy osoby kobiety lampy książki strony wiadomości sprawy noce rzeczy "
        "szklanki butelki łyżki łyżeczki dziewczyny córki siostry rundy próby linie litery tony "
        "kropki bramki nagrody szkoły części kawy herbaty pary mile"
    ),
}
"""Feminine nouns that do not end as such."""
_MASCULINE_IN_A = _listed(
    "día días dia dias mapa mapas tema temas cometa poeta papa drama fantasma"
)


def form(forms: str, whole: str, fraction: str, language: str) -> str:
    """The form of a noun after a number, of "one|many", "one|few|many" or, where a fraction has one
    of its own, "one|few|many|fraction"; a "+" or "-" before them is their gender."""
    names = forms.lstrip("+-").split("|")
    count = int(whole[-2:])
    if len(names) < 3:
        is_one = int(whole) < 2 if language in ("fr", "pt", "hi") else int(whole) == 1
        if fraction and language not in ("fr", "pt"):
            is_one = False
        return names[0] if is_one else names[-1]
    if language == "ar":
        return names[1] if not fraction and 3 <= count <= 10 else names[0 if whole == "1" else 2]
    if fraction:
        return names[-1] if len(names) == 4 else names[1]
    if 2 <= count % 10 <= 4 and not 12 <= count <= 14:
        return names[1]
    # Polish says "dwadzieścia jeden złotych", Russian "двадцать один рубль".
    is_one = whole == "1" or (language == "ru" and count % 10 == 1 and count != 11)
    return names[0] if is_one else names[2]


def counted(forms: str, whole: str, fraction: str, language: str) -> str:
    """A number and what it counts, as `form` takes it."""
    gender = {"+": "f", "-": "n"}.get(forms[0], "m")
    name = form(forms, whole, fraction, language)
    if fraction:
        number = decimal(whole, fraction, language)
    else:
        number = before_noun(whole, gender, language)
    if "{}" in name:
        return name.format(number)
    return f"{number}{'' if language in GAPLESS else ' '}{name}"


def before_noun(digits: str, gender: str, language: str) -> str:
    """A whole number before a noun of `gender`: m, f or n."""
    is_feminine = gender == "f"
    if language == "ru":
        return cardinal(digits, language, gender=gender)
    if language == "zh" and digits == "2":
        return "两"
    words = cardinal(digits, language)
    match language:
        case "de" if digits == "1":
            return "eine" if is_feminine else "ein"
        case "fr" if is_feminine and words.endswith("un"):
            return words + "e"
        case "es":
            if is_feminine:
                return re.sub(r"uno$", "una", re.sub(r"(?<=ient)os\b", "as", words))
            return (
                re.sub(r"veintiuno$", "veintiún", words).removesuffix("o")
                if words.endswith("uno")
                else words.replace("veintiuno ", "veintiún ")
            )
        case "it" if digits == "1":
            return "una" if is_feminine else "un"
        case "pt" if is_feminine:
            words = re.sub(r"(?<=ent)os\b", "as", words)
            return re.sub(r"um$", "uma", re.sub(r"dois$", "duas", words))
        case "pl" if digits == "1":
            return {"f": "jedna", "n": "jedno"}.get(gender, "jeden")
        case "pl" if is_feminine and words.endswith("dwa"):
            return words.removesuffix("dwa") + "dwie"
    return words


def gender_before(text: str, end: int, digits: str, language: str) -> str:
    """The gender of the noun that a whole number, which ends at `end`, stands before; "" where no
    noun follows, or the language does not ask."""
    # Hundreds have a gender, too, in Spanish and Portuguese.
    is_inflected = digits[-1] in "12" or (language in ("es", "pt") and len(digits) > 2)
    if language not in _INFLECTED or not is_inflected:
        return ""
    following = _FOLLOWING.match(text, end)
    if following is None:
        return ""
    word = following[1]
    match language:
        case "de":
            return _german(text, end, word)
        case "ru":
            return _russian(word, digits)
        case "pl":
            return _polish(word, digits)
        case "fr":
            is_feminine = bool(_FRENCH_FEMININE.search(word))
        case _:
            is_feminine = bool(_A_FEMININE.search(word)) and not (
                _A_MASCULINE.search(word) or word.lower() in _MASCULINE_IN_A
            )
    return "f" if is_feminine or word in _NOUNS[language] else "m"


_FOLLOWING = re.compile(r" ([^\W\d_]{2,40})(?!\w)")


def _german(text: str, end: int, word: str) -> str:
    if word[0].isupper():
        is_feminine = _GERMAN_FEMININE.search(word) and word not in _GERMAN_IN_E
        return "f" if is_feminine or word in _NOUNS["de"] else "m"
    adjective = _GERMAN_ADJECTIVE.match(text, end)
    if adjective is None:
        return ""  # "1 von 3"
    return "f" if adjective[1] == "e" else "m"


def _russian(word: str, digits: str) -> str:
    word = word.lower()
    if digits[-1] == "2":  # the genitive of feminine nouns ends so
        return "f" if word[-1] in "ыи" else "m"
    if word[-1] in "ая":
        return "f"
    return "n" if word[-1] in "оеё" else "m"


def _polish(word: str, digits: str) -> str:
    word = word.lower()
    if digits[-1] == "2":
        return "f" if word in _NOUNS["pl"] else "m"
    if word[-1] in "aą" or word.endswith(("ść", "noc", "rzecz", "myśl")):
        return "f"
    return "n" if word[-1] in "oe" else "m"
