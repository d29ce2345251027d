"""The queue in front of the worker: which sentence is next, and when no more may wait."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from backend.errors import Aborted, OverCapacity, ShoalError
from backend.hardware.memory import Demand, Lease
from backend.serving.quiet import Quiet
from backend.serving.slots import AdmittedRequest, PendingSlot, Slot, Work
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

    Some rows stay free for the next client: it begins at once, whatever others have at work.

    Recordings take turns in the same way, but no row: one is encoded at a time, beside speech.

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
        rows_per_client: int | None = None,
        quiet: Quiet | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`rows`: sentences at work together, `rows_per_client` those of one client.

        `queue_limit`: requests that may wait beside as many.
        `characters_per_s` is the speed that is expected until it is measured. `quiet` is told of
        each request that comes and goes.
        """
        self._memory, self._clock = memory, clock
        self._most: dict[Work, int] = {"speak": rows, "encode": 1}
        """Slots of each kind that are held together."""
        self._rows_per_client = rows_per_client or rows
        self._places = rows + queue_limit
        self.speed = Speed(characters_per_s)
        self._requests: set[AdmittedRequest] = set()
        self._slots: set[Slot] = set()
        self._last_turn: dict[str, int] = {}
        """Of each client that is inside."""
        self._inside: Counter[str] = Counter()
        """Requests of each client."""
        self._quiet = quiet or Quiet()
        self._turns = 0
        self._counted_s = clock()
        """Up to when time has been counted as spent speaking, or not."""
        self._retry: asyncio.TimerHandle | None = None
        self._is_closed = False

    @property
    def waiting(self) -> int:
        """Requests that have been granted nothing yet, and have something to speak."""
        return sum(each.holds_place and not each.is_speaking for each in self._requests)

    @property
    def speaking(self) -> int:
        """Requests with a sentence at work, or that wait for their next."""
        return sum(each.holds_place and each.is_speaking for each in self._requests)

    @property
    def characters_ahead(self) -> int:
        """What is still to be spoken of all requests inside."""
        return sum(each.characters_ahead for each in self._requests)

    @property
    def characters_per_s(self) -> float:
        """As measured, of all requests together."""
        return self.speed.characters_per_s

    @property
    def retry_after_s(self) -> float:
        """When all that is inside now will have been spoken."""
        ahead_s = sum(each.weight_ahead for each in self._requests) / self.speed.weight_per_s
        return min(max(ahead_s, LEAST_RETRY_AFTER_S), MOST_RETRY_AFTER_S)

    def forecast(self, characters: int) -> Forecast:
        """How long so many characters will take, spoken alone."""
        return self.speed.forecast(characters)

    def wait_s(self, client: str, request: AdmittedRequest | None = None) -> float:
        """Seconds until the next turn of `request`, or the first of a newcomer of `client`.

        Before it come earlier requests of the same client, and of each other client as many
        sentences as make its turns equal. Rows become free at the speed that is measured.
        """
        rivals = [each for each in self._requests if each is not request and each.is_waiting()]
        rivals.sort(key=lambda each: each.last_turn)
        rows = [slot for slot in self._slots if slot.work == "speak"]
        at_work = Counter(slot.request.client for slot in rows)
        before = [
            each
            for each in rivals
            if each.client == client and (request is None or each.last_turn < request.last_turn)
        ]
        turns = at_work[client] + len(before) + 1
        for other in {each.client for each in rivals} - {client}:
            theirs = [each for each in rivals if each.client == other]
            before += theirs[: max(0, turns - at_work[other])]
        # Where a request asks in vain that has not all its rows, memory is short if rows are not.
        most = self._rows_per_client
        is_full = any(each.is_asking() and at_work[each.client] < most for each in self._requests)
        free = min(self._most["speak"] - len(rows), most - at_work[client])
        if not is_full and len(before) < free:
            return 0.0
        at_work_now = sum(slot.request.weight * slot.characters for slot in rows)
        ahead = at_work_now / max(1, len(rows)) + sum(each.pending_weight for each in before)
        return ahead / self.speed.weight_per_s

    def enter(
        self, client: str, characters: int, *, is_live: bool = False, weight: float = 1.0
    ) -> AdmittedRequest:
        """Let in a request of `client` with `characters` to speak; `with` it.

        `is_live`: its text is still being written. `weight`: how long one of its characters takes
        to say, against the usual. Raises `OverCapacity` with `retry_after_s` where
        too many wait, `Aborted` after `close`.
        """
        if self._is_closed:
            raise _stopping()
        if sum(each.holds_place for each in self._requests) >= self._places:
            self._make_room(client)
        turn = self._next_turn()
        request = AdmittedRequest(self, client, characters, is_live, self._clock(), turn, weight)
        self._requests.add(request)
        self._quiet.enter()
        self._inside[client] += 1
        self._last_turn.setdefault(client, turn)
        return request

    def limit_rows(self, rows: int) -> None:
        """So many sentences at work together from now on; those that are, stay."""
        self._most["speak"] = rows
        self._grant()

    def close(self) -> None:
        """Let no request in any more; those that have been granted nothing are told so."""
        self._is_closed = True
        for request in [each for each in self._requests if not each.is_speaking]:
            self._end(request, _stopping())
        self._grant()

    # -- what requests and slots call: `slots.Queue` ----------------------------------------------

    def ask(self, request: AdmittedRequest, demand: Demand, work: Work) -> PendingSlot:
        """`request` wants a slot; raises what can be said at once."""
        if request.end is not None:
            raise request.end
        if not request.is_speaking:
            self._check_fits(demand)
        pending = PendingSlot(demand, work, asyncio.get_running_loop().create_future())
        request.pending.append(pending)
        self._grant()
        return pending

    def withdraw(self, request: AdmittedRequest, pending: PendingSlot) -> None:
        """It was cancelled while it waited, or in the moment between its grant and its waking."""
        granted = pending.granted
        if granted.cancel() or granted.cancelled():
            if pending in request.pending:
                request.pending.remove(pending)
            self._grant()  # the next in turn may be a smaller one
        elif granted.exception() is None:
            granted.result().release()

    def leave(self, request: AdmittedRequest) -> None:
        """It is over."""
        if request in self._requests:
            self._end(request, Aborted("The request is over."))
            self._grant()

    def release(self, slot: Slot) -> None:
        """The slot is free again."""
        if slot not in self._slots:
            return
        self._count_time()
        self._slots.remove(slot)
        slot.request.at_work -= 1
        slot.lease.release()
        self._grant()

    def done(self, slot: Slot, characters: int, audio_s: float) -> None:
        """So much was spoken in it."""
        self._count_time()
        self.speed.spoke(characters, audio_s, slot.request.weight)
        slot.request.spoken += characters

    def now_s(self) -> float:
        """The clock that requests are timed by."""
        return self._clock()

    # -- whose turn it is -------------------------------------------------------------------------

    def _check_fits(self, demand: Demand) -> None:
        """What can never fit is told at once, before its turn."""
        with suppress(OverCapacity):
            self._memory.lease(demand).release()

    def _grant(self) -> None:
        """Give the slots that are free to those whose turn it is."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        while (request := self._first()) is not None:
            pending = request.pending[0]
            try:
                lease = self._memory.lease(pending.demand)
            except Exception as error:  # noqa: BLE001 - one request's boundary: it is told, others go on
                if self._slots and isinstance(error, OverCapacity):
                    self._retry = pending.granted.get_loop().call_later(RETRY_S, self._grant)
                    return
                request.pending.popleft().granted.set_exception(error)
                continue
            self._count_time()
            slot = Slot(self, request, lease, pending.work, pending.demand.characters)
            self._slots.add(slot)
            request.at_work += 1
            if pending.work == "speak" and request.granted_s is None:
                request.granted_s = self._clock()
            request.last_turn = self._last_turn[request.client] = self._next_turn()
            request.pending.popleft().granted.set_result(slot)

    def _first(self) -> AdmittedRequest | None:
        """The request whose turn it is, of those that ask for a slot that they may have now."""
        held = Counter(slot.work for slot in self._slots)
        of_client = Counter(slot.request.client for slot in self._slots)
        rows = Counter(slot.request.client for slot in self._slots if slot.work == "speak")

        def may_have_one(request: AdmittedRequest) -> bool:
            work = request.pending[0].work
            has_all = work == "speak" and rows[request.client] >= self._rows_per_client
            return held[work] < self._most[work] and not has_all

        def served(request: AdmittedRequest) -> tuple[int, int, int, int]:
            client = request.client
            return of_client[client], self._last_turn[client], request.at_work, request.last_turn

        asking = [each for each in self._requests if each.is_asking() and may_have_one(each)]
        return min(asking, key=served, default=None)

    def _make_room(self, client: str) -> None:
        """Refuse a newcomer, unless another client fills the queue: then that one's latest."""
        waiting = [each for each in self._requests if each.holds_place and not each.is_speaking]
        number = Counter(each.client for each in waiting)
        fullest, most = max(number.items(), key=lambda item: item[1], default=("", 0))
        error = OverCapacity(
            f"The queue is full: {len(waiting)} requests wait. "
            f"Try again in {math.ceil(self.retry_after_s)} seconds.",
            self.retry_after_s,
        )
        if most <= number[client] + 1:
            raise error
        theirs = (each for each in waiting if each.client == fullest)
        self._end(max(theirs, key=lambda each: each.last_turn), error)

    def _end(self, request: AdmittedRequest, error: ShoalError) -> None:
        """It is inside no more; what it still asks for gets `error`."""
        client = request.client
        self._requests.remove(request)
        self._quiet.leave()
        self._inside[client] -= 1
        if not self._inside[client]:
            del self._inside[client], self._last_turn[client]
        request.end = error
        for pending in request.pending:
            if not pending.granted.done():
                pending.granted.set_exception(error)
        request.pending.clear()

    def _next_turn(self) -> int:
        self._turns += 1
        return self._turns

    def _count_time(self) -> None:
        """Called before whatever changes how many are at work."""
        now_s = self._clock()
        if any(slot.work == "speak" for slot in self._slots):
            self.speed.passed(now_s - self._counted_s)
        self._counted_s = now_s


def _stopping() -> Aborted:
    return Aborted("The server is stopping.")
