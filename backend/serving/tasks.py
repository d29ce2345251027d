"""The end of tasks in the background."""

import asyncio
from contextlib import suppress
from typing import Any


async def end(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel `tasks`, and wait until they are over; what they raise is nobody's any more."""
    begun = [task for task in tasks if task is not None]
    for task in begun:
        task.cancel()
    await asyncio.gather(*begun, return_exceptions=True)
    for task in begun:
        # Until it is asked, a task that was cancelled keeps the frames in which that met it, which
        # mostly hold the task: nothing but the collector would free them and what they hold.
        with suppress(asyncio.CancelledError):
            task.exception()
