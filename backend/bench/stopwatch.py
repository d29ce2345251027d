"""A clock that runs while what is measured does."""

import time
from collections.abc import Callable

from backend.bench.messages import Took


class Stopwatch:
    """Seconds of the wall clock, and of this process's threads, while it runs."""

    def __init__(self) -> None:
        self.wall_s = self.cpu_s = 0.0
        self._began: tuple[float, float] | None = None

    @property
    def is_running(self) -> bool:
        """It was begun and not ended."""
        return self._began is not None

    def begin(self) -> None:
        """Run from now on."""
        self._began = time.perf_counter(), time.process_time()

    def end(self) -> None:
        """Stand still from now on."""
        assert self._began is not None
        self.wall_s += time.perf_counter() - self._began[0]
        self.cpu_s += time.process_time() - self._began[1]
        self._began = None

    def time(self, work: Callable[[], object]) -> None:
        """Run while `work` is done."""
        self.begin()
        work()
        self.end()

    def took(self, amount: float, way: str = "") -> Took:
        """What `amount` took."""
        return Took(amount, self.wall_s, self.cpu_s, way)
