"""How many bits the weights get, and why. Pure: the work is the worker's."""

from typing import Literal

from backend.core import Choice, Quantization
from backend.errors import BadSetting
from backend.hardware.machine import GIB, Cpu, Memory
from backend.hardware.need import CheckpointShape
from backend.hardware.tiers import Tier
from backend.settings import Settings

MB = 1_000_000
SMALL_CHECKPOINT_BYTES = 256 * MB
"""Weights of a checkpoint in fp32 up to which quantization saves nobody any memory."""
_BYTE_PRODUCTS = {"avx2", "avx512", "vnni", "dotprod"}
"""Features with any of which a CPU multiplies bytes many at a time. With them the kernels in C made
5 to 10 times the frames of the shipped voice in int8 that they made in fp32, without 0.7 times
(MDs/BENCHMARKS.md)."""
SMALL_CALIBRATION_SAMPLES = 16
"""Texts that a small checkpoint's weights are fitted to, in a few seconds for which its first start
waits: 32 take half as long again and keep no more of the shipped voice's codes (MDs/LOG.md)."""
_FITTING_BYTES = 512 * MB
"""Free memory with which it is: the shipped voice's worker then takes 392 MB at its first start,
and 336 without."""
LOW_MEMORY_BYTES = 6 * GIB
"""The changelog's: with less memory, CPUs get INT4."""
STRONGER: dict[Quantization, tuple[Quantization, ...]] = {
    "none": ("int8", "int4"),
    "int8": ("int4",),
    "int4": (),
}
"""What may be tried where the tier's own choice does not fit, gentlest first."""
INT4_WARNING = (
    "⚠️ Less than 6 GB of memory: INT4 quantization instead of INT8, which can be heard; "
    "QUANTIZATION=int8 keeps INT8."
)


def is_small(shape: CheckpointShape) -> bool:
    """Whether the whole checkpoint in full precision is less than anybody would save."""
    return shape.weight_bytes("fp32", "none") <= SMALL_CHECKPOINT_BYTES


def small_calibration_samples(memory: Memory) -> int:
    """Texts for a small checkpoint's first start on a CPU; none where memory is short just now, and
    its weights are rounded as they are until a start finds more."""
    return SMALL_CALIBRATION_SAMPLES if memory.available_bytes >= _FITTING_BYTES else 0


def kind_of(device: str) -> str:
    """cuda of cuda:1."""
    return device.partition(":")[0]


class QuantizationStrategy:
    """Chooses between no quantization, INT8 and INT4 by tier, memory limit and checkpoint."""

    def choose(
        self,
        tier: Tier,
        cpu: Cpu,
        memory: Memory,
        device: str,
        settings: Settings,
        shape: CheckpointShape,
    ) -> Choice[Quantization]:
        """The storage of the weights on `device`; `BadSetting` if the engine cannot.

        Every device can have each: where torch has no kernel, the worker unpacks for each call.
        The memory *limit* counts, not what is free just now: a plan is for as long as it runs.
        """
        if settings.quantization != "auto":
            _refuse_impossible(settings)
            return Choice(settings.quantization, "QUANTIZATION asks for it", "user")
        if settings.engine == "fish-speech":
            return Choice("none", "the published package keeps its weights as they are", "machine")
        wanted, reason, source = self._by_memory(tier, memory, device)
        if wanted != "none" and is_small(shape):
            return _of_small(shape, tier, wanted, _why_no_kernels(cpu, device, settings, shape))
        return Choice(wanted, reason, source)

    def _by_memory(
        self, tier: Tier, memory: Memory, device: str
    ) -> tuple[Quantization, str, Literal["tier", "machine"]]:
        wanted = tier.weights.quantization
        if kind_of(device) == "cpu" and memory.limit_bytes < LOW_MEMORY_BYTES:
            limit = f"{memory.limit_bytes / GIB:.1f} GiB"
            return "int4", f"a memory limit of {limit} is under 6 GiB", "machine"
        if wanted == "none":
            return wanted, f"{tier.name} has memory enough for full quality", "tier"
        what = "CPU-only devices always use INT8" if kind_of(device) == "cpu" else tier.name
        return wanted, f"{what}: a quarter of the weights' bytes in fp32", "tier"


def _of_small(
    shape: CheckpointShape, tier: Tier, wanted: Quantization, without_kernels: str
) -> Choice[Quantization]:
    """Of a checkpoint of which nobody needs the bytes that `wanted` saves: what is fastest.

    Never int4, which changes more codes and is hardly faster.
    """
    if not without_kernels:
        reason = f"{shape.name} is small: int8 is for speed, kernels in C multiply bytes faster"
        return Choice("int8", reason, "checkpoint")
    saved = shape.weight_bytes("fp32", "none") - shape.weight_bytes("fp32", wanted)
    saves = f"{tier.name} wants {wanted}, which would save {saved / MB:.0f} MB here"
    return Choice("none", f"{saves} and no time: {without_kernels}", "checkpoint")


def _why_no_kernels(cpu: Cpu, device: str, settings: Settings, shape: CheckpointShape) -> str:
    """Why nothing multiplies bytes faster than floats on `device`; "" where kernels in C do."""
    if kind_of(device) != "cpu":
        return "kernels for bytes are a CPU's"
    if settings.torch_compile == "off":
        return "SHOAL_TORCH_COMPILE=off leaves kernels in C out"
    if not shape.has_kernels:
        return "there is no C compiler"
    if not _BYTE_PRODUCTS & cpu.features:
        return "this CPU multiplies bytes no faster than floats"
    return ""


def _refuse_impossible(settings: Settings) -> None:
    if settings.engine == "fish-speech" and settings.quantization != "none":
        raise BadSetting(
            f"QUANTIZATION={settings.quantization} needs ENGINE=shoal: "
            "fish-speech keeps its weights as they are."
        )
