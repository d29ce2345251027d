"""`python -m benchmarks.soak`: half an hour at 80 % of what the machine can do, watched for growth.

A real server with the shipped voice and its log speaks what chance asks for:
whole answers and streams, texts of one to six sentences, a recording now and then, clients that
leave in the middle. First it is asked by as many at once as will ever be inside, by chance, for
what that takes is kept for the next time. How much it can do is measured next, by clients that
ask again at once; then requests come by chance, so that its worker is busy for that share. Memory,
descriptors and threads of server and worker are read every second. Prints a table of both after
the warm-up, then one JSON line. Growth is the median of the last fifth over that of the first one,
and of memory also the least of each: what is left where what requests took has been given back.
"""

import argparse
import json
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from tests.e2e.serving import Served, serving

MIB = 1024 * 1024
SENTENCES = (
    "The old lighthouse keeper climbed the narrow stairs every evening.",
    "Then it began to rain.",
    "He lit the lamp, and watched the quiet ships come home over grey water.",
    "Nobody said a word until it was dark.",
    "Yes, of course.",
)
AT_ONCE = 8
"""Requests that are asked again at once while the capacity is measured."""
STOPPED_S = 5.0
"""What is so late was not running."""
MOST_INSIDE = 64
"""Requests at once; one that comes on top is counted, not asked."""


@dataclass(slots=True)
class Curve:
    """One process, second by second."""

    process: psutil.Process
    at_s: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def look(self, at_s: float) -> None:
        """Read it once more."""
        with self.process.oneshot():
            self.memory_mb.append(self.process.memory_info().rss / MIB)
            self.threads.append(self.process.num_threads())
            self.descriptors.append(_descriptors(self.process))
        self.at_s.append(at_s)

    def after(self, warm_s: float) -> slice:
        """The looks after the warm-up."""
        return slice(next((n for n, at_s in enumerate(self.at_s) if at_s >= warm_s), 0), None)


def _descriptors(process: psutil.Process) -> int:
    return int(getattr(process, "num_handles" if psutil.WINDOWS else "num_fds")())


class Crowd:
    """Clients, each of which asks for what chance says; any number of threads use it."""

    def __init__(self, server: Served, seed: int) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=AT_ONCE)
        self._http = httpx.Client(base_url=server.url, timeout=300, limits=limits)
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self.outcomes: Counter[str] = Counter()
        self.recording = self._http.post("/tts", data={"text": SENTENCES[0]}).content

    def ask(self) -> None:
        """One request, to its end or to where its client leaves."""
        with self._lock:
            text = " ".join(self._chance.choices(SENTENCES, k=self._chance.randint(1, 6)))
            is_streamed, leaves, has_recording = (
                self._chance.random() < share for share in (0.5, 0.1, 0.1)
            )
        form = {"text": text, "stream": str(is_streamed), "long_text": "split"}
        files = {"speaker_file": ("a.wav", self.recording)} if has_recording else None
        outcome = "failed"
        try:
            with self._http.stream("POST", "/tts", data=form, files=files) as answer:
                outcome = str(answer.status_code)
                for _ in answer.iter_bytes():
                    if leaves:
                        outcome = "left"
                        break
        except httpx.HTTPError as error:
            outcome = type(error).__name__
        with self._lock:
            self.outcomes[outcome] += 1

    def crowd_in(self) -> None:
        """Twice as many requests as are ever inside, all at once, to their end."""
        with ThreadPoolExecutor(MOST_INSIDE) as pool:
            for task in [pool.submit(self.ask) for _ in range(2 * MOST_INSIDE)]:
                task.result()

    def per_s(self, seconds: float) -> float:
        """Requests that are answered a second where `AT_ONCE` are always inside."""
        until_s = time.monotonic() + seconds
        before = self.outcomes.total()

        def again_and_again() -> None:
            while time.monotonic() < until_s:
                self.ask()

        began_s = time.monotonic()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for task in [pool.submit(again_and_again) for _ in range(AT_ONCE)]:
                task.result()
        return (self.outcomes.total() - before) / (time.monotonic() - began_s)

    def come(self, per_s: float, seconds: float, is_over: Callable[[float], None]) -> int:
        """Requests that come by chance, so many a second; how many found no room. `is_over` is told
        the seconds so far, about once a second. Time in which this process was stopped, as the
        freezer of a busy machine does, is none of them: nobody comes meanwhile."""
        began_s, told_s, turned_away = time.monotonic(), -1.0, 0
        next_s = 0.0
        inside: set[object] = set()
        with ThreadPoolExecutor(MOST_INSIDE) as pool:
            while (now_s := time.monotonic() - began_s) < seconds:
                if (stopped_s := now_s - max(next_s, told_s + 1)) > STOPPED_S:
                    began_s += stopped_s
                    continue
                if now_s >= told_s + 1:
                    told_s = now_s
                    is_over(now_s)
                if now_s >= next_s:
                    next_s += self._chance.expovariate(per_s)
                    if len(inside) >= MOST_INSIDE:
                        turned_away += 1
                        continue
                    task = pool.submit(self.ask)
                    inside.add(task)
                    task.add_done_callback(inside.discard)
                time.sleep(max(0.0, min(next_s, told_s + 1) - (time.monotonic() - began_s)))
        return turned_away


def growth_pct(
    values: list[float], of: Callable[[list[float]], float] = statistics.median
) -> float:
    """The median of the last fifth over that of the first, or what else `of` says of each."""
    fifth = max(1, len(values) // 5)
    return 100 * (of(values[-fifth:]) / of(values[:fifth]) - 1)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--warm-up-minutes", type=float, default=4)
    parser.add_argument("--share", type=float, default=0.8, help="of what it can do")
    parser.add_argument("--capacity-s", type=float, default=20, help="how long that is measured")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--curve", type=Path, help="a CSV file of all looks")
    arguments = parser.parse_args()
    warm_s, seconds = 60 * arguments.warm_up_minutes, 60 * arguments.minutes
    with (
        TemporaryDirectory() as metrics,
        serving(SHOAL_METRICS="true", SHOAL_METRICS_DIR=metrics, SHOAL_LOG_LEVEL="INFO") as server,
    ):
        crowd = Crowd(server, arguments.seed)
        crowd.crowd_in()
        capacity = crowd.per_s(arguments.capacity_s)
        curves = {"server": Curve(server.process), "worker": Curve(server.worker())}
        crowd.outcomes.clear()

        def look(at_s: float) -> None:
            for curve in curves.values():
                curve.look(at_s)

        turned_away = crowd.come(arguments.share * capacity, seconds, look)
        restarts = httpx.get(f"{server.url}/health").json()["worker"]["restarts"]
    _report(curves, warm_s, arguments.curve)
    told = {
        "capacity_requests_per_s": round(capacity, 2),
        "minutes": arguments.minutes,
        "outcomes": dict(crowd.outcomes),
        "turned_away": turned_away,
        "worker_restarts": restarts,
    }
    for name, curve in curves.items():
        after = curve.after(warm_s)
        told |= {
            f"{name}_memory_mb": [round(each, 1) for each in _ends(curve.memory_mb[after])],
            f"{name}_memory_growth_pct": round(growth_pct(curve.memory_mb[after]), 2),
            f"{name}_least_memory_growth_pct": round(growth_pct(curve.memory_mb[after], min), 2),
            f"{name}_descriptors": _ends(curve.descriptors[after]),
            f"{name}_threads": _ends(curve.threads[after]),
        }
    print(json.dumps(told))


def _ends(values: list[Any]) -> list[Any]:
    return [values[0], values[-1]]


def _report(curves: dict[str, Curve], warm_s: float, file: Path | None) -> None:
    table = Table("minute", *(f"{name} {what}" for name in curves for what in ("MB", "fds")))
    for number, at_s in enumerate(curves["server"].at_s):
        if number % max(1, len(curves["server"].at_s) // 15) == 0:
            cells = [
                cell
                for curve in curves.values()
                for cell in (f"{curve.memory_mb[number]:.1f}", f"{curve.descriptors[number]}")
            ]
            table.add_row(f"{at_s / 60:.1f}{'' if at_s >= warm_s else ' (warming up)'}", *cells)
    Console(width=100).print(table)
    if file is not None:
        lines = ["second,process,memory_mb,descriptors,threads"]
        for name, curve in curves.items():
            rows = zip(curve.at_s, curve.memory_mb, curve.descriptors, curve.threads, strict=True)
            lines += [f"{at:.1f},{name},{mb:.1f},{fds},{n}" for at, mb, fds, n in rows]
        file.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
