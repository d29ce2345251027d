"""How much faster several workers are than one: one load on servers that differ in SHOAL_WORKERS.

    python -m benchmarks.workers --workers 1 2 --clients 256 --s1-mini        # two GPUs
    python -m benchmarks.workers --workers 1 2 4 --clients 64 --device cpu    # the shipped voice
    python -m benchmarks.workers --workers 1 2 --clients 128 --costless 8000  # the server alone
    python -m benchmarks.workers --workers 1 2 --servers plain cluster        # and under Ray Serve

As `benchmarks.load`: every client has streamed speech of a sentence, then asks for the next, and
what comes is counted for `--seconds`. Each number has a server of its own, started `--repeats`
times in turns; the median is told. `--servers cluster` is `shoal serve --cluster` with so many
replicas on this machine; beside `plain`, each is compared with it. `--s1-mini` makes random weights
of openaudio-s1-mini's size (2.2 GB). Prints a table, then one JSON line. `--record` keeps each run
with every answer, when it was asked for, heard and over: `benchmarks.cluster_simulation` reads it.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from backend.bench.random_checkpoint import random_checkpoint
from benchmarks.load import Rates, Watch, figures, heard, parts, rates_of, served_by
from benchmarks.load_client import Told

SERVERS = ("plain", "cluster")
READY_S = 300.0
"""For the last of the workers to be ready."""


def workers_of(url: str, number: int) -> list[dict[str, Any]]:
    """Every worker, once so many are ready."""
    deadline_s = time.monotonic() + READY_S
    while True:
        told: list[dict[str, Any]] = httpx.get(f"{url}/system-status").json()["workers"]
        if [each["state"] for each in told] == ["ready"] * number:
            return told
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"{number} workers did not become ready: {told}")
        time.sleep(0.5)


def measured(server: str, number: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """The figures of a `server` with so many workers."""
    asked = {"SHOAL_WORKERS": str(number)}
    if arguments.device:
        asked["DEVICE"] = arguments.device
    options = ("--cluster",) if server == "cluster" else ()
    with served_by(arguments, *options, **asked) as served:
        workers = workers_of(served.url, number)
        rates = rates_of(served.url)
        watch = Watch(served.process, *(psutil.Process(each["pid"]) for each in workers))
        shares = parts(served.url, arguments.clients[0], rates, arguments, {})
        told, computed = heard(shares, watch)
        found = figures(told, computed, rates, arguments.seconds)
        restarts = sum(each["restarts"] for each in workers_of(served.url, number))
        devices = [each["device"] for each in workers]
        run = {"server": server, "workers": number, "devices": devices, "restarts": restarts}
        run |= found
        if arguments.record:
            rows = arguments.rows or arguments.clients[0]
            setup = {"clients": arguments.clients[0], "rows": rows, "seconds": arguments.seconds}
            setup["cores"] = psutil.cpu_count()  # machine_cpu_pct counts all of them
            keep(arguments.record, {**run, **setup, "answers": listed(told, rates)})
        return run


def listed(told: Sequence[Told], rates: Rates) -> list[dict[str, float]]:
    """Every answer of speech, by when it was asked for; seconds from the first."""
    spoken = sorted(
        (answer for each in told for answer in each.answers if answer.outcome == "200"),
        key=lambda answer: answer.began_s,
    )
    return [
        {
            "began_s": answer.began_s - spoken[0].began_s,
            "first_s": answer.first_s - spoken[0].began_s,
            "ended_s": answer.ended_s - spoken[0].began_s,
            "queue_s": answer.queue_ms / 1000,
            "frames": round(answer.audio_bytes / rates.frame_bytes),
        }
        for answer in spoken
    ]


def keep(file: Path, run: dict[str, Any]) -> None:
    """Add `run` to what is recorded in `file`, a line each."""
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(run) + "\n")


def table(rows: list[dict[str, Any]]) -> Table:
    """`rows` as they are printed."""
    names = ("frames_per_s", "times", "requests_per_s", "first_audio_p50_ms", "first_audio_p95_ms")
    beside = ("of_plain", "first_audio_p50_more_ms") if "of_plain" in rows[-1] else ()
    more = (
        "rtf_p50",
        "server_cpu_pct",
        "worker_cpu_pct",
        "machine_cpu_pct",
        "outcomes",
        "restarts",
        "devices",
    )
    drawn = Table(title="workers")
    drawn.add_column("")
    for row in rows:
        drawn.add_column(f"{row['workers']} {row['server']}", justify="right")
    for name in (*names, *beside, *more):
        drawn.add_row(name.replace("_", " "), *(str(row.get(name, "")) for row in rows))
    return drawn


def summed_up(runs: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Of each setup the run of median frames a second; how many times those of its server's first
    that are, and what share of a plain server's with as many workers."""
    rows: list[dict[str, Any]] = []
    for of_setup in runs:
        frames_per_s = statistics.median_low([run["frames_per_s"] for run in of_setup])
        row = dict(next(run for run in of_setup if run["frames_per_s"] == frames_per_s))
        first = next((each for each in rows if each["server"] == row["server"]), row)
        row["times"] = round(frames_per_s / first["frames_per_s"], 2)
        for plain in rows:
            if plain["server"] == "plain" != row["server"] and plain["workers"] == row["workers"]:
                row["of_plain"] = round(frames_per_s / plain["frames_per_s"], 3)
                later_ms = row["first_audio_p50_ms"] - plain["first_audio_p50_ms"]
                row["first_audio_p50_more_ms"] = round(later_ms, 1)
        rows.append(row)
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=["plain"], help="in turns")
    parser.add_argument("--clients", type=int, nargs=1, default=[256])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20.0, help="counted, in each run")
    parser.add_argument("--warm-s", type=float, default=10.0, help="before that")
    parser.add_argument("--characters", type=int, nargs="+", default=[60, 90, 120])
    parser.add_argument("--rows", type=int, help="of each worker; else as many as clients")
    parser.add_argument("--processes", type=int, default=min(8, os.cpu_count() or 1))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", help="DEVICE; else what the plan has")
    parser.add_argument("--model-dir", type=Path)
    parser.add_argument("--s1-mini", action="store_true", help="random weights of its size")
    parser.add_argument("--costless", type=float, default=0.0, help="frames a second of each")
    parser.add_argument("--piece-frames", type=int, default=4, help="of a costless worker")
    parser.add_argument("--record", type=Path, help="file to which each run's answers are added")
    parser.set_defaults(requests=None, arrival_ms=0.0)
    arguments = parser.parse_args()
    setups = [
        (each, n) for each in sorted(arguments.servers, reverse=True) for n in arguments.workers
    ]
    if arguments.costless and "cluster" in arguments.servers:
        parser.error("a costless worker is a plain server's")
    with ExitStack() as stack:
        if arguments.s1_mini:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="shoal-workers-"))
            arguments.model_dir = random_checkpoint(Path(folder))
        runs: list[list[dict[str, Any]]] = [[] for _ in setups]
        for _ in range(arguments.repeats):
            for (server, number), of_setup in zip(setups, runs, strict=True):
                of_setup.append(measured(server, number, arguments))
    rows = summed_up(runs)
    Console(width=160).print(table(rows))
    print(json.dumps({"measure": "workers", "costless": arguments.costless, "runs": runs}))


if __name__ == "__main__":
    main()
