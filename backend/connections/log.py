"""What clients can make the server log, within bounds."""

import logging
import time
from collections.abc import Callable

from loguru import logger

_EVERY_S = 10.0


class Seldom:
    """Says what may happen thousands of times a second, once in a while."""

    def __init__(self) -> None:
        self._next_s: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def warn(self, what: str) -> None:
        """Log `what`, one of a few fixed texts, and how often it went unsaid since last time."""
        now_s = time.monotonic()
        if now_s < self._next_s.get(what, 0.0):
            self._unsaid[what] = self._unsaid.get(what, 0) + 1
            return
        self._next_s[what] = now_s + _EVERY_S
        unsaid = self._unsaid.pop(what, 0)
        logger.warning("{}{}", what, f" ({unsaid} more since the last such line)" if unsaid else "")


class LinePace:
    """Lets so many lines a second into a log; a second's worth may come at once."""

    def __init__(self, lines_per_s: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._line_s, self._clock = 1 / lines_per_s, clock
        self._written_s = 0.0
        """When all lines so far would have come, had they come no faster than they may."""
        self._left_out = 0

    def left_out(self) -> int | None:
        """How many lines were left out before this one; None where it is left out, too."""
        now_s = self._clock()
        if self._written_s > now_s:
            self._left_out += 1
            return None
        self._written_s = max(self._written_s, now_s - 1.0) + self._line_s
        left_out, self._left_out = self._left_out, 0
        return left_out

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether `logging` writes that record."""
        return self.left_out() is not None
