"""A watch: one thread reads, whoever looks gets the last reading at once."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from backend import watch as watch_module
from backend.watch import Look, Watch

WAIT_S = 30.0


class Slow:
    """Something that is read when it is let, and says how often it was."""

    def __init__(self) -> None:
        self.allowed = threading.Semaphore(0)
        self.read = threading.Semaphore(0)
        """One for each reading that was begun."""
        self.count = 0
        self.threads: set[int] = set()
        self.ended = threading.Event()

    def __call__(self) -> int:
        self.threads.add(threading.get_ident())
        self.read.release()
        assert self.allowed.acquire(timeout=WAIT_S)
        self.count += 1
        return self.count

    def wait_until_read(self) -> None:
        assert self.read.acquire(timeout=WAIT_S)


@contextmanager
def watched(slow: Slow, interval_s: float = 0.0) -> Iterator[Watch[int]]:
    watch = Watch("test", slow, interval_s, slow.ended.set, clock=lambda: 5.0)
    try:
        yield watch
    finally:
        watch.close()
        slow.allowed.release(1000)
        if slow.threads:
            assert slow.ended.wait(WAIT_S)


def test_nothing_is_read_before_the_start() -> None:
    slow = Slow()
    with watched(slow) as watch:
        assert watch.latest() is None
        assert slow.threads == set()


def test_looking_never_waits_however_long_a_reading_takes() -> None:
    slow = Slow()
    with watched(slow) as watch:
        watch.start()
        watch.start()
        slow.wait_until_read()
        assert [watch.latest() for _ in range(1000)] == [None] * 1000
        slow.allowed.release()
        assert watch.first(WAIT_S) == Look(1, 5.0)
        slow.wait_until_read()  # this one hangs
        assert [watch.latest() for _ in range(1000)] == [Look(1, 5.0)] * 1000
        assert slow.count == 1
        assert len(slow.threads) == 1
        assert threading.get_ident() not in slow.threads


def test_a_look_is_followed_by_a_reading_and_nothing_else_is() -> None:
    slow, waits = Slow(), threading.Semaphore(0)

    class Noted(threading.Event):
        """Says when somebody begins to wait for a look, and waits for that alone."""

        def wait(self, timeout: float | None = None) -> bool:
            waits.release()
            return super().wait(WAIT_S)

    with watched(slow) as watch:
        watch._looked = Noted()
        watch.start()
        for count in (1, 2, 3):
            slow.allowed.release()
            assert waits.acquire(timeout=WAIT_S)
            assert slow.count == count  # and it sleeps
            watch.latest()
        slow.wait_until_read()


def test_an_idle_machine_is_read_seldom_but_is_read() -> None:
    slow, timeouts = Slow(), []

    class Passing(threading.Event):
        """Time passes at once."""

        def wait(self, timeout: float | None = None) -> bool:
            timeouts.append(timeout)
            return False

    with watched(slow, interval_s=0.5) as watch:
        watch._looked = Passing()
        watch._closing = Passing()
        slow.allowed.release(2)
        watch.start()
        for _ in range(3):
            slow.wait_until_read()
        assert timeouts == [0.5, watch_module.IDLE_S - 0.5] * 2
        watch._closing.set()


def test_an_end_does_not_wait_for_a_reading_that_hangs() -> None:
    slow = Slow()
    with watched(slow) as watch:
        watch.start()
        slow.wait_until_read()
        watch.close()
        assert not slow.ended.is_set()
        slow.allowed.release()
        assert slow.ended.wait(WAIT_S)
        assert slow.count == 1
