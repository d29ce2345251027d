"""Is a pinned worker faster, or steadier? Two processes that differ in nothing else, in turns.

    python -m benchmarks.affinity                             # the shipped voice
    python -m benchmarks.affinity --model-dir CHECKPOINT      # beside it, one of S1-mini's size
    python -m benchmarks.affinity --random /tmp/s1mini        # made there first, if need be
    python -m benchmarks.affinity --threads 1 --seconds 12

Both make frames of one row, a tenth of a second one and then the other: one is pinned to one
logical CPU of each core that it has a thread for, one is not. First with the machine to
themselves, then with a neighbour that computes: on the siblings of the pinned CPUs, where cores
have two; anywhere, on half of all CPUs; and on those CPUs themselves, which the verdict leaves out:
nothing but another pinned program stays there. Prints milliseconds of a frame (p50, p95,
standard deviation), what pinning changes with its 95 % interval, and the verdict. The last line is
JSON.
"""

import argparse
import importlib
import itertools
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from backend.hardware.affinity import format_cpus
from backend.hardware.deployment import Deployment
from backend.hardware.machine import Cpu
from backend.serving.launch import worker_config
from backend.settings import load_settings
from backend.worker.main import prepare
from backend.worker.messages import WorkerConfig

BURST_S = 0.1
CONTEXT = 256
MATTERS = 0.03
"""What changes by less is no reason to pin, nor not to."""
LEAST_TURNS = 20
"""Of fewer nothing is concluded."""
ON_THEM = "on the pinned CPUs"
_DRAWS = 400
_MATRIX = 192
"""Of what a neighbour multiplies: it lies in a core's own cache."""

Samples = dict[str, list[list[float]]]
"""Milliseconds of each frame, by turn: pinned and free."""


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


def compute(told: str) -> None:
    """Make frames of one row for as long as each line on stdin asks, and print what each took."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else prints
    config = WorkerConfig.from_json(told)
    prepare(config)  # it is pinned before torch is there
    frames = importlib.import_module("benchmarks.affinity_frames").Frames(config, CONTEXT)
    print(frames.way, file=out, flush=True)
    for seconds in sys.stdin:
        print(json.dumps(frames.times_ms(float(seconds))), file=out, flush=True)


class Computing:
    """Such a process; a context, at whose end it is gone."""

    def __init__(self, config: WorkerConfig) -> None:
        module = (sys.executable, "-m", "benchmarks.affinity", "--compute", config.to_json())
        self._process = subprocess.Popen(
            module, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.way = ""

    def ready(self) -> None:
        """Wait until it has loaded; two load beside each other."""
        self.way = self._line().strip()

    def burst(self) -> list[float]:
        """Milliseconds of each frame."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{BURST_S}\n")
        self._process.stdin.flush()
        times: list[float] = json.loads(self._line())
        return times

    def _line(self) -> str:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise SystemExit(f"what computes has ended with {self._process.wait()}")
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


def bursts(both: Mapping[str, Computing], seconds: float) -> Samples:
    """Bursts of both in turns, the first another each time."""
    samples: Samples = {name: [] for name in both}
    order, until_s = list(both), time.monotonic() + seconds
    while time.monotonic() < until_s or len(samples[order[0]]) < 3:
        for name in order:
            samples[name].append(both[name].burst())
        order.reverse()
    return samples


def figures(times_ms: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile and standard deviation."""
    p50, p95 = np.percentile(times_ms, [50, 95])
    return {"p50": float(p50), "p95": float(p95), "sd": float(np.std(times_ms))}


def compared(samples: Samples, seed: int = 0) -> dict[str, Any]:
    """Each figure of both, and what pinning multiplies it by: in the middle, and 95 % of what
    drawing as many turns again would give."""
    free, pinned, chance = samples["free"], samples["pinned"], random.Random(seed)
    turns, told = range(min(len(free), len(pinned))), dict[str, Any]()
    theirs, ours = (figures([*itertools.chain(*each)]) for each in (free, pinned))
    drawn = [
        [figures([*itertools.chain(*(each[i] for i in chosen))]) for each in (pinned, free)]
        for chosen in (chance.choices(turns, k=len(turns)) for _ in range(_DRAWS))
    ]
    for name in ("p50", "p95", "sd"):
        ratios = sorted(one[name] / other[name] for one, other in drawn if other[name] > 0)
        is_enough = bool(ratios) and len(turns) >= LEAST_TURNS
        told[name] = {
            "free": round(theirs[name], 3),
            "pinned": round(ours[name], 3),
            "times": round(ours[name] / theirs[name], 3) if theirs[name] > 0 else None,
            "from": round(ratios[len(ratios) // 40], 3) if is_enough else None,
            "to": round(ratios[-1 - len(ratios) // 40], 3) if is_enough else None,
        }
    return {"turns": len(turns), "frames": sum(map(len, pinned))} | told


def verdict(told: dict[str, Any]) -> str:
    """What pinning did to one figure: nothing, unless all of its interval is beyond `MATTERS`."""
    if told["from"] is None:
        return "too little to tell"
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
    is_told = any(row["p50"]["from"] is not None for row in judged)
    return "no effect here: do not pin" if is_told else "too little to tell"


def measured(folder: Path | None, threads: int | None, seconds: float) -> dict[str, Any]:
    """All conditions of one checkpoint."""
    settings = load_settings(model_dir=folder, device="cpu", num_threads=threads, metrics=False)
    deployment = Deployment.look(settings)
    plan, cpu = deployment.plan, deployment.hardware.cpu
    cpus = pinned_cpus(cpu, plan.num_threads.value)
    if not cpus:
        raise SystemExit("This system does not let a process choose its CPUs.")
    config = msgspec.structs.replace(worker_config(settings, plan), calibration_samples=0)
    rows = []
    with (
        Computing(msgspec.structs.replace(config, cpus=())) as free,
        Computing(msgspec.structs.replace(config, cpus=cpus)) as pinned,
    ):
        both = {"free": free, "pinned": pinned}
        for each in both.values():
            each.ready()
        for condition, places in conditions(cpu, cpus).items():
            with neighbours(places):
                bursts(both, 0.0)
                rows.append({"neighbour": condition} | compared(bursts(both, seconds)))
    return {
        "checkpoint": deployment.shape.name,
        "cpu": cpu.model,
        "cores": cpu.physical_cores,
        "logical": len(cpu.allowed),
        "threads": plan.num_threads.value,
        "pinned_to": format_cpus(cpus),
        "plan": format_cpus(plan.cpu_affinity.value) or "not pinned",
        "reason": plan.cpu_affinity.reason,
        "way": f"{pinned.way} {plan.precision.value} {plan.quantization.value}",
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
    table = Table("neighbour", "turns", title=title)
    for name in ("p50", "p95", "sd"):
        table.add_column(f"{name}, ms: free, pinned, times (95 %)")
    for row in told["rows"]:
        cells = []
        for name in ("p50", "p95", "sd"):
            each = row[name]
            ratio = f"{each['times']} ({each['from']} to {each['to']})"
            cells += [f"{each['free']:.2f} {each['pinned']:.2f} {ratio}: {verdict(each)}"]
        table.add_row(row["neighbour"], str(row["turns"]), *cells)
    console.print(table)
    console.print(f"The plan: {told['plan']}, {told['reason']}. Verdict: {told['verdict']}.")


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
    parser.add_argument("--compute", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.busy is not None:
        busy(asked.busy)
        return
    if asked.compute:
        compute(asked.compute)
        return
    large = random_checkpoint(asked.random) if asked.random else asked.model_dir
    folders = [*([] if asked.only else [None]), *([large] if large else [])]
    console, found = Console(width=170), []
    for folder in folders:
        found.append(measured(folder, asked.threads, asked.seconds))
        show(found[-1], console)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
