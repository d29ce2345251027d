"""Going on with less where memory runs short all the same, and with as much as planned again."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from loguru import logger

from backend.core import EngineInfo, ReferenceCodes
from backend.errors import EngineDown, OutOfMemory, ShoalError, SteppedDown, WorkerKilled
from backend.hardware.ladder import Footing, Ladder
from backend.serving.tasks import end
from backend.worker.client import Take, WorkerClient
from backend.worker.messages import DecodeCodes, Done, EncodeVoice, Speak

TICK_S = 1.0
LATEST_S = 60.0
"""A worker that is to be loaded anew is let finish what it speaks for so long."""

_TELLING = ("ready", "silent", "unloaded")
"""Phases of a worker in which what is free says whether memory is short."""

T = TypeVar("T")


class Ground(Protocol):
    """What stands on the ladder, as a lane does."""

    async def stand_on(self, footing: Footing, reason: str) -> None:
        """Go on with it; may raise what says that it cannot be."""

    def is_short(self) -> bool:
        """Less memory is free than was promised, or not enough for a few words."""

    def fits(self, footing: Footing) -> bool:
        """Whether a worker that is loaded so would fit what is free."""

    async def awake(self) -> float:
        """Have the worker started, if it was ended; seconds that took."""


class Shortage:
    """Speaks through `worker`, and steps down where that fails for want of memory.

    What was not heard yet may then be tried again, which `SteppedDown` says. A step that needs the
    worker loaded anew lets it finish what it is at, and holds back what follows. It is taken back
    only while nothing is at work.
    """

    def __init__(
        self,
        worker: WorkerClient,
        footings: tuple[Footing, ...],
        ground: Ground,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._worker, self._footings, self._ground, self._clock = worker, footings, ground, clock
        self._ladder = Ladder(len(footings) - 1)
        self._moving: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._reason = ""
        self.suspects = worker.suspects
        worker.on_lost = self._lost

    @property
    def level(self) -> int:
        """Steps below the plan."""
        return self._ladder.level

    @property
    def steps_down(self) -> int:
        """Taken so far."""
        return self._ladder.steps_down

    @property
    def is_moving(self) -> bool:
        """Another step is being taken, for which the worker may be loaded anew."""
        return self._moving is not None

    @property
    def footing(self) -> Footing:
        """What is gone on with."""
        return self._footings[self.level]

    def start(self) -> None:
        """Begin to look; returns at once."""
        self._task = asyncio.create_task(self._run(), name="shortage")

    async def close(self) -> None:
        """Look no more, and move no more."""
        await end(self._task, self._moving)
        self._task = self._moving = None

    def status(self) -> dict[str, Any]:
        """For `GET /system-status`."""
        return {
            "level": self.level,
            "step": self.footing.step or None,
            "says": self.footing.says,
            "reason": self._reason,
            "steps": [each.step for each in self._footings[1:]],
            "steps_down": self._ladder.steps_down,
            "steps_up": self._ladder.steps_up,
        }

    # -- what speaks: `sentence.Speaker` ----------------------------------------------------------

    async def ready(self) -> EngineInfo:
        """Wait until the worker stands where it is to stand, and can speak; `EngineDown`."""
        await self._ground.awake()
        while self._moving is not None:
            await asyncio.wait({self._moving})
        return await self._worker.ready()

    async def speak(self, speak: Speak, take: Take) -> Done:
        """As the worker does; `SteppedDown` where it may be tried again with less."""
        return await self._held(lambda: self._worker.speak(speak, take))

    async def encode(self, encode: EncodeVoice) -> ReferenceCodes:
        """As the worker does; again with less, where memory runs short."""
        while True:
            await self.ready()
            with suppress(SteppedDown):
                return await self._held(lambda: self._worker.encode(encode))

    async def decode(self, decode: DecodeCodes) -> bytes:
        """As the worker does; again with less, where memory runs short."""
        while True:
            await self.ready()
            with suppress(SteppedDown):
                return await self._held(lambda: self._worker.decode(decode))

    async def _held(self, work: Callable[[], Awaitable[T]]) -> T:
        level = self.level
        try:
            return await work()
        except OutOfMemory as error:
            if self.level == level:
                self._step_down(str(error))
            if self.level <= level:
                raise  # nothing is left to be given up
            raise self._stepped(error) from error
        except EngineDown as error:
            if self.level <= level:
                raise
            raise self._stepped(error) from error

    def _stepped(self, error: ShoalError) -> SteppedDown:
        return SteppedDown(f"{error} It goes on with {self.footing.says}.", self.footing.step)

    # -- up and down ------------------------------------------------------------------------------

    async def tick(self) -> None:
        """Look once at what others have left, and go by it."""
        now_s = self._clock()
        if self._moving is not None or self._worker.state.phase not in _TELLING:
            self._ladder.wait(now_s)
        elif self._ladder.is_wanting(now_s, self._ground.is_short()):
            self._step_down("other programs have taken the memory")
        elif self._ladder.is_clear(now_s):
            above = self._footings[self.level - 1]
            is_loaded = above.is_loaded_as(self.footing)
            if is_loaded or not (self._worker.is_at_work or not self._ground.fits(above)):
                self._ladder.up(now_s)
                logger.info("Memory was not short for a while: {} again.", self.footing.says)
                self._move("memory is not short any more")

    def _lost(self, error: ShoalError) -> None:
        """The worker has died."""
        if isinstance(error, WorkerKilled):
            self._step_down(str(error))

    def _step_down(self, reason: str) -> None:
        if not self._ladder.down(self._clock()):
            return
        self._reason = reason
        logger.warning("Memory is short: {} From now on {}.", _ended(reason), self.footing.says)
        self._move("memory ran short")

    def _move(self, reason: str) -> None:
        """Begin to stand where the ladder says; another step meanwhile is taken after it."""
        before = self._moving

        async def move() -> None:
            if before is not None:
                await asyncio.wait({before})
            try:
                await self._ground.stand_on(self.footing, reason)
            except ShoalError as error:
                logger.warning("What memory is left for cannot be had: {}", error)
            finally:
                if self._moving is task:
                    self._moving = None

        self._moving = task = asyncio.create_task(move(), name=f"step {self.level}")

    async def _run(self) -> None:
        while True:
            await self.tick()
            await asyncio.sleep(TICK_S)


async def until(is_so: Callable[[], bool], latest_s: float = LATEST_S) -> None:
    """Wait until it is so, at most for so long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(latest_s):
            while not is_so():
                await asyncio.sleep(0.05)


def _ended(sentence: str) -> str:
    return sentence if sentence.endswith(".") else f"{sentence}."
