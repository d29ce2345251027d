"""What the machine is doing now: its load, its temperatures, its free memory. Every call blocks."""

import asyncio
import contextlib
import os
from typing import Any

import psutil
from loguru import logger

from backend.core import MIB, EngineInfo, Plan
from backend.hardware.detect import read_gpus, read_memory
from backend.hardware.machine import Gpu, Memory
from backend.hardware.memory import MemoryNow
from backend.nvml import Nvml, NvmlUnavailable

_CPU_SAMPLE_S = 0.1
_DRIVER_S = 0.5
"""Longest that a health check waits for the GPU's driver."""


class LiveMachine:
    """Reads what a plan's device and the machine around it have left."""

    def __init__(self, plan: Plan) -> None:
        self._uuid = plan.device_uuid
        self._nvml: Nvml | None = None

    def close(self) -> None:
        """Disconnect from the driver."""
        if self._nvml is not None:
            self._nvml.close()
            self._nvml = None

    def memory(self, info: EngineInfo | None, device_bytes: int) -> MemoryNow:
        """Memory of the device that computes; `device_bytes` is what the worker says it holds of a
        GPU. Quick enough for every request."""
        gpu, idle_bytes = self.gpu(), int(info.memory_mb * MIB) if info else 0
        if gpu is not None:
            return MemoryNow(gpu.free_bytes, device_bytes, idle_bytes)
        return MemoryNow(read_memory().available_bytes, resident_bytes(info), idle_bytes)

    def gpu(self) -> Gpu | None:
        """The GPU that the plan chose, now; None without one, or where the driver is silent."""
        if not self._uuid:
            return None
        try:
            self._nvml = self._nvml or Nvml.open()
            gpus = read_gpus(self._nvml, os.environ.get("CUDA_VISIBLE_DEVICES"))
        except NvmlUnavailable as error:
            logger.debug("NVML does not answer: {}", error)
            return None
        return next((gpu for gpu in gpus if gpu.uuid == self._uuid), None)

    def resources(self) -> dict[str, Any]:
        """Load, memory and temperatures, percentages of 0 to 100; waits 0.1 s for the CPU's."""
        busy = psutil.cpu_percent(_CPU_SAMPLE_S)
        return _resources(busy, self.gpu()) | {"temperatures_c": temperatures_c()}

    async def load(self) -> dict[str, Any]:
        """The same at once: no temperatures, which some machines tell slowly, the CPU's load since
        the last call, and nothing of a GPU whose driver hangs."""
        gpu = None
        if self._uuid:
            with contextlib.suppress(TimeoutError):
                gpu = await asyncio.wait_for(asyncio.to_thread(self.gpu), _DRIVER_S)
        return _resources(psutil.cpu_percent(None), gpu)


def _resources(cpu_pct: float, gpu: Gpu | None) -> dict[str, Any]:
    memory = read_memory()
    return {
        "cpu_percent": cpu_pct,
        "memory_percent": _taken_pct(memory),
        "memory_total_mb": memory.total_bytes // MIB,
        "memory_limit_mb": memory.limit_bytes // MIB,
        "memory_available_mb": memory.available_bytes // MIB,
        "gpu_memory_total_mb": gpu.total_bytes // MIB if gpu else None,
        "gpu_memory_free_mb": gpu.free_bytes // MIB if gpu else None,
    }


def memory_pct() -> float:
    """Share of the memory that this process may have which is taken, 0 to 100."""
    return _taken_pct(read_memory())


def _taken_pct(memory: Memory) -> float:
    return round(100 * (1 - memory.available_bytes / memory.limit_bytes), 1)


def resident_bytes(info: EngineInfo | None) -> int:
    """Resident memory of the worker; 0 where there is none."""
    try:
        return int(psutil.Process(info.pid).memory_info().rss) if info else 0
    except psutil.Error:
        return 0  # it has just ended


def temperatures_c() -> dict[str, float]:
    """The highest reading of each sensor; empty where the system tells none."""
    read = getattr(psutil, "sensors_temperatures", None)
    if read is None:
        return {}
    return {name: max(one.current for one in found) for name, found in read().items() if found}
