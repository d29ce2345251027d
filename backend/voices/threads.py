"""Threads in which saved voices and encoded recordings are looked up."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

_THREADS = ThreadPoolExecutor(max_workers=4, thread_name_prefix="voices")
"""Their own: where a store elsewhere does not answer they all wait, and nobody else does."""

P = ParamSpec("P")
T = TypeVar("T")


async def in_store(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What `work` returns."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, lambda: work(*args, **kwargs))


def store_soon(work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """Have `work` done, which raises nothing, when a thread is free."""
    _THREADS.submit(work, *args, **kwargs)
