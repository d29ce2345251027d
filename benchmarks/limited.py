"""Never killed: a real server in a memory cgroup, more asked of it than it can hold.

    python -m benchmarks.limited --limit-mb 3500 --model-dir CHECKPOINT

In a cgroup where one can be made, which takes root. Counts the answers by status and what the
kernel killed; prints one JSON line last.
"""

import argparse
import asyncio
import collections
import json
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.inside import limited
from benchmarks.machine import TIMEOUT_S, text_of
from tests.e2e.serving import serving


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
    with limited(arguments.limit_mb) as limit:
        command = limit.command(sys.executable, "-m", "backend.cli", "serve")
        with serving(*command, **environment) as served:
            found = asyncio.run(ask(served.url, arguments))
        found |= {"limit_mb": arguments.limit_mb, **limit.kernel_says()}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
