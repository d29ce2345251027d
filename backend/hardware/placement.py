"""On which device a checkpoint fits, and how it is stored there. Pure.

Devices are tried in order of preference as their tier wants them; then again with fewer bits; then
the checkpoint is refused, with what would work.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import get_args

from backend.core import MIB, Choice, Quantization
from backend.errors import BadSetting, NotEnoughMemory
from backend.hardware.classify import tier_of
from backend.hardware.machine import GIB, Gpu, Hardware
from backend.hardware.need import CUDA_FAST_BYTES, CheckpointShape
from backend.hardware.precision import choose_precision
from backend.hardware.quantization import (
    LOW_MEMORY_BYTES,
    STRONGER,
    QuantizationStrategy,
    is_small,
    kind_of,
)
from backend.hardware.tiers import Tier
from backend.hardware.torch_build import torch_mismatch, torch_refuses
from backend.settings import Settings

_LOW_MEMORY_MARGIN = 1 / 8
"""Of a memory limit under 6 GiB; the tiers' margins are made for machines of 8 GB."""

_ROWS, _ROWS_OF_LARGE_GPU = 16, 128
_LARGE_GPU_BYTES = 22 * GIB
"""Cards that are sold as 24 GB tell a little less."""


@dataclass(frozen=True, slots=True)
class Placement:
    """A checkpoint on a device: stored how, taking what, of how much."""

    device: Choice[str]
    gpu: Gpu | None
    tier: Tier
    tier_reason: str
    precision: Choice[str]
    quantization: Choice[Quantization]
    max_batch: Choice[int]
    resident_bytes: int
    """Once it is loaded, `fast_bytes` included."""
    fast_bytes: int
    """For the fast ways of a frame on a GPU; 0 where there is no room for them."""
    peak_bytes: int
    """With a request as long as the text limit."""
    room_bytes: int
    """Free VRAM, or the memory limit without the safety margin."""
    passed_over: tuple[str, ...] = ()
    """Preferred devices on which it does not fit, each with what it lacks."""

    @property
    def fits(self) -> bool:
        """Whether the peak stays within the room."""
        return self.peak_bytes <= self.room_bytes

    @property
    def shortage(self) -> str:
        """What is needed of what is there."""
        where = "free" if self.gpu else "usable"
        return (
            f"{self.device.value} has {self.room_bytes // MIB} MB {where}, "
            f"{self.quantization.value} needs {-(-self.peak_bytes // MIB)} MB"
        )


def place(hardware: Hardware, settings: Settings, shape: CheckpointShape) -> Placement:
    """The first device on which `shape` fits.

    Raises `BadSetting` where a setting cannot be had here, `NotEnoughMemory` where nothing fits.
    """
    devices = _able_devices(hardware, settings, shape)
    tried: list[Placement] = []
    for placement in (_wished(hardware, device, settings, shape) for device in devices):
        if placement.fits or not settings.memory_control:
            return _explained(placement, tried)
        tried.append(placement)
    for index, wished in enumerate(tuple(tried)):
        for placement in _with_fewer_bits(wished, settings, shape):
            if placement.fits:
                return _explained(placement, tried[:index])
            tried[index] = placement
    raise NotEnoughMemory(_refusal(hardware, settings, shape, tried))


def safety_margin_bytes(tier: Tier, limit_bytes: int) -> int:
    """What is left to everybody else: the tier's margin, an eighth of a small memory."""
    margin = tier.budget.safety_margin_mb * MIB
    if limit_bytes < LOW_MEMORY_BYTES:
        return min(margin, int(limit_bytes * _LOW_MEMORY_MARGIN))
    return margin


def choose_chunk_length(tier: Tier, settings: Settings, shape: CheckpointShape) -> Choice[int]:
    """Characters of a segment; `BadSetting` if the user's are more than the checkpoint speaks."""
    longest = shape.info.max_segment_characters
    if (wanted := settings.chunk_length) is not None:
        if wanted > longest:
            raise BadSetting(
                f"SHOAL_CHUNK_LENGTH={wanted}: {shape.name} speaks at most {longest} characters "
                "in one piece."
            )
        return Choice(wanted, "SHOAL_CHUNK_LENGTH asks for it", "user")
    if longest < tier.text.chunk or is_small(shape):
        return Choice(longest, f"the longest piece that {shape.name} speaks", "checkpoint")
    return Choice(tier.text.chunk, f"the row of {tier.name}: shorter pieces need less memory")


def preferred_devices(hardware: Hardware, settings: Settings) -> list[str]:
    """Devices that may be used, best first; `BadSetting` if the one that is asked for is not there.

    GPUs that the installed torch can use come by free memory, the CPU last.
    """
    usable = [gpu for gpu in hardware.gpus if not torch_refuses(hardware.torch_version, gpu)]
    by_free_memory = sorted(usable, key=lambda gpu: (-gpu.free_bytes, gpu.index))
    cuda = [f"cuda:{gpu.index}" for gpu in by_free_memory]
    others = ["mps", "cpu"] if hardware.has_mps else ["cpu"]
    wanted = settings.device
    if wanted == "auto":
        return [*cuda, *others]
    if wanted == "cuda" and cuda:
        return cuda
    if wanted in (*cuda, *others):
        return [wanted]
    there = ", ".join((*sorted(cuda), *others))
    raise BadSetting(f"DEVICE={wanted} cannot be used: {_why_not(hardware, wanted)}. Use {there}.")


def _why_not(hardware: Hardware, device: str) -> str:
    """Without the full stop."""
    if device == "mps":
        return "MPS is the GPU of Apple silicon"
    gpu = _gpu_of(hardware, device)
    refusal = torch_refuses(hardware.torch_version, gpu) if gpu else ""
    names = ", ".join(f"cuda:{gpu.index}" for gpu in hardware.gpus)
    missing = f"the GPUs here are {names}" if names else "no NVIDIA GPU is seen here"
    reason = torch_mismatch(hardware) or refusal or hardware.gpu_problem or missing
    return reason.rstrip(".")


def _able_devices(hardware: Hardware, settings: Settings, shape: CheckpointShape) -> list[str]:
    """Preferred devices on which the user's other settings can be had, as far as there are any.

    Where no GPU can have them, the CPU does not step in silently: `BadSetting` will say so.
    """
    devices = preferred_devices(hardware, settings)
    able = [device for device in devices if _is_able(hardware, device, settings, shape)]
    return able if kind_of(devices[0]) in map(kind_of, able) else devices


def _is_able(hardware: Hardware, device: str, settings: Settings, shape: CheckpointShape) -> bool:
    try:
        _wished(hardware, device, settings, shape)
    except BadSetting:
        return False
    return True


def _wished(
    hardware: Hardware, device: str, settings: Settings, shape: CheckpointShape
) -> Placement:
    """On `device`, as its tier and the user want it."""
    tier, tier_reason = tier_of(hardware, device)
    gpu, memory = _gpu_of(hardware, device), hardware.memory
    room = memory.limit_bytes - safety_margin_bytes(tier, memory.limit_bytes)
    strategy, cpu = QuantizationStrategy(), hardware.cpu
    quantization = strategy.choose(tier, cpu, memory, device, settings, shape)
    unmeasured = Placement(
        device=_device_choice(hardware, device, settings),
        gpu=gpu,
        tier=tier,
        tier_reason=tier_reason,
        precision=choose_precision(tier, cpu, gpu, device, settings, shape),
        quantization=quantization,
        max_batch=_choose_max_batch(gpu, settings),
        resident_bytes=0,
        fast_bytes=0,
        peak_bytes=0,
        room_bytes=gpu.free_bytes if gpu else room,
    )
    return _measured(unmeasured, settings, shape)


def _measured(placement: Placement, settings: Settings, shape: CheckpointShape) -> Placement:
    """With the bytes that its precision and quantization take.

    Where a GPU has no room for it, fewer rows come before slower frames.
    """
    text, precision = placement.tier.text, placement.precision.value
    quantization, device = placement.quantization.value, placement.device.value
    characters = settings.max_text_length or text.limit
    chunk = choose_chunk_length(placement.tier, settings, shape)
    held = quantization if device == "cpu" else "none"
    request = shape.request_bytes(characters, precision, chunk.value, quantization=held)
    measured = placement
    for fast in (CUDA_FAST_BYTES, 0) if placement.gpu and settings.engine == "shoal" else (0,):
        for rows in _fewer_rows(placement):
            resident = fast + shape.resident_bytes(precision, quantization, device, rows.value)
            measured = replace(
                placement,
                max_batch=rows,
                resident_bytes=resident,
                fast_bytes=fast,
                peak_bytes=resident + request,
            )
            if measured.fits:
                return measured
    return measured


def _fewer_rows(placement: Placement) -> Iterator[Choice[int]]:
    """The rows that are wanted, and on a GPU as many as may do instead."""
    yield placement.max_batch
    if placement.gpu is None or placement.max_batch.source == "user":
        return
    rows, why = placement.max_batch.value, "there is no room for what the codec takes of more"
    while (rows := rows // 2) > 0:
        yield Choice(rows, why, "machine")


def _choose_max_batch(gpu: Gpu | None, settings: Settings) -> Choice[int]:
    """Rows; each is given only once there is memory for it."""
    if (wanted := settings.max_batch) is not None:
        return Choice(wanted, "SHOAL_MAX_BATCH asks for it", "user")
    if gpu is None:
        return Choice(_ROWS, "more rows would each be slower than speech", "machine")
    if gpu.total_bytes < _LARGE_GPU_BYTES:
        return Choice(_ROWS, "keys and values of more need a GPU of 24 GB", "machine")
    why = f"a step of many rows takes a GPU little longer, {gpu.vram_gib} GB hold their keys"
    return Choice(_ROWS_OF_LARGE_GPU, why, "machine")


def _with_fewer_bits(
    placement: Placement, settings: Settings, shape: CheckpointShape
) -> Iterator[Placement]:
    """The same with ever stronger quantization; nothing where the user chose, or a package does."""
    if settings.quantization != "auto" or settings.engine != "shoal":
        return
    for quantization in STRONGER[placement.quantization.value]:
        choice = Choice(quantization, f"the gentlest that fits: {placement.shortage}", "machine")
        yield _measured(replace(placement, quantization=choice), settings, shape)


def _explained(placement: Placement, passed_over: list[Placement]) -> Placement:
    """With what was preferred to it and did not fit."""
    if not passed_over:
        return placement
    shortages = tuple(each.shortage for each in passed_over)
    reason = f"{placement.device.reason}; passed over: {', '.join(shortages)}"
    if placement.device.value == "cpu":
        reason = f"no GPU that it fits: {', '.join(shortages)}"
    device = replace(placement.device, reason=reason)
    return replace(placement, device=device, passed_over=shortages)


def _gpu_of(hardware: Hardware, device: str) -> Gpu | None:
    return next((gpu for gpu in hardware.gpus if device == f"cuda:{gpu.index}"), None)


def _device_choice(hardware: Hardware, device: str, settings: Settings) -> Choice[str]:
    gpu, gpus = _gpu_of(hardware, device), hardware.gpus
    reason = torch_mismatch(hardware) or hardware.gpu_problem or "no GPU is seen"
    if gpu is not None:
        free, total = gpu.free_bytes / GIB, gpu.total_bytes / GIB
        reason = f"{gpu.name} with {free:.1f} of {total:.1f} GiB free"
        if len(gpus) > 1 and gpu.free_bytes == max(each.free_bytes for each in gpus):
            reason += f", the most of {len(gpus)} GPUs"
    elif device == "mps":
        reason = "the GPU of Apple silicon, which shares its memory"
    if settings.device == "auto":
        return Choice(device, reason, "machine")
    asked = f"DEVICE={settings.device} asks for it"
    return Choice(device, f"{asked}: {reason}" if settings.device == "cuda" else asked, "user")


def _refusal(
    hardware: Hardware, settings: Settings, shape: CheckpointShape, tried: list[Placement]
) -> str:
    """What is short, told of the device where least is, and what would work."""
    nearest = min(tried, key=lambda placement: placement.peak_bytes - placement.room_bytes)
    memory, what = hardware.memory, nearest.device.value
    if nearest.gpu is None:
        source = "" if memory.limit_source == "machine" else f", {memory.limit_source}"
        what = f"a memory limit of {memory.limit_bytes // MIB} MB{source}"
    works = [
        *_what_would_work(hardware, settings, shape),
        f"free VRAM of {-(-nearest.peak_bytes // MIB)} MB" if nearest.gpu else _what_limit(nearest),
    ]
    if not is_small(shape):
        works.append("a smaller checkpoint, such as the voice that ships (leave MODEL_DIR unset)")
    return f"{shape.name} does not fit {what}: {nearest.shortage}. Would work: {'; '.join(works)}."


def _what_limit(placement: Placement) -> str:
    """The memory limit with which it would fit, and what must be free of that when it loads."""
    least = _least_limit_bytes(placement)
    resident, margin = placement.resident_bytes, safety_margin_bytes(placement.tier, least)
    free = resident + min(margin, resident)
    return f"a limit of {-(-least // MIB)} MB of which {-(-free // MIB)} MB are free"


def _least_limit_bytes(placement: Placement) -> int:
    """The memory limit with which it would fit beside its safety margin."""
    peak, margin = placement.peak_bytes, placement.tier.budget.safety_margin_mb * MIB
    least = peak + min(margin, math.ceil(peak * _LOW_MEMORY_MARGIN / (1 - _LOW_MEMORY_MARGIN)))
    return least if least < LOW_MEMORY_BYTES else peak + margin


def _what_would_work(hardware: Hardware, settings: Settings, shape: CheckpointShape) -> list[str]:
    """Settings with which it would fit, whatever device and quantization the user asked for."""
    free = settings.model_copy(update={"device": "auto", "quantization": "auto"})
    works = []
    for device in preferred_devices(hardware, free):
        for quantization in get_args(Quantization):
            asked = free.model_copy(update={"device": device, "quantization": quantization})
            able = _is_able(hardware, device, asked, shape)
            if able and _wished(hardware, device, asked, shape).fits:
                works.append(f"DEVICE={device} with QUANTIZATION={quantization}")
                break
    return works
