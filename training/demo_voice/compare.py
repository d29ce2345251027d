"""What was heard beside what was to be said, word by word.

How a word is written is nobody's mistake: numbers, spelling, contractions, and where compounds are
divided, are made the same on both sides before anything is counted.
"""

import re
from dataclasses import dataclass

from backend.text.normalize import normalize
from training.demo_voice.words import normalise_words


@dataclass(frozen=True, slots=True)
class WordErrors:
    """Of one text or of many: they add up."""

    words: int = 0
    """In what was to be said."""
    substitutions: int = 0
    insertions: int = 0
    deletions: int = 0

    @property
    def errors(self) -> int:
        return self.substitutions + self.insertions + self.deletions

    @property
    def rate(self) -> float:
        """Errors a word."""
        return self.errors / max(1, self.words)

    def __add__(self, other: "WordErrors") -> "WordErrors":
        return WordErrors(
            self.words + other.words,
            self.substitutions + other.substitutions,
            self.insertions + other.insertions,
            self.deletions + other.deletions,
        )


_SUBSTITUTED, _INSERTED, _DELETED = (1, 1, 0, 0), (1, 0, 1, 0), (1, 0, 0, 1)
_Cost = tuple[int, int, int, int]


def word_errors(said: str, heard: str) -> WordErrors:
    """The fewest edits that make `said` out of `heard`, by kind."""
    expected = spoken_words(said)
    best = _edits(expected, spoken_words(heard))
    # Recognisers write 645 where they hear a quarter to seven: it is a time if that fits better.
    for match in reversed(list(_CLOCK.finditer(heard))):
        as_time = f"{heard[: match.start()]}{match[1]}:{match[2]}{heard[match.end() :]}"
        errors = _edits(expected, spoken_words(as_time))
        if errors.errors < best.errors:
            best, heard = errors, as_time
    return best


def _edits(expected: list[str], found: list[str]) -> WordErrors:
    row: list[_Cost] = [(0, 0, 0, 0)]
    for _ in found:
        row.append(_plus(row[-1], _INSERTED))
    rows = [row]
    for i, word in enumerate(expected, start=1):
        row = [_plus(rows[-1][0], _DELETED)]
        for j, other in enumerate(found, start=1):
            diagonal = rows[-1][j - 1]
            choices = [
                diagonal if word == other else _plus(diagonal, _SUBSTITUTED),
                _plus(rows[-1][j], _DELETED),
                _plus(row[-1], _INSERTED),
            ]
            if j > 1 and word == found[j - 2] + other:
                choices.append(rows[-1][j - 2])
            if i > 1 and expected[i - 2] + word == other:
                choices.append(rows[-2][j - 1])
            row.append(min(choices))
        rows.append(row)
    _, substitutions, insertions, deletions = rows[-1][-1]
    return WordErrors(len(expected), substitutions, insertions, deletions)


def _plus(a: _Cost, b: _Cost) -> _Cost:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]


def repeated(said: str, heard: str) -> bool:
    """Whether three words in a row are heard more often than they were to be said."""
    expected, found = _runs(spoken_words(said)), _runs(spoken_words(heard))
    return any(found.count(run) > max(1, expected.count(run)) for run in set(found))


def _runs(words: list[str]) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + 3]) for i in range(len(words) - 2)]


def spoken_words(text: str) -> list[str]:
    """`text` as a reader says it, in words that are always written in one way."""
    digits = _LONG_NUMBER.sub(lambda match: " ".join(match[0]), text.replace("’", "'"))
    plain = normalize(digits, "en").replace("-", " ")
    words = [part for word in normalise_words(plain) for part in _WRITTEN.get(word, word).split()]
    joined = " ".join(_one_spelling(word) for word in words)
    for pattern, replacement in _CONTRACTIONS:
        joined = pattern.sub(replacement, joined)
    return joined.split()


_CLOCK = re.compile(r"(?<![\d,.:])(1[0-2]|[1-9]) ?([0-5]\d)(?![\d,:]|\.\d)")
_LONG_NUMBER = re.compile(r"\b\d{7,}\b")  # a telephone number, which is said digit by digit

_CONTRACTIONS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\bhalf past (\w+)", r"\1 thirty"),
        (r"\b(hundred|thousand) and\b", r"\1"),
        (r"\bcannot\b", "can not"),
        (r"\bcan't\b", "can not"),
        (r"\bwon't\b", "will not"),
        (r"\bshan't\b", "shall not"),
        (r"n't\b", " not"),
        (r"\bi'm\b", "i am"),
        (r"'re\b", " are"),
        (r"'ve\b", " have"),
        (r"'ll\b", " will"),
        (r"\b(it|he|she|that|there|here|what|who|where|how|let)'s\b", r"\1 is"),
        (r"\b(i|you|he|she|we|they)'d\b", r"\1 would"),
        (r"'", ""),
    )
]

_WRITTEN = {
    "grey": "gray", "cheque": "check", "cosy": "cozy", "tyre": "tire", "tyres": "tires",
    "mum": "mom", "okay": "ok", "alright": "all right", "programme": "program", "plough": "plow",
    "jewellery": "jewelry", "pyjamas": "pajamas", "kerb": "curb", "storey": "story",
    "learnt": "learned", "dreamt": "dreamed", "spelt": "spelled", "burnt": "burned",
    "leant": "leaned", "towards": "toward", "afterwards": "afterward", "mr": "mister",
    "mrs": "missus", "dr": "doctor", "vs": "versus", "sceptical": "skeptical", "licence": "license",
    "defence": "defense", "offence": "offense", "metre": "meter", "metres": "meters",
    "centre": "center", "theatre": "theater", "litre": "liter", "litres": "liters",
    "kilometre": "kilometer", "kilometres": "kilometers",
}  # fmt: skip

_BRITISH = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (
            r"^(arm|behavi|col|fav|flav|harb|hon|hum|lab|neighb|od|parl|rum|savi|vap|vig)our",
            r"\1or",
        ),
        (r"(?<=[a-z]{3})is(e|ed|es|ing|ation)$", r"iz\1"),
        (r"(?<=[a-z]{2})yse(d?)$", r"yze\1"),
        (r"ll(ed|ing|er|ers)$", r"l\1"),
        (r"ogue$", "og"),
    )
]


def _one_spelling(word: str) -> str:
    for pattern, replacement in _BRITISH:
        word = pattern.sub(replacement, word)
    return word
