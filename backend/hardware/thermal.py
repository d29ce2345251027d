"""When a machine will throttle, and how far what computes steps back before it does. Pure.

A chip that throttles drops its clock at once and far. Fewer threads, or fewer rows on a GPU, give
off less heat, and what they lose is lost gently: they step back while there is still time, one step
after another, and forward again, ever more seldom, where a step forward had to be taken back.
"""

import math
import operator
import statistics
from collections import deque

from backend.thermometer import Heat

RASPBERRY_PI_C = 80.0
"""Where its firmware begins to lower the clock; at 85 °C it does so as far as it can. What the
kernel tells of it (110 °C) is where it turns itself off."""

GUARD_C = 2.0
"""Degrees below throttling at which it is as good as there: sensors are coarse, and they lag."""
NEAR_C = 10.0
"""Farther from the guard nothing is predicted to happen: a load that begins heats any chip by
20 °C within seconds, and then hardly any more."""
HORIZON_S = 20.0
"""What is expected sooner is acted upon."""
RELEASE_C, MORE_C = 8.0, 3.0
"""Degrees below the guard at which a step may be given back, and how many more it takes than where
giving it back was regretted."""
SETTLE_S = 8.0
"""After a step, or after work has begun, the chip itself goes up or down at once; only then does a
trend tell how the heat sink goes."""
HOT_S, PRESSURE_S = 4.0, 30.0
"""Between two steps back while the guard is reached, and with macOS's pressure, which lags."""
HOLD_S, LONGEST_HOLD_S = 60.0, 1920.0
"""Between a step and giving one back; doubled each time that one given back is taken again."""
REGRET_S = 600.0
"""A step back that comes sooner than this after a step forward takes that one back."""
IDLE_S = 10.0
"""So long without work, the machine cools for another reason than what we do."""
LOST_S = 60.0
"""A sensor that has not answered for so long is no reason any more."""
STUCK_S = 180.0
"""A reading that has not changed by a digit for so long, whatever was lowered, is none."""

WINDOW_S, LEAST_SPAN_S, LONGEST_GAP_S = 60.0, 8.0, 15.0
"""Readings that a trend is made of, the fewest that make one, and the pause that ends one."""
LONGEST_S = 240.0
"""Farther ahead than four times the readings that it is made of, a trend says nothing."""
_LEAST_FALL_C = 1.0
"""Headroom that has shrunk by less within the window has not shrunk: sensors round, and tremble."""
_ALIKE, _EXACT_C2 = 4.0, 1e-6
"""Curves fit alike whose squares differ by so many times what one reading errs by, squared."""
_TAUS_S = (math.inf, *(1280.0 / 2**halved for halved in range(9)))
"""Time constants of a rise that are tried, the straight line first."""


def board_throttles_at_c(board: str) -> float | None:
    """Where that board throttles, if it is one whose kernel does not tell."""
    return RASPBERRY_PI_C if board.startswith("Raspberry Pi") else None


def ladder(planned: int) -> tuple[int, ...]:
    """From what is planned (threads, or rows) down to 1, each step a quarter less."""
    steps = [planned]
    while steps[-1] > 1:
        steps.append(steps[-1] - max(1, steps[-1] // 4))
    return tuple(steps)


class Trend:
    """The headroom of the last minute, and when it will be used up.

    Fits `headroom = a - b · (1 - exp(-t / tau)) · tau`, a body that warms up by its first-order
    law, and of those that fit alike the straightest. Each reading is the median of three: one that
    jumps counts for nothing.
    """

    def __init__(self) -> None:
        self._raw: deque[tuple[float, float]] = deque(maxlen=3)
        self._points: deque[tuple[float, float]] = deque()
        self._from_s = -math.inf
        self._fitted: tuple[float, float, float] | None = None

    @property
    def headroom_c(self) -> float | None:
        """The last that is believed, in °C."""
        if not self._raw:
            return None
        return statistics.median(headroom for _, headroom in self._raw)

    def restart(self, from_s: float = -math.inf) -> None:
        """What was read until `from_s` says nothing about what follows."""
        self._points.clear()
        self._fitted, self._from_s = None, from_s

    def add(self, at_s: float, headroom_c: float) -> None:
        """One reading; one that is no later than the last is none."""
        if self._raw and at_s <= self._raw[-1][0]:
            return
        if self._raw and at_s - self._raw[-1][0] > LONGEST_GAP_S:
            self._raw.clear()
            self._points.clear()
        self._raw.append((at_s, headroom_c))
        if len(self._raw) < 3 or self._raw[0][0] < self._from_s:
            return
        believed = self.headroom_c
        assert believed is not None
        self._fitted = None
        self._points.append((self._raw[1][0], believed))
        while self._points[-1][0] - self._points[0][0] > WINDOW_S:
            self._points.popleft()

    def seconds_until(self, now_s: float, headroom_c: float = 0.0) -> float | None:
        """Seconds from `now_s` until no more than `headroom_c` is left; None where that is not to
        be expected within `LONGEST_S`, or nothing is known."""
        believed = self.headroom_c
        if believed is None:
            return None
        if believed <= headroom_c:
            return 0.0
        if not self._points or self._points[-1][0] - self._points[0][0] < LEAST_SPAN_S:
            return None
        start_s = self._points[0][0]
        if self._fitted is None:
            self._fitted = self._fit()
        tau_s, a, b = self._fitted
        if b * _warmed(self._points[-1][0] - start_s, tau_s) < _LEAST_FALL_C:
            return None
        wanted = (a - headroom_c) / b
        if wanted >= tau_s:
            return None
        after_s = wanted if math.isinf(tau_s) else -tau_s * math.log1p(-wanted / tau_s)
        remaining_s = start_s + after_s - now_s
        return max(0.0, remaining_s) if remaining_s <= LONGEST_S else None

    def _fit(self) -> tuple[float, float, float]:
        """(tau, a, b) of the straightest curve that errs hardly more than the best."""
        start_s = self._points[0][0]
        times = [at_s - start_s for at_s, _ in self._points]
        values = [headroom for _, headroom in self._points]
        fits = [(tau_s, *_line([_warmed(t, tau_s) for t in times], values)) for tau_s in _TAUS_S]
        best = min(error for *_, error in fits)
        most = best * (1 + _ALIKE / len(values)) + _EXACT_C2
        return next((tau_s, a, b) for tau_s, a, b, error in fits if error <= most)


def _warmed(t_s: float, tau_s: float) -> float:
    """What a first-order body has done of its way after `t_s`, in seconds at its first pace."""
    return t_s if math.isinf(tau_s) else -tau_s * math.expm1(-t_s / tau_s)


def _line(xs: list[float], ys: list[float]) -> tuple[float, float, float]:
    """(a, b, summed square of errors) of `y = a - b · x` by least squares."""
    mean_x, mean_y = statistics.fmean(xs), statistics.fmean(ys)
    dx, dy = [x - mean_x for x in xs], [y - mean_y for y in ys]
    together = sum(map(operator.mul, dx, dy))
    b = -together / sum(map(operator.mul, dx, dx))
    error = sum(map(operator.mul, dy, dy)) + b * together
    return mean_y + b * mean_x, b, max(0.0, error)


class Governor:
    """How many steps of a ladder to stand back, told every few seconds how hot it is.

    It acts while the worker has something to do: nothing is cooled by lowering what does not run.
    """

    def __init__(self, steps: int) -> None:
        """`steps`: how far it can stand back; 0 only predicts."""
        self._steps = steps
        self.level = 0
        """Steps that it stands back now."""
        self.trend = Trend()
        self.heat: Heat | None = None
        """The last reading; None where nobody has answered for a while."""
        self.expected_s: float | None = None
        """Seconds until throttling that the last step back was taken for."""
        self._changed_s = self._busy_s = self._seen_s = -math.inf
        self._raised: tuple[float, float] | None = None
        """When a step was given back last under load, and the degrees that were left then."""
        self._hold_s, self._release_c = HOLD_S, RELEASE_C
        self._value_c: float | None = None
        self._same_since_s = self._lowered_since_s = 0.0
        self.is_stuck = False
        """The sensor tells the same whatever is done: it is not believed until it changes."""

    def step(self, now_s: float, heat: Heat | None, is_busy: bool) -> int:
        """The level to go on with, at most one from the last; all but for a sensor that lies."""
        if is_busy:
            if self._is_idle(now_s):  # how it cooled says nothing about how it will warm up
                self.trend.restart(now_s + SETTLE_S)
            self._busy_s = now_s
        self._take(now_s, heat)
        if self.is_stuck:
            self._move(now_s, 0)
        elif self.level < self._steps and is_busy and self._must_lower(now_s):
            self._lower(now_s)
        elif self.level > 0 and self._may_raise(now_s):
            self._raise(now_s)
        return self.level

    def seconds_until_throttling(self, now_s: float) -> float | None:
        """None where it is not to be expected, or nothing is known; 0 while it throttles."""
        if self.heat is None or self.is_stuck:
            return None
        if self.heat.pressure is not None:
            return 0.0 if self.heat.pressure > 0 else None
        return self.trend.seconds_until(now_s)

    def _take(self, now_s: float, heat: Heat | None) -> None:
        if heat is None:
            if now_s - self._seen_s >= LOST_S:
                self.heat = None
            return
        self.heat, self._seen_s = heat, now_s
        if heat.temperature_c != self._value_c:
            self._value_c, self._same_since_s, self.is_stuck = heat.temperature_c, now_s, False
        elif self.level and heat.temperature_c is not None and self._is_unmoved(now_s):
            self.is_stuck = True
        if heat.headroom_c is not None:
            self.trend.add(now_s, heat.headroom_c)

    def _is_unmoved(self, now_s: float) -> bool:
        """Nothing that was done has moved the sensor by a digit."""
        is_older = self._same_since_s <= self._lowered_since_s
        return is_older and now_s - self._lowered_since_s >= STUCK_S

    def _must_lower(self, now_s: float) -> bool:
        heat, since_s = self.heat, now_s - self._changed_s
        if heat is None:
            return False
        if heat.pressure is not None:
            return heat.pressure > 0 and since_s >= PRESSURE_S
        left_c = self._left_c()
        if left_c is None or left_c > NEAR_C:
            return False
        if left_c <= 0:
            return since_s >= HOT_S
        until_s = self.trend.seconds_until(now_s, GUARD_C)
        return until_s is not None and until_s < HORIZON_S

    def _may_raise(self, now_s: float) -> bool:
        hold_s = HOLD_S if self._is_idle(now_s) else self._hold_s
        return now_s - self._changed_s >= hold_s and self._is_cool(now_s)

    def _is_cool(self, now_s: float) -> bool:
        if self.heat is None:
            return True
        if self.heat.pressure is not None:
            return self.heat.pressure == 0
        left_c = self._left_c()
        if left_c is None:
            return True
        return left_c >= self._release_c and self.trend.seconds_until(now_s, GUARD_C) is None

    def _left_c(self) -> float | None:
        """Degrees until the guard."""
        if self.heat is None or self.heat.headroom_c is None or self.trend.headroom_c is None:
            return None
        return self.trend.headroom_c - GUARD_C

    def _lower(self, now_s: float) -> None:
        if self._raised is not None:
            raised_s, left_c = self._raised
            is_regretted = now_s - raised_s < REGRET_S
            self._hold_s = min(2 * self._hold_s, LONGEST_HOLD_S) if is_regretted else HOLD_S
            self._release_c = left_c + MORE_C if is_regretted else RELEASE_C
            self._raised = None
        if self.level == 0:
            self._lowered_since_s = now_s
        self.expected_s = self.seconds_until_throttling(now_s)
        self._move(now_s, self.level + 1)

    def _raise(self, now_s: float) -> None:
        if self._is_idle(now_s):
            self._raised, self._hold_s, self._release_c = None, HOLD_S, RELEASE_C
        else:
            self._raised = now_s, self._left_c() or 0.0
        self._move(now_s, self.level - 1)

    def _move(self, now_s: float, level: int) -> None:
        if level != self.level:
            self.level, self._changed_s = level, now_s
            # The chip itself answers within seconds; what follows is the heat sink's new way.
            self.trend.restart(now_s + SETTLE_S)

    def _is_idle(self, now_s: float) -> bool:
        return now_s - self._busy_s >= IDLE_S
