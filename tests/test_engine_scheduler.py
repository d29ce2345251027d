import random

from backend.engine.scheduler import Scheduler
from backend.model.config import CacheGeometry, last_capacity
from tests.engines import sequence

A_BYTE = CacheGeometry(position_bytes=1)


def test_first_come_first_served_one_at_a_time() -> None:
    scheduler = Scheduler(2, A_BYTE)
    three = [sequence(text) for text in "abc"]
    for each in three:
        scheduler.add(each)
    assert [scheduler.join(), scheduler.join(), scheduler.join()] == [three[0], three[1], None]
    assert scheduler.leave(three[0]) == 0
    assert scheduler.join() is three[2]
    assert scheduler.running == [three[2], three[1]]


def test_a_sequence_keeps_its_slot_until_it_leaves() -> None:
    """Against a list of slots, of which a newcomer takes the first that is empty."""
    chance = random.Random(0)
    scheduler = Scheduler(8, A_BYTE)
    mirror: list[object] = [None] * 8
    most = 0
    for _ in range(500):
        if chance.random() < 0.6:
            scheduler.add(sequence("a"))
        has_room = scheduler.waiting > 0 and None in mirror
        joined = scheduler.join()
        assert (joined is not None) == has_room
        if joined is not None:
            mirror[mirror.index(None)] = joined
        if scheduler.running and chance.random() < 0.5:
            leaving = chance.choice(scheduler.running)
            assert scheduler.leave(leaving) == mirror.index(leaving)
            mirror[mirror.index(leaving)] = None
        assert scheduler.slots == {each: i for i, each in enumerate(mirror) if each}
        assert scheduler.running == [each for each in mirror if each]
        most = max(most, len(scheduler.running))
    assert most == 8


def test_what_waits_can_leave() -> None:
    scheduler = Scheduler(1, A_BYTE)
    first, second = sequence("a"), sequence("b")
    scheduler.add(first)
    scheduler.add(second)
    scheduler.join()
    assert scheduler.leave(second) is None
    assert scheduler.waiting == 0
    assert scheduler.leave(second) is None
    assert scheduler.leave(first) == 0
    assert scheduler.leave(first) is None
    assert scheduler.is_idle


def test_rows_must_fit_the_memory_but_one_always_may_run() -> None:
    long, short = sequence("a", frames=1000), sequence("b", frames=10)
    scheduler = Scheduler(8, A_BYTE, cache_bytes=2 * last_capacity(short.most_positions))
    for each in (long, short, sequence("c", frames=10), sequence("d", frames=10)):
        scheduler.add(each)
    assert scheduler.join() is long
    assert scheduler.join() is None
    scheduler.leave(long)
    assert scheduler.join() is short
    assert scheduler.join() is not None
    assert scheduler.join() is None, "full to the last byte"


def test_a_long_row_does_not_make_the_short_ones_longer() -> None:
    long, shorts = sequence("a", frames=1000), [sequence("b", frames=10) for _ in range(5)]
    together = sum(last_capacity(each.most_positions) for each in (long, *shorts))
    scheduler = Scheduler(8, A_BYTE, cache_bytes=together)
    for each in (*shorts, long):
        scheduler.add(each)
    assert [scheduler.join() for _ in range(6)] == [*shorts, long]


def test_less_memory_sends_nobody_away() -> None:
    first, second = sequence("a"), sequence("b")
    scheduler = Scheduler(8, A_BYTE)
    scheduler.add(first)
    scheduler.join()
    scheduler.cache_bytes = 1
    scheduler.add(second)
    assert scheduler.join() is None
    assert scheduler.running == [first]
    scheduler.cache_bytes = None
    assert scheduler.join() is second
