"""What a plan says about itself: response notes and lines for the log. Pure."""

from backend.core import Choice
from backend.hardware.machine import Hardware
from backend.hardware.placement import Placement
from backend.hardware.quantization import INT4_WARNING, kind_of
from backend.hardware.torch_build import torch_mismatch, torch_refuses

LogLine = tuple[str, str]
"""(level, text)."""

_HOW = {
    "cuda": "GPU-accelerated",
    "mps": "GPU-accelerated (Metal)",
    "cpu": "CPU-only",
}
_COMPILED = {
    "cuda": "torch.compile (Triton)",
    "mps": "torch.compile (Metal)",
    "cpu": "kernels in C",
}
_USE_WSL = " (torch.compile disabled - use WSL2 for 20-30% speedup)"


def response_notes(
    hardware: Hardware, placement: Placement, compiled: Choice[bool]
) -> tuple[str, ...]:
    """The changelog's sentence on this configuration, and what else a client should know."""
    kind, quantization = kind_of(placement.device.value), placement.quantization.value
    stored = "no" if quantization == "none" else quantization.upper()
    what = f"{_HOW[kind]} with {placement.precision.value.upper()} precision, {stored} quantization"
    if compiled.value:
        what += f" + {_COMPILED[kind]}"
    elif hardware.system == "Windows" and compiled.source != "user":
        what += _USE_WSL
    else:
        what += " (torch.compile disabled)"
    notes = [what]
    if _is_short_of_memory(placement):
        notes.append(f"INT4 because {placement.quantization.reason}; it can be heard.")
    if placement.tier.cpu.thermal_throttle_pct is not None:
        pct = placement.tier.cpu.thermal_throttle_pct
        notes.append(f"No fan: above {pct:.0f} % CPU this machine is expected to throttle.")
    if kind == "cpu" and hardware.gpus and placement.device.source != "user":
        notes.append(f"The GPU is not used: {placement.device.reason}.")
    return tuple(notes)


def log_lines(
    hardware: Hardware, placement: Placement, compile_line: LogLine, intent: str
) -> tuple[LogLine, ...]:
    """What to log once at start; every warning comes with its fix."""
    lines = [compile_line]
    if mismatch := torch_mismatch(hardware):
        lines.append(("WARNING", mismatch))
    else:
        refused = ((gpu, torch_refuses(hardware.torch_version, gpu)) for gpu in hardware.gpus)
        lines += [
            ("WARNING", f"⚠️ cuda:{gpu.index} is not used: {why}") for gpu, why in refused if why
        ]
    if hardware.gpu_problem:
        lines.append(("WARNING", hardware.gpu_problem))
    lines += [("WARNING", f"⚠️ Passed over: {shortage}") for shortage in placement.passed_over]
    if _is_short_of_memory(placement):
        lines.append(("WARNING", INT4_WARNING))
    if intent:
        lines.append(("INFO", intent))
    return tuple(lines)


def _is_short_of_memory(placement: Placement) -> bool:
    quantization = placement.quantization
    return quantization.value == "int4" and quantization.source == "machine"
