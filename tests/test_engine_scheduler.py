import random

from backend.engine.scheduler import Scheduler
from tests.engines import sequence


def test_first_come_first_served_one_at_a_time() -> None:
    scheduler = Scheduler(2)
    three = [sequence(text) for text in "abc"]
    for each in three:
        scheduler.add(each)
    assert [scheduler.join(), scheduler.join(), scheduler.join()] == [three[0], three[1], None]
    assert scheduler.leave(three[0]) == 0
    assert scheduler.join() is three[2]
    assert scheduler.running == [three[1], three[2]]


def test_rows_stay_packed_as_the_cache_packs_them() -> None:
    """Against a list that does what `KVCache.remove_row` documents."""
    chance = random.Random(0)
    scheduler, mirror = Scheduler(8), []
    for _ in range(300):
        if chance.random() < 0.5:
            scheduler.add(sequence("a"))
        if (joined := scheduler.join()) is not None:
            mirror.append(joined)
        if mirror and chance.random() < 0.5:
            row = scheduler.leave(chance.choice(mirror))
            assert row is not None
            mirror[row] = mirror[-1]
            mirror.pop()
        assert scheduler.running == mirror


def test_what_waits_can_leave() -> None:
    scheduler = Scheduler(1)
    first, second = sequence("a"), sequence("b")
    scheduler.add(first)
    scheduler.add(second)
    scheduler.join()
    assert scheduler.leave(second) is None
    assert scheduler.waiting == 0
    assert scheduler.leave(second) is None
    assert scheduler.leave(first) == 0
    assert scheduler.is_idle


def test_rows_must_fit_the_memory_but_one_always_may_run() -> None:
    long, short = sequence("a", frames=100), sequence("b", frames=10)
    scheduler = Scheduler(8, max_positions=2 * short.most_positions)
    for each in (long, short, sequence("c", frames=10)):
        scheduler.add(each)
    assert scheduler.join() is long
    assert scheduler.join() is None
    scheduler.leave(long)
    assert scheduler.join() is short
    assert scheduler.join() is not None
