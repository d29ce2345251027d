"""Never killed: a real server in a memory cgroup, more asked of it than it can hold.

    python -m benchmarks.limited --limit-mb 3500 --model-dir CHECKPOINT

Needs root and a writable memory controller (v1 or v2). Counts the answers by status and what the
kernel killed; prints one JSON line last.
"""

import argparse
import asyncio
import collections
import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from benchmarks.machine import TIMEOUT_S, text_of
from tests.e2e.serving import serving

MIB = 1024 * 1024
V1, V2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")


@contextlib.contextmanager
def limited(limit_mb: int) -> Iterator[Path]:
    """A cgroup of that size with this process in it."""
    is_v1 = V1.is_dir()
    group = (V1 if is_v1 else V2) / f"shoal-{os.getpid()}"
    group.mkdir()
    name = "memory.limit_in_bytes" if is_v1 else "memory.max"
    (group / name).write_text(str(limit_mb * MIB))
    (group / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield group
    finally:
        (group.parent / "cgroup.procs").write_text(str(os.getpid()))
        with contextlib.suppress(OSError):  # a process that is still ending holds it
            group.rmdir()


def kernel_says(group: Path) -> dict[str, int]:
    """What the group took at most, in MiB, and how many processes it lost."""
    for peak, events in (
        ("memory.max_usage_in_bytes", "memory.oom_control"),
        ("memory.peak", "memory.events"),
    ):
        if (group / peak).exists():
            counts = dict(line.split() for line in (group / events).read_text().splitlines())
            peak_mb = int((group / peak).read_text()) // MIB
            return {"peak_mb": peak_mb, "oom_kills": int(counts.get("oom_kill", 0))}
    return {}


async def ask(url: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """So many requests at a time until all are answered."""
    gate = asyncio.Semaphore(arguments.together)
    statuses: collections.Counter[int] = collections.Counter()
    reasons: collections.Counter[str] = collections.Counter()
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S) as http:

        async def one(number: int) -> None:
            async with gate:
                characters = arguments.characters[number % len(arguments.characters)]
                answer = await http.post(
                    "/tts", data={"text": text_of(characters), "long_text": "split"}
                )
                statuses[answer.status_code] += 1
                if answer.is_error:
                    reasons[answer.json()["detail"].split(".")[0][:60]] += 1

        began_s = time.perf_counter()
        await asyncio.gather(*(one(number) for number in range(arguments.requests)))
        total_s = time.perf_counter() - began_s
        health = (await http.get("/health")).json()
    return {
        "requests": arguments.requests,
        "together": arguments.together,
        "statuses": dict(statuses),
        "refusals": dict(reasons),
        "worker_restarts": health["worker"]["restarts"],
        "quantization": health["model"]["quantization"],
        "total_s": round(total_s, 1),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit-mb", type=int, required=True)
    parser.add_argument("--model-dir", type=Path)
    parser.add_argument("--requests", type=int, default=24)
    parser.add_argument("--together", type=int, default=8)
    parser.add_argument("--characters", type=int, nargs="+", default=[10, 20, 40])
    arguments = parser.parse_args()
    environment = {"MODEL_DIR": str(arguments.model_dir)} if arguments.model_dir else {}
    with limited(arguments.limit_mb) as group:
        with serving(**environment) as served:
            found = asyncio.run(ask(served.url, arguments))
        found |= {"limit_mb": arguments.limit_mb, **kernel_says(group)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
