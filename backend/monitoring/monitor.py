"""One asyncio task that looks at the machine every 100 ms while anything is being synthesised."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import psutil
from loguru import logger

from backend.monitoring.sample import Observed, Sample

INTERVAL_S = 0.1


class Reader(Protocol):
    """What looks at the machine. All its calls block, and come from one thread."""

    def open(self) -> None:
        """Once, before everything else."""

    def start(self) -> None:
        """A synthesis begins on an idle machine."""

    def read(self) -> Sample:
        """Look once."""

    def close(self) -> None:
        """Once, after everything else."""


class Monitor:
    """Hands every sample to each request that is being synthesised when it is taken.

    The task waits for a thread that reads, sleeps and reads again: waking the event loop for every
    sample would cost more than the samples. `record(sample, running)` is called in that thread.
    """

    def __init__(
        self,
        reader: Reader,
        record: Callable[[Sample, int], None],
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._reader, self._record, self._interval_s = reader, record, interval_s
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="monitor")
        self._task: asyncio.Task[None] | None = None
        self._is_closing = threading.Event()
        self._lock = threading.Lock()
        """Held while any of these is changed or gone through."""
        self._watching: dict[int, Observed] = {}
        self._latest: Sample | None = None

    @property
    def is_sampling(self) -> bool:
        """The task is running."""
        return self._task is not None

    async def open(self) -> None:
        """Let the reader find out what it can read."""
        await self._in_thread(self._reader.open)

    def watch(self, observed: Observed) -> None:
        """Add every sample from now on to `observed`."""
        with self._lock:
            self._watching[id(observed)] = observed
        if self._task is None:
            self._task = asyncio.create_task(self._sample(), name="monitor")

    def release(self, observed: Observed) -> None:
        """No more samples for it; one that was too short for any gets the latest."""
        with self._lock:
            was_watched = self._watching.pop(id(observed), None) is not None
            if was_watched and not observed.samples and self._latest is not None:
                observed.add(self._latest)

    async def close(self) -> None:
        """Stop sampling and close the reader."""
        self._is_closing.set()
        if self._task is not None:
            await self._task
        await self._in_thread(self._reader.close)
        self._thread.shutdown(wait=False)

    async def _sample(self) -> None:
        try:
            # A request that comes while the thread is leaving sends it back in.
            while self._watching and not self._is_closing.is_set():
                await self._in_thread(self._look_until_idle)
        except asyncio.CancelledError:
            self._is_closing.set()  # or the thread would go on for ever, and the process with it
            raise
        except (OSError, psutil.Error) as error:
            # The next synthesis tries again; this one goes on without samples.
            logger.warning("The machine's load cannot be read: {}", error)
        finally:
            self._task = None

    async def _in_thread(self, call: Callable[[], None]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _look_until_idle(self) -> None:
        """In the thread: a sample every `interval_s` as long as anybody is watched."""
        self._reader.start()
        next_s = time.monotonic()
        while self._watching:
            sample = self._reader.read()
            with self._lock:
                self._latest = sample
                running = len(self._watching)
                for observed in self._watching.values():
                    observed.add(sample)
            self._record(sample, running)
            # A machine too busy to keep up gets fewer samples, not a burst of them later.
            next_s = max(next_s + self._interval_s, time.monotonic())
            if self._is_closing.wait(next_s - time.monotonic()):
                break
        with self._lock:
            self._latest = None
