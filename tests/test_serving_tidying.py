"""What audio on its way took of the server's memory, while nobody asks."""

import asyncio
import gc
import platform
import subprocess
import sys
import weakref

import pytest

from backend.serving import tidying
from backend.serving.quiet import Quiet
from backend.serving.tidying import Tidying
from tests.desk import settle

AUDIO = """
import psutil
from backend.heap import give_back

def taken_mb():
    return (process.memory_info().rss - before) // 1_000_000

process = psutil.Process()
before = process.memory_info().rss
warm = b"x" * 400_000
del warm
audio, kept = [], []
for _ in range(200):
    audio.append(b"x" * 200_000)
    kept.append(bytearray(1_000))
del audio
print(taken_mb())
give_back()
print(taken_mb())
"""
"""Audio of 200 requests is freed, what is remembered of each stays between."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that keeps it")
def test_audio_that_was_sent_leaves_nothing() -> None:
    command = [sys.executable, "-c", AUDIO]
    told = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    before_mb, after_mb = map(int, told.split())
    assert before_mb > 30, "glibc gives it back by itself now"
    assert after_mb < 5


def test_it_is_given_back_once_each_time_that_all_have_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tidying, "QUIET_S", 0.0)

    async def work() -> None:
        quiet, given = Quiet(), asyncio.Semaphore(0)
        it = Tidying(quiet, given.release)
        it.start()
        for _ in range(2):
            assert given.locked(), "nobody was inside"
            with quiet.inside():
                await settle()
                assert given.locked(), "somebody is"
            await given.acquire()
        await it.close()

    asyncio.run(work())


def test_where_somebody_always_is_inside_it_is_given_back_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tidying, "BUSY_S", 0.01)

    async def work() -> None:
        quiet, given = Quiet(), asyncio.Semaphore(0)
        it = Tidying(quiet, given.release)
        it.start()
        with quiet.inside():
            await given.acquire()
            await given.acquire()
        await it.close()

    asyncio.run(work())


def test_what_only_the_collector_finds_is_collected_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidying, "QUIET_S", 0.0)

    class Left:
        """Holds itself."""

    async def work() -> None:
        quiet, given = Quiet(), asyncio.Event()
        left = Left()
        vars(left)["itself"] = left
        is_left = weakref.ref(left)
        del left
        it = Tidying(quiet, lambda: given.set() if is_left() is None else None)
        it.start()
        with quiet.inside():
            await settle()
        await given.wait()
        await it.close()

    gc.disable()
    try:
        asyncio.run(work())
    finally:
        gc.enable()
