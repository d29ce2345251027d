"""A real server under load, whole: requests, frames, first audio, RTF, and who computes.

    python -m benchmarks.load --clients 64 256 --model-dir CHECKPOINT
    python -m benchmarks.load --clients 64 --arrival-ms 20 --requests 1   # streams come by chance
    python -m benchmarks.load --clients 128 --costless 16000              # the server alone

Every client has streamed speech of a sentence, then asks for the next. Nothing is counted before
the last of them has come; then for `--seconds`. `--costless` puts a worker in the place of the
engine that makes so many frames a second of nothing (`costless_worker`), and tells how long
a text takes to the worker and a frame from there to the client. Prints a table, then one JSON line.
"""

import argparse
import json
import math
import multiprocessing
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from backend.nvml import Card, NvmlUnavailable
from benchmarks.listening import percentile
from benchmarks.load_client import Answer, Part, Told, run
from benchmarks.machine import recording
from tests.e2e.serving import Served, serving

START_S = 1.0
_LOOK_S = 0.1
BYTES_PER_SAMPLE = 2
VOICE = "load"


@dataclass(frozen=True, slots=True)
class Rates:
    """Of what the server speaks."""

    rate_hz: int
    frame_samples: int

    @property
    def frame_bytes(self) -> int:
        """Of 16-bit samples."""
        return BYTES_PER_SAMPLE * self.frame_samples


@dataclass(slots=True)
class Computed:
    """CPU seconds and GPU utilization of a stretch of time."""

    wall_s: float
    server_s: float
    worker_s: float
    machine_s: float
    """Of everybody on this machine."""
    gpu_pct: list[float]


def arrivals_s(clients: int, gap_ms: float, seed: int) -> list[float]:
    """When each client comes: at once, or at random with so much between two on average."""
    if not gap_ms:
        return [0.0] * clients
    chance, at_s, moments = random.Random(seed), 0.0, []
    for _ in range(clients):
        moments.append(at_s)
        at_s += chance.expovariate(1000 / gap_ms)
    return moments


def parts(
    url: str, clients: int, rates: Rates, arguments: argparse.Namespace, fields: dict[str, str]
) -> list[Part]:
    """The clients, dealt out to processes."""
    moments = arrivals_s(clients, arguments.arrival_ms, arguments.seed)
    begin_s = moments[-1] + (arguments.warm_s if arguments.requests is None else 0.0)
    where = urlsplit(url)
    whole = Part(
        host=where.hostname or "127.0.0.1",
        port=where.port or 80,
        arrivals_s=(),
        begin_s=begin_s,
        end_s=begin_s + arguments.seconds,
        characters=tuple(arguments.characters),
        fields={"stream": "true", "response_format": "pcm", "long_text": "split", **fields},
        frame_bytes=rates.frame_bytes if arguments.costless else 0,
        seed=arguments.seed,
        requests=arguments.requests,
    )
    count = min(arguments.processes, clients)
    return [
        replace(whole, arrivals_s=tuple(moments[k::count]), seed=arguments.seed + 1000 * k)
        for k in range(count)
    ]


class Looks(Protocol):
    """What is watched while clients listen."""

    def between(self, begin_s: float, end_s: float) -> Computed:
        """Wait for `begin_s`, then look until `end_s`."""


def heard(shares: Sequence[Part], watch: Looks) -> tuple[list[Told], Computed]:
    """Have them all listen, while server and worker are watched."""
    context = multiprocessing.get_context("spawn")
    running = []
    for part in shares:
        ours, theirs = context.Pipe()
        process = context.Process(target=run, args=(part, theirs))
        process.start()
        running.append((process, ours))
    for _, pipe in running:
        pipe.recv()
    start_s = time.monotonic() + START_S
    for _, pipe in running:
        pipe.send(start_s)
    computed = watch.between(start_s + shares[0].begin_s, start_s + shares[0].end_s)
    told: list[Told] = [pipe.recv() for _, pipe in running]
    for process, _ in running:
        process.join()
    return told, computed


class Watch:
    """Looks at the processes of a server, and at the GPU where there is one."""

    def __init__(self, server: psutil.Process, *workers: psutil.Process) -> None:
        self._server, self._workers = server, workers
        self._card: Card | None = Card("")
        with suppress(NvmlUnavailable):
            self._card.read()
            return
        self._card = None

    def between(self, begin_s: float, end_s: float) -> Computed:
        """Wait for `begin_s`, then look until `end_s`."""
        time.sleep(max(0.0, begin_s - time.monotonic()))
        before, began_s, gpu_pct = self._cpu_s(), time.monotonic(), []
        busy_s = _busy_s()
        while (left_s := end_s - time.monotonic()) > 0:
            if (busy_pct := self._gpu_pct()) is not None:
                gpu_pct.append(busy_pct)
            time.sleep(min(_LOOK_S, left_s))
        after = self._cpu_s()
        server_s, worker_s = (now - then for now, then in zip(after, before, strict=True))
        busy_s = _busy_s() - busy_s
        return Computed(time.monotonic() - began_s, server_s, worker_s, busy_s, gpu_pct)

    def _cpu_s(self) -> tuple[float, float]:
        server, workers = self._server.cpu_times(), [each.cpu_times() for each in self._workers]
        return server.user + server.system, sum(each.user + each.system for each in workers)

    def _gpu_pct(self) -> float | None:
        try:
            return None if self._card is None else self._card.read().utilization_pct
        except NvmlUnavailable:
            return None


def _busy_s() -> float:
    """CPU seconds that this machine has spent since it was started."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0)


def figures(
    told: Sequence[Told], computed: Computed, rates: Rates, seconds: float
) -> dict[str, Any]:
    """One row of the table."""
    answers = [answer for each in told for answer in each.answers]
    spoken = [answer for answer in answers if answer.outcome == "200"]
    frames = sum(each.counted_bytes for each in told) / rates.frame_bytes
    first_ms = [1000 * (answer.first_s - answer.began_s) for answer in spoken]
    rtf = [_rtf(answer, rates) for answer in spoken]
    found = {
        "requests": len(answers),
        "outcomes": dict(Counter(answer.outcome for answer in answers)),
        "requests_per_s": round(_rate(spoken), 2),
        "frames_per_s": round(frames / seconds),
        "first_audio_p50_ms": round(percentile(first_ms, 50), 1),
        "first_audio_p95_ms": round(percentile(first_ms, 95), 1),
        "first_audio_max_ms": round(max(first_ms, default=math.nan), 1),
        **_first_audio_of_server(spoken),
        "rtf_p50": round(percentile(rtf, 50), 4),
        "rtf_p95": round(percentile(rtf, 95), 4),
        "server_cpu_pct": _percent(computed.server_s, computed.wall_s),
        "worker_cpu_pct": _percent(computed.worker_s, computed.wall_s),
        "clients_cpu_pct": _percent(sum(each.cpu_s for each in told), computed.wall_s),
        "machine_cpu_pct": _percent(computed.machine_s, computed.wall_s),
        "frames_per_server_cpu_s": round(frames / computed.server_s) if computed.server_s else None,
    }
    if computed.gpu_pct:
        found["gpu_pct"] = round(sum(computed.gpu_pct) / len(computed.gpu_pct), 1)
    travel_ms = [1000 * travel_s for each in told for travel_s in each.travel_s]
    if travel_ms:
        marked = [answer for answer in spoken if not math.isnan(answer.received_s)]
        to_worker_ms = [1000 * (answer.received_s - answer.began_s) for answer in marked]
        found |= {
            "to_worker_p50_ms": round(percentile(to_worker_ms, 50), 2),
            "to_worker_p95_ms": round(percentile(to_worker_ms, 95), 2),
            "to_client_p50_ms": round(percentile(travel_ms, 50), 2),
            "to_client_p95_ms": round(percentile(travel_ms, 95), 2),
        }
    return found


def _first_audio_of_server(spoken: Sequence[Answer]) -> dict[str, float]:
    """Where the first audio was, by the server's clock: what is left went to HTTP and the text."""
    queue_ms = [answer.queue_ms for answer in spoken]
    spoken_ms = [answer.server_first_ms for answer in spoken]
    return {
        "of_it_queue_p50_ms": round(percentile(queue_ms, 50), 1),
        "of_it_queue_p95_ms": round(percentile(queue_ms, 95), 1),
        "of_it_spoken_p50_ms": round(percentile(spoken_ms, 50), 1),
        "of_it_spoken_p95_ms": round(percentile(spoken_ms, 95), 1),
    }


def _rate(spoken: Sequence[Answer]) -> float:
    """Requests a second, from the first that was begun to the last that ended."""
    if not spoken:
        return 0.0
    first_s = min(answer.began_s for answer in spoken)
    last_s = max(answer.ended_s for answer in spoken)
    return len(spoken) / (last_s - first_s)


def _rtf(answer: Answer, rates: Rates) -> float:
    audio_s = answer.audio_bytes / BYTES_PER_SAMPLE / rates.rate_hz
    return (answer.ended_s - answer.began_s) / audio_s if audio_s else math.nan


def _percent(cpu_s: float, wall_s: float) -> float:
    return round(100 * cpu_s / wall_s, 1)


def save_voice(url: str) -> None:
    """Save a voice under `VOICE`."""
    form = {"name": VOICE, "transcript": "What the voice says."}
    file = {"audio": ("voice.wav", recording(8.0))}
    httpx.post(f"{url}/voices", data=form, files=file, timeout=60.0).raise_for_status()


@contextmanager
def served_by(arguments: argparse.Namespace, *options: str, **more: str) -> Iterator[Served]:
    """The server that the arguments ask for, with `options` and with `more` in its environment."""
    most = max(arguments.clients)
    environment = {
        "SHOAL_MAX_BATCH": str(arguments.rows or most),
        "SHOAL_MAX_BATCH_PER_CLIENT": str(arguments.rows or most),
        "SHOAL_QUEUE_LIMIT": str(most),
        "SHOAL_MAX_CONNECTIONS": "4000",
        "SHOAL_MAX_CONNECTIONS_PER_ADDRESS": "2000",
        **more,
    }
    command = options
    if arguments.model_dir:
        environment["MODEL_DIR"] = str(arguments.model_dir)
    if arguments.costless:
        speed = ("--frames-per-s", str(arguments.costless))
        piece = ("--piece-frames", str(arguments.piece_frames))
        module = (sys.executable, "-m", "benchmarks.costless_worker", "--serve")
        command = (*module, *speed, *piece, *options)
    with serving(*command, **(environment | os.environ)) as served:
        yield served


def rates_of(url: str) -> Rates:
    """What the server at `url` says of its checkpoint."""
    model = httpx.get(f"{url}/health").json()["model"]
    rate_hz: int = model["sample_rate_hz"]
    return Rates(rate_hz, round(rate_hz / model["frame_rate_hz"]))


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """`rows` as they are printed: a column each."""
    drawn = Table(title="load")
    drawn.add_column("")
    for row in rows:
        drawn.add_column(str(row["clients"]), justify="right")
    for name in rows[0]:
        drawn.add_row(name.replace("_", " "), *(str(row.get(name)) for row in rows))
    return drawn


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--seconds", type=float, default=20.0, help="counted, at each number")
    parser.add_argument("--warm-s", type=float, default=3.0, help="before that")
    parser.add_argument("--requests", type=int, help="of each client; else as many as it can")
    parser.add_argument("--characters", type=int, nargs="+", default=[60, 90, 120])
    parser.add_argument("--arrival-ms", type=float, default=0.0, help="between two, at random")
    parser.add_argument("--voice", action="store_true", help="save a voice first, speak in it")
    parser.add_argument("--rows", type=int, help="SHOAL_MAX_BATCH; else as many as clients")
    parser.add_argument("--processes", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model-dir", type=Path)
    parser.add_argument("--costless", type=float, default=0.0, help="frames a second of nothing")
    parser.add_argument("--piece-frames", type=int, default=4, help="of the costless worker")
    arguments = parser.parse_args()
    rows = []
    with served_by(arguments) as served:
        rates, fields = rates_of(served.url), {}
        if arguments.voice:
            save_voice(served.url)
            fields["voice"] = VOICE
        watch = Watch(served.process, served.worker())
        for clients in arguments.clients:
            shares = parts(served.url, clients, rates, arguments, fields)
            told, computed = heard(shares, watch)
            found = figures(told, computed, rates, arguments.seconds)
            rows.append({"clients": clients, **found})
    Console(width=180).print(table(rows))
    print(json.dumps({"measure": "load", "costless": arguments.costless, "rows": rows}))


if __name__ == "__main__":
    main()
