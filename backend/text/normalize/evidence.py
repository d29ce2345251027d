"""What a text in Latin script says of the language that it is in, word by word."""

import math
import re
from collections import defaultdict
from pathlib import Path

from backend.core import LANGUAGES

_FOLDER = Path(__file__).parent.parent / "common_words"
"""For each language its commonest words, the commonest first; those of English end with words of
other languages that are English as well ("die", "chat", "sin")."""

_SAMPLE = 4000
"""Characters that are looked at."""
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_START = re.compile(r"(?:^|[.!?:¡¿\n])\W*$")
"""Before a word that has a capital because a sentence begins."""
_UNIT = re.compile(r"\d ?$|/$")
_ELIDED = re.compile(r"(?:[cdjlmnst]|qu|un|(?:d|n|qu|s)?[ae]ll|quest|com|dov|cos)'(?=\w{2})")
_DECIMAL_COMMA = re.compile(r"(?<![\d,.])\d{1,3},\d{1,2}(?![\d,])")
_SIGN_AFTER = re.compile(r"\d ?€")
_SIGNS = (
    ("es", re.compile("[¿¡]")),
    ("tr", re.compile(r"₺|\d ?TL\b|(?<![\w%])%\d")),
    ("pl", re.compile(r"\d ?zł\b")),
    ("pt", re.compile(r"R\$")),
)
"""What is written in one language alone."""
_LETTERS = {
    "de": "äöüß",
    "fr": "àâæçéèêëîïôœùûüÿ",
    "es": "áéíñóúü",
    "pl": "ąćęłńóśźż",
    "it": "àèéìòù",
    "pt": "áâãàçéêíóôõú",
    "tr": "çğıöşüâ",
}
OTHERS = tuple(_LETTERS)
"""The languages in Latin script beside English."""

_FLATTEN = 30
"""Added to the rank of a word: the first words of a language are about equally common."""
_KNOWN_SHARE = 0.6
"""Of the words of a text, those that are in the list of its language."""
_UNKNOWN = -12.0
"""Logarithm of how likely a word is in a language that does not list it."""
_MOST = 6.0
"""No word proves more than this, either way."""
_MOST_SHARED = 2.2
"""Nor one that English has, too, for another language: names and titles are full of them."""
_LETTER = 2.5
"""For a word that is in no list, in letters that a language has and English has not."""
_OF_A_NAME = 0.1
"""What is left of a word's evidence where it has a capital within a sentence; German writes all
nouns so."""
_OF_A_NOUN = 0.5
_NUMBER = 1.0
"""For a decimal comma, and for a sign of money after its number."""

_ENOUGH = 3.0
"""How much has to speak for another language than English, in natural logarithms of odds: two
words that only it has, or one that is common. Chosen with benchmarks/language.py."""
_SETTLED = 12.0
"""From here on no more is listened to."""


class Evidence:
    """Words that were heard so far, and what they speak for. Each is counted once."""

    def __init__(self) -> None:
        self._scores = dict.fromkeys(OTHERS, 0.0)
        """Logarithm of the odds of each language against English."""
        self._words: set[str] = set()
        self._left = _SAMPLE

    @property
    def language(self) -> str:
        """The language that is spoken for; English where no other is, or too weakly."""
        best = max(OTHERS, key=lambda language: self._scores[language])
        return best if self._scores[best] > _ENOUGH else "en"

    def hear(self, text: str) -> None:
        """Add `text`, unless what was heard has settled it."""
        text = text[: self._left]
        if not text or abs(max(self._scores.values())) > _SETTLED:
            return
        self._left -= len(text)
        words = list(_WORD.finditer(text))
        is_shouted = text.isupper() and len(words) > 3
        for found in words:
            if not _is_part(found, text):
                self._weigh(found, text, is_shouted)
        habits = _NUMBER * (bool(_DECIMAL_COMMA.search(text)) + bool(_SIGN_AFTER.search(text)))
        for language in OTHERS:
            self._scores[language] += habits
        for language, sign in _SIGNS:
            if sign.search(text):
                self._scores[language] += _MOST

    def _weigh(self, found: re.Match[str], text: str, is_shouted: bool) -> None:
        written = found[0].replace("’", "'").replace("İ", "i")
        word = written.lower()
        if word in self._words:
            return
        self._words.add(word)
        is_abbreviation = written.isupper() and word != "i" and (len(written) > 1 or word.isascii())
        if is_abbreviation and not is_shouted:
            return
        is_capital = written[0].isupper() and not is_shouted
        weights = (
            _WEIGHTS.get(word)
            or _weights_of_elided(word)
            or _weights_of_letters(word, _LETTER / 2 if is_capital else _LETTER)
        )
        is_name = is_capital and not _START.search(text[max(0, found.start() - 8) : found.start()])
        for language, weight in weights.items():
            share = 1.0
            if is_name and weight > 0:
                share = _OF_A_NOUN if language == "de" else _OF_A_NAME
            self._scores[language] += share * weight


def common_words(text: str) -> int:
    """How many words of `text` are in the list of any language, each counted once."""
    words = (found for found in _WORD.finditer(text) if not _is_part(found, text))
    return len({found[0].lower() for found in words} & _WEIGHTS.keys())


def _is_part(found: re.Match[str], text: str) -> bool:
    """Whether the word belongs to a number, an address or a name of a program."""
    before, after = text[max(0, found.start() - 2) : found.start()], text[found.end() :][:2]
    if before[-1:].isdecimal() or after[:1].isdecimal() or before[-1:] == "'":
        return True
    if len(found[0]) < 3 and _UNIT.search(before):
        return True
    is_joined = after[:1] in ("_", "@", ".", "/", "\\") and after[1:].isalnum()
    return is_joined or (before[-1:] in ("_", "@", ".", "/", "\\") and before[:1].isalnum())


def _weights_of_elided(word: str) -> dict[str, float]:
    """Of what follows "l'" or "dell'", in French and Italian."""
    article = _ELIDED.match(word)
    known = _WEIGHTS.get(word[article.end() :], {}) if article else {}
    return {each: known[each] for each in ("fr", "it") if known.get(each, 0) > 0}


def _weights_of_letters(word: str, weight: float) -> dict[str, float]:
    special = {c for c in word if c.isalpha() and not c.isascii()}
    if not special:
        return {}
    return {each: weight if special <= set(own) else -weight / 2 for each, own in _LETTERS.items()}


def _weights() -> dict[str, dict[str, float]]:
    """For each word of the lists what it speaks for."""
    likely: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for language in ("en", *OTHERS):
        words = list(dict.fromkeys((_FOLDER / f"{language}.txt").read_text("utf-8").split()))
        total = sum(1 / (rank + _FLATTEN) for rank in range(len(words)))
        for rank, word in enumerate(words):
            likely[word][language] = math.log(_KNOWN_SHARE / total / (rank + _FLATTEN))
    weights = {}
    for word, known in likely.items():
        english = known.get("en", _UNKNOWN)
        most = _MOST_SHARED if "en" in known else _MOST
        weights[word] = {
            language: max(-_MOST, min(most, known.get(language, _UNKNOWN) - english))
            for language in OTHERS
            if language in known or "en" in known
        }
    return weights


_WEIGHTS = _weights()
assert set(OTHERS) < set(LANGUAGES)
