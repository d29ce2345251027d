"""`python -m benchmarks.health`: how soon `/health` answers while the worker is busy.

A real server speaks long texts for several clients at once; meanwhile `/health` is asked every
50 ms. Prints a table, then one JSON line.
"""

import argparse
import json
import statistics
import threading
import time

import httpx

from tests.e2e.serving import serving

TEXT = "The old lighthouse keeper climbed the stairs every evening. " * 6


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=30)
    arguments = parser.parse_args()
    with serving() as server:
        over = threading.Event()

        def speak() -> None:
            while not over.is_set():
                httpx.post(f"{server.url}/tts", data={"text": TEXT}, timeout=300)

        speaking = [threading.Thread(target=speak) for _ in range(arguments.clients)]
        for thread in speaking:
            thread.start()
        times_ms: list[float] = []
        with httpx.Client(base_url=server.url) as client:
            deadline_s = time.monotonic() + arguments.seconds
            while time.monotonic() < deadline_s:
                began_s = time.perf_counter()
                busy = client.get("/health").json()["worker"]["running"]
                if busy:
                    times_ms.append((time.perf_counter() - began_s) * 1000)
                time.sleep(0.05)
        over.set()
        for thread in speaking:
            thread.join()
    cut = statistics.quantiles(times_ms, n=100)
    result = {
        "clients": arguments.clients,
        "asked": len(times_ms),
        "p50_ms": cut[49],
        "p95_ms": cut[94],
        "p99_ms": cut[98],
        "max_ms": max(times_ms),
    }
    for name, value in result.items():
        print(f"{name:8} {value:8.2f}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
