"""A worker that nobody asks ends: its memory is the system's until the next request starts it."""

import asyncio
from collections.abc import Awaitable, Callable

from loguru import logger

from backend.core import EngineInfo
from backend.serving.quiet import Quiet
from backend.serving.tasks import end
from backend.worker.client import WorkerClient


class Resting:
    """Ends `worker` where nobody was inside for `after_s`; 0 never ends it.

    `ready` waits until a worker that was started can speak. `check` raises where there is no memory
    for one now.
    """

    def __init__(
        self,
        worker: WorkerClient,
        quiet: Quiet,
        after_s: float,
        ready: Callable[[], Awaitable[EngineInfo]],
        check: Callable[[], None],
    ) -> None:
        self._worker, self._quiet, self._after_s = worker, quiet, after_s
        self._ready, self._check = ready, check
        self._lock = asyncio.Lock()
        self._is_waking = False
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look whether anybody asks; returns at once."""
        if self._after_s:
            self._task = asyncio.create_task(self._run(), name="resting")

    async def close(self) -> None:
        """End it no more."""
        await end(self._task)

    @property
    def is_asleep(self) -> bool:
        """The worker has ended because nobody asked, or is being started again."""
        is_ended = self._worker.state.phase == "unloaded"
        return self._is_waking or is_ended or self._lock.locked()

    async def awake(self) -> float:
        """Have the worker started where it has ended; seconds that this waited for it.

        Raises `EngineDown` where it cannot be, `NotEnoughMemory` where others have the memory now.
        """
        if not self.is_asleep:
            return 0.0
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        async with self._lock:
            if self._worker.state.phase == "unloaded":
                self._check()
                self._worker.start()
                self._is_waking = True
                self._woken.set()
            if self._is_waking:
                await self._ready()
                self._is_waking = False
        return loop.time() - began_s

    async def _run(self) -> None:
        while True:
            await self._quiet.reached(self._after_s)
            async with self._lock:
                worker = self._worker
                if worker.state.phase == "ready" and not worker.is_at_work:
                    logger.info("Nobody has asked for {:g} s: the worker ends.", self._after_s)
                    self._woken.clear()
                    reason = f"nobody has asked for {self._after_s:g} s"
                    await _finished(asyncio.create_task(worker.unload(reason), name="unload"))
            if self._worker.state.phase == "unloaded":
                await self._woken.wait()


async def _finished(task: asyncio.Task[None]) -> None:
    """Wait for `task` even when cancelled meanwhile: half of an end leaves a process behind."""
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
