"""What audio on its way took of the server's memory is the system's again while nobody asks, and
now and then while somebody always does."""

import asyncio
import gc
from collections.abc import Callable
from contextlib import suppress

from backend.heap import give_back
from backend.serving.quiet import Quiet
from backend.serving.tasks import end

QUIET_S = 1.0
"""Nobody was inside for so long."""
BUSY_S = 60.0
"""It is waited for no longer than that: a server that is asked all the time kept some 20 MB."""


class Tidying:
    """Has free memory given back once after each time that somebody was inside, or each minute."""

    def __init__(self, quiet: Quiet, give_back: Callable[[], None] = give_back) -> None:
        """`give_back` blocks for milliseconds, and so would whatever needs memory meanwhile: it is
        called on the loop, which mostly has nothing to speak then. So does the collector, which is
        asked before: what clients that left leave to it would wait for some thousand of them."""
        self._quiet, self._give_back = quiet, give_back
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; returns at once."""
        self._task = asyncio.create_task(self._run(), name="tidying")

    async def close(self) -> None:
        """Give back no more."""
        await end(self._task)

    async def _run(self) -> None:
        while True:
            await self._quiet.disturbed()
            with suppress(TimeoutError):
                async with asyncio.timeout(BUSY_S):
                    await self._quiet.reached(QUIET_S)
            gc.collect()
            self._give_back()
