"""How many replicas a number of listeners takes: measured figures of one, simulated for many.

    python -m benchmarks.workers --workers 1 2 --clients 16 --record RUNS       # and others of one
    python -m benchmarks.cluster_simulation check RUNS     # is two workers what was measured?
    python -m benchmarks.cluster_simulation plan --replica h100 --listeners 1000 100000
    python -m benchmarks.cluster_simulation ramp --replica h100 --listeners 800 --from-listeners 200

`check` takes a replica's figures from the runs of one worker that are in RUNS, simulates every run,
those of several workers too, and compares. `plan` looks for the share of a replica that may be
taken so that first audio stays within `--first-ms` for 95 of 100 sentences, and counts machines,
money and bytes. `ramp` lets listeners come and go under the autoscaler. Each prints a table, then
one JSON line. How they go about it: MDs/SCALING.md.
"""

import argparse
import json
import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import simpy
from rich.console import Console
from rich.table import Table

from backend.cluster.scaling import FULL_SHARE, UPSCALE_S
from benchmarks.fitted import Run, alone, fitted, share_of_core
from benchmarks.listening import percentile
from benchmarks.simulated import (
    Autoscaler,
    Figures,
    Host,
    Lengths,
    Queue,
    Replica,
    Scaling,
    Sentence,
    arrivals,
    clients,
)

WITHIN = 0.10
"""Of what was measured, before anything is made of it."""
LEAST_SHARE = 0.85
"""Of its core that a worker had: with less, others had its caches and memory too."""
COMPARED = ("frames_per_s", "sentences_per_s", "rtf_p50", "first_audio_p50_ms")


@dataclass(frozen=True, slots=True)
class Kind:
    """A replica, what carries its speech, and what it speaks."""

    figures: Figures
    frame_rate_hz: float
    sample_rate_hz: int
    server_frames_per_s: float
    """That one process of the server carries."""
    cold_start_s: float
    measured: str
    """Where its figures stand."""


KINDS = {
    "h100": Kind(
        # 609, 10,439 and 11,961 frames/s of 1, 64 and 256 clients; first audio 17.5, 45 and 68 ms.
        Figures(step_s=1.05e-3, row_step_s=0.0795e-3, rows=128, delay_s=20e-3, first_frames=2.3),
        frame_rate_hz=44_100 / 2048,
        sample_rate_hz=44_100,
        server_frames_per_s=16_000,
        cold_start_s=8.8,
        measured="MDs/BENCHMARKS.md: openaudio-s1-mini's size, bf16, H100, under load by HTTP",
    ),
    "cpu": Kind(
        Figures(step_s=2.62e-3, row_step_s=1.791e-3, rows=16, first_frames=4.0),
        frame_rate_hz=24_000 / 1024,
        sample_rate_hz=24_000,
        server_frames_per_s=8_700,
        cold_start_s=3.9,
        measured="`check`: the shipped voice, one core of an EPYC",
    ),
}


# -- runs and what becomes of them -----------------------------------------------------------------


def told(spoken: Sequence[Sentence], from_s: float, to_s: float, rate_hz: float) -> Run:
    """What is told of those that were spoken, of the time between."""
    whole = [each for each in spoken if not math.isnan(each.ended_s)]
    made = sum(each.frames * _within(each, from_s, to_s) for each in whole)
    counted = [each for each in whole if from_s <= each.asked_s < to_s]
    first_ms = [1000 * each.first_audio_s for each in counted]
    rtf = [(each.ended_s - each.asked_s) * rate_hz / each.frames for each in counted]
    return {
        "frames_per_s": made / (to_s - from_s),
        "sentences_per_s": len(counted) / (to_s - from_s),
        "rtf_p50": percentile(rtf, 50),
        "rtf_p95": percentile(rtf, 95),
        "waited_p95_ms": 1000 * percentile([each.waited_s for each in counted], 95),
        "first_audio_p50_ms": percentile(first_ms, 50),
        "first_audio_p95_ms": percentile(first_ms, 95),
    }


def _within(sentence: Sentence, from_s: float, to_s: float) -> float:
    """The share of its speaking that lies between."""
    took_s = sentence.ended_s - sentence.begun_s
    inside_s = min(to_s, sentence.ended_s) - max(from_s, sentence.begun_s)
    return max(0.0, inside_s) / took_s if took_s else 0.0


def as_sentences(run: Run) -> list[Sentence]:
    """What was measured, in the form of what is simulated."""
    return [
        Sentence(
            frames=each["frames"],
            asked_s=each["began_s"],
            entered_s=each["began_s"],
            begun_s=each["began_s"] + each["queue_s"],
            first_s=each["first_s"],
            ended_s=each["ended_s"],
        )
        for each in run["answers"]
    ]


def simulated(run: Run, figures: Figures, serving_s: float, cores: float) -> list[Sentence]:
    """The sentences of a run like `run`, with as many workers, rows and clients, on a machine of
    `cores` unless the run says how many, of which others have what they had."""
    cores = float(run.get("cores", cores))
    others = others_cores(run)
    if cores <= others:
        raise SystemExit(
            f"Others took {others:.1f} cores beside a run of {run['workers']} workers, which is "
            f"said to be of a machine of {cores:g}: --cores says how many it has."
        )
    queue = Queue(simpy.Environment())
    host = Host(cores - others, serving_s)
    for _ in range(run["workers"]):
        queue.join(Replica(queue.env, replace(figures, rows=run["rows"]), host))
    last_s = max(each["began_s"] for each in run["answers"])
    lengths = drawn_from([each["frames"] for each in run["answers"]])
    clients(queue, run["clients"], lengths, last_s, figures.delay_s, seed=0)
    queue.env.run()
    return queue.spoken


def others_cores(run: Run) -> float:
    """What neither server nor workers nor clients took."""
    ours = (run["server_cpu_pct"], run["worker_cpu_pct"], run["clients_cpu_pct"])
    return max(0.0, float(run.get("machine_cpu_pct", sum(ours)) - sum(ours)) / 100)


def drawn_from(frames: Sequence[float]) -> Lengths:
    """Sentences as long as some of these."""
    return lambda chance: chance.choice(frames)


def check(arguments: argparse.Namespace) -> None:
    """Compare what was measured with what is simulated."""
    lines = arguments.runs.read_text("utf-8").splitlines()
    runs: list[Run] = [json.loads(line) for line in lines]
    figures, host = fitted(alone(runs))
    drawn = Table(title="measured / simulated (of it)")
    for name in ("workers", "rows", "clients", *COMPARED):
        drawn.add_column(name, justify="right")
    worst, compared, rows = 0.0, 0, []
    for run in runs:
        last_s = max(each["began_s"] for each in run["answers"])
        between = (last_s - run["seconds"], last_s)
        rate_hz = arguments.frame_rate_hz
        there = told(as_sentences(run), *between, rate_hz)
        here = told(simulated(run, figures, host.serving_s, arguments.cores), *between, rate_hz)
        ratios = {name: here[name] / there[name] for name in COMPARED}
        if run["workers"] > 1 and share_of_core(run) >= LEAST_SHARE:
            worst = max(worst, abs(ratios["frames_per_s"] - 1), abs(ratios["rtf_p50"] - 1))
            compared += 1
        cells = (f"{there[n]:.3g} / {here[n]:.3g} ({ratios[n]:.2f})" for n in COMPARED)
        drawn.add_row(*(str(run[name]) for name in ("workers", "rows", "clients")), *cells)
        rows.append({"workers": run["workers"], "rows": run["rows"], "ratios": ratios})
    Console(width=140).print(drawn)
    is_within = bool(compared and worst <= WITHIN)
    of = f"{compared} runs of several workers that had their cores"
    print(f"frames/s and RTF of {of} are off by {worst:.1%} at most")
    told_figures = asdict(figures) | {"serving_s_per_frame": host.serving_s}
    print(json.dumps({"measure": "check", "figures": told_figures, "runs": rows, "ok": is_within}))


# -- plans -----------------------------------------------------------------------------------------


def spoken_by(kind: Kind, replicas: int, listeners: float, seconds: float, seed: int) -> Run:
    """What so many listeners hear, who come by chance and hear sentences one after another, each
    asked for when the last has been played."""
    queue = Queue(simpy.Environment())
    for _ in range(replicas):
        queue.join(Replica(queue.env, kind.figures, Host()))
    lengths = sentences_of(kind)
    mean_s = statistics.fmean(lengths(random.Random(n)) for n in range(2000)) / kind.frame_rate_hz
    rate = listeners / mean_s
    arrivals(queue, lambda _: rate, lengths, seconds, seed, kind.figures.delay_s)
    queue.env.run(until=seconds)
    return told(queue.spoken, seconds / 4, 0.95 * seconds, kind.frame_rate_hz)


def sentences_of(kind: Kind) -> Lengths:
    """60, 90 or 120 characters, at 15 a second, as `benchmarks.load` asks for."""
    frames = [characters / 15 * kind.frame_rate_hz for characters in (60, 90, 120)]
    return lambda chance: chance.choice(frames) * chance.uniform(0.8, 1.2)


def most_listeners(kind: Kind, replicas: int, first_ms: float, seconds: float) -> tuple[int, Run]:
    """The most that so many replicas speak to with first audio and RTF in bounds."""
    whole = replicas * kind.figures.frames_per_s(kind.figures.rows) / kind.frame_rate_hz
    low, high = 0.0, whole
    best: Run = {}
    for _ in range(8):
        middle = (low + high) / 2
        heard = spoken_by(kind, replicas, middle, seconds, seed=1)
        if heard["first_audio_p95_ms"] <= first_ms and heard["rtf_p95"] <= 1.0:
            low, best = middle, heard
        else:
            high = middle
    return int(low), best


def plan(arguments: argparse.Namespace) -> None:
    """Machines, money and bytes for so many listeners."""
    kind = KINDS[arguments.replica]
    per_server = kind.server_frames_per_s / kind.frame_rate_hz
    full = kind.figures.frames_per_s(kind.figures.rows)
    beside = max(1, round(kind.server_frames_per_s / full))
    edge, heard = most_listeners(kind, beside, arguments.first_ms, arguments.seconds)
    each = min(edge * arguments.share, per_server) / beside
    rows = []
    for listeners in arguments.listeners:
        speaking = listeners * arguments.speaking
        # One may be lost, and the others are at the edge at most.
        replicas = max(math.ceil(speaking / each), math.ceil(speaking * beside / edge) + 1)
        pcm_bytes_per_s = speaking * 2 * kind.sample_rate_hz
        rows.append(
            {
                "listeners": listeners,
                "replicas": replicas,
                "servers": math.ceil(replicas / beside),
                "listeners_per_replica": round(speaking / replicas),
                "price_per_hour": round(replicas * arguments.price, 2),
                "price_per_hour_of_speech": round(replicas * arguments.price / speaking, 5),
                "pcm_gbit_per_s": round(8e-9 * pcm_bytes_per_s, 3),
                "opus_gbit_per_s": round(1e-9 * speaking * arguments.opus_bits, 3),
                "within_gbit_per_s": round(8e-9 * 2 * pcm_bytes_per_s, 3),
            }
        )
    drawn = Table(title=f"{arguments.replica}: {kind.measured}")
    drawn.add_column("")
    for row in rows:
        drawn.add_column(f"{row['listeners']:,}", justify="right")
    for name in list(rows[0])[1:]:
        drawn.add_row(name.replace("_", " "), *(f"{row[name]:,}" for row in rows))
    Console(width=120).print(drawn)
    found = {"replicas_of_a_server": beside, "most_listeners_of_a_server": edge, **heard}
    print(json.dumps({"measure": "plan", "replica": arguments.replica, **found, "rows": rows}))


def ramp(arguments: argparse.Namespace) -> None:
    """Listeners who become more in `--over-s`, stay, and become fewer, under the autoscaler."""
    kind, over_s, stay_s = KINDS[arguments.replica], arguments.over_s, arguments.seconds
    queue = Queue(simpy.Environment())
    cold_s = kind.cold_start_s + arguments.machine_s
    scaling = Scaling(
        arguments.least, arguments.most, cold_s, arguments.up_after_s, full_share=arguments.full
    )
    scaler = Autoscaler(queue, kind.figures, scaling)
    few, many = arguments.from_listeners, arguments.listeners[0]
    lengths = sentences_of(kind)
    mean_s = statistics.fmean(lengths(random.Random(n)) for n in range(2000)) / kind.frame_rate_hz
    rises_s = 60.0
    corners = (0.0, rises_s, rises_s + over_s, rises_s + over_s + stay_s)

    def rate_at(now_s: float) -> float:
        return float(np.interp(now_s, corners, (few, few, many, many))) / mean_s

    arrivals(queue, rate_at, lengths, corners[-1], 1, kind.figures.delay_s)
    queue.env.run(until=corners[-1])
    parts = {"before": (0.0, rises_s), "while": corners[1:3], "after": corners[2:]}
    rows = {
        name: told(queue.spoken, from_s, to_s, kind.frame_rate_hz)
        for name, (from_s, to_s) in parts.items()
    }
    drawn = Table(title=f"{few:,} to {many:,} listeners in {over_s:g} s, {arguments.replica}")
    drawn.add_column("")
    for name in rows:
        drawn.add_column(name, justify="right")
    for figure in ("frames_per_s", "rtf_p95", "first_audio_p50_ms", "first_audio_p95_ms"):
        drawn.add_row(figure.replace("_", " "), *(f"{row[figure]:,.2f}" for row in rows.values()))
    Console(width=120).print(drawn)
    counted = scaler.counted
    print(f"replicas: {counted[0]}, at most {max(counted)}, {counted[-1]} in the end")
    found = {"replicas": counted[:: len(counted) // 60 + 1], **rows}
    print(json.dumps({"measure": "ramp", "replica": arguments.replica, **found}))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    works = parser.add_subparsers(required=True)
    checking = works.add_parser("check")
    checking.add_argument("runs", type=Path)
    checking.add_argument(
        "--cores", type=float, default=2.0, help="of the machine, where runs do not say"
    )
    checking.add_argument("--frame-rate-hz", type=float, default=KINDS["cpu"].frame_rate_hz)
    checking.set_defaults(work=check)
    for name, work in (("plan", plan), ("ramp", ramp)):
        each = works.add_parser(name)
        each.add_argument("--replica", choices=KINDS, default="h100")
        each.add_argument("--listeners", type=int, nargs="+", default=[1000, 100_000])
        each.add_argument("--seconds", type=float, default=120.0, help="simulated, of each try")
        each.set_defaults(work=work)
    planning, ramping = works.choices["plan"], works.choices["ramp"]
    planning.add_argument("--first-ms", type=float, default=500.0, help="first audio, p95")
    planning.add_argument("--speaking", type=float, default=1.0, help="share of listeners' time")
    planning.add_argument("--share", type=float, default=0.8, help="of the most that is planned")
    planning.add_argument("--price", type=float, default=2.5, help="of a replica for an hour")
    planning.add_argument("--opus-bits", type=float, default=64_000, help="a second")
    ramping.add_argument("--from-listeners", type=int, default=200)
    ramping.add_argument("--over-s", type=float, default=60.0, help="that the rise takes")
    ramping.add_argument("--least", type=int, default=1)
    ramping.add_argument("--most", type=int, default=100)
    ramping.add_argument(
        "--up-after-s", type=float, default=UPSCALE_S, help="Serve's upscale_delay_s"
    )
    ramping.add_argument("--full", type=float, default=FULL_SHARE, help="share of rows")
    ramping.add_argument("--machine-s", type=float, default=0.0, help="until a machine is there")
    arguments = parser.parse_args()
    arguments.work(arguments)


if __name__ == "__main__":
    main()
