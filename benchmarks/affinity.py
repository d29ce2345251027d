"""Is a pinned worker faster, or steadier? Two processes that differ in nothing else, in turns.

    python -m benchmarks.affinity                             # the shipped voice
    python -m benchmarks.affinity --model-dir CHECKPOINT      # beside it, one of S1-mini's size
    python -m benchmarks.affinity --random /tmp/s1mini        # made there first, if need be
    python -m benchmarks.affinity --threads 1 --seconds 12

Both make frames of one row in bursts (`backend.bench.probe`), one after the other: one pinned to
one logical CPU of each core that it has a thread for, one not. First with the machine to
themselves, then with a neighbour that computes: on the siblings of the pinned CPUs, where cores
have two; anywhere, on half of all CPUs; and on those CPUs themselves, which the verdict leaves out:
nothing but another pinned program stays there. Prints milliseconds of a frame by burst (p50, p95,
standard deviation), what pinning changes with its 95 % interval, and the verdict. The last line is
JSON.
"""

import argparse
import asyncio
import json
import math
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from backend.bench.messages import MakeFrames
from backend.bench.partner import Partner, partner
from backend.hardware.affinity import format_cpus
from backend.hardware.deployment import Deployment
from backend.hardware.machine import Cpu
from backend.serving.lane import worker_config
from backend.settings import load_settings

BURST_S = 0.1
CONTEXT = 256
MATTERS = 0.03
"""What changes by less is no reason to pin, nor not to."""
LEAST_TURNS = 20
"""Of fewer nothing is concluded."""
ON_THEM = "on the pinned CPUs"
_DRAWS = 1000
_MATRIX = 192
"""Of what a neighbour multiplies: it lies in a core's own cache."""

Samples = dict[str, list[float]]
"""Milliseconds of a frame, of each burst: pinned and free."""


def pinned_cpus(cpu: Cpu, threads: int) -> tuple[int, ...]:
    """One logical CPU of each of the first cores, as the plan pins; any where none is told."""
    cores = [[one for one in core.logical if one in cpu.allowed] for core in cpu.topology]
    firsts = [core[0] for core in cores if core] or list(cpu.allowed)
    return tuple(firsts[:threads])


def siblings_of(cpu: Cpu, cpus: Sequence[int]) -> tuple[int, ...]:
    """The logical CPUs that share a core with `cpus`, and are none of them."""
    shared = {one for core in cpu.topology if set(core.logical) & set(cpus) for one in core.logical}
    return tuple(sorted((shared - set(cpus)) & set(cpu.allowed)))


def conditions(cpu: Cpu, cpus: Sequence[int]) -> dict[str, list[tuple[int, ...]]]:
    """Where each neighbour of a condition runs; () is anywhere."""
    told: dict[str, list[tuple[int, ...]]] = {"idle": []}
    if siblings := siblings_of(cpu, cpus):
        told["on the siblings"] = [(one,) for one in siblings]
    told["anywhere"] = [()] * max(1, len(cpu.allowed) // 2)
    told[ON_THEM] = [(one,) for one in cpus]
    return told


@contextmanager
def neighbours(places: Sequence[tuple[int, ...]]) -> Iterator[None]:
    """Processes that compute without end, one at each place."""
    module = (sys.executable, "-m", "benchmarks.affinity", "--busy")
    started = [
        subprocess.Popen(
            (*module, ",".join(map(str, place))),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )
        for place in places
    ]
    try:
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()  # it computes now
        yield
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.communicate()


def busy(cpus: str) -> None:
    """Compute there until stdin ends, which it does with whoever started this."""
    if cpus:
        psutil.Process().cpu_affinity([int(one) for one in cpus.split(",")])
    ended = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    matrix = np.random.default_rng(0).standard_normal((_MATRIX, _MATRIX)).astype(np.float32)
    print("computing", flush=True)
    while not ended.is_set():
        matrix = np.tanh(matrix @ matrix)


async def bursts(partners: dict[str, Partner], seconds: float) -> Samples:
    """Bursts of both in turns, the first another each time."""
    samples: Samples = {name: [] for name in partners}
    order, until_s = list(partners), time.monotonic() + seconds
    while time.monotonic() < until_s or len(samples[order[0]]) < 3:
        for name in order:
            took = await partners[name].ask(MakeFrames(BURST_S, 1, CONTEXT))
            samples[name].append(1000 * took.wall_s / took.amount)
        order.reverse()
    return samples


def figures(times_ms: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile and standard deviation."""
    ordered = sorted(times_ms)
    return {
        "p50": statistics.median(ordered),
        "p95": ordered[min(len(ordered) - 1, math.floor(0.95 * len(ordered)))],
        "sd": statistics.pstdev(ordered),
    }


def compared(samples: Samples, seed: int = 0) -> dict[str, Any]:
    """Each figure of both, and what pinning multiplies it by: in the middle, and 95 % of what
    drawing the same turns again would give."""
    free, pinned, chance = samples["free"], samples["pinned"], random.Random(seed)
    turns = range(min(len(free), len(pinned)))
    drawn: dict[str, list[float]] = {"p50": [], "p95": [], "sd": []}
    for _ in range(_DRAWS):
        chosen = chance.choices(turns, k=len(turns))
        ours, theirs = figures([pinned[i] for i in chosen]), figures([free[i] for i in chosen])
        for name, ratios in drawn.items():
            if theirs[name] > 0:
                ratios.append(ours[name] / theirs[name])
    told: dict[str, Any] = {"bursts": len(turns)}
    for name, ratios in drawn.items():
        ratios.sort()
        is_enough = bool(ratios) and len(turns) >= LEAST_TURNS
        told[name] = {
            "free": round(figures(free)[name], 3),
            "pinned": round(figures(pinned)[name], 3),
            "times": round(figures(pinned)[name] / max(1e-9, figures(free)[name]), 3),
            "from": round(ratios[len(ratios) // 40], 3) if is_enough else None,
            "to": round(ratios[-1 - len(ratios) // 40], 3) if is_enough else None,
        }
    return told


def verdict(told: dict[str, Any]) -> str:
    """What pinning did to one figure: nothing, unless all of its interval is beyond `MATTERS`."""
    if told["from"] is None:
        return "no effect here"
    if told["to"] < 1 - MATTERS:
        return "lower"
    return "higher" if told["from"] > 1 + MATTERS else "no effect here"


def advice(rows: Sequence[dict[str, Any]]) -> str:
    """What follows for the machine from medians and 95th percentiles, but for `ON_THEM`."""
    judged = [row for row in rows if row["neighbour"] != ON_THEM]
    found = {verdict(row[name]) for row in judged for name in ("p50", "p95")}
    if "lower" in found and "higher" not in found:
        return "pin"
    if "higher" in found:
        return "do not pin" if "lower" not in found else "do not pin: it gains in one, loses in one"
    return "no effect here: do not pin"


async def measured(folder: Path | None, threads: int | None, seconds: float) -> dict[str, Any]:
    """All conditions of one checkpoint."""
    settings = load_settings(model_dir=folder, device="cpu", num_threads=threads, metrics=False)
    deployment = Deployment.look(settings)
    plan, cpu = deployment.plan, deployment.hardware.cpu
    cpus = pinned_cpus(cpu, plan.num_threads.value)
    if not cpus:
        raise SystemExit("This system does not let a process choose its CPUs.")
    config = msgspec.structs.replace(worker_config(settings, plan), calibration_samples=0)
    rows = []
    async with AsyncExitStack() as stack:
        partners = {}
        for name, where in (("free", ()), ("pinned", cpus)):
            told = msgspec.structs.replace(config, cpus=where).to_json()
            command = (sys.executable, "-P", "-m", "backend.bench.probe", "--config", told)
            partners[name] = await stack.enter_async_context(partner(name, command, {}))
        way = partners["pinned"].hello.way
        for condition, places in conditions(cpu, cpus).items():
            with neighbours(places):
                await bursts(partners, 0.0)
                rows.append({"neighbour": condition} | compared(await bursts(partners, seconds)))
    return {
        "checkpoint": deployment.shape.name,
        "cpu": cpu.model,
        "cores": cpu.physical_cores,
        "logical": len(cpu.allowed),
        "threads": plan.num_threads.value,
        "pinned_to": format_cpus(cpus),
        "plan": f"{plan.cpu_affinity.value or 'not pinned'}: {plan.cpu_affinity.reason}",
        "way": f"{way} {plan.precision.value} {plan.quantization.value}",
        "rows": rows,
        "verdict": advice(rows),
    }


def show(told: dict[str, Any], console: Console) -> None:
    """One table."""
    title = (
        f"{told['checkpoint']} ({told['way']}), {told['threads']} threads, pinned to "
        f"{told['pinned_to']} of {told['logical']} logical CPUs, {told['cores']} cores, "
        f"{told['cpu']}"
    )
    table = Table("neighbour", "bursts", title=title)
    for name in ("p50", "p95", "sd"):
        table.add_column(f"{name}, ms: free, pinned")
        table.add_column("times (95 %)")
        table.add_column("")
    for row in told["rows"]:
        cells = []
        for name in ("p50", "p95", "sd"):
            each = row[name]
            cells += [f"{each['free']:.2f}  {each['pinned']:.2f}"]
            cells += [f"{each['times']:.2f} ({each['from']} to {each['to']})", verdict(each)]
        table.add_row(row["neighbour"], str(row["bursts"]), *cells)
    console.print(table)
    console.print(f"The plan: {told['plan']}. Verdict: {told['verdict']}.")


def random_checkpoint(folder: Path) -> Path:
    """One of S1-mini's size, made unless it is there."""
    if not (folder / "config.json").exists():
        module = (sys.executable, "-P", "-m", "backend.bench.random_checkpoint", str(folder))
        subprocess.run((*module, "--dtype", "bf16"), check=True)
    return folder


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model-dir", type=Path, help="measured after the shipped voice")
    parser.add_argument("--random", type=Path, metavar="FOLDER", help="likewise, made if need be")
    parser.add_argument("--only", action="store_true", help="without the shipped voice")
    parser.add_argument("--threads", type=int, help="instead of the plan's")
    parser.add_argument("--seconds", type=float, default=12.0, help="of each condition")
    parser.add_argument("--busy", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.busy is not None:
        busy(asked.busy)
        return
    large = random_checkpoint(asked.random) if asked.random else asked.model_dir
    folders = [*([] if asked.only else [None]), *([large] if large else [])]
    console, found = Console(width=170), []
    for folder in folders:
        found.append(asyncio.run(measured(folder, asked.threads, asked.seconds)))
        show(found[-1], console)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
