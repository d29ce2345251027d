"""Thermal control on simulated machines, and this machine's own curve.

    python -m benchmarks.thermal                     # half an hour, with control and without
    python -m benchmarks.thermal --parallel 0.5 0.9  # where threads gain less, or more
    python -m benchmarks.thermal --record OUT.json --seconds 300 --device cuda:0
    python -m benchmarks.thermal --judge OUT.json    # how soon each degree was foretold

The machines are those of the tests (`tests/plant.py`), no machine was heated for the table.
`--parallel` is the share of a frame's work that threads divide among them, which decides what fewer
of them lose. `--record` reads this machine's sensor, or the GPU's, once a second and writes a file
of them; load it meanwhile. `--judge` takes such a file and asks, as if the chip throttled at each
whole degree that it passes for good: how many seconds before were foretold, against what came. The
last line is JSON.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from backend.hardware.thermal import Trend
from backend.nvml import Card, NvmlUnavailable
from backend.thermometer import CpuThermometer, Heat
from tests.plant import (
    BLOCKED_GPU,
    DESKTOP,
    DUSTY,
    FANLESS,
    GENTLE,
    PARALLEL,
    PI_4,
    Machine,
    amdahl,
    simulate,
)

MACHINES = (PI_4, FANLESS, DUSTY, DESKTOP, GENTLE, BLOCKED_GPU)
HALF_AN_HOUR = 1800
SOONEST, LEAST_LEFT, MOST_LEFT_S = 20, 3, 60.0
"""Readings before a degree counts, those just before it that are not asked, and the farthest."""


def compared(machine: Machine, parallel: float) -> dict[str, Any]:
    """Half an hour of speech without control and with it."""
    if machine is not BLOCKED_GPU:
        machine = replace(machine, speed=lambda threads: amdahl(threads, parallel))
    free = simulate(machine, HALF_AN_HOUR, is_controlled=False)
    run = simulate(machine, HALF_AN_HOUR)
    return {
        "machine": machine.name,
        "parallel": parallel,
        "throttled_free_s": round(free.plant.throttled_s),
        "throttled_s": round(run.plant.throttled_s),
        "hottest_c": round(run.hottest_c, 1),
        "throttles_at_c": machine.throttles_at_c,
        "changes": len(run.changes),
        "gain_pct": round(100 * (run.plant.spoken / free.plant.spoken - 1), 1),
        "gain_last_ten_minutes_pct": round(100 * (run.late_speed / free.late_speed - 1), 1),
    }


def heat_of(device: str) -> Callable[[], Heat | None]:
    """What reads the sensor of `device` now."""
    if not device.startswith("cuda"):
        thermometer = CpuThermometer()
        thermometer.open()
        return thermometer.nearest
    _, _, number = device.partition(":")
    card = Card("", int(number or 0))

    def read() -> Heat | None:
        try:
            told = card.read()
        except NvmlUnavailable:
            return None
        return Heat(told.name, told.temperature_c, told.throttles_at_c)

    return read


def record(out: Path, device: str, seconds: int) -> dict[str, Any]:
    """Write this machine's curve; what it was."""
    read, began_s, curve = heat_of(device), time.monotonic(), []
    heat: Heat | None = None
    for second in range(seconds):
        time.sleep(max(0.0, began_s + second - time.monotonic()))
        heat = read()
        if heat is None or heat.temperature_c is None:
            raise SystemExit(f"Nothing tells the temperature of {device}.")
        curve.append(heat.temperature_c)
    assert heat is not None
    at = time.strftime("%d %B %Y")
    about = f"Measured: {heat.name}, {at}; it throttles at {heat.throttles_at_c} °C."
    told = {"about": about, "interval_s": 1.0, "temperature_c": curve}
    out.write_text(json.dumps(told, ensure_ascii=False) + "\n", encoding="utf-8")
    return {"about": about, "first_c": curve[0], "last_c": curve[-1], "highest_c": max(curve)}


def judged(curve: list[float], interval_s: float = 1.0) -> list[dict[str, Any]]:
    """Of each whole degree that `curve` passes for good: how often a time was told in the minute
    before, and the median of what was told against what was left."""
    found = []
    for point in range(math.ceil(curve[0]), math.floor(max(curve)) + 1):
        passed = next(
            i for i in range(len(curve)) if min(curve[i:]) >= point or i == len(curve) - 1
        )
        if not (SOONEST <= passed < len(curve) - 1):
            continue
        trend, ratios, asked = Trend(), list[float](), 0
        for index, degrees in enumerate(curve[: passed - LEAST_LEFT]):
            trend.add(index * interval_s, point - degrees)
            left_s = (passed - index) * interval_s
            if left_s <= MOST_LEFT_S:
                asked += 1
                told_s = trend.seconds_until(index * interval_s)
                ratios += [] if told_s is None else [told_s / left_s]
        middle = statistics.median(ratios) if ratios else None
        found.append({"point_c": point, "asked": asked, "told": len(ratios), "times": middle})
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parallel", type=float, nargs="+", default=[PARALLEL])
    parser.add_argument("--record", type=Path)
    parser.add_argument("--judge", type=Path, metavar="FILE")
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda:N to ask NVML")
    arguments = parser.parse_args()
    if arguments.judge:
        told = json.loads(arguments.judge.read_text(encoding="utf-8"))
        rows = judged(told["temperature_c"], told["interval_s"])
        for row in rows:
            times = "-" if row["times"] is None else f"{row['times']:.2f}"
            print(f"{row['point_c']:4} °C  told {row['told']:3} of {row['asked']:3}  times {times}")
        print(json.dumps(rows))
        return
    if arguments.record:
        print(json.dumps(record(arguments.record, arguments.device, arguments.seconds)))
        return
    rows = [compared(each, share) for share in arguments.parallel for each in MACHINES]
    titles = ("machine", "parallel", "throttled without, s", "with, s", "hottest, °C", "changes")
    table = Table(*titles, "speech, %", "of the last 10 min, %")
    for row in rows:
        table.add_row(
            row["machine"],
            f"{row['parallel']:g}",
            str(row["throttled_free_s"]),
            str(row["throttled_s"]),
            f"{row['hottest_c']} of {row['throttles_at_c']:g}",
            str(row["changes"]),
            f"{row['gain_pct']:+.1f}",
            f"{row['gain_last_ten_minutes_pct']:+.1f}",
        )
    Console(width=140).print(table)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
