"""What clients can make happen thousands of times a second, told once in a while."""

import time

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
