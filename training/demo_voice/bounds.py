"""What the shipped voice must be: the only place where its bounds stand.

`MUST` is what `evaluate` prints beside its figures. `CI` is what `tests/e2e/test_voice.py` holds on
few sentences, so with room for chance.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Bound:
    """A figure of the evaluation and what it must be."""

    what: str
    limit: float
    side: Literal["at most", "at least"] = "at most"
    shown: str = ".1%"
    """How its figure is written."""

    def holds(self, value: float) -> bool:
        return value <= self.limit if self.side == "at most" else value >= self.limit

    def write(self, value: float) -> str:
        return format(value, self.shown)


MUST = {
    "wer": Bound("word errors, everyday sentences", 0.05),
    "wer_long": Bound("word errors, long ones, numbers, names, questions", 0.08),
    "whole": Bound("ended by itself, nothing repeated or dropped", 0.995, "at least"),
    # WORLD's Harvest, which finds a pitch in most breaths too, says 3.1 of the teacher and 3.0 of
    # the shipped voice where `pitch.py` says 2.5 and 2.4: 2.7 there is 2.2.
    "pitch_deviation": Bound("pitch deviation in a sentence, semitones", 2.2, "at least", ".2f"),
    "distance_ratio": Bound("distance to the teacher / the codec's", 1.6, shown=".2f"),
    "wer_elsewhere": Bound("word errors, following recordings from elsewhere", 0.12),
    "right_speaker": Bound("unseen speaker followed: right one of 20", 0.85, "at least"),
    "pitch_rank": Bound("pitch rank correlation", 0.95, "at least", ".3f"),
    "octave_kept": Bound("voices under 110 Hz that keep their octave", 1.0, "at least"),
    "defects": Bound("sentences of 100 with clicks, DC, hum or a level step", 0, shown=".0f"),
    "rtf": Bound("seconds of one core for a second of speech", 0.4, shown=".2f"),
}

CI = {
    "wer": Bound("word errors, everyday sentences", 0.07),
    "whole": Bound("ended by itself, nothing repeated or dropped", 0.95, "at least"),
    "pitch_deviation": Bound("pitch deviation in a sentence, semitones", 2.0, "at least", ".2f"),
    "defects": Bound("sentences with clicks, DC, hum or a level step", 1, shown=".0f"),
}

MOST_MISHEARD = 0.2
"""Share of the words of a sentence or three, where tests listen to what a route answers."""
