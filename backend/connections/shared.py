"""What all connections of a server share."""

import time
from dataclasses import dataclass, field

from loguru import logger

from backend.connections.limits import Limits
from backend.connections.quota import Quota

_LOG_EVERY_S = 10.0


@dataclass(slots=True)
class Seldom:
    """Says what may happen thousands of times a second, once in a while."""

    _next_s: dict[str, float] = field(default_factory=dict)
    _unsaid: dict[str, int] = field(default_factory=dict)

    def warn(self, what: str) -> None:
        """Log `what`, one of a few fixed texts, and how often it went unsaid since last time."""
        now_s = time.monotonic()
        if now_s < self._next_s.get(what, 0.0):
            self._unsaid[what] = self._unsaid.get(what, 0) + 1
            return
        self._next_s[what] = now_s + _LOG_EVERY_S
        unsaid = self._unsaid.pop(what, 0)
        logger.warning("{}{}", what, f" ({unsaid} more since the last such line)" if unsaid else "")


class Shared:
    """The limits, who has what of them, and whether the server stops."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.places = Quota(limits.connections, limits.connections_per_address)
        self.uploads = Quota(limits.uploads_bytes, limits.uploads_bytes_per_address)
        self.seldom = Seldom()
        self.is_stopping = False
