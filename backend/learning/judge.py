"""Predictions against what came, one request after another: whether they are believed, and how much
slower the machine is just now than when it was learned. Pure."""

import math
import statistics
from collections import deque

from backend.learning.case import Formula, Target
from backend.learning.learned import MOST_TIMES

JUDGED, LEAST_JUDGED = 20, 4
"""The last requests that tell whether a prediction is still the better one."""
WORSE = 1.1
"""Times the formula's errors from which it is not."""
LATELY = 9
"""The last requests whose median tells how far off seconds are just now: a machine that others use
too, or that is hot, is slower for minutes."""


class Judge:
    """Of one target."""

    def __init__(self, target: Target) -> None:
        self._target: Target = target
        self._errors: deque[tuple[float, float]] = deque(maxlen=JUDGED)
        self._off: deque[float] = deque(maxlen=LATELY if target == "seconds" else 0)

    def told(self, learned: float, formula: Formula) -> float:
        """What is predicted where `learned` was, as things are just now; near `formula`."""
        lately = math.exp(statistics.median(self._off)) if self._off else 1.0
        usual = formula.of(self._target)
        return min(max(learned * lately, usual / MOST_TIMES), usual * MOST_TIMES)

    def hear(self, learned: float, formula: Formula, truth: float) -> None:
        """One more came to `truth`; all above 0."""
        told, usual = self.told(learned, formula), formula.of(self._target)
        self._errors.append((abs(math.log(told / truth)), abs(math.log(usual / truth))))
        self._off.append(math.log(truth / learned))

    @property
    def is_content(self) -> bool:
        """The predictions err no more than the formula, as far as that can be said."""
        told = sum(error for error, _ in self._errors)
        usual = sum(error for _, error in self._errors)
        return len(self._errors) < LEAST_JUDGED or told <= WORSE * usual
