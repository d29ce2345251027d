"""What a frame costs each process between an engine and a client under Ray Serve.

    python -m benchmarks.ingresses --ingresses 1 2 --proxies python haproxy

deploys `deploy/serve.yaml` on a Ray of its own with so many ingresses, behind Serve's own proxy or
its HAProxy, and with replicas whose workers cost nothing (`costless_worker`), or with
`--model-dir` ones that speak, each with a GPU of its own where `--kind` says gpu; every client has
streamed speech of a sentence, then asks for the next, as in `benchmarks.load`. Counted is the CPU
time of each kind of process for each frame that the clients heard: on a machine whose cores all of
them share, frames a second say little of what a process could carry. Prints a table, then one JSON
line.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
from pydantic import BaseModel
from ray.serve import Application
from rich.console import Console
from rich.table import Table

from backend.cluster.application import MOST_REPLICAS
from backend.cluster.deployments import engines, ingress
from backend.settings import load_settings
from benchmarks.load import Computed, figures, heard, parts, rates_of
from tests.e2e.ray_serve import deploy, free_port, ray_cluster

READY_S = 180.0
KINDS = ("proxy", "ingress", "replica", "worker", "ray")


class Speed(BaseModel):
    """`args` of the application: what its workers make."""

    frames_per_s: float
    piece_frames: int


def app(speed: Speed) -> Application:
    """Shoal with workers that cost nothing."""
    settings = load_settings()
    told = ("--frames-per-s", str(speed.frames_per_s), "--piece-frames", str(speed.piece_frames))
    command = (sys.executable, "-m", "benchmarks.costless_worker", *told)
    replicas = engines("EngineCpu", settings, {"num_cpus": 1}, MOST_REPLICAS, command)
    return ingress(settings, replicas)


def kind_of(process: psutil.Process) -> str:
    """Which of `KINDS` it is."""
    told = " ".join(process.cmdline())
    if "Ingress" in told:
        return "ingress"
    if "EngineCpu" in told or "EngineGpu" in told:
        return "replica"
    if "costless_worker" in told or "backend.worker" in told:
        return "worker"
    is_proxy = "ProxyActor" in told or process.name() == "haproxy"
    return "proxy" if is_proxy else "ray"


class EachWatch:
    """Looks at all that this program has started but its clients, by kind."""

    def __init__(self) -> None:
        self.cpu_s = dict.fromkeys(KINDS, 0.0)
        """Of each kind, between the two moments that `heard` has it look."""

    def between(self, begin_s: float, end_s: float) -> Computed:
        """Wait for `begin_s`, then for `end_s`."""
        time.sleep(max(0.0, begin_s - time.monotonic()))
        before, began_s = self._now(), time.monotonic()
        time.sleep(max(0.0, end_s - time.monotonic()))
        wall_s, after = time.monotonic() - began_s, self._now()
        for process, (kind, cpu_s) in after.items():
            self.cpu_s[kind] += cpu_s - before.get(process, ("", 0.0))[1]
        server_s = sum(self.cpu_s[kind] for kind in KINDS if kind != "worker")
        return Computed(wall_s, server_s, self.cpu_s["worker"], 0.0, [])

    def _now(self) -> dict[psutil.Process, tuple[str, float]]:
        found = {}
        for process in psutil.Process().children(recursive=True):
            if "spawn_main" not in " ".join(process.cmdline()):  # a client
                times = process.cpu_times()
                found[process] = kind_of(process), times.user + times.system
        return found


def measured(
    ingresses: int, replicas: int, proxy: str, arguments: argparse.Namespace
) -> dict[str, Any]:
    """The figures of so many ingresses behind `proxy`, and of so many replicas."""
    clients = arguments.clients[0]
    told = {"RAY_SERVE_ENABLE_HA_PROXY": "1"} if proxy == "haproxy" else {}
    model: dict[str, str] = {}
    args: dict[str, Any]
    if arguments.model_dir:
        application, args = "backend.cluster:app", {"kinds": arguments.kind}
        model = {"MODEL_DIR": str(arguments.model_dir)}
    else:
        application = "benchmarks.ingresses:app"
        args = {"frames_per_s": arguments.costless, "piece_frames": arguments.piece_frames}
    with tempfile.TemporaryDirectory(prefix="shoal-ingresses-") as folder:
        port = free_port()
        cpus = ingresses + replicas + 4
        with ray_cluster(told | {"PYTHONPATH": os.pathsep.join(sys.path)}, cpus=cpus) as ray:
            deploy(
                ray,
                Path(folder),
                port,
                ingresses=ingresses,
                replicas=replicas,
                application=application,
                args=args,
                settings={
                    **model,
                    "SHOAL_MAX_BATCH": str(clients),
                    "SHOAL_MAX_BATCH_PER_CLIENT": str(2 * clients),
                    "SHOAL_QUEUE_LIMIT": str(2 * clients),
                },
            )
            url = f"http://127.0.0.1:{port}"
            are_ready(url, ingresses, replicas)
            rates, watch = rates_of(url), EachWatch()
            said, computed = heard(parts(url, clients, rates, arguments, {}), watch)
            found = figures(said, computed, rates, arguments.seconds)
    frames = found["frames_per_s"] * arguments.seconds
    us = {f"{kind}_us": round(1e6 * watch.cpu_s[kind] / frames, 1) for kind in KINDS}
    return {"ingresses": ingresses, "replicas": replicas, "proxy": proxy, **us, **found}


def are_ready(url: str, ingresses: int, replicas: int) -> None:
    """Wait until so many are there, and know of each other."""
    deadline_s = time.monotonic() + READY_S
    while time.monotonic() < deadline_s:
        answer = httpx.get(f"{url}/system-status", timeout=30.0)
        told = answer.json() if answer.is_success else {"workers": [], "ingresses": []}
        states = [each["state"] for each in told["workers"]]
        if len(told["ingresses"]) == ingresses and states == ["ready"] * replicas:
            return
        time.sleep(0.5)
    raise RuntimeError(f"not ready: {answer.text}")


def table(rows: list[dict[str, Any]]) -> Table:
    """`rows` as they are printed."""
    drawn = Table(title="CPU time of a frame, µs")
    drawn.add_column("")
    for row in rows:
        setup = f"{row['ingresses']} before {row['replicas']}, {row['proxy']}"
        drawn.add_column(setup, justify="right")
    names = [f"{kind}_us" for kind in KINDS]
    for name in (*names, "frames_per_s", "first_audio_p50_ms", "first_audio_p95_ms", "outcomes"):
        drawn.add_row(name.replace("_", " "), *(str(row[name]) for row in rows))
    return drawn


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ingresses", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--proxies", nargs="+", choices=("python", "haproxy"), default=["python"])
    parser.add_argument("--replicas", type=int, nargs="+", default=[2])
    parser.add_argument("--model-dir", type=Path, help="that replicas speak with")
    parser.add_argument("--kind", choices=("cpu", "gpu"), default="cpu", help="of those")
    parser.add_argument("--clients", type=int, nargs=1, default=[32])
    parser.add_argument("--repeats", type=int, default=1, help="of each, in turns")
    parser.add_argument("--seconds", type=float, default=8.0, help="counted, in each run")
    parser.add_argument("--warm-s", type=float, default=3.0, help="before that")
    parser.add_argument("--characters", type=int, nargs="+", default=[60, 90, 120])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--costless", type=float, default=1000.0, help="frames/s of a replica")
    parser.add_argument("--piece-frames", type=int, default=4)
    parser.set_defaults(requests=None, arrival_ms=0.0)
    arguments = parser.parse_args()
    rows = [
        measured(ingresses, replicas, proxy, arguments)
        for _ in range(arguments.repeats)
        for proxy in arguments.proxies
        for replicas in arguments.replicas
        for ingresses in arguments.ingresses
    ]
    Console(width=160).print(table(rows))
    print(json.dumps({"measure": "ingresses", "rows": rows}))


if __name__ == "__main__":
    main()
