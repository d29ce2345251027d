"""Raw readings of the machine: everything that detection looks at, as the system wrote it.

`read_machine` is the only part of detection that touches the machine. A `Readings` goes through
JSON and back, so a machine can be recorded (tests/machines) and detected elsewhere. Whatever is
not there is simply absent; nothing here fails.
"""

import importlib.metadata
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from backend.hardware import windows
from backend.hardware.cgroup import MOUNTS, OWN_GROUPS, cgroup_mounts, limit_files
from backend.nvml import GpuReading, Nvml, NvmlUnavailable

CPUINFO = "/proc/cpuinfo"
CPU_FOLDER = "/sys/devices/system/cpu"
EFFICIENCY_CPUS = ("/sys/devices/cpu_atom/cpus", "/sys/devices/cpu_lowpower/cpus")
_FILES = (
    *(CPUINFO, "/proc/version", "/proc/device-tree/model", f"{CPU_FOLDER}/online"),
    *("/sys/devices/cpu_core/cpus", *EFFICIENCY_CPUS),
)
_GPU_TRACES = (
    *("/proc/driver/nvidia/version", "/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg"),
    "/usr/lib/wsl/lib/libnvidia-ml.so.1",
    r"C:\Windows\System32\nvml.dll",
)
_PCI_FOLDER = Path("/sys/bus/pci/devices")
_NVIDIA, _DISPLAY = "0x10de", "0x03"
_ENVIRONMENT = ("CUDA_VISIBLE_DEVICES", "PROCESSOR_IDENTIFIER")
_SYSCTL = ("hw", "machdep.cpu", "sysctl.proc_translated")
_SYSCTL_KEPT = re.compile(
    r"hw\.(model|memsize|perflevel\d\.(physical|logical)cpu|optional\.\S+)|sysctl\.\S+"
    r"|machdep\.cpu\.(brand_string|vendor|features|leaf7_features)"
)
_COMMAND_TIMEOUT_S = 5.0
_NVML_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Readings:
    """One machine as it describes itself, before anything is concluded from it."""

    system: str
    machine: str
    release: str = ""
    version: str = ""
    processor: str = ""
    """As Python's `platform` names these five."""
    macos_version: str = ""
    model_name: str = ""
    """Of a Mac, from its system_profiler: "MacBook Air"."""
    pointer_bits: int = 64
    """Of this Python: 32 on a 32-bit userland, whatever the kernel is."""
    files: dict[str, str] = field(default_factory=dict)
    """Text of each file of /proc and /sys that is there, by its path."""
    environment: dict[str, str] = field(default_factory=dict)
    sysctl: dict[str, str] = field(default_factory=dict)
    """On macOS, what `sysctl` says of hardware."""
    registry: dict[str, str] = field(default_factory=dict)
    """On Windows, what the registry says of the first processor."""
    windows_cores: tuple[tuple[int, tuple[int, ...]], ...] = ()
    """On Windows, (efficiency class, logical CPUs) of each core; a higher class is stronger."""
    windows_features: tuple[int, ...] = ()
    """On Windows, what `IsProcessorFeaturePresent` says yes to."""
    memory_total_bytes: int = 0
    memory_available_bytes: int = 0
    logical_cores: int | None = None
    physical_cores: int | None = None
    affinity: tuple[int, ...] = ()
    """Logical CPUs this process may run on; empty where the system cannot say."""
    thermal_sensors: tuple[str, ...] = ()
    gpus: tuple[GpuReading, ...] = ()
    nvml_problem: str = ""
    """Why NVML told nothing, in its own words."""
    nvml_package_missing: bool = False
    gpu_traces: tuple[str, ...] = ()
    """What hints at an NVIDIA card where NVML told of none."""
    torch_metadata_version: str = ""
    """Of the installed torch, as its package says; "" if there is none."""
    torch_version_file: str = ""
    """Text of its torch/version.py, which knows the build better than the package does."""


def read_machine() -> Readings:
    """Look at this machine, without torch. Well under a second unless a driver does not answer."""
    memory, nvml = psutil.virtual_memory(), _read_nvml()
    torch_version, torch_file = _read_torch()
    is_mac = sys.platform == "darwin"
    return Readings(
        system=platform.system(),
        machine=platform.machine(),
        release=platform.release(),
        version=platform.version(),
        processor=platform.processor(),
        macos_version=platform.mac_ver()[0],
        model_name=_read_model_name() if is_mac else "",
        pointer_bits=pointer_bits(),
        files=read_files(_FILES) | _read_topology() | read_limits(),
        environment={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        sysctl=_read_sysctl() if is_mac else {},
        registry=windows.read_registry(),
        windows_cores=windows.read_cores(),
        windows_features=windows.read_features(),
        memory_total_bytes=memory.total,
        memory_available_bytes=memory.available,
        logical_cores=psutil.cpu_count(),
        physical_cores=psutil.cpu_count(logical=False),
        affinity=_read_affinity(),
        thermal_sensors=_read_thermal_sensors(),
        gpus=nvml.gpus,
        nvml_problem=nvml.problem,
        nvml_package_missing=nvml.is_package_missing,
        gpu_traces=() if nvml.gpus else tuple(_read_gpu_traces()),
        torch_metadata_version=torch_version,
        torch_version_file=torch_file,
    )


def pointer_bits() -> int:
    """Of this Python."""
    return struct.calcsize("P") * 8


def read_files(paths: Iterable[str]) -> dict[str, str]:
    """Text of each of `paths` that can be read."""
    found = {}
    for path in paths:
        try:
            # Not a `Path`: its parts become names of Python, whose table grew by those that came.
            with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                found[path] = file.read()
        except OSError:  # not there, or not ours to read: then it tells nothing
            continue
    return found


def read_limits() -> dict[str, str]:
    """The files of this process's cgroups, those that say which these are included."""
    groups = read_files((OWN_GROUPS, MOUNTS))
    if MOUNTS in groups:
        groups[MOUNTS] = cgroup_mounts(groups[MOUNTS])
    return groups | read_files(limit_files(groups))


def _read_topology() -> dict[str, str]:
    found: dict[str, str] = {}
    for folder in Path(CPU_FOLDER).glob("cpu[0-9]*"):
        siblings = (f"{folder}/topology/{name}_list" for name in ("core_cpus", "thread_siblings"))
        for path in siblings:  # the second is the name that kernels before 5.2 use
            if told := read_files((path,)):
                found |= told
                break
        found |= read_files((f"{folder}/cpu_capacity",))
    return found


def _read_affinity() -> tuple[int, ...]:
    process = psutil.Process()
    return tuple(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else ()


def _read_thermal_sensors() -> tuple[str, ...]:
    if not hasattr(psutil, "sensors_temperatures"):  # Windows and macOS
        return ()
    return tuple(sorted(psutil.sensors_temperatures()))


@dataclass(slots=True)
class _NvmlAnswer:
    gpus: tuple[GpuReading, ...] = ()
    problem: str = ""
    is_package_missing: bool = False


def _read_nvml() -> _NvmlAnswer:
    """Ask the driver, in a thread of its own: one that hangs must not hold up the start."""
    answer = _NvmlAnswer(problem="the driver did not answer")
    asked = threading.Thread(target=_ask_nvml, args=(answer,), daemon=True)
    asked.start()
    asked.join(_NVML_TIMEOUT_S)
    return answer


def _ask_nvml(answer: _NvmlAnswer) -> None:
    try:
        nvml = Nvml.open()
        try:
            answer.gpus, answer.problem = tuple(nvml.read()), ""
        finally:
            nvml.close()
    except NvmlUnavailable as unavailable:
        answer.problem, answer.is_package_missing = str(unavailable), unavailable.is_package_missing


def _read_gpu_traces() -> Iterable[str]:
    yield from (path for path in _GPU_TRACES if Path(path).exists())
    if found := shutil.which("nvidia-smi"):
        yield found
    for device in sorted(_PCI_FOLDER.glob("*")):
        told = read_files((f"{device}/vendor", f"{device}/class", f"{device}/device"))
        words = [text.strip() for text in told.values()]
        if words[:1] == [_NVIDIA] and words[1].startswith(_DISPLAY):
            yield f"pci {device.name} {' '.join(words)}"


def _read_torch() -> tuple[str, str]:
    try:
        package = importlib.metadata.distribution("torch")
    except importlib.metadata.PackageNotFoundError:
        return "", ""
    path = str(package.locate_file("torch/version.py"))
    return package.version, read_files((path,)).get(path, "")


def _read_sysctl() -> dict[str, str]:
    told = {}
    for line in _output("/usr/sbin/sysctl", *_SYSCTL).splitlines():
        key, _, value = line.partition(": ")
        if _SYSCTL_KEPT.fullmatch(key):
            told[key] = value
    return told


def _read_model_name() -> str:
    """What Apple calls this Mac: its identifier does not say which ones have no fan."""
    text = _output("/usr/sbin/system_profiler", "SPHardwareDataType")
    match = re.search(r"Model Name: (.*)", text)
    return match[1].strip() if match else ""


def _output(*command: str) -> str:
    """What a command prints; "" if it is not there, or takes too long. Its exit code is no matter:
    sysctl tells the rest when one key is unknown.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
