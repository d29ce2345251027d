"""`python -m benchmarks.monitoring`: what monitoring costs itself, as a share of one core.

The monitor samples this machine for half a minute as it does during a synthesis, its CSV files
included, and nothing else runs in the process. Prints what each part of a sample takes and what the
whole took, then one JSON line. With `--device cuda:0` the GPU is asked too, and with
`--container-memory` the memory that a container may have, as in a server there.
"""

import argparse
import asyncio
import csv
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backend.hardware.usage import memory_pct
from backend.monitoring.csv_log import CsvLog
from backend.monitoring.gpu import GpuMeter, WorkerMemory
from backend.monitoring.monitor import INTERVAL_S, Monitor
from backend.monitoring.reader import MachineReader
from backend.monitoring.rows import RealtimeRow, timestamp
from backend.monitoring.sample import Observed, Sample
from backend.monitoring.system_load import SystemLoad
from backend.nvml import Card
from backend.thermometer import CpuThermometer

LIMIT_PCT = 1.0
"""Of one core: what the issue allows."""


def gpu_meter(device: str) -> GpuMeter:
    _, _, number = device.partition(":")
    return GpuMeter(device, Card("", int(number or 0)), WorkerMemory(), is_gpu_expected=False)


def realtime_row(sample: Sample) -> RealtimeRow:
    return RealtimeRow(
        timestamp=timestamp(sample.at_s),
        cpu_pct=sample.cpu_pct,
        memory_pct=sample.memory_pct,
        gpu_memory_mb=sample.gpu_memory_mb,
        gpu_util_pct=sample.gpu_util_pct,
        temperature_c=sample.temperature_c,
        running=1,
    )


async def sampling(
    device: str, memory: Callable[[], float] | None, log: CsvLog, seconds: float
) -> tuple[int, float]:
    """Samples taken, and CPU seconds that this process spent meanwhile."""
    reader = MachineReader(gpu_meter(device), memory)
    monitor = Monitor(reader, lambda sample, running: log.append(realtime_row(sample)))
    await monitor.open()
    observed = Observed()
    began_s = time.process_time()
    monitor.watch(observed)
    await asyncio.sleep(seconds)
    spent_s = time.process_time() - began_s
    monitor.release(observed)
    await monitor.close()
    return observed.samples, spent_s


async def idling(seconds: float) -> float:
    """CPU seconds of an event loop that does nothing."""
    began_s = time.process_time()
    await asyncio.sleep(seconds)
    return time.process_time() - began_s


def cpu_us(call: Callable[[], Any], times: int = 300) -> float:
    """CPU microseconds of one call; the median of seven rounds."""
    rounds = []
    for _ in range(7):
        began_s = time.process_time()
        for _ in range(times):
            call()
        rounds.append((time.process_time() - began_s) / times * 1e6)
    return statistics.median(rounds)


def parts_us(device: str, log: CsvLog) -> dict[str, float]:
    """CPU microseconds of each part of one sample."""
    gpu, load = gpu_meter(device), SystemLoad()
    gpu.open()
    load.open()
    row = realtime_row(Sample(time.time(), 50.0, 40.0))
    thermometer = CpuThermometer()
    parts = {
        "cpu": cpu_us(load.start),
        "memory": cpu_us(load.memory_pct),
        "container memory": cpu_us(memory_pct),
        "gpu": cpu_us(gpu.read),
        "row": cpu_us(lambda: log.append(row)),
    }
    if thermometer.open():  # asked once a second, not with every sample
        parts["temperature"] = cpu_us(thermometer.temperature_c)
    gpu.close()
    load.close()
    return parts


def count_rows(directory: Path) -> int:
    rows = 0
    for file in directory.glob("realtime_*.csv"):
        with file.open(newline="", encoding="utf-8") as text:
            rows += sum(1 for _ in csv.DictReader(text))
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda:N to ask NVML as well")
    parser.add_argument("--container-memory", action="store_true", help="asked twice a second")
    arguments = parser.parse_args()
    seconds, device = arguments.seconds, arguments.device
    with tempfile.TemporaryDirectory() as name:
        log = CsvLog(Path(name) / "whole", "benchmark", 1 << 24)
        idle_s = asyncio.run(idling(seconds / 6))
        memory = memory_pct if arguments.container_memory else None
        samples, spent_s = asyncio.run(sampling(device, memory, log, seconds))
        log.close()
        rows = count_rows(Path(name) / "whole")
        other = CsvLog(Path(name) / "parts", "benchmark", 1 << 24)
        parts = parts_us(device, other)
        other.close()
    if rows < samples:
        raise SystemExit(f"{samples} samples, but only {rows} rows were written")
    pct = spent_s / seconds * 100
    result = {
        "machine": platform.processor() or platform.machine(),
        "logical_cpus": os.cpu_count(),
        "device": device,
        "container_memory": arguments.container_memory,
        "seconds": seconds,
        "interval_s": INTERVAL_S,
        "samples": samples,
        "core_pct": round(pct, 3),
        "idle_core_pct": round(idle_s / (seconds / 6) * 100, 3),
        "sample_us": round(spent_s / samples * 1e6, 1),
        "parts_us": {part: round(us, 1) for part, us in parts.items()},
        "within_limit": pct < LIMIT_PCT,
    }
    for part, us in parts.items():
        print(f"{part:16} {us:8.1f} µs")
    print(f"{'a sample':16} {result['sample_us']:8.1f} µs, thread and event loop included")
    print(f"{'in all':16} {pct:8.3f} % of one core (limit {LIMIT_PCT:g} %)")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
