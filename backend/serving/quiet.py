"""Whether any request is inside, for what may be done only while none is."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Quiet:
    """Counts the requests inside. Everything happens on one event loop."""

    def __init__(self) -> None:
        self._inside = 0
        self._is_quiet, self._is_disturbed = asyncio.Event(), asyncio.Event()
        self._is_quiet.set()

    def enter(self) -> None:
        """A request has come."""
        self._inside += 1
        self._is_quiet.clear()
        self._is_disturbed.set()

    def leave(self) -> None:
        """One is over."""
        self._inside -= 1
        if not self._inside:
            self._is_disturbed.clear()
            self._is_quiet.set()

    @contextmanager
    def inside(self) -> Iterator[None]:
        """A request is, for as long."""
        self.enter()
        try:
            yield
        finally:
            self.leave()

    async def reached(self, quiet_s: float) -> None:
        """Wait until nothing has been inside for so long."""
        while True:
            await self._is_quiet.wait()
            try:
                async with asyncio.timeout(quiet_s):
                    await self._is_disturbed.wait()
            except TimeoutError:
                return

    async def disturbed(self) -> None:
        """Wait until something is inside; at once where it is."""
        await self._is_disturbed.wait()
