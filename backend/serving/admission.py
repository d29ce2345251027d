"""The queue before the workers: which sentence is next, who takes it, when no more may wait."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable

from backend.errors import Aborted, OverCapacity, ShoalError
from backend.hardware.memory import Demand
from backend.serving.quiet import Quiet
from backend.serving.slots import (
    AdmittedRequest,
    PendingSlot,
    Slot,
    SlotsAtWork,
    Station,
    Work,
)
from backend.serving.speed import Forecast, Speed
from backend.serving.stations import Stations

RETRY_S = 1.0
"""How often memory is looked at again for the one whose turn it is: other programs free it too."""
LEAST_RETRY_AFTER_S, MOST_RETRY_AFTER_S = 1.0, 3600.0


class Admission:
    """Lets requests in, and gives each of their sentences its turn, a row and memory, at one of the
    workers that have joined.

    The turn is that of the client with the fewest sentences at work, among equals that of the
    client whose last turn is longest ago; of its requests, that of the one with the fewest at work,
    then likewise. A short text thus waits for a sentence of a long one, never for all of it, and
    one client's many requests share one client's turns.

    Some rows stay free for the next client: it begins at once, whatever others have at work.

    Recordings take turns in the same way, but no row: a worker encodes one at a time, beside
    speech. A sentence whose worker died under it is the next in turn.

    Where the one whose turn it is does not fit the memory beside what is being spoken, the others
    do not overtake: smaller ones would keep it waiting for ever. What is being spoken ends, and
    with nothing else at work it fits, or is told that it never does.

    Everything happens on one event loop.
    """

    def __init__(
        self,
        *,
        queue_limit: int | None = None,
        rows_per_client: int | None = None,
        quiet: Quiet | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`queue_limit`: requests that may wait beside as many as have a row; `rows_per_client`:
        sentences of one client at work together. None is as many as the workers are good for, and
        half of their rows.

        `quiet` is told of each request that comes and goes.
        """
        self._clock = clock
        self._stations = Stations()
        self._queue_limit, self._rows_of_client = queue_limit, rows_per_client
        self.speed = Speed(0.0)
        self._requests: set[AdmittedRequest] = set()
        self._asking: dict[AdmittedRequest, None] = {}
        """Those that wait for a slot, and some that did a moment ago."""
        self._slots = SlotsAtWork()
        self._last_turn: dict[str, int] = {}
        """Of each client that is inside."""
        self._inside: Counter[str] = Counter()
        """Requests of each client."""
        self._quiet = quiet or Quiet()
        self.queues = 1
        """That share the workers, this one with them: each has its part of what is bounded here."""
        self._turns = 0
        self._counted_s = clock()
        """Up to when time has been counted as spent speaking, or not."""
        self._retry: asyncio.TimerHandle | None = None
        self._is_closed = False

    def join(self, station: Station, *, rows: int, most_rows: int, characters_per_s: float) -> None:
        """Let `station` take sentences, or go on with another plan: `rows` of them together, where
        its worker has `most_rows`.

        `characters_per_s` is the speed that is expected of it until that is measured.
        """
        self._stations.join(
            station, rows=rows, most_rows=most_rows, characters_per_s=characters_per_s
        )
        self.speed = Speed(self._stations.characters_per_s)

    def part(self, station: Station) -> None:
        """Let `station` take no more; what it speaks is spoken on."""
        self._stations.part(station)
        self.look()

    def expect(self, station: Station, characters_per_s: float) -> None:
        """Something better is known to expect of `station`, until it is measured."""
        self._stations.expect(station, characters_per_s)
        self.speed.expect(self._stations.characters_per_s)

    @property
    def _rows_per_client(self) -> int:
        rows = self._rows_of_client or self._stations.planned_rows // 2
        return max(1, rows // self.queues)

    @property
    def _places(self) -> int:
        waiting = self._stations.waiting if self._queue_limit is None else self._queue_limit
        return max(1, (self._stations.planned_rows + waiting) // self.queues)

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

        def at_work(client: str) -> int:
            return self._slots.of[client, "speak"]

        rivals = [each for each in self._requests if each is not request and each.is_waiting()]
        rivals.sort(key=lambda each: each.last_turn)
        rows = [slot for slot in self._slots if slot.work == "speak"]
        before = [
            each
            for each in rivals
            if each.client == client and (request is None or each.last_turn < request.last_turn)
        ]
        turns = at_work(client) + len(before) + 1
        for other in {each.client for each in rivals} - {client}:
            theirs = [each for each in rivals if each.client == other]
            before += theirs[: max(0, turns - at_work(other))]
        # Where a request asks in vain that has not all its rows, memory is short if rows are not.
        most = self._rows_per_client
        is_full = any(each.is_asking() and at_work(each.client) < most for each in self._asking)
        free = min(self._stations.rows - len(rows), most - at_work(client))
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
        inside, places = self._requests, self._places
        if len(inside) >= places and sum(each.holds_place for each in inside) >= places:
            self._make_room(client)
        turn = self._next_turn()
        request = AdmittedRequest(self, client, characters, is_live, self._clock(), turn, weight)
        self._requests.add(request)
        self._quiet.enter()
        self._inside[client] += 1
        self._last_turn.setdefault(client, turn)
        return request

    def look(self) -> None:
        """A station has more rows, or fewer: give away what is free."""
        self._grant()

    def at_work(self, station: Station) -> int:
        """Sentences and recordings that it has at work."""
        return self._slots.at[station, "speak"] + self._slots.at[station, "encode"]

    def close(self) -> None:
        """Let no request in any more; those that have been granted nothing are told so."""
        self._is_closed = True
        for request in [each for each in self._requests if not each.is_speaking]:
            self._end(request, _stopping())
        self._grant()

    # -- what requests and slots call: `slots.Queue` ----------------------------------------------

    def ask(
        self, request: AdmittedRequest, demand: Demand, work: Work, voice: int | None
    ) -> PendingSlot:
        """`request` wants a slot; raises what can be said at once."""
        if request.end is not None:
            raise request.end
        if not request.is_speaking:
            self._stations.check(demand)
        granted = asyncio.get_running_loop().create_future()
        pending = PendingSlot(demand, work, voice, granted)
        request.pending.append(pending)
        self._asking[request] = None
        self._grant()
        return pending

    def replace(self, slot: Slot) -> PendingSlot | None:
        """A slot in the place of one whose worker cannot speak, where another can."""
        request = slot.request
        if request.end is not None or not self._stations.is_another_able(slot.station):
            return None
        granted = asyncio.get_running_loop().create_future()
        pending = PendingSlot(slot.demand, slot.work, slot.voice, granted, is_again=True)
        request.pending.appendleft(pending)
        self._asking[request] = None
        self.release(slot)
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

    def _grant(self) -> None:
        """Give the slots that are free to those whose turn it is."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        while (request := self._first()) is not None:
            pending = request.pending[0]
            try:
                place = self._stations.place(pending, self._slots.at)
            except Exception as error:  # noqa: BLE001 - one request's boundary: it is told, others go on
                request.pending.popleft().granted.set_exception(error)
                continue
            if place is None:
                self._look_again()
                return
            self._count_time()
            station, lease = place
            slot = Slot(self, request, station, lease, pending.demand, pending.work, pending.voice)
            self._slots.add(slot)
            if slot.voice is not None:
                station.use_voice(slot.voice)
            request.at_work += 1
            if pending.work == "speak" and request.granted_s is None:
                request.granted_s = self._clock()
            request.last_turn = self._last_turn[request.client] = self._next_turn()
            request.pending.popleft().granted.set_result(slot)
        if len(self._stations) > 1 and not self._stations.are_all_able:
            self._look_again()  # nobody tells when a worker can speak again

    def _look_again(self) -> None:
        """In a while, as long as somebody asks."""
        if any(each.is_asking() for each in self._asking):
            loop = asyncio.get_running_loop()
            self._retry = loop.call_later(RETRY_S, self._grant)

    def _first(self) -> AdmittedRequest | None:
        """The request whose turn it is, of those that ask for a slot that they may have now."""
        for request in [each for each in self._asking if not each.is_asking()]:
            del self._asking[request]
        if not self._asking:
            return None  # as nearly always
        free, of = self._stations.free(self._slots.at), self._slots.of

        def may_have_one(request: AdmittedRequest) -> bool:
            work = request.pending[0].work
            has_all = work == "speak" and of[request.client, "speak"] >= self._rows_per_client
            return work in free and not has_all

        def served(request: AdmittedRequest) -> tuple[bool, int, int, int, int]:
            client, is_new = request.client, not request.pending[0].is_again
            turns = self._last_turn[client], request.at_work, request.last_turn
            return is_new, of[client, "speak"] + of[client, "encode"], *turns

        return min(filter(may_have_one, self._asking), key=served, default=None)

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
        self._asking.pop(request, None)
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
