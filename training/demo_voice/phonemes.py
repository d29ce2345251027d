"""English text as the teacher's phonemes, by misaki's dictionaries.

misaki asks spaCy for tokens and part-of-speech tags, which matter for a few hundred words (the,
a, to, used, read). A tokenizer and a dozen rules of our own take spaCy's place: no model of its
own is needed. Words in neither dictionary, names mostly, are spelled by espeak-ng's rules. Needs
`num2words`, `regex`, `addict`, `phonemizer-fork` and `espeakng-loader`, where the teacher is
prepared only.
"""

import importlib
import json
import re
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_TOKEN = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*|\d[\d,]*(?:\.\d+)?(?:st|nd|rd|th|s)?|[^\w\s]|\w+")
_PLAIN_WORD = re.compile(r"[A-Za-z]+(?:['-][A-Za-z]+)*'?")
_UNKNOWN = "❓"
_PUNCTUATION_TAGS = {
    **dict.fromkeys(".!?", "."),
    ",": ",",
    **dict.fromkeys(";:-", ":"),
    '"': "''",
    "'": "''",
    "(": "-LRB-",
    ")": "-RRB-",
}


def _words(text: str) -> list[str]:
    return text.split()


_DETERMINERS = frozenset(_words("a an the this that these those"))
_OWNERS = frozenset(_words("my your his her our their its some no any every"))
_PRONOUNS = frozenset(_words("i he she we they it you"))
_PREPOSITIONS = frozenset(
    _words("in on at of for with from by into over under near about between during through past")
)
_BEFORE_BASE_VERB = frozenset(
    _words("to will would can could should must may might do did does please let's")
)
_BEFORE_PARTICIPLE = frozenset(_words("has have had was were been is are"))


def _tag(token: str, before: str, joined: bool) -> str:
    """A Penn Treebank tag, or nothing where none is sure.

    `before` is the token before in lower case; `joined` tells that something follows without a
    space.
    """
    word = token.lower()
    if token == "-" and joined and before.isalnum():
        return "HYPH"
    if token[0] in _PUNCTUATION_TAGS:
        return _PUNCTUATION_TAGS[token[0]]
    if token[0].isdigit():
        return "CD"
    if token == "A" and (joined or before == "-"):
        return ""  # the letter
    for tag, words in (("DT", _DETERMINERS), ("TO", {"to"}), ("IN", _PREPOSITIONS)):
        if word in words:
            return tag
    if token == "I" or (word in _PRONOUNS and word != "i"):
        return "PRP"
    return _tag_by_neighbour(word, before)


def _tag_by_neighbour(word: str, before: str) -> str:
    if before in _BEFORE_BASE_VERB:
        return "VB"
    if before in ("i", "you", "we", "they"):
        return "VBP"
    if before in ("he", "she", "it"):
        return "VBD" if word in ("read", "used") else "VBZ"
    if before in _BEFORE_PARTICIPLE:
        return "VBN"
    return "NN" if before in _DETERMINERS | _OWNERS else ""


@dataclass(frozen=True, slots=True)
class _Token:
    """The three attributes of a spaCy token that misaki reads."""

    text: str
    tag_: str
    whitespace_: str


def _tokens(text: str) -> list[_Token]:
    made: list[_Token] = []
    before, is_open = "", False
    for match in _TOKEN.finditer(text):
        token, after = match.group(), text[match.end() : match.end() + 1]
        tag = _tag(token, before, joined=after != "" and not after.isspace())
        if token == '"':
            is_open = not is_open
            tag = "``" if is_open else "''"
        made.append(_Token(token, tag, " " if after.isspace() else ""))
        before = token.lower()
    return made


class _SpacyStandIn(types.ModuleType):
    util = types.SimpleNamespace(is_package=lambda name: True)

    @staticmethod
    def load(name: str, enable: list[str]) -> object:
        return _tokens


class _Word(Protocol):
    text: str


class _Fallback(Protocol):
    def __call__(self, token: _Word) -> tuple[str | None, int | None]: ...


class _G2P(Protocol):
    def __call__(self, text: str) -> tuple[str, object]: ...


class Phonemizer:
    """Phoneme ids of English text; loading the dictionaries takes a second."""

    def __init__(self, unpacked: Path) -> None:
        """`unpacked`: where `teacher_packages.fetch` put misaki and the phoneme table."""
        sys.modules.setdefault("spacy", _SpacyStandIn("spacy"))
        sys.path.insert(0, str(unpacked))
        english = importlib.import_module("misaki.en")
        espeak = importlib.import_module("misaki.espeak")
        # Cached, for espeak-ng takes a millisecond a word and the same names come again.
        self._espeak: _Fallback = espeak.EspeakFallback(british=False)
        self._spelled: dict[str, tuple[str | None, int | None]] = {}
        self._g2p: _G2P = english.G2P(british=False, fallback=self._spell, unk=_UNKNOWN)
        table = (unpacked / "kokoro_onnx" / "config.json").read_text(encoding="utf-8")
        self._ids: dict[str, int] = json.loads(table)["vocab"]

    def _spell(self, token: _Word) -> tuple[str | None, int | None]:
        """An unknown word by espeak-ng's rules; of letters only, for other signs it spells out."""
        if not _PLAIN_WORD.fullmatch(token.text):
            return None, None
        if token.text not in self._spelled:
            self._spelled[token.text] = self._espeak(token)
        return self._spelled[token.text]

    def __call__(self, text: str) -> bytes | None:
        """One byte a phoneme, or None where a word is unknown."""
        phonemes, _ = self._g2p(text)
        if _UNKNOWN in phonemes:
            return None
        return bytes(self._ids[phoneme] for phoneme in phonemes if phoneme in self._ids)
