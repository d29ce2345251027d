"""Which of the cards this process may use, and what stands in the way of the others."""

import re
from collections.abc import Sequence

from backend.hardware.machine import Gpu
from backend.hardware.readings import Readings
from backend.nvml import GpuReading

_HARMLESS_TRACES = ("/dev/dxg",)
"""On WSL2 it is there for any graphics card."""
_FIXES = (
    ("version mismatch", "the driver was updated while in use: reboot"),
    ("Driver Not Loaded", "load it with: sudo modprobe nvidia, or install it and reboot"),
    ("Insufficient Permissions", "let this user read and write /dev/nvidia*"),
    ("GPU is lost", "the card fell off the bus: reboot, then look at its power and cooling"),
    ("did not answer", "see whether nvidia-smi answers; if not, reboot"),
)
"""By what NVML says."""


def visible_gpus(cards: Sequence[GpuReading], visible: str | None) -> tuple[Gpu, ...]:
    """The cards that `CUDA_VISIBLE_DEVICES` leaves, in the order of the PCI bus; None leaves all.

    As CUDA reads it: the list ends at the first entry that names no card, and one that names a card
    twice names none. Numbers count as NVML and nvidia-smi count; CUDA itself counts the fastest
    card first among unlike ones, unless CUDA_DEVICE_ORDER=PCI_BUS_ID.
    """
    chosen = range(len(cards)) if visible is None else _chosen(cards, visible)
    return tuple(_gpu(cards[place]) for place in sorted(chosen))


def gpu_problem(readings: Readings, gpus: Sequence[Gpu]) -> str:
    """Why no GPU can be used although one may be there, with the fix; "" if there is none."""
    if gpus:
        return ""
    if readings.gpus:
        return _hidden(readings.gpus, readings.environment.get("CUDA_VISIBLE_DEVICES", ""))
    if not set(readings.gpu_traces) - set(_HARMLESS_TRACES):
        return ""  # nothing hints at a card: no reason to speak of one
    if readings.nvml_package_missing:
        return "⚠️ pynvml not installed - Install with: pip install nvidia-ml-py"
    if not readings.nvml_problem:
        return ""  # the driver answers that there is no card for this process
    return (
        "⚠️ NVML initialization failed - GPU utilization will show 0%: "
        f"{readings.nvml_problem.rstrip('.')}: {_fix(readings)}"
    )


def _gpu(card: GpuReading) -> Gpu:
    return Gpu(
        index=card.index,
        uuid=card.uuid,
        name=card.name,
        total_bytes=card.total_bytes,
        free_bytes=card.free_bytes,
        capability=card.capability,
        driver=card.driver,
    )


def _chosen(cards: Sequence[GpuReading], visible: str) -> list[int]:
    chosen: list[int] = []
    for entry in visible.split(","):
        places = _named(cards, entry.strip())
        if len(places) != 1:  # unknown, or a beginning of a UUID that several share
            break
        chosen += places
    return chosen if len(set(chosen)) == len(chosen) else []


def _named(cards: Sequence[GpuReading], entry: str) -> list[int]:
    if entry.startswith("GPU-"):
        return [place for place, card in enumerate(cards) if card.uuid.startswith(entry)]
    number = re.match(r"\+?\d+", entry)  # CUDA stops reading where digits end: "1x" is 1
    return [place for place, card in enumerate(cards) if number and card.index == int(number[0])]


def _hidden(cards: Sequence[GpuReading], visible: str) -> str:
    there = ", ".join(f"{card.index} ({card.name})" for card in cards)
    return f"CUDA_VISIBLE_DEVICES={visible!r} hides every GPU: unset it, or name one of {there}"


def _fix(readings: Readings) -> str:
    for words, fix in _FIXES:
        if words in readings.nvml_problem:
            return fix
    if "Library Not Found" not in readings.nvml_problem:
        return "see what nvidia-smi says"
    if "microsoft" in readings.files.get("/proc/version", "").lower():
        return "install NVIDIA's driver on Windows, not in WSL, then: wsl --shutdown"
    if any(trace.startswith("/proc/driver/nvidia") for trace in readings.gpu_traces):
        return "start the container with --gpus all; outside of one, install the driver again"
    return "install NVIDIA's driver (https://www.nvidia.com/drivers) and reboot"
