"""Reads the machine ten times a second: only what the columns need, and slow sensors seldom."""

import time
from collections.abc import Callable
from pathlib import Path

from backend.monitoring.gpu import GpuMeter
from backend.monitoring.sample import Sample
from backend.monitoring.system_load import SystemLoad

TEMPERATURE_INTERVAL_S = 1.0
"""A chip does not heat up in 100 ms, and asking it costs more than all the rest."""
MEMORY_INTERVAL_S = 0.5
"""A container's share takes a dozen small files to find out; the machine's own is asked always."""
CPU_SENSORS = frozenset(
    {
        *("coretemp", "k10temp", "k8temp", "zenpower", "cpu_thermal", "cpu-thermal"),
        *("soc_thermal", "soc-thermal", "x86_pkg_temp"),
    }
)
"""Names that drivers give to the sensor of a whole CPU."""


def temperature_files(sys: Path = Path("/sys")) -> tuple[Path, ...]:
    """Files with the temperature of each CPU package in thousandths of °C; none without `/sys`.

    Asking psutil would read every sensor of the machine, disks and radios included.
    """
    hwmon = _sensors(sys / "class" / "hwmon", "hwmon*", "name", "temp1_input")
    return hwmon or _sensors(sys / "class" / "thermal", "thermal_zone*", "type", "temp")


def _sensors(root: Path, pattern: str, label: str, value: str) -> tuple[Path, ...]:
    found = []
    for folder in sorted(root.glob(pattern)):
        try:
            name = (folder / label).read_text().strip()
        except OSError:
            continue
        if name in CPU_SENSORS and (folder / value).is_file():
            found.append(folder / value)
    return tuple(found)


class MachineReader:
    """Reads one `Sample`; every call blocks for about as long as its files take to read.

    `memory_pct` takes the place of the machine's memory, a container's, say; it may be slow, and
    is asked every `MEMORY_INTERVAL_S`.
    """

    def __init__(
        self,
        gpu: GpuMeter,
        memory_pct: Callable[[], float] | None = None,
        sys: Path = Path("/sys"),
    ) -> None:
        self._gpu, self._load, self._sys = gpu, SystemLoad(), sys
        self._other_memory_pct = memory_pct
        self._memory_pct, self._memory_at_s = 0.0, -MEMORY_INTERVAL_S
        self._temperature_files: tuple[Path, ...] = ()
        self._temperature_c: float | None = None
        self._temperature_at_s = -TEMPERATURE_INTERVAL_S

    def open(self) -> None:
        """Find out what can be read."""
        self._temperature_files = temperature_files(self._sys)
        self._load.open()
        self._gpu.open()

    def start(self) -> None:
        """Begin to count CPU time: what went before belongs to no sample."""
        self._load.start()

    def read(self) -> Sample:
        """The machine now, its CPU load since the last call or `start`; None just after it."""
        gpu = self._gpu.read()
        heat_c = self._cpu_temperature_c() if gpu.temperature_c is None else gpu.temperature_c
        return Sample(
            at_s=time.time(),
            cpu_pct=self._load.cpu_pct(),
            memory_pct=self._memory_taken_pct(),
            gpu_memory_mb=gpu.memory_mb,
            gpu_util_pct=gpu.util_pct,
            gpu_util_source=gpu.util_source,
            temperature_c=heat_c,
        )

    def close(self) -> None:
        """Let go of files and driver."""
        self._gpu.close()
        self._load.close()

    def _memory_taken_pct(self) -> float:
        if self._other_memory_pct is None:
            return self._load.memory_pct()
        now_s = time.monotonic()
        if now_s - self._memory_at_s >= MEMORY_INTERVAL_S:
            self._memory_at_s = now_s
            self._memory_pct = self._other_memory_pct()
        return self._memory_pct

    def _cpu_temperature_c(self) -> float | None:
        now_s = time.monotonic()
        if self._temperature_files and now_s - self._temperature_at_s >= TEMPERATURE_INTERVAL_S:
            self._temperature_at_s = now_s
            read = [_celsius(file) for file in self._temperature_files]
            self._temperature_c = max((c for c in read if c is not None), default=None)
        return self._temperature_c


def _celsius(file: Path) -> float | None:
    """None from a sensor that sleeps or is gone."""
    try:
        return int(file.read_text()) / 1000
    except (OSError, ValueError):
        return None
