"""What this machine does with a checkpoint: `(Hardware, Settings, shape) → Plan`. Pure."""

import math

from backend.core import MIB, Choice, Plan
from backend.errors import BadSetting
from backend.hardware.affinity import CPUAffinityManager
from backend.hardware.classify import usable_performance_cores
from backend.hardware.compile_gate import gate_for
from backend.hardware.machine import Cpu, Hardware
from backend.hardware.need import CheckpointShape
from backend.hardware.notes import log_lines, response_notes
from backend.hardware.placement import (
    Placement,
    choose_chunk_length,
    place,
    safety_margin_bytes,
)
from backend.hardware.pressure import LEAST_CACHE_MB
from backend.hardware.quantization import is_small, small_calibration_samples
from backend.hardware.tiers import Tier
from backend.settings import Settings

_CACHE_SHARE_OF_LIMIT = 1 / 4
"""Of main memory, for keys, values and references at most."""
_CACHE_SHARE_OF_REST = 1 / 2
"""Of what the loaded checkpoint leaves; the other half is for work in progress."""


def make_plan(hardware: Hardware, settings: Settings, shape: CheckpointShape) -> Plan:
    """Every choice with its reason; what the user set wins.

    Raises `BadSetting` where a setting cannot be had on this machine, `NotEnoughMemory` where the
    checkpoint fits none of the devices that may be used. Both say what would work.
    """
    placement = place(hardware, settings, shape)
    tier, cpu = placement.tier, hardware.cpu
    compiled, compile_line = gate_for(hardware, placement, settings)
    is_light = placement.gpu is None and is_small(shape)
    threads = choose_threads(cpu, tier, settings, shape.name if is_light else "")
    samples = tier.weights.calibration_samples
    if is_small(shape):
        samples = min(samples, small_calibration_samples(hardware.memory))
    text = _text_limit(tier, settings)
    intent = CPUAffinityManager.intent(cpu, tier)
    is_text_fixed = text.source == "user" or not settings.dynamic_text_limit
    return Plan(
        tier=tier.name,
        tier_reason=f"{placement.tier_reason}. The row: {tier.reason}.",
        device=placement.device,
        device_uuid=placement.gpu.uuid if placement.gpu else "",
        precision=placement.precision,
        quantization=placement.quantization,
        compile=compiled,
        num_threads=threads,
        cpu_affinity=CPUAffinityManager.choose(cpu, tier, threads.value, settings.cpu_affinity),
        max_text_length=text,
        max_text_length_ceiling=text.value if is_text_fixed else tier.text.ceiling,
        chunk_length=choose_chunk_length(tier, settings, shape),
        max_batch=placement.max_batch,
        cache_limit_mb=_cache_limit(hardware, placement, settings),
        safety_margin_mb=_safety_margin_mb(hardware, placement),
        fast_mb=placement.fast_bytes // MIB,
        estimate_base_mb=tier.estimate.base_mb,
        estimate_per_100_tokens_mb=tier.estimate.per_100_tokens_mb,
        estimate_cache_overhead_mb=tier.estimate.cache_overhead_mb,
        calibration_samples=samples,
        expected_rtf=tier.expected.rtf,
        expected_memory_gb=tier.expected.memory_gb,
        thermal_throttle_cpu_pct=tier.cpu.thermal_throttle_pct,
        notes=response_notes(hardware, placement, compiled),
        log_lines=log_lines(hardware, placement, compile_line, intent),
    )


def choose_threads(
    cpu: Cpu, tier: Tier, settings: Settings, small_checkpoint: str = ""
) -> Choice[int]:
    """Threads that compute: one a performance core, within the tier's and the container's limits.

    `small_checkpoint` is the name of one that is small and computed on the CPU. Raises `BadSetting`
    if the user's are more than the CPUs that this process may run on.
    """
    if (wanted := settings.num_threads) is not None:
        allowed = len(cpu.allowed) or cpu.logical_cores
        if wanted > allowed:
            raise BadSetting(f"NUM_THREADS={wanted}: this process may run on {allowed} CPUs only.")
        return Choice(wanted, "NUM_THREADS asks for it", "user")
    if small_checkpoint:
        # Measured on two cores: 1.7 times as fast alone, 1.3 times with 16 at once.
        why = f"{small_checkpoint} is small: threads would wait for each other more than compute"
        return Choice(1, why, "checkpoint")
    cores = usable_performance_cores(cpu)
    kind = "performance core" if cpu.efficiency_cores else "physical core"
    granted = cores if cpu.quota_cpus is None else max(1, math.ceil(cpu.quota_cpus))
    if granted < min(cores, tier.cpu.max_threads):
        return Choice(granted, f"the container is granted {cpu.quota_cpus:g} CPUs", "machine")
    if cores > tier.cpu.max_threads:
        return Choice(
            tier.cpu.max_threads, f"{tier.name} gains nothing from more of its {cores} cores"
        )
    return Choice(cores, f"one for each {kind} that may be used", "machine")


def _text_limit(tier: Tier, settings: Settings) -> Choice[int]:
    if settings.max_text_length is not None:
        return Choice(settings.max_text_length, "MAX_TEXT_LENGTH asks for it", "user")
    row = f"the row of {tier.card or tier.name}"
    if tier.text.ceiling == tier.text.limit:
        return Choice(tier.text.limit, f"{row}, never more: heat decides")
    return Choice(tier.text.limit, f"{row}, up to {tier.text.ceiling} while memory is free")


def _cache_limit(hardware: Hardware, placement: Placement, settings: Settings) -> Choice[int]:
    """In MiB."""
    rest = placement.room_bytes - placement.resident_bytes
    if (wanted := settings.cache_limit_mb) is not None:
        if wanted * MIB > rest:
            raise BadSetting(
                f"SHOAL_CACHE_LIMIT_MB={wanted}: beside the checkpoint there are {rest // MIB} MB "
                f"on {placement.device.value}."
            )
        return Choice(wanted, "SHOAL_CACHE_LIMIT_MB asks for it", "user")
    tier = placement.tier
    limits = [(int(rest * _CACHE_SHARE_OF_REST), "half of what the checkpoint leaves")]
    if placement.gpu is None:
        share = int(hardware.memory.limit_bytes * _CACHE_SHARE_OF_LIMIT)
        limits.append((share, "a quarter of the memory limit"))
    most_bytes, reason = min(limits)
    if most_bytes >= tier.budget.cache_limit_mb * MIB:
        return Choice(tier.budget.cache_limit_mb, f"the row of {tier.card or tier.name}")
    return Choice(max(LEAST_CACHE_MB, most_bytes // MIB), reason, "machine")


def _safety_margin_mb(hardware: Hardware, placement: Placement) -> int:
    """The tier's; on a GPU no more than lets the request fit that the device was chosen for."""
    if placement.gpu is None:
        return safety_margin_bytes(placement.tier, hardware.memory.limit_bytes) // MIB
    spare = (placement.room_bytes - placement.peak_bytes) // MIB
    return min(placement.tier.budget.safety_margin_mb, spare)
