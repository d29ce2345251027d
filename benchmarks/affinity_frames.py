"""Frames of one row, each timed; imported once the process is pinned, for it brings torch."""

import time

from backend.bench.computing import Computing
from backend.worker.messages import WorkerConfig


class Frames(Computing):
    """A row that goes on from one burst to the next; one that ends is replaced untimed."""

    def __init__(self, config: WorkerConfig, context: int) -> None:
        super().__init__(config)
        self.way = self.hello.way
        self._told = self._prompt(context)
        self._row = self._add(self._told)

    def times_ms(self, seconds: float) -> list[float]:
        """Milliseconds of each frame within about `seconds`, one at least."""
        times: list[float] = []
        until_s = time.perf_counter() + seconds
        while not times or time.perf_counter() < until_s:
            if self._row.finish is not None:
                self._row = self._add(self._told)
            is_reading = self._row.read_tokens < self._row.prompt_tokens
            began_s = time.perf_counter()
            self._step()
            if not is_reading:
                times.append(round(1000 * (time.perf_counter() - began_s), 4))
        return times
