"""What a client hears of a server, and what the server's processes hold meanwhile."""

import asyncio
import math
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import httpx
import psutil

from tests.e2e.serving import Served

MIB = 1024 * 1024
TIMEOUT_S = 4000.0
_HEADER_BYTES = 44
"""Of a wav file, before its first sample."""


@dataclass(slots=True)
class Heard:
    """One streamed answer; times are seconds from the moment it was asked for."""

    outcome: str
    """The status, or what the connection died of."""
    total_s: float
    audio_bytes: int = 0
    first_audio_s: float = math.nan
    server_first_audio_s: float = math.nan
    """By the server's own clock, from admission."""
    queue_s: float = math.nan

    @property
    def is_spoken(self) -> bool:
        """It was heard to its end."""
        return self.outcome == "200" and self.audio_bytes > 0


async def listen(http: httpx.AsyncClient, text: str, key: str = "", **fields: Any) -> Heard:
    """Have `text` streamed as wav; never raises for what became of it."""
    data = {"text": text, "stream": "true", "long_text": "split", **fields}
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    began_s = time.perf_counter()
    heard = Heard("cut off", 0.0)
    try:
        async with http.stream("POST", "/tts", data=data, headers=headers) as answer:
            if answer.is_success:
                heard.queue_s = float(answer.headers["X-Queue-Ms"]) / 1000
                heard.server_first_audio_s = (
                    float(answer.headers["X-Time-To-First-Audio-Ms"]) / 1000
                )
            received = 0
            async for piece in answer.aiter_raw():
                received += len(piece)
                if math.isnan(heard.first_audio_s) and received > _HEADER_BYTES:
                    heard.first_audio_s = time.perf_counter() - began_s
                heard.audio_bytes = max(0, received - _HEADER_BYTES)
            heard.outcome = str(answer.status_code)
    except httpx.HTTPError as error:
        heard.outcome = type(error).__name__
    heard.total_s = time.perf_counter() - began_s
    return heard


def outcomes(answers: Iterable[Heard]) -> dict[str, int]:
    """How often each."""
    return dict(Counter(heard.outcome for heard in answers))


def percentile(values: Sequence[float], percent: int) -> float:
    """Of `values`; NaN without any."""
    if len(values) < 2:
        return values[0] if values else math.nan
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


@dataclass(frozen=True, slots=True)
class Held:
    """What server and worker hold at one moment."""

    at_s: float
    server_mb: float
    worker_mb: float
    descriptors: int
    """Files, sockets and pipes of both; handles on Windows."""


@asynccontextmanager
async def watching(served: Served, every_s: float) -> AsyncIterator[list[Held]]:
    """Look so often while the block runs, and once more at its end."""
    server, worker = served.process, await asyncio.to_thread(served.worker)
    began_s = time.monotonic()
    seen: list[Held] = []

    def look() -> None:
        with suppress(psutil.NoSuchProcess):  # a worker that died shows in the outcomes
            seen.append(
                Held(
                    time.monotonic() - began_s,
                    server.memory_info().rss / MIB,
                    worker.memory_info().rss / MIB,
                    _descriptors(server) + _descriptors(worker),
                )
            )

    async def keep_looking() -> None:
        while True:
            look()
            await asyncio.sleep(every_s)

    watch = asyncio.create_task(keep_looking())
    try:
        yield seen
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        look()


def _descriptors(process: psutil.Process) -> int:
    if sys.platform == "win32":
        return process.num_handles()
    return process.num_fds()


def peaks(seen: Sequence[Held]) -> dict[str, float]:
    """The most that was held."""
    return {
        "server_peak_mb": round(max(held.server_mb for held in seen), 1),
        "worker_peak_mb": round(max(held.worker_mb for held in seen), 1),
        "descriptors_peak": max(held.descriptors for held in seen),
    }


def growth(seen: Sequence[Held], settled: float = 0.2) -> dict[str, float]:
    """What the last tenth holds more than the tenth after the share `settled`, by their medians."""
    width = max(1, len(seen) // 10)
    start = min(int(len(seen) * settled), len(seen) - width)
    early, late = seen[start : start + width], seen[-width:]

    def more(name: str) -> float:
        before, after = (
            statistics.median(float(getattr(held, name)) for held in part) for part in (early, late)
        )
        return round(after - before, 1)

    return {
        "server_growth_mb": more("server_mb"),
        "worker_growth_mb": more("worker_mb"),
        "descriptors_growth": more("descriptors"),
    }


def thinned(seen: Sequence[Held], most: int = 12) -> list[Held]:
    """A few of them, evenly spaced, first and last included."""
    if len(seen) <= most:
        return list(seen)
    return [seen[round(i * (len(seen) - 1) / (most - 1))] for i in range(most)]
