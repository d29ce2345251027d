"""Whether torch.compile is tried: the changelog's logic and its log lines, word for word. Pure."""

from backend.core import Choice
from backend.errors import BadSetting
from backend.hardware.machine import Hardware
from backend.hardware.placement import Placement
from backend.hardware.quantization import kind_of
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
        kind = kind_of(device)
        reason = f"{hardware.system} has Triton"
        if kind != "cuda":
            reason = f"{hardware.system} may; there is nothing to compile for {kind} yet"
        return Choice(True, reason, "machine"), ("INFO", NATIVE_LINE)
    reason = "Triton is not available on native Windows; WSL2 has it"
    return Choice(False, reason, "machine"), ("WARNING", WINDOWS_LINE)


def gate_for(
    hardware: Hardware, placement: Placement, settings: Settings
) -> tuple[Choice[bool], LogLine]:
    """`gate`, but a CPU's kernels are in C and need no Triton, and Triton refuses old cards."""
    choice, line = gate(hardware, placement.device.value, settings)
    if choice.source == "user":
        return choice, line
    if kind_of(placement.device.value) == "cpu" and settings.engine == "shoal":
        reason = "a C compiler makes this CPU's kernels in seconds, where there is one"
        return Choice(True, reason, "machine"), line
    if not choice.value:
        return choice, line
    against = _against(placement, settings)
    if against is None:
        return choice, line
    return against, ("INFO", f"torch.compile disabled: {against.reason}.")


def _against(placement: Placement, settings: Settings) -> Choice[bool] | None:
    """Why it is not tried although the platform could; None where nothing speaks against it."""
    if settings.engine == "fish-speech":
        return Choice(False, "the published package speaks as it was published", "machine")
    if placement.gpu is None:
        return None
    capability = placement.gpu.capability
    if capability is None or capability >= TRITON_CAPABILITY:
        return None
    dotted, least = (".".join(map(str, each)) for each in (capability, TRITON_CAPABILITY))
    reason = f"Triton needs compute capability {least}, this card has {dotted}"
    return Choice(False, reason, "machine")
