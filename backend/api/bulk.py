"""Work on what is large: off the event loop, and so few at a time that others find a thread."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_AT_ONCE_BYTES = 16 * 1024
"""What is smaller is read in less time than another thread takes to begin."""
_THREADS = ThreadPoolExecutor(max_workers=2, thread_name_prefix="bulk")
"""Their own: those of `asyncio.to_thread` stay free for requests that are small."""

T = TypeVar("T")


async def in_bulk(work: Callable[[], T]) -> T:
    """What `work` returns, in its turn among all that is large."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, work)


async def by_size(size_bytes: int, work: Callable[[], T]) -> T:
    """What `work` returns, at once if `size_bytes` are few, else in its turn."""
    return work() if size_bytes <= _AT_ONCE_BYTES else await in_bulk(work)
