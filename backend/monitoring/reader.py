"""Reads the machine ten times a second: only what the columns need, and slow sensors seldom."""

import time
from collections.abc import Callable
from pathlib import Path

from backend.monitoring.gpu import GpuMeter
from backend.monitoring.sample import Sample
from backend.monitoring.system_load import SystemLoad
from backend.thermometer import CpuThermometer

TEMPERATURE_INTERVAL_S = 1.0
"""A chip does not heat up in 100 ms, and asking it costs more than all the rest."""
MEMORY_INTERVAL_S = 0.5
"""A container's share takes a dozen small files to find out; the machine's own is asked always."""


class MachineReader:
    """Reads one `Sample`; every call blocks for about as long as its files take to read.

    `memory_pct` takes the place of the machine's memory, a container's, say; it may be slow, and
    is asked every `MEMORY_INTERVAL_S`. `sys` stands in for `/sys`.
    """

    def __init__(
        self,
        gpu: GpuMeter,
        memory_pct: Callable[[], float] | None = None,
        sys: Path | None = None,
    ) -> None:
        self._gpu, self._load = gpu, SystemLoad()
        self._other_memory_pct = memory_pct
        self._memory_pct, self._memory_at_s = 0.0, -MEMORY_INTERVAL_S
        self._thermometer, self._has_thermometer = CpuThermometer(sys), False
        self._temperature_c: float | None = None
        self._temperature_at_s = -TEMPERATURE_INTERVAL_S

    def open(self) -> None:
        """Find out what can be read."""
        self._has_thermometer = self._thermometer.open()
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
        if self._has_thermometer and now_s - self._temperature_at_s >= TEMPERATURE_INTERVAL_S:
            self._temperature_at_s = now_s
            self._temperature_c = self._thermometer.temperature_c()
        return self._temperature_c
