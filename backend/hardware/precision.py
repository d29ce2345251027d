"""In which type a checkpoint computes, and why. Pure."""

from typing import get_args

from backend.core import Choice
from backend.errors import BadSetting
from backend.hardware.machine import Cpu, Gpu
from backend.hardware.need import CheckpointShape
from backend.hardware.quantization import is_small
from backend.hardware.tiers import Precision, Tier
from backend.settings import Settings

BF16_CAPABILITY = (8, 0)
"""Ampere; Turing, Volta and older have no bfloat16."""


def choose_precision(
    tier: Tier, cpu: Cpu, gpu: Gpu | None, device: str, settings: Settings, shape: CheckpointShape
) -> Choice[str]:
    """The type of weights and activations on `device`; `BadSetting` if the user's cannot be had."""
    if settings.precision != "auto":
        _refuse_impossible(settings.precision, gpu, device)
        return Choice(settings.precision, "PRECISION asks for it", "user")
    if gpu is not None:
        return _on_gpu(tier, gpu)
    if device == "mps":
        return Choice("fp32", "16-bit kernels on MPS are incomplete")
    if "bf16" not in cpu.features:
        return Choice("fp32", "this CPU does not compute in bf16")
    if is_small(shape):
        return Choice("fp32", f"{shape.name} is small: bf16 would save too little", "checkpoint")
    return Choice("bf16", "this CPU computes in bf16, at half the bytes", "machine")


def has_bf16(gpu: Gpu) -> bool:
    """Whether the card computes in bfloat16; not where the driver does not tell its generation."""
    return gpu.capability is not None and gpu.capability >= BF16_CAPABILITY


def _on_gpu(tier: Tier, gpu: Gpu) -> Choice[str]:
    wanted = tier.weights.precision
    if wanted != "bf16":
        return Choice(wanted, f"the row of {tier.card or tier.name}: half the bytes of fp32")
    if not has_bf16(gpu):
        return Choice("fp16", f"{_generation(gpu)} has no bf16", "machine")
    return Choice(wanted, f"{_generation(gpu)} has bf16: half the bytes, the range of fp32")


def _refuse_impossible(wanted: str, gpu: Gpu | None, device: str) -> None:
    if gpu is not None and wanted == "bf16" and not has_bf16(gpu):
        raise BadSetting(
            f"PRECISION=bf16 cannot be had on {gpu.name} ({_generation(gpu)} has no bf16): "
            "use fp16, fp32 or auto."
        )
    if device == "cpu" and wanted == "fp16":
        others = ", ".join(name for name in get_args(Precision) if name != "fp16")
        raise BadSetting(f"PRECISION=fp16 cannot be had on a CPU: use {others} or auto.")


def _generation(gpu: Gpu) -> str:
    if gpu.capability is None:
        return "a card of unknown generation"
    return f"compute capability {gpu.capability[0]}.{gpu.capability[1]}"
