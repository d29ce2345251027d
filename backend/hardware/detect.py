"""Raw readings in, `Hardware` out; and the memory that is free, which is wanted again and again."""

import re
from typing import Literal

import psutil

from backend.hardware.cgroup import memory_of
from backend.hardware.cpu import board, detect_cpu
from backend.hardware.gpu import gpu_problem, visible_gpus
from backend.hardware.machine import Hardware, Memory
from backend.hardware.readings import Readings, pointer_bits, read_limits
from backend.hardware.torch_build import installed_version

_LEAST_MACOS_FOR_MPS = (12, 3)


def detect(readings: Readings) -> Hardware:
    """What machine this is. Pure: the same readings give the same hardware, anywhere."""
    gpus = visible_gpus(readings.gpus, readings.environment.get("CUDA_VISIBLE_DEVICES"))
    return Hardware(
        system=_system(readings),
        machine=readings.machine,
        board=board(readings),
        is_wsl=_is_wsl(readings),
        cpu=detect_cpu(readings),
        memory=memory_of(
            readings.files,
            readings.memory_total_bytes,
            readings.memory_available_bytes,
            readings.pointer_bits,
        ),
        gpus=gpus,
        gpu_problem=gpu_problem(readings, gpus),
        has_mps=_has_mps(readings),
        torch_version=installed_version(
            readings.torch_metadata_version, readings.torch_version_file, readings.system
        ),
        thermal_sensors=readings.thermal_sensors,
    )


def read_memory() -> Memory:
    """Main memory now. Takes about a millisecond where a container has a dozen files to say it."""
    memory = psutil.virtual_memory()
    return memory_of(read_limits(), memory.total, memory.available, pointer_bits())


def _system(readings: Readings) -> Literal["Linux", "Darwin", "Windows"]:
    if readings.system == "Darwin":
        return "Darwin"
    return "Windows" if readings.system == "Windows" else "Linux"  # a BSD is treated like Linux


def _is_wsl(readings: Readings) -> bool:
    version = readings.files.get("/proc/version", "").lower()
    return "microsoft" in version or "wsl" in version


def _has_mps(readings: Readings) -> bool:
    """Whether torch can use the GPU of Apple silicon; under Rosetta the machine is x86_64."""
    if readings.system != "Darwin" or readings.machine != "arm64":
        return False
    version = tuple(int(part) for part in re.findall(r"\d+", readings.macos_version)[:2])
    return version >= _LEAST_MACOS_FOR_MPS
