"""Whether torch.compile is tried: the changelog's logic and its log lines, word for word. Pure."""

from backend.core import MIB, Choice
from backend.errors import BadSetting
from backend.hardware.machine import GIB, Hardware
from backend.hardware.need import CheckpointShape
from backend.hardware.placement import Placement
from backend.hardware.quantization import is_small, kind_of
from backend.settings import Settings

LogLine = tuple[str, str]
"""(level, text)."""

WSL_LINE = "🚀 WSL2 + NVIDIA GPU detected - enabling torch.compile with Triton (20-30% speedup!)"
NATIVE_LINE = "🚀 Native Linux/macOS detected - enabling torch.compile with Triton"
WINDOWS_LINE = (
    "⚠️ Windows detected: torch.compile disabled (Triton not available, use WSL2 for 20-30% speedup)"
)
TRITON_CAPABILITY = (7, 0)
"""Volta: Triton refuses older cards."""
LEAST_LIMIT_BYTES = 4 * GIB
COMPILER_BYTES = 1 * GIB
"""What compiling takes beside a worker that speaks: torch's compiler alone is 336 MB resident once
imported (measured), its C++ compiler as much again for a large kernel."""


def gate(hardware: Hardware, device: str, settings: Settings) -> tuple[Choice[bool], LogLine]:
    """By platform: Triton is there on Linux, WSL2 and macOS, and not on native Windows.

    Raises `BadSetting` where the settings ask for both.
    """
    if settings.force_torch_compile and settings.torch_compile == "off":
        raise BadSetting(
            "FORCE_TORCH_COMPILE=1 and SHOAL_TORCH_COMPILE=off contradict each other: unset one."
        )
    if settings.force_torch_compile:
        line = ("INFO", "FORCE_TORCH_COMPILE is set: torch.compile will be tried.")
        return Choice(True, "FORCE_TORCH_COMPILE asks for it", "user"), line
    if settings.torch_compile == "off":
        line = ("INFO", "SHOAL_TORCH_COMPILE=off: torch.compile will not be tried.")
        return Choice(False, "SHOAL_TORCH_COMPILE=off asks for it", "user"), line
    if hardware.is_wsl and kind_of(device) == "cuda":
        return Choice(True, "WSL2 with an NVIDIA GPU has Triton", "machine"), ("INFO", WSL_LINE)
    if hardware.system != "Windows":
        reason = f"{hardware.system} has Triton or Inductor's own code for {kind_of(device)}"
        return Choice(True, reason, "machine"), ("INFO", NATIVE_LINE)
    reason = "Triton is not available on native Windows; WSL2 has it"
    return Choice(False, reason, "machine"), ("WARNING", WINDOWS_LINE)


def gate_for(
    hardware: Hardware, placement: Placement, settings: Settings, shape: CheckpointShape
) -> tuple[Choice[bool], LogLine]:
    """`gate`, unless compiling beside the worker would cost this CPU more than it gains."""
    choice, line = gate(hardware, placement.device.value, settings)
    if not choice.value or choice.source == "user":
        return choice, line
    against = _against(hardware, placement, settings, shape)
    if against is None:
        return choice, line
    return against, ("INFO", f"torch.compile disabled: {against.reason}.")


def _against(
    hardware: Hardware, placement: Placement, settings: Settings, shape: CheckpointShape
) -> Choice[bool] | None:
    """Why it is not tried although the platform could; None where nothing speaks against it."""
    if settings.engine == "fish-speech":
        return Choice(False, "the published package speaks as it was published", "machine")
    if placement.gpu is not None:
        capability = placement.gpu.capability
        if capability is None or capability >= TRITON_CAPABILITY:
            return None
        dotted, least = (".".join(map(str, each)) for each in (capability, TRITON_CAPABILITY))
        reason = f"Triton needs compute capability {least}, this card has {dotted}"
        return Choice(False, reason, "machine")
    limit = hardware.memory.limit_bytes
    if limit < LEAST_LIMIT_BYTES:
        reason = f"a memory limit of {limit / GIB:.1f} GiB leaves no room for a compiler"
        return Choice(False, reason, "machine")
    left = limit - placement.peak_bytes
    if left < COMPILER_BYTES:
        reason = f"the compiler wants {COMPILER_BYTES // MIB} MB, and {left // MIB} MB are left"
        return Choice(False, reason, "machine")
    if placement.device.value == "cpu" and is_small(shape):
        reason = f"{shape.name} is small: the cores would compile for longer than they would save"
        return Choice(False, reason, "checkpoint")
    return None
