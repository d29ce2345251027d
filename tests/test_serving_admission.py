"""Who speaks next, who waits, who is told to come back."""

import asyncio
import random
from contextlib import ExitStack, suppress
from itertools import pairwise

import pytest

from backend.core import MIB, OPEN_SENTENCES
from backend.errors import Aborted, OverCapacity, TextTooLong
from backend.hardware.memory import Demand, MemoryBudgetManager, MemoryNow
from backend.serving import admission as admission_module
from backend.serving.admission import Admission
from backend.serving.slots import AdmittedRequest, Slot
from tests.computers import I5, S1, computer, plan_for
from tests.desk import SMALL, Desk, Room, Stand, asking, granted, on_a_loop, settle

# --- one request


@on_a_loop
async def test_an_idle_server_grants_at_once() -> None:
    desk = Desk()
    with desk.admission.enter("a", 10) as admitted:
        assert (desk.admission.waiting, desk.admission.speaking) == (1, 0)
        with await granted(admitted):
            assert (desk.admission.waiting, desk.admission.speaking) == (0, 1)
            assert desk.room.taken == 10
        assert desk.admission.speaking == 0  # it has nothing to speak: it keeps nobody out
    assert admitted.queue_s == 0
    assert await desk.is_idle()


@on_a_loop
async def test_queue_s_counts_to_the_first_grant() -> None:
    desk = Desk()
    with desk.admission.enter("a", 10) as first, desk.admission.enter("b", 10) as second:
        with await granted(first):
            waiter = await asking(second)
            desk.clock.now_s += 2
            assert second.queue_s == 2
            desk.clock.now_s += 1
        (await waiter).release()
        desk.clock.now_s += 5
        (await granted(second)).release()
        assert (first.queue_s, second.queue_s) == (0, 3)


@on_a_loop
async def test_a_second_release_takes_nothing_of_others() -> None:
    desk = Desk()
    with desk.admission.enter("a", 10) as admitted:
        first = await granted(admitted)
        first.release()
        second = await granted(admitted)
        first.release()
        waiter = await asking(admitted)
        second.release()
        (await waiter).release()
    assert await desk.is_idle()


# --- whose turn it is


@on_a_loop
async def test_the_requests_of_one_client_take_turns_by_the_sentence() -> None:
    desk = Desk()
    await asyncio.gather(*(desk.request("a", 3, name) for name in "xyz"))
    assert "".join(desk.grants) == "xyzxyzxyz"


@pytest.mark.parametrize("rows", [1, 2, 4, 16])
@on_a_loop
async def test_a_long_text_does_not_hold_up_short_ones(rows: int) -> None:
    desk = Desk(rows=rows)
    long = asyncio.create_task(desk.request("long", 200, together=OPEN_SENTENCES))
    await settle()
    begun = len(desk.grants)
    shorts = [asyncio.create_task(desk.request(f"short{i}", 1)) for i in range(20)]
    await asyncio.gather(*shorts)
    last = max(at for at, name in enumerate(desk.grants) if name != "long")
    # What was about to be spoken, and one turn of its own.
    assert desk.grants[begun:last].count("long") <= OPEN_SENTENCES + 1
    await long
    assert desk.grants.count("long") == 200
    assert await desk.is_idle()


@pytest.mark.parametrize("rows", [1, 3, 8])
@on_a_loop
async def test_fifty_requests_of_one_client_hold_up_no_other(rows: int) -> None:
    desk = Desk(rows=rows)
    many = [asyncio.create_task(desk.request("many", 4)) for _ in range(50)]
    await settle()
    begun = len(desk.grants)
    await desk.request("one", 1)
    assert desk.grants.index("one") <= begun + rows + 1
    await asyncio.gather(*many)
    assert desk.grants.count("many") == 200


@on_a_loop
async def test_two_clients_share_the_rows_however_many_requests_either_has() -> None:
    desk = Desk(rows=4)
    await asyncio.gather(
        *(desk.request("many", 4) for _ in range(20)),
        *(desk.request("few", 20, together=OPEN_SENTENCES) for _ in range(2)),
    )
    half = desk.grants[:80]
    assert 36 <= half.count("few") <= 40
    assert len(desk.grants) == 120


@on_a_loop
async def test_newcomers_do_not_hold_up_a_long_text() -> None:
    desk = Desk()
    long = asyncio.create_task(desk.request("long", 10))

    async def ever_new(line: str) -> None:
        number = 0
        while not long.done():
            number += 1
            await desk.request(f"{line}{number}", 1)

    await asyncio.gather(long, *(ever_new(line) for line in "abcde"))
    turns = [at for at, name in enumerate(desk.grants) if name == "long"]
    assert len(turns) == 10
    # Between two turns, those who came before the first of them, and nobody else.
    assert max(later - sooner for sooner, later in pairwise(turns)) <= 6


@on_a_loop
async def test_a_client_that_comes_back_is_a_newcomer() -> None:
    desk = Desk()
    await desk.request("back", 1)
    with desk.admission.enter("first", 10) as first:
        slot = await granted(first)
        others = [asyncio.create_task(desk.request(name, 1)) for name in ("waits", "back")]
        await settle()
        slot.release()
        await asyncio.gather(*others)
    assert desk.grants == ["back", "waits", "back"]


# --- memory


@on_a_loop
async def test_smaller_ones_do_not_overtake_what_waits_for_memory() -> None:
    desk = Desk(Room(100), rows=4)
    enter = desk.admission.enter
    with enter("a", 60) as a, enter("b", 80) as b, enter("c", 10) as c:
        first = await granted(a, Demand(60, 60))
        large = await asking(b, Demand(80, 80))
        small = await asking(c, Demand(10, 10))
        first.release()
        with await large, await small:
            assert desk.room.taken == 90
    assert await desk.is_idle()


@pytest.mark.parametrize("rows", [1, 4])
@on_a_loop
async def test_what_can_never_fit_is_told_at_once(rows: int) -> None:
    desk = Desk(Room(100), rows=rows)
    enter = desk.admission.enter
    with ExitStack() as inside:
        speaking, admitted = (inside.enter_context(enter(name, 10)) for name in "ab")
        inside.enter_context(await granted(speaking))
        with pytest.raises(TextTooLong, match="at most 100"):
            await admitted.slot(Demand(101, 101))
    assert await desk.is_idle()


@on_a_loop
async def test_what_no_longer_fits_is_told_in_its_turn() -> None:
    desk = Desk(Room(100), rows=4)
    with desk.admission.enter("a", 10) as admitted:
        with await granted(admitted), pytest.raises(TextTooLong, match="at most 100"):
            await admitted.slot(Demand(101, 101))
        (await granted(admitted)).release()
    assert await desk.is_idle()


@on_a_loop
async def test_memory_that_others_hold_is_waited_for_only_beside_speech() -> None:
    desk = Desk(Room(100, taken=95), rows=4)
    with desk.admission.enter("a", 10) as admitted, pytest.raises(OverCapacity):
        await admitted.slot(SMALL)
    assert desk.admission.waiting == 0


@on_a_loop
async def test_memory_that_others_free_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission_module, "RETRY_S", 0.001)
    desk = Desk(Room(100, taken=80), rows=4)
    with desk.admission.enter("a", 20) as admitted, await granted(admitted):
        waiter = await asking(admitted, Demand(20, 20))
        desk.room.taken -= 80
        (await waiter).release()


@on_a_loop
async def test_a_fault_reaches_the_one_whose_turn_it_was() -> None:
    desk = Desk()
    with desk.admission.enter("a", 10) as a, desk.admission.enter("b", 10) as b:
        with await granted(a):
            waiter = await asking(b)
            desk.room.fault = OSError("the driver is gone")
        with pytest.raises(OSError, match="driver"):
            await waiter
        desk.room.fault = None
        (await granted(a)).release()
    assert await desk.is_idle()


@on_a_loop
async def test_real_leases_never_exceed_the_room() -> None:
    plan = plan_for(computer(I5, 8), S1)
    memory = MemoryBudgetManager(plan, S1, lambda: MemoryNow(1500 * MIB, 0, 0))
    demand = Demand(150, 150, 1)
    together = []
    admission = Admission(queue_limit=100, rows_per_client=16)
    admission.join(Stand(memory, 16), rows=16, most_rows=16, characters_per_s=10)

    async def request(client: str) -> None:
        with admission.enter(client, 150) as admitted, await admitted.slot(demand):
            assert memory.is_safe
            together.append(memory.leased_bytes)
            await asyncio.sleep(0)

    await asyncio.gather(*(request(f"client{i}") for i in range(50)))
    assert memory.leased_bytes == 0
    assert len(together) == 50
    assert max(together) > memory.need_bytes(demand)


# --- the door


@on_a_loop
async def test_a_full_queue_says_when_to_come_back() -> None:
    desk = Desk(rows=1, queue_limit=2, characters_per_s=20)
    enter = desk.admission.enter
    with enter("a", 100) as a, enter("b", 200), enter("c", 300), await granted(a) as slot:
        with pytest.raises(OverCapacity, match=r"2 requests wait.* 30 seconds") as refused:
            enter("d", 10)
        assert refused.value.retry_after_s == 30
        slot.done(60, 1.0)
        assert desk.admission.characters_ahead == 540
    with enter("d", 10):
        pass


@pytest.mark.parametrize(("characters", "retry_after_s"), [(1, 1.0), (40, 4.0), (10**6, 3600.0)])
def test_retry_after_is_bounded(characters: int, retry_after_s: float) -> None:
    desk = Desk(characters_per_s=10)
    with desk.admission.enter("a", characters):
        assert desk.admission.retry_after_s == retry_after_s


@on_a_loop
async def test_live_text_counts_as_it_comes() -> None:
    desk = Desk()
    with desk.admission.enter("a", 0) as admitted:
        admitted.add(30)
        assert desk.admission.characters_ahead == 30
        with await granted(admitted) as slot:
            slot.done(50, 1.0)  # words for what was a figure
        assert desk.admission.characters_ahead == 0


@on_a_loop
async def test_speed_is_measured_while_something_is_spoken() -> None:
    desk = Desk(rows=2, characters_per_s=1000)
    with desk.admission.enter("a", 10_000) as admitted:
        for _ in range(100):
            with await granted(admitted) as first, await granted(admitted) as second:
                desk.clock.now_s += 10
                first.done(100, 1.0)
                second.done(150, 1.0)
            desk.clock.now_s += 1000
    assert desk.admission.characters_per_s == pytest.approx(25, rel=0.05)


@on_a_loop
async def test_a_worker_that_only_fails_does_not_divide_by_nothing() -> None:
    desk = Desk()
    with desk.admission.enter("a", 10) as admitted:
        for _ in range(100):
            with await granted(admitted):
                desk.clock.now_s += 10_000
        assert desk.admission.retry_after_s == 3600


@on_a_loop
async def test_a_client_that_fills_the_queue_makes_room_for_others() -> None:
    desk = Desk(rows=1, queue_limit=3)
    enter = desk.admission.enter
    with ExitStack() as inside:
        many = [inside.enter_context(enter("many", 10)) for _ in range(4)]
        inside.enter_context(await granted(many[0]))
        waiters = [await asking(admitted) for admitted in many[1:]]
        with pytest.raises(OverCapacity):
            enter("many", 10)
        one = inside.enter_context(enter("one", 10))
        with pytest.raises(OverCapacity, match="3 requests wait"):
            await waiters.pop()
        with pytest.raises(OverCapacity):
            enter("one", 10)  # as many as the other would then have
        waiters.append(await asking(one))
        inside.close()
        for waiter in waiters:
            with suppress(Aborted):
                (await waiter).release()
    assert await desk.is_idle()


# --- how long it takes until the first turn


@on_a_loop
async def test_nobody_waits_for_a_row_that_is_free() -> None:
    desk = Desk(rows=2)
    enter = desk.admission.enter
    with enter("a", 100) as a, await granted(a), enter("b", 10) as b:
        assert desk.admission.wait_s("c") > 0  # the row is the other's, who has come before
        assert b.wait_s == 0
        (await granted(b)).release()
        assert desk.admission.wait_s("c") == 0
        assert a.wait_s == b.wait_s == 0  # they wish for nothing


@on_a_loop
async def test_the_wait_is_for_what_is_at_work_and_what_goes_before() -> None:
    desk = Desk(rows=1, characters_per_s=10)
    enter = desk.admission.enter
    with enter("book", 100_000) as book, await granted(book, Demand(200, 200)):
        more = await asking(book, Demand(200, 200))
        # The sentence that is spoken, however long the book is.
        assert desk.admission.wait_s("a") == 20
        with enter("a", 50) as a, enter("b", 10) as b:
            waiters = [await asking(a, Demand(50, 50)), await asking(b)]
            assert a.wait_s == 20 + 1  # or after the other's, whoever is first
            assert b.wait_s == 20 + 5
            # Its second turn comes after the second one of the book.
            assert desk.admission.wait_s("a") == 20 + 5 + 1 + 20
            assert desk.admission.wait_s("c") == 20 + 5 + 1
            await cancelled(*waiters, more)


@on_a_loop
async def test_the_wait_is_fair_to_who_asks_for_little() -> None:
    desk = Desk(rows=1, characters_per_s=10)
    with ExitStack() as inside:
        many = [inside.enter_context(desk.admission.enter("many", 10)) for _ in range(20)]
        inside.enter_context(await granted(many[0]))
        waiters = [await asking(admitted) for admitted in many[1:]]
        assert desk.admission.wait_s("many") == 1 + 19
        assert desk.admission.wait_s("one") == 1
        assert many[3].wait_s == 1 + 2
        await cancelled(*waiters)


@on_a_loop
async def test_who_waits_for_memory_waits_though_rows_are_free() -> None:
    desk = Desk(Room(100), rows=4, characters_per_s=10)
    enter = desk.admission.enter
    with enter("a", 60) as a, enter("b", 80) as b, await granted(a, Demand(60, 60)):
        large = await asking(b, Demand(80, 80))
        assert b.wait_s == 6
        assert desk.admission.wait_s("c") == 6 + 8
        await cancelled(large)


async def cancelled(*waiters: asyncio.Task[Slot]) -> None:
    for waiter in waiters:
        waiter.cancel()
    await asyncio.gather(*waiters, return_exceptions=True)


# --- the end


@on_a_loop
async def test_close_sends_home_who_waits_and_lets_others_finish() -> None:
    desk = Desk()
    enter = desk.admission.enter
    with enter("a", 10) as speaking, enter("b", 10) as waiting, enter("c", 10) as late:
        slot = await granted(speaking)
        waiter = await asking(waiting)
        desk.admission.close()
        with pytest.raises(Aborted, match="stopping"):
            await waiter
        with pytest.raises(Aborted, match="stopping"):
            await late.slot(SMALL)
        with pytest.raises(Aborted, match="stopping"):
            enter("d", 10)
        again = await asking(speaking)
        slot.release()
        (await again).release()
    assert desk.admission.waiting == desk.admission.speaking == desk.room.taken == 0


@on_a_loop
async def test_leaving_ends_what_it_waits_for_and_keeps_what_it_holds() -> None:
    desk = Desk()
    with desk.admission.enter("a", 10) as admitted:
        slot = await granted(admitted)
        waiter = await asking(admitted)
    with pytest.raises(Aborted, match="over"):
        await waiter
    with pytest.raises(Aborted, match="over"):
        await admitted.slot(SMALL)
    admitted.leave()
    assert desk.room.taken == 10
    slot.release()
    assert await desk.is_idle()


# --- cancelling


@pytest.mark.parametrize("order", ["cancel", "cancel, release", "release, cancel"])
@on_a_loop
async def test_cancelled_while_waiting_and_in_the_moment_of_its_grant(order: str) -> None:
    desk = Desk()
    with desk.admission.enter("a", 10) as a, desk.admission.enter("b", 10) as b:
        slot = await granted(a)
        waiter, next_one = await asking(b), await asking(a)
        for step in order.split(", "):
            waiter.cancel() if step == "cancel" else slot.release()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        slot.release()
        (await next_one).release()
    assert await desk.is_idle()


@on_a_loop
async def test_refused_in_the_moment_of_its_cancelling() -> None:
    desk = Desk()
    enter = desk.admission.enter
    with enter("a", 10) as a, enter("b", 10) as b, await granted(a):
        waiter = await asking(b)
        desk.admission.close()
        waiter.cancel()
        with suppress(asyncio.CancelledError, Aborted):
            await waiter
    assert desk.room.taken == 0


@on_a_loop
async def test_cancelled_while_waiting_for_memory_lets_the_next_try() -> None:
    desk = Desk(Room(100), rows=4)
    enter = desk.admission.enter
    with enter("a", 60) as a, enter("b", 80) as b, enter("c", 10) as c:
        first, large = await granted(a, Demand(60, 60)), await asking(b, Demand(80, 80))
        small = await asking(c)
        large.cancel()
        await settle()
        assert small.done()
        (await small).release()
        with pytest.raises(asyncio.CancelledError):
            await large
        first.release()
    assert await desk.is_idle()


@on_a_loop
async def test_cancelled_at_any_step_gives_everything_back() -> None:
    for steps in range(12):
        desk = Desk(Room(40), rows=2)
        others = [asyncio.create_task(desk.request(f"o{i}", 3)) for i in range(2)]
        await asyncio.sleep(0)
        request = asyncio.create_task(desk.request("a", 4, together=3))
        for _ in range(steps):
            await asyncio.sleep(0)
        request.cancel()
        with suppress(asyncio.CancelledError):
            await request
        await asyncio.gather(*others)
        assert await desk.is_idle()


# --- anything, in any order


@pytest.mark.parametrize("seed", range(20))
@on_a_loop
async def test_nothing_is_lost_and_everybody_is_served(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission_module, "RETRY_S", 0.001)
    dice = random.Random(seed)
    desk = Desk(Room(100), rows=dice.randint(1, 6), queue_limit=dice.choice([5, 200]))
    at_work: list[int] = []
    spoken: dict[str, int] = {}

    async def sentence(admitted: AdmittedRequest, name: str) -> None:
        size = dice.choice([1, 5, 30, 100])
        with await admitted.slot(Demand(size, size)) as slot:
            at_work.append(size)
            assert len(at_work) <= desk.rows
            assert sum(at_work) <= desk.room.size
            try:
                for _ in range(dice.randint(0, 4)):
                    await asyncio.sleep(0)
            finally:
                at_work.remove(size)
            slot.done(size, 1.0)
            spoken[name] += 1

    async def request(name: str, sentences: int) -> None:
        for _ in range(dice.randint(0, 50)):
            await asyncio.sleep(0)
        with desk.admission.enter(f"client{dice.randint(0, 5)}", 10) as admitted:
            spoken[name] = 0
            await asyncio.gather(*(sentence(admitted, name) for _ in range(sentences)))

    wanted = {str(number): dice.randint(1, 6) for number in range(60)}
    tasks = {name: asyncio.create_task(request(name, n)) for name, n in wanted.items()}
    for _ in range(30):
        await asyncio.sleep(0)
        if dice.random() < 0.5:
            dice.choice(list(tasks.values())).cancel()
    for name, task in tasks.items():
        try:
            await task
        except asyncio.CancelledError:
            continue
        except OverCapacity as error:
            assert desk.queue_limit == 5
            assert error.retry_after_s is not None
            assert not spoken.get(name)
            continue
        assert spoken[name] == wanted[name]
    await settle()
    assert not at_work
    assert await desk.is_idle()


# --- what holds a place, and what does not


@on_a_loop
async def test_who_writes_nothing_keeps_nobody_out() -> None:
    desk = Desk(rows=2, queue_limit=3)
    with ExitStack() as inside:
        for _ in range(50):  # each said a sentence, and now holds its connection open
            live = inside.enter_context(desk.admission.enter("holder", 0, is_live=True))
            (await granted(live)).release()
        for _ in range(50):  # each has written half a word
            inside.enter_context(desk.admission.enter("half", 0, is_live=True))
        assert (desk.admission.waiting, desk.admission.speaking) == (0, 0)
        await desk.request("victim", 3)
        assert desk.grants == ["victim"] * 3


@on_a_loop
async def test_a_listener_who_does_not_read_keeps_nobody_out() -> None:
    desk = Desk(rows=1, queue_limit=1)
    with ExitStack() as inside:
        for name in "abcdefgh":
            request = inside.enter_context(desk.admission.enter(name, 1000))
            (await granted(request)).release()  # heard, and nothing more is fetched
        await desk.request("victim", 1)
    assert await desk.is_idle()


@on_a_loop
async def test_a_live_request_that_goes_on_waits_its_turn_even_where_the_queue_is_full() -> None:
    desk = Desk(rows=1, queue_limit=1)
    with desk.admission.enter("live", 0, is_live=True) as live:
        (await granted(live)).release()
        with desk.admission.enter("a", 10) as one, desk.admission.enter("b", 10) as other:
            slot = await granted(one)
            waits = await asking(other)
            more = await asking(live)
            slot.release()
            (await more).release()  # its last turn is longest ago
            (await waits).release()
    assert await desk.is_idle()


# --- recordings beside speech


@on_a_loop
async def test_recordings_take_no_row_and_one_is_encoded_at_a_time() -> None:
    desk = Desk(rows=2)
    with ExitStack() as inside:
        encoding = [inside.enter_context(desk.admission.enter(f"cloner{n}", 1)) for n in range(16)]
        tasks = [asyncio.create_task(each.slot(SMALL, "encode")) for each in encoding]
        await settle()
        assert sum(task.done() for task in tasks) == 1
        assert desk.room.taken == 10  # the others' memory is not promised meanwhile
        speaking = [inside.enter_context(desk.admission.enter(f"s{n}", 10)) for n in range(2)]
        slots = [await granted(each) for each in speaking]
        third = inside.enter_context(desk.admission.enter("third", 10))
        waits = await asking(third)
        for task in tasks:
            (await task).release()
            assert not waits.done()  # what encoding frees is no row
        slots[0].release()
        (await waits).release()
        slots[1].release()
    assert await desk.is_idle()


@on_a_loop
async def test_recordings_of_many_clients_take_turns() -> None:
    desk = Desk()
    order: list[str] = []

    async def encode(client: str) -> None:
        with (
            desk.admission.enter(client, 1) as request,
            await request.slot(SMALL, "encode") as slot,
        ):
            order.append(slot.request.client)
            await asyncio.sleep(0)

    await asyncio.gather(*(encode("many") for _ in range(20)), encode("one"))
    assert order.index("one") <= 2
    assert await desk.is_idle()


@on_a_loop
async def test_encoding_does_not_count_as_time_spent_speaking() -> None:
    desk = Desk()
    before = desk.admission.characters_per_s
    with desk.admission.enter("a", 1) as request, await request.slot(SMALL, "encode"):
        desk.clock.now_s += 1000
    assert desk.admission.characters_per_s == before


# --- rows that stay free for the next client


@on_a_loop
async def test_the_next_client_finds_a_row() -> None:
    desk = Desk(rows=4, rows_per_client=2)
    with ExitStack() as inside:
        many = [inside.enter_context(desk.admission.enter("many", 10)) for _ in range(6)]
        held = [await granted(each) for each in many[:2]]
        waits = [await asking(each) for each in many[2:]]
        assert desk.admission.wait_s("many") > 0
        assert desk.admission.wait_s("one") == 0
        one = inside.enter_context(desk.admission.enter("one", 10))
        (await granted(one)).release()
        for slot in held:
            slot.release()
        for task in waits:
            (await task).release()
    assert await desk.is_idle()
