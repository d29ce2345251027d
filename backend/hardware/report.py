"""A plan and a machine, for people (`shoal plan`) and for programs (`GET /hardware`)."""

from typing import Any

from rich.table import Table
from rich.text import Text

from backend.core import MIB, Choice, Plan
from backend.hardware.affinity import format_cpus
from backend.hardware.deployment import Deployment
from backend.hardware.machine import GIB, Hardware
from backend.hardware.need import CheckpointShape
from backend.hardware.pressure import RunningConfig
from backend.hardware.workers import ONE


def plan_table(
    plan: Plan, hardware: Hardware, shape: CheckpointShape, workers: Choice[int] = ONE
) -> Table:
    """One row a choice: what was chosen, its value, its source, its reason. Of several `workers` it
    is the plan of the first."""
    title = f"{shape.name} on {_machine(hardware)}"
    notes = Text("\n".join(plan.notes))
    table = Table(title=Text(title), caption=notes, caption_justify="left")
    table.add_column("choice", no_wrap=True)
    table.add_column("value", no_wrap=True)
    table.add_column("decided by", no_wrap=True)
    table.add_column("why", overflow="fold")
    table.add_row("tier", plan.tier, "machine", Text(plan.tier_reason))
    if workers.value > 1:
        table.add_row("workers", str(workers.value), workers.source, Text(workers.reason))
    for name, choice in _choices(plan).items():
        table.add_row(name, _shown(choice.value), choice.source, Text(choice.reason))
    quantization, precision = plan.quantization.value, plan.precision.value
    device, rows = plan.device.value, plan.max_batch.value
    resident = shape.resident_bytes(precision, quantization, device, rows) // MIB
    taken = "weights and runtime"
    if plan.fast_mb:
        taken += f", and {plan.fast_mb} MB to make frames fast"
    table.add_row("memory, loaded", f"{resident + plan.fast_mb} MB", "checkpoint", taken)
    expected = f"RTF {plan.expected_rtf:g}, {plan.expected_memory_gb:g} GB"
    if any(choice.source == "measured" for choice in _choices(plan).values()):
        table.add_row("expected", expected, "measured", "one sentence of this checkpoint, here")
    else:
        table.add_row("expected", expected, "tier", "with openaudio-s1-mini")
    return table


def plan_json(plan: Plan) -> dict[str, Any]:
    """Flat values, and under `choices` each with its reason and source. `cache_limit` is in MiB."""
    choices = _choices(plan)
    return {
        "tier": plan.tier,
        "tier_reason": plan.tier_reason,
        "strategy": plan.strategy,
        **{name: _plain(choice.value) for name, choice in choices.items()},
        "max_text_length_ceiling": plan.max_text_length_ceiling,
        "safety_margin_mb": plan.safety_margin_mb,
        "calibration_samples": plan.calibration_samples,
        "expected_rtf": plan.expected_rtf,
        "expected_memory_gb": plan.expected_memory_gb,
        "thermal_throttle_cpu_pct": plan.thermal_throttle_cpu_pct,
        "estimate": {
            "base_mb": plan.estimate_base_mb,
            "per_100_tokens_mb": plan.estimate_per_100_tokens_mb,
            "cache_overhead_mb": plan.estimate_cache_overhead_mb,
        },
        "notes": list(plan.notes),
        "choices": {
            name: {
                "value": _plain(choice.value),
                "reason": choice.reason,
                "source": choice.source,
            }
            for name, choice in choices.items()
        },
    }


def workers_json(deployment: Deployment) -> dict[str, Any]:
    """How many workers there are, why, and what differs between their plans."""
    return {
        "count": deployment.workers.value,
        "reason": deployment.workers.reason,
        "source": deployment.workers.source,
        "each": [worker_json(number, one.plan) for number, one in enumerate(deployment.each())],
    }


def worker_json(number: int, plan: Plan) -> dict[str, Any]:
    """What one of several workers was planned with."""
    return {"worker": number, "device_uuid": plan.device_uuid} | {
        name: _plain(choice.value) for name, choice in _choices(plan).items()
    }


def config_json(config: RunningConfig) -> dict[str, int]:
    """What the plan has become, as the HTTP contract names it; `cache_limit` is in MiB."""
    return {
        "chunk_length": config.chunk_length,
        "num_threads": config.num_threads,
        "cache_limit": config.cache_limit_mb,
        "max_text_length": config.max_text_length,
    }


def hardware_json(hardware: Hardware) -> dict[str, Any]:
    """What was found, sizes in GiB."""
    cpu, memory = hardware.cpu, hardware.memory
    return {
        "system": hardware.system,
        "machine": hardware.machine,
        "board": hardware.board,
        "is_wsl": hardware.is_wsl,
        "cpu": {
            "vendor": cpu.vendor,
            "model": cpu.model,
            "generation": cpu.generation,
            "physical_cores": cpu.physical_cores,
            "logical_cores": cpu.logical_cores,
            "performance_cores": cpu.performance_cores,
            "efficiency_cores": cpu.efficiency_cores,
            "allowed": format_cpus(cpu.allowed),
            "quota_cpus": cpu.quota_cpus,
            "features": sorted(cpu.features),
        },
        "memory": {
            "total_gib": _gib(memory.total_bytes),
            "limit_gib": _gib(memory.limit_bytes),
            "limit_source": memory.limit_source,
            "available_gib": _gib(memory.available_bytes),
        },
        "gpus": [
            {
                "index": gpu.index,
                "name": gpu.name,
                "uuid": gpu.uuid,
                "total_gib": _gib(gpu.total_bytes),
                "free_gib": _gib(gpu.free_bytes),
                "capability": gpu.capability and "{}.{}".format(*gpu.capability),
                "driver": gpu.driver,
            }
            for gpu in hardware.gpus
        ],
        "gpu_problem": hardware.gpu_problem,
        "has_mps": hardware.has_mps,
        "torch_version": hardware.torch_version,
        "thermal_sensors": list(hardware.thermal_sensors),
    }


def _choices(plan: Plan) -> dict[str, Choice[Any]]:
    """Under the names that the HTTP contract uses."""
    return {
        "device": plan.device,
        "precision": plan.precision,
        "quantization": plan.quantization,
        "torch_compile": plan.compile,
        "num_threads": plan.num_threads,
        "cpu_affinity": plan.cpu_affinity,
        "max_text_length": plan.max_text_length,
        "chunk_length": plan.chunk_length,
        "max_batch": plan.max_batch,
        "cache_limit": plan.cache_limit_mb,
    }


def _machine(hardware: Hardware) -> str:
    gpus = ", ".join(gpu.name for gpu in hardware.gpus)
    what = hardware.board or hardware.cpu.model or hardware.machine
    memory = f"{hardware.memory.limit_bytes / GIB:.1f} GiB"
    return ", ".join(filter(None, [what, memory, gpus]))


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return format_cpus(value) or "not pinned"
    return str(value)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _gib(size_bytes: int) -> float:
    return round(size_bytes / GIB, 2)
