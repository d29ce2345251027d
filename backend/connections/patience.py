"""How long the server waits for a client that should send, or should read."""

import asyncio
import math
from collections.abc import Callable

_LOOKS = 8
"""How often it is looked at within the whole of it."""


class Patience:
    """Ends where a client moves nothing for `whole_s`, or less than `bytes_per_s` for long.

    Time passes, and each byte that is moved buys some back, up to the whole: a slow client is
    waited for, one that sends a lot and then stops is not.

    `moved` says how many bytes were moved so far, `math.inf` while it is not the client's turn, and
    None once nothing is awaited any more; `ended` is called once when patience has ended.
    """

    def __init__(
        self,
        whole_s: float,
        bytes_per_s: float,
        moved: Callable[[], float | None],
        ended: Callable[[], None],
    ) -> None:
        self._whole_s, self._bytes_per_s = whole_s, bytes_per_s
        self._moved, self._ended = moved, ended
        self._timer: asyncio.TimerHandle | None = None
        self._left_s = whole_s
        self._seen_bytes = 0.0

    def start(self) -> None:
        """Begin to wait, unless it is being waited already."""
        if self._timer is None:
            self._left_s = self._whole_s
            moved = self._moved()
            self._seen_bytes = moved if moved is not None and moved < math.inf else 0.0
            self._wait()

    def stop(self) -> None:
        """Wait no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._whole_s / _LOOKS, self._look)

    def _look(self) -> None:
        self._timer = None
        moved = self._moved()
        if moved is None:
            return
        earned_s = (moved - self._seen_bytes) / self._bytes_per_s
        if moved < math.inf:
            self._seen_bytes = moved
        self._left_s = min(self._whole_s, self._left_s - self._whole_s / _LOOKS + earned_s)
        if self._left_s > self._whole_s / (2 * _LOOKS):
            self._wait()
        else:
            self._ended()
