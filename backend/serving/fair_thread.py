"""One thread that does short pieces of work for many clients, in turns."""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

SHORT_CHARACTERS = 256
"""A text that is no longer is read within a millisecond, two where it is full of figures: less than
it waits until the thread has begun, while the event loop is busy."""

T = TypeVar("T")

_Work = tuple[Callable[[], Any], "asyncio.Future[Any]"]


class FairThread:
    """Clients take turns by the piece, however many pieces one of them brings.

    One thread and no more: Python computes in one at a time, and each further one only makes the
    event loop wait longer for its turn. Used from one event loop.
    """

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, name)
        self._waiting: dict[str, deque[_Work]] = {}
        """Of each client, in the order of their turns."""
        self._is_busy = False

    async def read(self, client: str, characters: int, work: Callable[[], T]) -> T:
        """What `work` makes of a text of so many characters: at once where it is short, else as
        `run`."""
        return work() if characters <= SHORT_CHARACTERS else await self.run(client, work)

    async def run(self, client: str, work: Callable[[], T]) -> T:
        """What `work` returns, in the turn of `client`; cancelled before, nothing is done."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append((work, done))
        self._next()
        return await done

    def close(self) -> None:
        """Let go of the thread, once it has done what it is at."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _next(self) -> None:
        while not self._is_busy and self._waiting:
            client, pieces = next(iter(self._waiting.items()))
            work, done = pieces.popleft()
            del self._waiting[client]
            if pieces:
                self._waiting[client] = pieces  # behind all others
            if not done.done():
                self._is_busy = True
                computed = asyncio.get_running_loop().run_in_executor(self._pool, work)
                computed.add_done_callback(partial(self._tell, done))

    def _tell(self, done: "asyncio.Future[Any]", ended: "asyncio.Future[Any]") -> None:
        self._is_busy = False
        self._next()
        if done.done() or ended.cancelled():
            return
        if (error := ended.exception()) is not None:
            done.set_exception(error)
        else:
            done.set_result(ended.result())
