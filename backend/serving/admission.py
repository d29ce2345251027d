"""The queue in front of the worker: who speaks next, who waits, who is told to come back."""

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from backend.errors import Aborted, OverCapacity, ShoalError
from backend.hardware.memory import Demand, Lease
from backend.serving.speed import Forecast, Speed

RETRY_S = 1.0
"""How often memory is looked at again for the one whose turn it is: other programs free it too."""
LEAST_RETRY_AFTER_S, MOST_RETRY_AFTER_S = 1.0, 3600.0


class Memory(Protocol):
    """Promises memory, as `MemoryBudgetManager` does."""

    def lease(self, demand: Demand) -> Lease:
        """Promise it, or raise `OverCapacity`, or `TextTooLong` where it can never fit."""


class Admission:
    """Lets requests in, and gives each of their sentences its turn, a row and memory.

    The turn is that of the client with the fewest sentences at work, among equals that of the
    client whose last turn is longest ago; of its requests, that of the one with the fewest at work,
    then likewise. A short text thus waits for a sentence of a long one, never for all of it, and
    one client's many requests share one client's turns.

    Where the one whose turn it is does not fit the memory beside what is being spoken, the others
    do not overtake: smaller ones would keep it waiting for ever. What is being spoken ends, and
    with nothing else at work it fits, or is told that it never does.

    Everything happens on one event loop.
    """

    def __init__(
        self,
        memory: Memory,
        *,
        rows: int,
        queue_limit: int,
        characters_per_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`rows`: sentences at work together. `queue_limit`: requests that may wait beside as many.

        `characters_per_s` is the speed that is expected until it is measured.
        """
        self._memory, self._rows, self._clock = memory, rows, clock
        self._places = rows + queue_limit
        self.speed = Speed(characters_per_s)
        self._tickets: set[Ticket] = set()
        self._slots: set[Slot] = set()
        self._last_turn: dict[str, int] = {}
        """Of each client that is inside."""
        self._inside: Counter[str] = Counter()
        """Requests of each client."""
        self._turns = 0
        self._counted_s = clock()
        """Up to when time has been counted as spent speaking, or not."""
        self._retry: asyncio.TimerHandle | None = None
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """Requests that have been granted nothing yet."""
        return sum(not ticket.is_speaking for ticket in self._tickets)

    @property
    def speaking(self) -> int:
        """Requests with a sentence spoken or at work."""
        return len(self._tickets) - self.waiting

    @property
    def characters_ahead(self) -> int:
        """What is still to be spoken of all requests inside."""
        return sum(ticket.characters_ahead for ticket in self._tickets)

    @property
    def characters_per_s(self) -> float:
        """As measured, of all requests together."""
        return self.speed.characters_per_s

    @property
    def retry_after_s(self) -> float:
        """When all that is inside now will have been spoken."""
        ahead_s = self.characters_ahead / self.characters_per_s
        return min(max(ahead_s, LEAST_RETRY_AFTER_S), MOST_RETRY_AFTER_S)

    def forecast(self, characters: int) -> Forecast:
        """How long so many characters will take, spoken alone."""
        return self.speed.forecast(characters)

    def wait_s(self, client: str, ticket: "Ticket | None" = None) -> float:
        """Seconds until the next turn of `ticket`, or the first of a newcomer of `client`.

        Before it come earlier requests of the same client, and of each other client as many
        sentences as make its turns equal. Rows become free at the speed that is measured.
        """
        rivals = [each for each in self._tickets if each is not ticket and each.is_waiting()]
        rivals.sort(key=lambda each: each.last_turn)
        at_work = Counter(slot.ticket.client for slot in self._slots)
        before = [
            each
            for each in rivals
            if each.client == client and (ticket is None or each.last_turn < ticket.last_turn)
        ]
        turns = at_work[client] + len(before) + 1
        for other in {each.client for each in rivals} - {client}:
            theirs = [each for each in rivals if each.client == other]
            before += theirs[: max(0, turns - at_work[other])]
        # Where anybody wishes in vain, memory is short if rows are not.
        is_full = any(each.is_wishing() for each in self._tickets)
        if not is_full and len(before) < self._rows - len(self._slots):
            return 0.0
        first_free = sum(slot.characters for slot in self._slots) / max(1, len(self._slots))
        ahead = first_free + sum(each.wished_characters for each in before)
        return ahead / self.characters_per_s

    def enter(self, client: str, characters: int) -> "Ticket":
        """Let in a request of `client` with `characters` to speak; `with` it.

        Raises `OverCapacity` with `retry_after_s` where too many wait, `Aborted` after `close`.
        """
        if self._is_closed:
            raise _stopping()
        if len(self._tickets) >= self._places:
            self._make_room(client)
        ticket = Ticket(self, client, characters, self._clock(), self._next_turn())
        self._tickets.add(ticket)
        self._inside[client] += 1
        self._last_turn.setdefault(client, ticket.last_turn)
        return ticket

    def close(self) -> None:
        """Let nobody in any more; those who have been granted nothing are told so."""
        self._is_closed = True
        for ticket in [ticket for ticket in self._tickets if not ticket.is_speaking]:
            self._end(ticket, _stopping())
        self._grant()

    # -- what tickets and slots call --------------------------------------------------------------

    def _ask(self, ticket: "Ticket", demand: Demand) -> "_Wish":
        if ticket.end is not None:
            raise ticket.end
        if not ticket.is_speaking:
            self._check_fits(demand)
        wish = _Wish(demand, asyncio.get_running_loop().create_future())
        ticket.wishes.append(wish)
        self._grant()
        return wish

    def _check_fits(self, demand: Demand) -> None:
        """What can never fit is told at once, before its turn."""
        with suppress(OverCapacity):
            self._memory.lease(demand).release()

    def _withdraw(self, ticket: "Ticket", wish: "_Wish") -> None:
        """It was cancelled while it waited, or in the moment between its grant and its waking."""
        granted = wish.granted
        if granted.cancel() or granted.cancelled():
            if wish in ticket.wishes:
                ticket.wishes.remove(wish)
            self._grant()  # the next in turn may be a smaller one
        elif granted.exception() is None:
            granted.result().release()

    def _leave(self, ticket: "Ticket") -> None:
        if ticket in self._tickets:
            self._end(ticket, Aborted("The request is over."))
            self._grant()

    def _release(self, slot: "Slot") -> None:
        if slot not in self._slots:
            return
        self._count_time()
        self._slots.remove(slot)
        slot.lease.release()
        self._grant()

    def _done(self, slot: "Slot", characters: int, audio_s: float) -> None:
        self._count_time()
        self.speed.spoke(characters, audio_s)
        slot.ticket.spoken += characters

    # -- whose turn it is -------------------------------------------------------------------------

    def _grant(self) -> None:
        """Give the rows that are free to those whose turn it is."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        while len(self._slots) < self._rows and (ticket := self._first()) is not None:
            wish = ticket.wishes[0]
            try:
                lease = self._memory.lease(wish.demand)
            except Exception as error:  # noqa: BLE001 - one request's boundary: it is told, others go on
                if self._slots and isinstance(error, OverCapacity):
                    self._retry = wish.granted.get_loop().call_later(RETRY_S, self._grant)
                    return
                ticket.wishes.popleft().granted.set_exception(error)
                continue
            self._count_time()
            slot = Slot(self, ticket, lease, wish.demand.characters)
            self._slots.add(slot)
            if ticket.granted_s is None:
                ticket.granted_s = self._clock()
            ticket.last_turn = self._last_turn[ticket.client] = self._next_turn()
            ticket.wishes.popleft().granted.set_result(slot)

    def _first(self) -> "Ticket | None":
        """The request whose turn it is, of those that wish for a slot."""
        at_work = Counter(slot.ticket for slot in self._slots)
        of_client = Counter(slot.ticket.client for slot in self._slots)

        def served(ticket: Ticket) -> tuple[int, int, int, int]:
            client = ticket.client
            last_turn = self._last_turn[client]
            return of_client[client], last_turn, at_work[ticket], ticket.last_turn

        wishing = [ticket for ticket in self._tickets if ticket.is_wishing()]
        return min(wishing, key=served, default=None)

    def _make_room(self, client: str) -> None:
        """Refuse a newcomer, unless another client fills the queue: then that one's latest."""
        waiting = [ticket for ticket in self._tickets if not ticket.is_speaking]
        number = Counter(ticket.client for ticket in waiting)
        fullest, most = max(number.items(), key=lambda item: item[1], default=("", 0))
        error = OverCapacity(
            f"The queue is full: {len(waiting)} requests wait. "
            f"Try again in {math.ceil(self.retry_after_s)} seconds.",
            self.retry_after_s,
        )
        if most <= number[client] + 1:
            raise error
        theirs = (ticket for ticket in waiting if ticket.client == fullest)
        self._end(max(theirs, key=lambda ticket: ticket.last_turn), error)

    def _end(self, ticket: "Ticket", error: ShoalError) -> None:
        """It is inside no more; what it still wishes for gets `error`."""
        client = ticket.client
        self._tickets.remove(ticket)
        self._inside[client] -= 1
        if not self._inside[client]:
            del self._inside[client], self._last_turn[client]
        ticket.end = error
        for wish in ticket.wishes:
            if not wish.granted.done():
                wish.granted.set_exception(error)
        ticket.wishes.clear()

    def _next_turn(self) -> int:
        self._turns += 1
        return self._turns

    def _count_time(self) -> None:
        """Called before whatever changes how many are at work."""
        now_s = self._clock()
        if self._slots:
            self.speed.passed(now_s - self._counted_s)
        self._counted_s = now_s


@dataclass(slots=True, eq=False)
class Ticket:
    """A request that was let in; leaving the `with` block lets it out, whatever happened."""

    _admission: Admission = field(repr=False)
    client: str
    characters: int
    """To speak in all, as far as is known."""
    entered_s: float
    last_turn: int
    """Number of its last grant; before the first, of its arrival."""
    granted_s: float | None = None
    """When it was first granted anything."""
    spoken: int = 0
    wishes: deque["_Wish"] = field(default_factory=deque, repr=False)
    end: ShoalError | None = None
    """Why it is inside no more."""

    @property
    def is_speaking(self) -> bool:
        """It has been granted a sentence."""
        return self.granted_s is not None

    @property
    def queue_s(self) -> float:
        """Seconds that it waited for its first grant, or has waited so far."""
        now_s = self._admission._clock() if self.granted_s is None else self.granted_s
        return now_s - self.entered_s

    @property
    def wait_s(self) -> float:
        """Seconds until its next turn, as it looks now; 0 while it asks for none."""
        return self._admission.wait_s(self.client, self) if self.is_waiting() else 0.0

    @property
    def wished_characters(self) -> int:
        """Of the sentence that it wishes to speak next."""
        return self.wishes[0].demand.characters if self.wishes else 0

    @property
    def characters_ahead(self) -> int:
        """What is still to be spoken of it."""
        return max(0, self.characters - self.spoken)

    def add(self, characters: int) -> None:
        """So much more text has come."""
        self.characters += characters

    async def slot(self, demand: Demand) -> "Slot":
        """Wait for its turn, a row and the memory of one sentence; `with` what it returns.

        Raises `TextTooLong` or `OverCapacity` where the memory can never be had, `OverCapacity`
        where it had to make room for other clients, `Aborted` where the server stops or the request
        has left. Cancelling it is safe at any moment.
        """
        wish = self._admission._ask(self, demand)
        try:
            return await wish.granted
        except asyncio.CancelledError:
            self._admission._withdraw(self, wish)
            raise

    def leave(self) -> None:
        """It is over; slots that it holds are released by their own `with`."""
        self._admission._leave(self)

    def is_wishing(self) -> bool:
        """It waits for a slot; forgets wishes that were cancelled."""
        while self.wishes and self.wishes[0].granted.done():
            self.wishes.popleft()
        return bool(self.wishes)

    def is_waiting(self) -> bool:
        """It waits for a slot, or will wait for its first."""
        return self.is_wishing() or not self.is_speaking

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
    """One sentence at work: a row and the lease of its memory, until the `with` block ends."""

    _admission: Admission = field(repr=False)
    ticket: Ticket
    lease: Lease
    characters: int
    """Of the sentence, as it was asked for."""

    def done(self, characters: int, audio_s: float) -> None:
        """So many characters were spoken: they count for the speed, and lie ahead no more."""
        self._admission._done(self, characters, audio_s)

    def release(self) -> None:
        """Give row and memory to the next; once, however often it is called."""
        self._admission._release(self)

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
class _Wish:
    """A sentence that waits for its slot."""

    demand: Demand
    granted: asyncio.Future[Slot]


def _stopping() -> Aborted:
    return Aborted("The server is stopping.")
