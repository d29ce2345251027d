"""What the machine is doing now: its load, its temperatures, its free memory.

What takes long to read, or may never answer, is read by threads of their own; a request looks at
their last readings. A reading holds what was free together with what the worker had then: however
old it is, it errs only by what *other* programs took since, never by what was promised meanwhile.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import psutil

from backend.core import MIB, EngineInfo, Plan
from backend.hardware.detect import read_memory
from backend.hardware.machine import Hardware, Memory
from backend.hardware.memory import MemoryNow
from backend.hardware.thermal import board_throttles_at_c
from backend.nvml import Card, GpuReading, NvmlUnavailable, WatchedCard
from backend.thermometer import CpuThermometer, Heat
from backend.watch import Watch

MEMORY_INTERVAL_S = 0.5
"""A container's share takes a dozen small files to find out."""
HEAT_INTERVAL_S = 5.0 if sys.platform == "darwin" else 1.0
"""On macOS a command is run for it, and what it tells follows slowly."""
HEAT_STALE_S = 15.0
"""An older temperature is none: what tells it hangs."""
_CPU_SAMPLE_S = 0.1

Worker = Callable[[], tuple[EngineInfo | None, int]]
"""What the worker has loaded, None unless it is ready, and the bytes it says it holds of a GPU."""


@dataclass(frozen=True, slots=True)
class _Taken:
    """What was free at one moment, and what a worker had of the rest."""

    free_bytes: int
    info: EngineInfo | None
    worker_bytes: int = 0


class MachineUsage:
    """What a plan's device and the machine around it have left; no call of it waits for a driver.

    Until `start`, and until a driver answers, it tells what `hardware` had when it was detected.
    """

    def __init__(
        self,
        plan: Plan,
        hardware: Hardware,
        worker: Worker,
        pid: Callable[[], int | None] = lambda: None,
    ) -> None:
        """`pid` is the worker's from its start on, when it has loaded nothing yet."""
        self._worker, self._pid, uuid = worker, pid, plan.device_uuid
        self._found = hardware.memory, _Taken(hardware.memory.available_bytes, None)
        self._found_on_card = _Taken(
            next((gpu.free_bytes for gpu in hardware.gpus if gpu.uuid == uuid), 0), None
        )
        self._memory = Watch("memory", self._read_memory, MEMORY_INTERVAL_S)
        self.card = WatchedCard(Card(uuid), worker) if uuid else None
        """The GPU that the plan chose; None without one."""
        self._thermometer = CpuThermometer()
        self._board_throttles_at_c = board_throttles_at_c(hardware.board)
        self._heat = Watch("heat", self._read_heat, HEAT_INTERVAL_S)

    def start(self) -> None:
        """Begin to read."""
        self._memory.start()
        if self.card is not None:
            self.card.start()
        elif self._thermometer.open():
            self._heat.start()

    def close(self) -> None:
        """Read no more."""
        self._memory.close()
        self._heat.close()
        if self.card is not None:
            self.card.close()

    def memory(self) -> MemoryNow:
        """Memory of the device that computes."""
        was = self._on_card() if self.card is not None else self._last()[1]
        info, _ = self._worker()
        idle_bytes = int(info.memory_mb * MIB) if info else 0
        if info is was.info:
            return MemoryNow(was.free_bytes, was.worker_bytes, idle_bytes)
        # A worker has started or ended since: it has taken, or given back, its own part of it.
        free_bytes = was.free_bytes + was.worker_bytes - idle_bytes
        return MemoryNow(max(0, free_bytes), idle_bytes, idle_bytes)

    def heat(self) -> Heat | None:
        """Of what computes: the GPU, else the CPU; None where nobody tells."""
        if self.card is not None:
            card = self.gpu()
            return Heat(card.name, card.temperature_c, card.throttles_at_c) if card else None
        look = self._heat.latest()
        if look is None or self._heat.age_s(look) > HEAT_STALE_S:
            return None
        return look.value

    def memory_pct(self) -> float:
        """Share of the memory that this process may have which is taken, 0 to 100."""
        return _taken_pct(self._last()[0])

    def resources(self) -> dict[str, Any]:
        """Load, memory and temperatures, percentages of 0 to 100. Blocks, for the CPU's load 0.1 s,
        and reads main memory anew."""
        busy = psutil.cpu_percent(_CPU_SAMPLE_S)
        return self._resources(busy, read_memory()) | {"temperatures_c": temperatures_c()}

    def load(self) -> dict[str, Any]:
        """The same at once: no temperatures, which some machines tell slowly, and the CPU's load
        since the last call."""
        return self._resources(psutil.cpu_percent(None), self._last()[0])

    def _resources(self, cpu_pct: float, memory: Memory) -> dict[str, Any]:
        gpu = self.gpu()
        return {
            "cpu_percent": cpu_pct,
            "memory_percent": _taken_pct(memory),
            "memory_total_mb": memory.total_bytes // MIB,
            "memory_limit_mb": memory.limit_bytes // MIB,
            "memory_available_mb": memory.available_bytes // MIB,
            "gpu_memory_total_mb": gpu.total_bytes // MIB if gpu else None,
            "gpu_memory_free_mb": gpu.free_bytes // MIB if gpu else None,
        }

    def gpu(self) -> GpuReading | None:
        """The GPU that the plan chose; None without one, or where the driver is silent."""
        try:
            return self.card.read() if self.card is not None else None
        except NvmlUnavailable:
            return None

    def _on_card(self) -> _Taken:
        assert self.card is not None
        last = self.card.last()
        if last is None:
            return self._found_on_card
        (info, held_bytes), card = last
        return _Taken(card.free_bytes, info, held_bytes)

    def _last(self) -> tuple[Memory, _Taken]:
        look = self._memory.latest()
        return look.value if look is not None else self._found

    def _read_heat(self) -> Heat | None:
        """In the watch's thread."""
        heat, point_c = self._thermometer.nearest(), self._board_throttles_at_c
        return replace(heat, throttles_at_c=point_c) if heat and point_c else heat

    def _read_memory(self) -> tuple[Memory, _Taken]:
        """In the watch's thread."""
        info, _ = self._worker()
        memory, pid = read_memory(), self._pid()
        return memory, _Taken(memory.available_bytes, info, resident_bytes(pid))


def memory_pct() -> float:
    """Share of the memory that this process may have which is taken now, 0 to 100."""
    return _taken_pct(read_memory())


def _taken_pct(memory: Memory) -> float:
    return round(100 * (1 - memory.available_bytes / memory.limit_bytes), 1)


def resident_bytes(pid: int | None) -> int:
    """Resident memory of the worker; 0 where there is none."""
    try:
        return 0 if pid is None else int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0  # it has just ended


def temperatures_c() -> dict[str, float]:
    """The highest reading of each sensor; empty where the system tells none."""
    read = getattr(psutil, "sensors_temperatures", None)
    if read is None:
        return {}
    return {name: max(one.current for one in found) for name, found in read().items() if found}
