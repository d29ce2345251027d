"""Several workers behind one queue: who takes the next sentence, and a dead one's."""

import asyncio
from contextlib import nullcontext

import pytest

from backend.errors import EngineDown, OverCapacity, TextTooLong
from backend.hardware.memory import Demand
from backend.serving import admission as admission_module
from backend.serving.admission import Admission
from backend.serving.lives import KILLS
from backend.serving.recordings import encoder
from backend.serving.slots import AdmittedRequest, Slot, Work
from tests.desk import SMALL, Room, Stand, asking, granted, on_a_loop, settle
from tests.test_serving_session import CODES, info

VOICE = 7


def queue(*stands: Stand) -> Admission:
    admission = Admission(queue_limit=100, rows_per_client=1000)
    for stand in stands:
        admission.join(stand, rows=stand.rows, most_rows=stand.rows, characters_per_s=10.0)
    return admission


async def one(
    admitted: AdmittedRequest,
    demand: Demand = SMALL,
    *,
    work: Work = "speak",
    voice: int | None = None,
) -> Slot:
    task = asyncio.create_task(admitted.slot(demand, work, voice))
    await settle()
    assert task.done()
    return await task


@on_a_loop
async def test_sentences_go_where_fewest_are_at_work() -> None:
    a, b = Stand(rows=3), Stand(rows=3)
    admission = queue(a, b)
    with admission.enter("me", 100) as admitted:
        slots = [await granted(admitted) for _ in range(6)]
        assert [slot.station for slot in slots] == [a, b, a, b, a, b]
        assert (admission.at_work(a), admission.at_work(b)) == (3, 3)
        waiter = await asking(admitted)
        slots[3].release()
        assert (await waiter).station is b
        for slot in (*slots, await waiter):
            slot.release()


@on_a_loop
async def test_a_slow_worker_gets_less() -> None:
    fast, slow = Stand(rows=8, rtf=0.1), Stand(rows=8, rtf=0.35)
    with queue(slow, fast).enter("me", 100) as admitted:
        stations = [(await granted(admitted)).station for _ in range(8)]
        assert stations.count(fast) == 6
        assert stations[:3] == [fast] * 3


@on_a_loop
async def test_a_voice_goes_where_its_prompt_was_read_unless_that_is_busier() -> None:
    a, b = Stand(rows=8), Stand(rows=8, voices={VOICE})
    with queue(a, b).enter("me", 100) as admitted:
        assert [(await one(admitted, voice=VOICE)).station for _ in range(2)] == [b, b]
        assert (await one(admitted, voice=VOICE)).station is a
        assert a.voices == {VOICE}
        assert (await one(admitted)).station is a


@on_a_loop
async def test_recordings_are_encoded_side_by_side_one_at_each() -> None:
    a, b = Stand(rows=1), Stand(rows=1)
    with queue(a, b).enter("me", 100) as admitted:
        slots = [await one(admitted, work="encode") for _ in range(2)]
        assert {slot.station for slot in slots} == {a, b}
        third = asyncio.create_task(admitted.slot(SMALL, "encode"))
        await settle()
        assert not third.done()
        slots[1].release()
        assert (await third).station is b
        assert {(await one(admitted)).station for _ in range(2)} == {a, b}, "rows are others"


@on_a_loop
async def test_memory_decides_with_rows() -> None:
    a, b = Stand(Room(15), rows=4), Stand(Room(35), rows=4)
    admission = queue(a, b)
    with admission.enter("me", 100) as admitted:
        slots = [await granted(admitted) for _ in range(4)]
        assert [slot.station for slot in slots] == [a, b, b, b]
        waiter = await asking(admitted)
        slots[0].release()
        assert (await waiter).station is a
        with pytest.raises(TextTooLong, match="at most 35"):
            await admitted.slot(Demand(36, 36))


@on_a_loop
async def test_what_never_fits_one_waits_for_the_other() -> None:
    small, large = Stand(Room(10), rows=4), Stand(Room(100), rows=1)
    with queue(small, large).enter("me", 100) as admitted:
        big = Demand(50, 50)
        first = await one(admitted, big)
        assert first.station is large
        waiter = await asking(admitted, big)
        first.release()
        assert (await waiter).station is large


@on_a_loop
async def test_a_newcomer_hears_at_once_what_no_worker_can_speak() -> None:
    rooms = Room(10), Room(20)
    admission = queue(*(Stand(room) for room in rooms))
    with (
        admission.enter("me", 100) as admitted,
        pytest.raises(TextTooLong, match="at most 20"),
    ):
        await admitted.slot(Demand(30, 30))
    rooms[1].fault = OverCapacity("It is taken.")
    with admission.enter("me", 100) as admitted:
        assert (await granted(admitted)).station.memory is rooms[0]


@on_a_loop
async def test_one_that_cannot_speak_is_passed_over_until_it_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admission_module, "RETRY_S", 0.0)
    a, b = Stand(is_able=False), Stand()
    with queue(a, b).enter("me", 100) as admitted:
        first = await granted(admitted)
        assert first.station is b
        waiter = await asking(admitted)
        a.is_able = True
        assert (await waiter).station is a


@on_a_loop
async def test_where_none_can_speak_who_is_first_is_waited_for() -> None:
    a, b = Stand(is_able=False), Stand(is_able=False)
    with queue(a, b).enter("me", 100) as admitted:
        assert {(await granted(admitted)).station for _ in range(2)} == {a, b}


@on_a_loop
async def test_what_a_death_interrupted_is_next_at_another() -> None:
    a, b = Stand(), Stand()
    admission = queue(a, b)
    with admission.enter("me", 100) as mine, admission.enter("you", 100) as yours:
        lost, other = await granted(mine), await granted(yours)
        assert (lost.station, other.station) == (a, b)
        waiter = await asking(yours)
        assert await mine.placed(lost) is lost, "its worker lives"
        a.is_able = False
        moving = asyncio.create_task(mine.placed(lost))
        await settle()
        assert not moving.done()
        assert a.memory.taken == 0  # type: ignore[attr-defined]
        other.release()
        assert (await moving).station is b
        assert not waiter.done(), "it had its turn before"
        (await moving).release()
        assert (await waiter).station is b
        (await waiter).release()


@on_a_loop
async def test_where_there_is_no_other_it_keeps_its_slot() -> None:
    a, b = Stand(), Stand(is_able=False)
    with queue(a, b).enter("me", 100) as admitted:
        slot = await granted(admitted)
        a.is_able = False
        assert await admitted.placed(slot) is slot
        assert slot.station is a


@on_a_loop
async def test_a_move_that_is_given_up_leaves_nothing() -> None:
    a, b = Stand(), Stand()
    admission = queue(a, b)
    with admission.enter("me", 100) as admitted:
        lost, other = await granted(admitted), await granted(admitted)
        a.is_able = False
        moving = asyncio.create_task(admitted.placed(lost))
        await settle()
        moving.cancel()
        await asyncio.gather(moving, return_exceptions=True)
        lost.release()
        other.release()
        assert (admission.at_work(a), admission.at_work(b)) == (0, 0)
        assert not admitted.is_asking()


class Dies:
    """A worker that is gone by the time it is asked."""

    def __init__(self, stand: Stand) -> None:
        self.stand, self.asked = stand, 0

    async def encode(self, message: object) -> object:
        self.asked += 1
        self.stand.is_able = False
        raise EngineDown("The worker is down.")


class Encodes:
    asked = 0

    async def encode(self, message: object) -> object:
        self.asked += 1
        return CODES


@on_a_loop
async def test_a_recording_whose_worker_died_is_encoded_by_another() -> None:
    a, b = Stand(), Stand(speaker=Encodes())
    a.speaker = Dies(a)
    with queue(a, b).enter("me", 100) as admitted:
        assert await encoder(admitted, "r", info())(b"") is CODES
    assert (a.speaker.asked, b.speaker.asked) == (1, 1)


class Killed(Dies):
    """One that somebody ends, as often as that."""

    def __init__(self, times: int) -> None:
        self.times, self.asked = times, 0

    async def encode(self, message: object) -> object:
        self.asked += 1
        if self.asked <= self.times:
            raise EngineDown("The worker is down.", is_from_outside=True)
        return CODES


@on_a_loop
async def test_a_recording_outlives_those_who_kill_its_worker_up_to_a_bound() -> None:
    for times, asked in ((KILLS - 1, KILLS), (KILLS, KILLS)):
        killed = Killed(times)
        ends = nullcontext() if times < KILLS else pytest.raises(EngineDown)
        with queue(Stand(speaker=killed)).enter("me", 100) as admitted, ends:
            assert await encoder(admitted, "r", info())(b"") is CODES
        assert killed.asked == asked


@on_a_loop
async def test_a_recording_that_kills_workers_is_given_up() -> None:
    a, b, c = Stand(), Stand(), Stand(speaker=Encodes())
    a.speaker, b.speaker = Dies(a), Dies(b)
    admission = queue(a, b, c)
    with admission.enter("me", 100) as admitted:
        with pytest.raises(EngineDown):
            await encoder(admitted, "r", info())(b"")
        assert admission.at_work(b) == 0
    assert c.speaker.asked == 0


@on_a_loop
async def test_the_queue_is_as_long_and_as_wide_as_all_of_them() -> None:
    admission = Admission()
    stands = [Stand(rows=16), Stand(rows=128)]
    for stand in stands:
        admission.join(stand, rows=stand.rows, most_rows=stand.rows, characters_per_s=50.0)
    assert admission._places == 8 * 144
    assert admission._rows_per_client == 72
    assert admission.characters_per_s == pytest.approx(100)
    admission.expect(stands[0], 100.0)
    assert admission.characters_per_s == pytest.approx(150)
    admission.part(stands[1])
    assert admission._places == 16 + 112
    admission.expect(stands[1], 900.0)  # a sentence of it that ended meanwhile finds out how fast
    assert admission.characters_per_s == pytest.approx(100)
