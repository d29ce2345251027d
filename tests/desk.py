"""An admission whose memory, workers and clock are simulated, to see who speaks next."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, ParamSpec

from backend.errors import OverCapacity, TextTooLong
from backend.hardware.leases import Lease
from backend.hardware.memory import Demand
from backend.hardware.need import RequestNeed
from backend.serving.admission import Admission
from backend.serving.slots import AdmittedRequest, Memory, Slot

P = ParamSpec("P")
SMALL = Demand(10, 10)


@dataclass(slots=True)
class Room:
    """Memory counted in characters."""

    size: int = 1_000_000
    taken: int = 0
    fault: Exception | None = None
    """What asking for it raises."""

    def lease(self, demand: Demand) -> Lease:
        if self.fault is not None:
            raise self.fault
        characters = demand.characters
        if characters > self.size:
            raise TextTooLong(f"send at most {self.size} characters.")
        if characters > self.size - self.taken:
            raise OverCapacity("Requests that are being spoken hold it.")
        self.taken += characters

        def release(lease: Lease) -> None:
            self.taken -= characters

        return Lease(RequestNeed(0, 0, 0, 0), release)


@dataclass(slots=True)
class Clock:
    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


@dataclass(slots=True, eq=False)
class Stand:
    """A station of the queue whose worker is whatever the test says."""

    memory: Memory = field(default_factory=Room)
    rows: int = 1
    speaker: Any = None
    is_able: bool = True
    rtf: float = 1.0
    name: str = "0"
    voices: set[int] = field(default_factory=set)
    elsewhere: int = 0

    def has_voice(self, voice: int) -> bool:
        return voice in self.voices

    def use_voice(self, voice: int) -> None:
        self.voices.add(voice)


@dataclass(slots=True)
class Desk:
    """An admission, what it gives away, and in which order it did."""

    room: Room = field(default_factory=Room)
    rows: int = 1
    queue_limit: int = 100
    rows_per_client: int | None = None
    characters_per_s: float = 10.0
    clock: Clock = field(default_factory=Clock)
    grants: list[str] = field(default_factory=list)
    at_work: int = 0
    admission: Admission = field(init=False)

    def __post_init__(self) -> None:
        self.admission = Admission(
            queue_limit=self.queue_limit,
            rows_per_client=self.rows_per_client or self.rows,
            clock=self.clock,
        )
        self.admission.join(
            Stand(self.room, self.rows),
            rows=self.rows,
            most_rows=self.rows,
            characters_per_s=self.characters_per_s,
        )

    async def sentence(self, admitted: AdmittedRequest, name: str, work: int = 1) -> None:
        """One sentence that takes a worker `work` turns of the loop."""
        with await admitted.slot(SMALL) as slot:
            self.grants.append(name)
            self.at_work += 1
            assert self.at_work <= self.rows
            try:
                for _ in range(work):
                    await asyncio.sleep(0)
            finally:
                self.at_work -= 1
            slot.done(10, 1.0)

    async def request(self, client: str, sentences: int, name: str = "", together: int = 1) -> None:
        """A request that keeps up to `together` sentences open."""
        with self.admission.enter(client, 10 * sentences) as admitted:
            opened = asyncio.Semaphore(together)

            async def one() -> None:
                async with opened:
                    await self.sentence(admitted, name or client)

            await asyncio.gather(*(one() for _ in range(sentences)))

    async def is_idle(self) -> bool:
        """Nothing is held, nobody inside, and a whole round of rows can be had."""
        admission = self.admission
        assert admission.waiting == admission.speaking == admission.characters_ahead == 0
        assert self.room.taken == 0
        with admission.enter("last", 0) as admitted, ExitStack() as held:
            for _ in range(self.rows_per_client or self.rows):
                held.enter_context(await granted(admitted))
        return self.room.taken == 0


def on_a_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run it; afterwards no task of its is left."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def and_look() -> None:
            await test(*args, **kwargs)
            await asyncio.sleep(0)
            assert asyncio.all_tasks() == {asyncio.current_task()}

        asyncio.run(and_look())

    return run


async def settle(turns: int = 5) -> None:
    """Let the loop go round, so that everything that can go on has done so."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def granted(admitted: AdmittedRequest, demand: Demand = SMALL) -> Slot:
    """A slot that is to be had at once."""
    task = asyncio.create_task(admitted.slot(demand))
    await settle()
    assert task.done()
    return await task


async def asking(admitted: AdmittedRequest, demand: Demand = SMALL) -> asyncio.Task[Slot]:
    """A slot that is not to be had yet."""
    task = asyncio.create_task(admitted.slot(demand))
    await settle()
    assert not task.done()
    return task
