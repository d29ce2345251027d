"""Short work of many clients in one thread: turns, errors, and what is cancelled."""

import asyncio
import threading
from collections.abc import Callable
from functools import partial

import pytest

from backend.serving.fair_thread import SHORT_CHARACTERS, FairThread


class Held:
    """Work that goes on until it is let go."""

    def __init__(self) -> None:
        self._go = threading.Event()

    def __call__(self) -> None:
        self._go.wait(10)

    def let_go(self) -> None:
        self._go.set()


def test_one_piece_of_each_client_in_turn_however_many_it_brings() -> None:
    order: list[str] = []

    async def work() -> None:
        thread, first = FairThread("test"), Held()
        held = asyncio.create_task(thread.run("many", first))
        await asyncio.sleep(0)
        pieces = [thread.run("many", lambda: order.append("many")) for _ in range(100)]
        pieces += [thread.run(name, partial(order.append, name)) for name in ("a", "b")]
        waiting = asyncio.gather(*pieces)
        await asyncio.sleep(0)
        first.let_go()
        await asyncio.gather(held, waiting)
        thread.close()

    asyncio.run(work())
    assert sorted(order[:3]) == ["a", "b", "many"]
    assert len(order) == 102


def test_what_it_raises_is_raised_and_the_next_is_done() -> None:
    def fail() -> None:
        raise KeyError("no")

    async def work() -> None:
        thread = FairThread("test")
        with pytest.raises(KeyError):
            await thread.run("a", fail)
        assert await thread.run("a", lambda: 5) == 5
        thread.close()

    asyncio.run(work())


def test_what_was_cancelled_before_its_turn_is_not_done() -> None:
    done: list[int] = []

    async def work() -> None:
        thread, first = FairThread("test"), Held()
        held = asyncio.create_task(thread.run("a", first))
        await asyncio.sleep(0)

        def piece(number: int) -> Callable[[], None]:
            return lambda: done.append(number)

        tasks = [asyncio.create_task(thread.run("a", piece(number))) for number in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        held.cancel()  # at work already: it ends, and nobody hears of it
        first.let_go()
        await asyncio.gather(*tasks, held, return_exceptions=True)
        thread.close()

    asyncio.run(work())
    assert done == [0, 2]


def test_a_short_text_is_read_at_once_and_a_longer_one_in_its_turn() -> None:
    async def work() -> None:
        thread, held = FairThread("test"), Held()
        busy = asyncio.create_task(thread.run("a", held))
        await asyncio.sleep(0)
        here = threading.get_ident()
        assert await thread.read("b", SHORT_CHARACTERS, threading.get_ident) == here
        longer = asyncio.create_task(thread.read("b", SHORT_CHARACTERS + 1, threading.get_ident))
        await asyncio.sleep(0)
        assert not longer.done()
        held.let_go()
        assert await longer != here
        await busy
        thread.close()

    asyncio.run(work())
