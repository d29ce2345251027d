"""How fast text is spoken, and how long it will take: expected at first, then measured."""

import math
from dataclasses import dataclass

CHARACTERS_PER_AUDIO_S = 15.0
"""Of a second of speech, as the shipped voice says it: what is expected until it is measured."""

_EXPECTED_S = 10.0
"""Seconds of speaking that the expected speed counts for, until more is measured."""
_EXPECTED_AUDIO_S = 2.0
"""Seconds of speech that the expected pace counts for, likewise."""
_FADING_S = 120.0
"""After so many seconds of speaking, or of speech, what was measured counts 1/e."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """How long a text will take, spoken alone, and how long its speech will be."""

    expected_s: float
    audio_s: float
    is_measured: bool
    """Something was spoken already; else both are what is expected of such a machine."""
    is_learned: bool = False
    """Earlier requests like it teach how long it takes."""

    @property
    def speed(self) -> str:
        """What it rests on: expected, measured or learned."""
        return "learned" if self.is_learned else "measured" if self.is_measured else "expected"


class Speed:
    """Characters spoken per second in which anything was being spoken; the latest count most.

    Beside it, characters per second of the speech that came of them.
    """

    def __init__(self, expected_per_s: float) -> None:
        self._seconds = _EXPECTED_S
        self._characters = self._weight = expected_per_s * _EXPECTED_S
        self._audio_s = _EXPECTED_AUDIO_S
        self._heard_characters = CHARACTERS_PER_AUDIO_S * _EXPECTED_AUDIO_S
        self._is_measured = False

    @property
    def characters_per_s(self) -> float:
        """Above 0, so that what is ahead can be divided by it."""
        return max(1.0, self._characters) / self._seconds

    @property
    def weight_per_s(self) -> float:
        """The same, each character as heavy as it was foreseen; above 0."""
        return max(1.0, self._weight) / self._seconds

    def expect(self, characters_per_s: float) -> None:
        """Something better is known to expect, until it is measured."""
        if not self._is_measured:
            self._characters = self._weight = characters_per_s * self._seconds

    def passed(self, seconds: float) -> None:
        """Something was being spoken for so long."""
        fading = math.exp(-seconds / _FADING_S)
        self._seconds = self._seconds * fading + seconds
        self._characters *= fading
        self._weight *= fading

    def spoke(self, characters: int, audio_s: float, weight: float = 1.0) -> None:
        """So much of it is spoken, and so long it is; each character is as heavy as `weight`."""
        self._characters += characters
        self._weight += characters * weight
        fading = math.exp(-audio_s / _FADING_S)
        self._audio_s = self._audio_s * fading + audio_s
        self._heard_characters = self._heard_characters * fading + characters
        self._is_measured = True

    def forecast(self, characters: int) -> Forecast:
        """What so many characters will take."""
        return Forecast(
            characters / self.characters_per_s,
            characters * self._audio_s / max(1.0, self._heard_characters),
            self._is_measured,
        )
