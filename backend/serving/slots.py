"""A request inside the queue, and the slots it asks for: one for each sentence or recording."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Protocol, Self

from backend.core import EngineInfo, ReferenceCodes
from backend.errors import ShoalError
from backend.hardware.leases import Lease, count_down
from backend.hardware.memory import Demand
from backend.worker.messages import DecodeCodes, Done, EncodeVoice, Speak

Work = Literal["speak", "encode"]
"""What a slot is for: a row of the model, or the codec beside it (encoding, decoding a voice)."""


class Speaker(Protocol):
    """What speaks, as `Shortage` does."""

    suspects: asyncio.Lock
    """Held by a sentence under which a worker died, while it is spoken again: one after another, so
    that one that kills workers dies alone, and takes none of those beside it along each time. Where
    another worker takes it over, only from the second death on."""

    async def ready(self) -> EngineInfo:
        """Wait until it can; `EngineDown` where it never will."""

    async def speak(self, speak: Speak, take: Callable[[bytes], None]) -> Done:
        """Speak, handing the audio to `take`; `EngineDown` where it died meanwhile, `SteppedDown`
        where it has changed so that it may be tried again."""

    async def encode(self, encode: EncodeVoice) -> ReferenceCodes:
        """The recording as codes; `EngineDown` where it died meanwhile."""

    async def decode(self, decode: DecodeCodes) -> bytes:
        """Codes as float32 samples; `EngineDown` where it died meanwhile."""


class Memory(Protocol):
    """Promises memory, as `MemoryBudgetManager` does."""

    def lease(self, demand: Demand) -> Lease:
        """Promise it, or raise `OverCapacity`, or `TextTooLong` where it can never fit."""


class Station(Protocol):
    """One worker as the queue sees it, as `Lane` is."""

    @property
    def name(self) -> str:
        """What it is called in the log of requests."""

    @property
    def memory(self) -> Memory:
        """What it has for the sentences that are spoken there."""

    @property
    def rows(self) -> int:
        """Sentences that it speaks together."""

    @property
    def elsewhere(self) -> int:
        """Of its rows, those that another queue has."""

    @property
    def is_able(self) -> bool:
        """It can speak now: it is not being started, stopped, or found dead."""

    @property
    def speaker(self) -> Speaker:
        """What speaks there."""

    @property
    def rtf(self) -> float:
        """Seconds that it takes for one of speech, alone, as planned: two stations are compared by
        it."""

    def has_voice(self, voice: int) -> bool:
        """It has spoken in that voice lately, and need not read its prompt again."""

    def use_voice(self, voice: int) -> None:
        """A sentence in that voice is spoken there."""


class Queue(Protocol):
    """What slots and requests tell the queue that they are in."""

    def ask(
        self, request: "AdmittedRequest", demand: Demand, work: Work, voice: int | None
    ) -> "PendingSlot":
        """`request` wants a slot; raises what can be said at once."""

    def replace(self, slot: "Slot") -> "PendingSlot | None":
        """Its worker may have died: ask for another in its place where that can speak, else None.
        `slot` is released then."""

    def withdraw(self, request: "AdmittedRequest", pending: "PendingSlot") -> None:
        """It no longer wants it."""

    def leave(self, request: "AdmittedRequest") -> None:
        """It is over."""

    def release(self, slot: "Slot") -> None:
        """The slot is free again."""

    def done(self, slot: "Slot", characters: int, audio_s: float) -> None:
        """So much was spoken in it."""

    def wait_s(self, client: str, request: "AdmittedRequest") -> float:
        """Seconds until the next turn of `request`, as it looks now."""

    def now_s(self) -> float:
        """The queue's clock."""


@dataclass(slots=True, eq=False)
class AdmittedRequest:
    """A request that was let in; leaving the `with` block lets it out, whatever happened."""

    _queue: Queue = field(repr=False)
    client: str
    characters: int
    """To speak in all, as far as is known."""
    is_live: bool
    """Its text is still being written: it may have nothing to speak for a while."""
    entered_s: float
    last_turn: int
    """Number of its last grant; before the first, of its arrival."""
    weight: float = 1.0
    """How long one of its characters takes to say, against the usual."""
    granted_s: float | None = None
    """When it was granted its first sentence."""
    spoken: int = 0
    """Characters."""
    at_work: int = 0
    """Slots that it holds."""
    pending: deque["PendingSlot"] = field(default_factory=deque, repr=False)
    end: ShoalError | None = None
    """Why it is inside no more."""

    @property
    def is_speaking(self) -> bool:
        """It has been granted a sentence."""
        return self.granted_s is not None

    @property
    def holds_place(self) -> bool:
        """It has work, or soon will: a client that reads nothing, or writes nothing, keeps no
        other out."""
        return bool(self.at_work) or self.is_waiting()

    @property
    def queue_s(self) -> float:
        """Seconds that it waited for its first sentence, or has waited so far; encoding counts."""
        now_s = self._queue.now_s() if self.granted_s is None else self.granted_s
        return now_s - self.entered_s

    @property
    def wait_s(self) -> float:
        """Seconds until its next turn, as it looks now; 0 while it asks for none."""
        return self._queue.wait_s(self.client, self) if self.is_waiting() else 0.0

    @property
    def pending_weight(self) -> float:
        """Characters of the sentence that it asks to speak next, as heavy as they are."""
        return self.weight * self.pending[0].demand.characters if self.pending else 0.0

    @property
    def characters_ahead(self) -> int:
        """What is still to be spoken of it."""
        return max(0, self.characters - self.spoken)

    @property
    def weight_ahead(self) -> float:
        """The same, as heavy as its characters are."""
        return self.weight * self.characters_ahead

    def add(self, characters: int) -> None:
        """So much more text has come."""
        self.characters += characters

    async def slot(self, demand: Demand, work: Work = "speak", voice: int | None = None) -> "Slot":
        """Wait for its turn, a row and the memory of one sentence; `with` what it returns.

        For `encode`, the codec instead of a row. `voice` names the one that it is spoken in, if
        its prompt has to be read. Raises `TextTooLong` or `OverCapacity` where the
        memory can never be had, `OverCapacity` where it had to make room for other clients,
        `Aborted` where the server stops or the request has left. Cancelling it is safe at any
        moment.
        """
        return await self._granted(self._queue.ask(self, demand, work, voice))

    async def placed(self, slot: "Slot") -> "Slot":
        """`slot`, or in its place one of another worker where its own cannot speak and that can.

        It is next in turn. Raises as `slot` does; `slot` is released then.
        """
        pending = self._queue.replace(slot)
        return slot if pending is None else await self._granted(pending)

    async def _granted(self, pending: "PendingSlot") -> "Slot":
        try:
            return await pending.granted
        except asyncio.CancelledError:
            self._queue.withdraw(self, pending)
            raise

    def leave(self) -> None:
        """It is over; slots that it holds are released by their own `with`."""
        self._queue.leave(self)

    def is_asking(self) -> bool:
        """It waits for a slot; forgets those that are no longer wanted."""
        while self.pending and self.pending[0].granted.done():
            self.pending.popleft()
        return bool(self.pending)

    def is_waiting(self) -> bool:
        """It waits for a slot, or is about to ask for its first sentence's."""
        return self.is_asking() or not (self.is_speaking or self.is_live)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()


@dataclass(slots=True, eq=False)
class Slot:
    """One sentence or recording at work and the lease of its memory, until the `with` block ends.

    A sentence also holds a row of the model.
    """

    _queue: Queue = field(repr=False)
    request: AdmittedRequest
    station: Station
    """Where it is: whose row and memory it holds."""
    lease: Lease
    demand: Demand
    work: Work
    voice: int | None

    @property
    def characters(self) -> int:
        """Of the sentence, as it was asked for."""
        return self.demand.characters

    def done(self, characters: int, audio_s: float) -> None:
        """So many characters were spoken: they count for the speed, and lie ahead no more."""
        self._queue.done(self, characters, audio_s)

    def release(self) -> None:
        """Give row and memory to the next; once, however often it is called."""
        self._queue.release(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


@dataclass(slots=True, eq=False)
class PendingSlot:
    """A slot that is asked for."""

    demand: Demand
    work: Work
    voice: int | None
    granted: asyncio.Future[Slot]
    is_again: bool = False
    """It had its turn already, and lost it to the death of a worker."""


class SlotsAtWork:
    """The slots that are given, counted in the ways in which turns look at them: hundreds may be,
    and each request has several turns."""

    def __init__(self) -> None:
        self._slots: set[Slot] = set()
        self.at: Counter[tuple[Station, Work]] = Counter()
        """By where they are."""
        self.of: Counter[tuple[str, Work]] = Counter()
        """By the client that has them."""

    def __contains__(self, slot: Slot) -> bool:
        return slot in self._slots

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._slots)

    def add(self, slot: Slot) -> None:
        """It is given."""
        self._slots.add(slot)
        self.at[slot.station, slot.work] += 1
        self.of[slot.request.client, slot.work] += 1

    def remove(self, slot: Slot) -> None:
        """It is free again."""
        self._slots.remove(slot)
        count_down(self.at, (slot.station, slot.work))
        count_down(self.of, (slot.request.client, slot.work))
