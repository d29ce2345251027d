"""A real server under load: speed, first audio, fairness, memory.

    python -m benchmarks.http             # the demo voice at concurrency 1, 4, 16 and 64
    python -m benchmarks.http --tiny      # thousands of requests on a tiny random checkpoint
    python -m benchmarks.http --latency   # first audio at the client, warm, one at a time
    python -m benchmarks.http --fair      # short requests beside a very long one of another client
    python -m benchmarks.http --chapter   # a very long text streamed: memory over time

Each is bounded by `--requests` and `--seconds`. Prints a table, then one JSON line.
"""

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.listening import (
    TIMEOUT_S,
    Heard,
    Held,
    growth,
    listen,
    outcomes,
    peaks,
    percentile,
    thinned,
    watching,
)
from benchmarks.machine import text_of
from tests.e2e.serving import Served, serving
from tests.tiny import tiny_checkpoint

Rows = list[dict[str, Any]]
Measure = Callable[[Served, argparse.Namespace], Coroutine[Any, Any, tuple[Rows, dict[str, Any]]]]

SHORT = "The old lighthouse keeper climbed the stairs every evening."
CONCURRENCY = (1, 4, 16, 64)
LONG_CLIENT, SHORT_CLIENTS = "long", 20
KEYS = {LONG_CLIENT: "key-of-long"} | {f"short{i}": f"key-of-{i}" for i in range(SHORT_CLIENTS)}
"""A client each, as far as the server's fairness goes."""


def connected(served: Served, most: int = 100) -> httpx.AsyncClient:
    """A client with room for `most` connections."""
    limits = httpx.Limits(max_connections=most, max_keepalive_connections=most)
    return httpx.AsyncClient(base_url=served.url, timeout=TIMEOUT_S, limits=limits)


async def warm_up(http: httpx.AsyncClient, key: str = "") -> None:
    """What happens only once has happened."""
    for _ in range(3):
        heard = await listen(http, SHORT, key)
        if not heard.is_spoken:
            raise RuntimeError(f"the server does not speak: {heard.outcome}")


async def ask_many(
    http: httpx.AsyncClient, text: str, requests: int, together: int, seconds: float
) -> tuple[list[Heard], float]:
    """So many requests, so many at a time, none begun after `seconds`; and how long it took."""
    answers: list[Heard] = []
    began_s = time.perf_counter()
    numbers = iter(range(requests))

    async def client() -> None:
        for number in numbers:
            if time.perf_counter() - began_s > seconds:
                return
            answers.append(await listen(http, text, seed=number))

    await asyncio.gather(*(client() for _ in range(together)))
    return answers, time.perf_counter() - began_s


def figures(answers: Sequence[Heard], total_s: float) -> dict[str, Any]:
    """Throughput, first audio, errors."""
    spoken = [heard for heard in answers if heard.is_spoken]
    first_ms = [heard.first_audio_s * 1000 for heard in spoken]
    return {
        "requests": len(answers),
        "errors": len(answers) - len(spoken),
        "outcomes": outcomes(answers),
        "requests_per_s": round(len(spoken) / total_s, 3),
        "audio_mb_per_s": round(sum(heard.audio_bytes for heard in spoken) / total_s / 1e6, 3),
        "first_audio_p50_ms": round(percentile(first_ms, 50), 1),
        "first_audio_p95_ms": round(percentile(first_ms, 95), 1),
        "total_p95_ms": round(percentile([heard.total_s * 1000 for heard in spoken], 95), 1),
    }


async def load(served: Served, arguments: argparse.Namespace) -> tuple[Rows, dict[str, Any]]:
    """Throughput, first audio, errors and peak memory at each concurrency."""
    rows: Rows = []
    text = text_of(arguments.characters or len(SHORT))
    async with connected(served) as http:
        await warm_up(http)
        for together in arguments.concurrency:
            async with watching(served, 0.5) as seen:
                answers, total_s = await ask_many(
                    http, text, arguments.requests or 500, together, arguments.seconds
                )
            rows.append({"together": together} | figures(answers, total_s) | peaks(seen))
    return rows, {"characters": len(text), "levels": rows}


async def tiny(served: Served, arguments: argparse.Namespace) -> tuple[Rows, dict[str, Any]]:
    """Memory and descriptors over very many requests."""
    text = text_of(arguments.characters) if arguments.characters else "Hello."
    async with connected(served) as http:
        await warm_up(http)
        async with watching(served, arguments.seconds / 1000) as seen:
            requests = arguments.requests or 10_000
            answers, total_s = await ask_many(http, text, requests, 16, arguments.seconds)
    found = figures(answers, total_s) | {"total_s": round(total_s, 1)} | peaks(seen) | growth(seen)
    return curve(seen), found


async def latency(served: Served, arguments: argparse.Namespace) -> tuple[Rows, dict[str, Any]]:
    """First audio bytes at the client of a warm server, and the server's own share of that."""
    text = text_of(arguments.characters or len(SHORT))
    async with connected(served) as http:
        await warm_up(http)
        requests = arguments.requests or 20
        answers, _ = await ask_many(http, text, requests, 1, arguments.seconds)
    spoken = [heard for heard in answers if heard.is_spoken]
    split = {
        "client": [heard.first_audio_s for heard in spoken],
        "server": [heard.server_first_audio_s for heard in spoken],
        "queue": [heard.queue_s for heard in spoken],
        "rest": [h.first_audio_s - h.server_first_audio_s - h.queue_s for h in spoken],
    }
    rows = [
        {
            "part": part,
            "median_ms": round(percentile(times_s, 50) * 1000, 2),
            "p95_ms": round(percentile(times_s, 95) * 1000, 2),
            "max_ms": round(max(times_s) * 1000, 2),
        }
        for part, times_s in split.items()
        if times_s
    ]
    found = {f"{row['part']}_median_ms": row["median_ms"] for row in rows}
    return rows, found | {"characters": len(text), "outcomes": outcomes(answers)}


async def fair(served: Served, arguments: argparse.Namespace) -> tuple[Rows, dict[str, Any]]:
    """What short requests wait for beside a very long one of another client."""
    characters = arguments.characters or 50_000
    clients = [KEYS[f"short{i}"] for i in range(min(arguments.requests or 20, SHORT_CLIENTS))]

    async def in_turn(http: httpx.AsyncClient) -> list[Heard]:
        return [await listen(http, SHORT, key, seed=0) for key in clients]

    async def at_once(http: httpx.AsyncClient) -> list[Heard]:
        return await asyncio.gather(*(listen(http, SHORT, key, seed=0) for key in clients))

    rows: Rows = []
    async with connected(served) as http:
        await warm_up(http, clients[0])
        alone = {"in turn": await in_turn(http), "at once": await at_once(http)}
        long = asyncio.create_task(listen(http, text_of(characters), KEYS[LONG_CLIENT]))
        await asyncio.sleep(5)  # it is well under way
        beside = {"in turn": await in_turn(http), "at once": await at_once(http)}
        is_long_to_the_end = not long.done()
        long.cancel()
        await asyncio.gather(long, return_exceptions=True)
    for way, answers in alone.items():
        rows.append({"short_ones": way, **_beside(answers, beside[way])})
    found = {"characters": characters, "long_spoke_throughout": is_long_to_the_end, "ways": rows}
    return rows, found


def _beside(alone: Sequence[Heard], beside: Sequence[Heard]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, answers in (("alone", alone), ("beside", beside)):
        spoken = [heard for heard in answers if heard.is_spoken]
        row[f"{name}_first_p95_s"] = round(percentile([h.first_audio_s for h in spoken], 95), 3)
        row[f"{name}_total_p95_s"] = round(percentile([h.total_s for h in spoken], 95), 3)
    for until in ("first", "total"):
        times_s = row[f"beside_{until}_p95_s"], row[f"alone_{until}_p95_s"]
        row[f"{until}_ratio"] = round(times_s[0] / times_s[1], 2)
    return row | {"errors": sum(not heard.is_spoken for heard in (*alone, *beside))}


async def chapter(served: Served, arguments: argparse.Namespace) -> tuple[Rows, dict[str, Any]]:
    """Memory while one very long text is streamed."""
    characters = arguments.characters or 50_000
    async with connected(served) as http:
        await warm_up(http)
        async with watching(served, min(1.0, arguments.seconds / 100)) as seen:
            speaking = asyncio.create_task(listen(http, text_of(characters)))
            await asyncio.wait([speaking], timeout=arguments.seconds)
            is_whole = speaking.done()
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)
    found: dict[str, Any] = {"characters": characters, "is_whole": is_whole}
    if is_whole:
        heard = speaking.result()
        found |= {
            "outcome": heard.outcome,
            "audio_mb": round(heard.audio_bytes / 1e6, 1),
            "first_audio_s": round(heard.first_audio_s, 3),
            "total_s": round(heard.total_s, 1),
        }
    return curve(seen), found | peaks(seen) | growth(seen)


def curve(seen: Sequence[Held]) -> Rows:
    """A few moments of what was held."""
    return [
        {
            "at_s": round(held.at_s, 1),
            "server_mb": round(held.server_mb, 1),
            "worker_mb": round(held.worker_mb, 1),
            "descriptors": held.descriptors,
        }
        for held in thinned(seen)
    ]


def table(title: str, rows: Rows) -> Table:
    """`rows` as they are printed."""
    drawn = Table(title=title)
    for name in rows[0] if rows else ():
        drawn.add_column(name.replace("_", " "), justify="right", overflow="fold")
    for row in rows:
        drawn.add_row(*(str(value) for value in row.values()))
    return drawn


MEASURES: Mapping[str, Measure] = {
    "load": load,
    "tiny": tiny,
    "latency": latency,
    "fair": fair,
    "chapter": chapter,
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, measure in MEASURES.items():
        if name != "load":
            parser.add_argument(
                f"--{name}", dest="name", action="store_const", const=name, help=measure.__doc__
            )
    parser.add_argument("--requests", type=int, help="of each level; all of them in other measures")
    parser.add_argument("--seconds", type=float, default=900, help="longest, of each level")
    parser.add_argument("--concurrency", type=int, nargs="+", default=CONCURRENCY)
    parser.add_argument("--characters", type=int, help="of the text; of the long one with --fair")
    parser.add_argument("--model-dir", type=Path)
    parser.set_defaults(name="load")
    arguments = parser.parse_args()
    name = arguments.name
    with tempfile.TemporaryDirectory(prefix="shoal-http-") as folder:
        environment = {}
        if arguments.model_dir or name == "tiny":
            # Its speech ends soon: many requests, not much of each.
            model_dir = arguments.model_dir or tiny_checkpoint(Path(folder), end_scale=6.0)
            environment["MODEL_DIR"] = str(model_dir)
        if name == "fair":
            keys = ",".join(f"{client}:{key}" for client, key in KEYS.items())
            environment["SHOAL_API_KEYS"] = keys
        with serving(**environment) as served:
            rows, found = asyncio.run(MEASURES[name](served, arguments))
    Console(width=180).print(table(name, rows))
    print(json.dumps({"measure": name, **found}))


if __name__ == "__main__":
    main()
