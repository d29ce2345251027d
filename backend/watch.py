"""The last reading of something slow to read: a thread reads, and a look never waits."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

IDLE_S = 2.0
"""Between two readings that nobody looks at: an idle machine is hardly woken, and the first look
finds a reading that is no older."""


@dataclass(frozen=True, slots=True)
class Look(Generic[T]):
    """One reading, and when it was begun, by the watch's clock."""

    value: T
    at_s: float


class Watch(Generic[T]):
    """Reads every `interval_s` while somebody looks, every `IDLE_S` else.

    `read` and, after the last one, `ended` are called in one thread of its own, a daemon: a reading
    that never ends holds nobody up, and only makes the last one old.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[], T],
        interval_s: float,
        ended: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read, self._ended, self._interval_s, self._clock = read, ended, interval_s, clock
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._is_started = False
        self._closing, self._looked, self._has_read = (threading.Event() for _ in range(3))
        self._latest: Look[T] | None = None

    def start(self) -> None:
        """Begin to read; a second call does nothing."""
        if not self._is_started:
            self._is_started = True
            self._thread.start()

    def latest(self) -> Look[T] | None:
        """The last reading; None before the first. The next is taken soon."""
        self._looked.set()
        return self._latest

    def age_s(self, look: Look[T]) -> float:
        """Seconds since `look` was taken."""
        return self._clock() - look.at_s

    def first(self, timeout_s: float) -> Look[T] | None:
        """The last reading; blocks until there is one, for at most `timeout_s`."""
        self._has_read.wait(timeout_s)
        return self.latest()

    def close(self) -> None:
        """Read no more, once the reading that is under way is over. Does not wait for that."""
        self._closing.set()
        self._looked.set()

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._looked.clear()
                at_s = self._clock()
                self._latest = Look(self._read(), at_s)
                self._has_read.set()
                if not self._closing.wait(self._interval_s):
                    self._looked.wait(IDLE_S - self._interval_s)
        finally:
            self._ended()
