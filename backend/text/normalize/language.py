"""Which language's rules each part of a request is read by.

A request has one language, but for sentences in another script than that language's: those are
read by the language of their script.
"""

import re
from collections import Counter
from collections.abc import Iterator

from backend.text.normalize.evidence import OTHERS, Evidence, common_words

_SAMPLE = 4000
"""Characters that are looked at for the script of a text."""
_SCRIPTS = {
    "latin": (re.compile("[A-Za-zÀ-ɏ]"), 1),
    "ru": (re.compile("[\u0400-\u04ff]"), 1),
    "ar": (re.compile("[\u0600-\u06ff]"), 1),
    "hi": (re.compile("[\u0900-\u097f]"), 1),
    "ko": (re.compile("[\uac00-\ud7a3]"), 2),
    "kana": (re.compile("[\u3040-\u30ff]"), 2),
    "han": (re.compile("[\u3400-\u9fff]"), 2),
}
"""The letters of each script, and how many Latin ones one of them stands for."""
_LATIN = {"latin": _SCRIPTS["latin"]}
_KANA_SHARE = 0.1
"""Japanese is mostly written in the characters of Chinese; this much of it is not."""
_OF_ANOTHER = 0.8
"""A sentence with this share of its letters in another script is not the request's language."""
_SENTENCE = re.compile(
    r"(?:[^\n.!?…。！？।؟]|[.!?…](?=[^\s.!?…\"'”’»)\]]))*+"
    r"(?:\n+|[.!?…]++[\"'”’»)\]]*+(?:\s++|$)|[.!?…]++|[。！？।؟]++\s*+|$)"
)
_COMMON_WORDS = 2
"""Latin script with fewer of them is names and codes within text in another."""


class Languages:
    """The languages that one request is read in, one for each script.

    `told` is what the request says, and may be "auto"; `voice` is the language that its voice
    carries, "" for none. Both go before what Latin text itself speaks for, and neither before a
    script that is not theirs.
    """

    def __init__(self, told: str = "auto", voice: str = "") -> None:
        self.named = told if told != "auto" else voice
        """What goes before the words of the text; "" leaves it to them."""
        self._evidence = Evidence()
        self._letters: Counter[str] = Counter()
        self._latin_words = 0

    @classmethod
    def of(cls, text: str, told: str = "auto") -> "Languages":
        """Those of a whole text."""
        languages = cls(told)
        languages.hear(text)
        return languages

    def hear(self, text: str) -> None:
        """Learn from `text`, which is all of the request or some more of it."""
        if self._letters.total() < _SAMPLE:
            self._letters += _letters(text[:_SAMPLE])
            self._latin_words += common_words(text[:_SAMPLE])
        if self._letters["latin"] and not self._is_latin_named:
            self._evidence.hear(text)

    @property
    def main(self) -> str:
        """The language of the request."""
        if self.named:
            return self.named
        letters = self._letters
        if len(letters) > 1 and _script(letters) == "latin" and self._latin_words < _COMMON_WORDS:
            letters = Counter({each: letters[each] for each in letters if each != "latin"})
        return self._language_in(letters)

    def runs(self, text: str) -> Iterator[tuple[str, str]]:
        """The pieces of `text` that are read by one language, and that language; joined they are
        `text`."""
        main = self.main
        letters = _letters(text)
        if len(letters) < 2 and _script(letters) in ("", _script_of(main)):
            yield text, main
            return
        start = end = 0
        language = main
        for sentence in _SENTENCE.finditer(text):
            if sentence.end() == sentence.start():
                continue
            own = self._language_of(sentence[0], main)
            if own != language:
                if end > start:
                    yield text[start:end], language
                start, language = end, own
            end = sentence.end()
        if end > start:
            yield text[start:end], language

    def _language_of(self, sentence: str, main: str) -> str:
        letters = _letters(sentence)
        script = _script(letters)
        if script in ("", _script_of(main)):
            return main
        share = sum(letters[each] for each in letters if _group(each) == script)
        if share < _OF_ANOTHER * letters.total():
            return main
        if script == "latin" and common_words(sentence[:_SAMPLE]) < _COMMON_WORDS:
            return main
        return self._language_in(letters)

    def _language_in(self, letters: Counter[str]) -> str:
        """Of text with so many letters of each script; the likeliest of that script."""
        script = _script(letters)
        if script == "latin":
            return self.named if self._is_latin_named else self._evidence.language
        if script == "han":
            if self.named in ("zh", "ja") and letters["kana"] <= _KANA_SHARE * letters["han"]:
                return self.named
            heard = self._letters + letters
            return "ja" if heard["kana"] > _KANA_SHARE * heard["han"] else "zh"
        return script or self.named or "en"

    @property
    def _is_latin_named(self) -> bool:
        return self.named in ("en", *OTHERS)


def _letters(text: str) -> Counter[str]:
    """Letters of each script in `text`, by their weight; scripts without any are left out."""
    scripts = _LATIN if text.isascii() else _SCRIPTS
    counts = {name: weight * len(found.findall(text)) for name, (found, weight) in scripts.items()}
    return Counter({name: count for name, count in counts.items() if count})


def _group(script: str) -> str:
    return "han" if script == "kana" else script


def _script(letters: Counter[str]) -> str:
    """The script that most is written in, "han" for both of Japanese; "" without letters."""
    groups: Counter[str] = Counter()
    for script, count in letters.items():
        groups[_group(script)] += count
    return max(groups, key=lambda script: groups[script], default="")


def _script_of(language: str) -> str:
    if language in ("zh", "ja"):
        return "han"
    return language if language in _SCRIPTS else "latin"
