"""What a prediction is made from: a text as it was sent, and what it is spoken with. Pure."""

import math
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from backend.core import LANGUAGES, Plan
from backend.model.reading import expected_s, wide_share

Target = Literal["frames", "seconds", "memory"]
TARGETS: tuple[Target, ...] = ("frames", "seconds", "memory")
"""What is predicted: frames of speech, seconds that a request takes alone, the worker's peak."""

_SAMPLE = 2000
"""Characters that are looked at for the script of a text."""
_COMMON = 8.0
"""Weights are expected to be small: what all cases have in common has a large feature, so that it
needs no large one, and is not shared out among languages."""
_NAME_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class Case:
    """A request before it is spoken."""

    characters: int
    """To speak, as they were sent."""
    wide_share: float = 0.0
    """Of them, as `reading.wide_share` counts."""
    digit_share: float = 0.0
    language: str = ""
    """Whose rules it is read by; "" is not known."""
    script: str = ""
    """Of most of its letters, as Unicode calls it in small letters; "" is not known."""
    reference_s: float = 0.0
    """Seconds of recordings that it is spoken after."""
    chunk_length: int = 0
    """Characters of one piece, at most; 0 is not known."""
    strategy: str = ""
    """The plan, as `X-Optimization-Strategy` says."""
    num_threads: int = 1

    @property
    def reading_s(self) -> float:
        """Seconds of an unhurried reading, which predictions are a multiple of."""
        return expected_s(max(1, self.characters), self.wide_share)

    def features(self) -> dict[str, float]:
        """What a linear model of the logarithm of that multiple looks at, all but the common one
        about 1 at most."""
        pieces = math.ceil(self.characters / self.chunk_length) if self.chunk_length else 1
        named = {
            "language": self.language if self.language in LANGUAGES else "",
            "script": self.script if self.script.isalpha() else "",
            "plan": self.strategy,
        }
        return {
            "any": _COMMON,
            "short": 1 / (1 + self.reading_s),
            "long": math.log1p(self.reading_s) / 4,
            "pieces": math.log(max(1, pieces)) / 4,
            "wide": self.wide_share,
            "digits": self.digit_share,
            "reference": min(1.0, self.reference_s / 30),
            "threads": math.log2(max(1, self.num_threads)) / 4,
        } | {f"{name}={value[:_NAME_CHARACTERS]}": 1.0 for name, value in named.items() if value}


@dataclass(frozen=True, slots=True)
class Formula:
    """What is expected of a case without anything learned."""

    seconds: float
    """Spoken alone."""
    frames: float
    memory_mb: float
    """The worker's peak, in MiB."""

    def base(self, target: Target, case: Case) -> float:
        """What a model of `target` predicts a multiple of."""
        return self.memory_mb if target == "memory" else case.reading_s

    def of(self, target: Target) -> float:
        """The one of that name."""
        return {"frames": self.frames, "seconds": self.seconds, "memory": self.memory_mb}[target]


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What was known of a request before it was spoken."""

    case: Case
    formula: Formula


def case_of(text: str, language: str, plan: Plan, reference_s: float = 0.0) -> Case:
    """The case of `text`, spoken by `plan`."""
    characters = max(1, len(text))
    return Case(
        len(text),
        wide_share(text),
        sum(map(str.isdigit, text)) / characters,
        language,
        script_of(text),
        reference_s,
        plan.chunk_length.value,
        plan.strategy,
        plan.num_threads.value,
    )


def script_of(text: str) -> str:
    """The script of most letters of `text`, latin say; "" where it has none."""
    if text.isascii():
        return "latin" if any(map(str.isalpha, text[:_SAMPLE])) else ""
    letters = Counter(filter(str.isalpha, text[:_SAMPLE]))
    scripts: Counter[str] = Counter()
    for letter, number in letters.items():
        scripts[unicodedata.name(letter, "").partition(" ")[0].lower()] += number
    script, _ = max(scripts.items(), key=lambda item: item[1], default=("", 0))
    return script
