"""How many workers speak on this machine, and the plan of each. Pure.

One for each GPU, because a step of one waits for nothing on another. On a CPU one, whose threads
share the reading of the weights; only a checkpoint so small that a worker computes with a single
thread leaves cores for more.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from backend.core import Choice, Plan
from backend.errors import BadSetting, NotEnoughMemory
from backend.hardware.classify import usable_performance_cores
from backend.hardware.machine import Cpu, Gpu, Hardware
from backend.hardware.measured import Measurement
from backend.hardware.need import CheckpointShape
from backend.hardware.placement import preferred_devices
from backend.hardware.quantization import is_small
from backend.hardware.tuned import tuned_plan
from backend.settings import Settings

CORES_FOR_EACH, MOST_SMALL = 4, 4
"""A CPU's worker of one thread for so many cores, which leaves some to the server and to other
programs; and so many at most, of some 300 MB each."""
_FREE_SHARE = 0.5
"""Of a further GPU's memory, at least: one that another program fills is left to it."""
ONE = Choice(1, "one device computes")


@dataclass(frozen=True, slots=True)
class Workers:
    """The plan of each worker, the first the one that would speak alone."""

    plans: tuple[Plan, ...]
    number: Choice[int]
    """Of them, and why so many."""


def plan_workers(
    hardware: Hardware,
    settings: Settings,
    shape: CheckpointShape,
    rows: Sequence[Measurement] = (),
) -> Workers:
    """The plans of all workers, as `SHOAL_WORKERS` asks or as many as are worth it.

    `rows` is what was measured here. Raises what `tuned_plan` raises, and `BadSetting` where there
    cannot be as many as are asked for.
    """
    first, wanted = tuned_plan(hardware, settings, shape, rows), settings.worker_count
    if wanted == 1:
        return Workers((first,), Choice(1, "SHOAL_WORKERS asks for it", "user"))
    if first.device_uuid:
        return _on_gpus(hardware, settings, shape, rows, first)
    if first.device.value == "cpu":
        return _on_cpu(hardware, settings, shape, rows, first)
    if wanted is not None:
        raise BadSetting(
            f"SHOAL_WORKERS={wanted}: {first.device.value} is one device, for one worker. "
            "Leave SHOAL_WORKERS unset, or set DEVICE=cpu."
        )
    return Workers((first,), ONE)


def _on_gpus(
    hardware: Hardware,
    settings: Settings,
    shape: CheckpointShape,
    rows: Sequence[Measurement],
    first: Plan,
) -> Workers:
    wanted = settings.worker_count
    plans = [first]
    for gpu in _further_gpus(hardware, settings, first):
        if wanted is None and gpu.free_bytes < _FREE_SHARE * gpu.total_bytes:
            continue
        alone = replace(hardware, gpus=(gpu,))
        try:
            plan = tuned_plan(alone, settings, shape, list(_moved(rows, hardware, gpu)))
        except (BadSetting, NotEnoughMemory):
            continue
        if plan.device_uuid:
            plans.append(plan)
    devices = [plan.device.value for plan in plans]
    if wanted is None:
        there = f"one for each GPU: {', '.join(devices)}"
        return Workers(tuple(plans), Choice(len(plans), there, "machine") if plans[1:] else ONE)
    if wanted > len(plans):
        raise BadSetting(
            f"SHOAL_WORKERS={wanted}: each worker has a GPU of its own, and {shape.name} can "
            f"have {', '.join(devices)} here. Set SHOAL_WORKERS={len(plans)}, auto, or DEVICE=cpu."
        )
    return Workers(tuple(plans[:wanted]), Choice(wanted, "SHOAL_WORKERS asks for it", "user"))


def _further_gpus(hardware: Hardware, settings: Settings, first: Plan) -> Iterator[Gpu]:
    """Those that may be used beside the first, best first; none where the user named one."""
    if settings.device not in ("auto", "cuda"):
        return
    for device in preferred_devices(hardware, settings):
        for gpu in hardware.gpus:
            if device == f"cuda:{gpu.index}" and gpu.uuid != first.device_uuid:
                yield gpu


def _moved(rows: Sequence[Measurement], hardware: Hardware, gpu: Gpu) -> Iterator[Measurement]:
    """What was measured on cards of the same name as `gpu`, as if on that."""
    alike = {f"cuda:{each.index}" for each in hardware.gpus if each.name == gpu.name}
    for row in rows:
        if row.setup.device in alike:
            yield replace(row, setup=replace(row.setup, device=f"cuda:{gpu.index}"))


def _on_cpu(
    hardware: Hardware,
    settings: Settings,
    shape: CheckpointShape,
    rows: Sequence[Measurement],
    first: Plan,
) -> Workers:
    wanted, cores = settings.worker_count, _cores(hardware.cpu)
    if wanted is None:
        is_light = settings.engine == "shoal" and is_small(shape) and first.num_threads.value == 1
        most = min(MOST_SMALL, cores // CORES_FOR_EACH) if is_light else 1
        for number in range(most, 1, -1):
            plans = _parts(hardware, settings, shape, rows, first, number)
            if plans:
                why = f"{shape.name} is small: each computes with one thread of {cores} cores"
                return Workers(plans, Choice(number, why, "machine"))
        return Workers((first,), ONE)
    threads = settings.num_threads or 1
    if wanted * threads > cores:
        there = f"{cores} cores may be used here, and each worker computes with {threads} threads"
        if threads == 1:
            there = f"{cores} cores may be used here, and each worker needs one"
        raise BadSetting(
            f"SHOAL_WORKERS={wanted}: {there}. Set SHOAL_WORKERS={max(1, cores // threads)}, "
            "or auto."
        )
    for number in range(wanted, 1, -1):
        plans = _parts(hardware, settings, shape, rows, first, number)
        if plans and number == wanted:
            return Workers(plans, Choice(wanted, "SHOAL_WORKERS asks for it", "user"))
        if plans:
            break
    else:
        number = 1
    raise BadSetting(
        f"SHOAL_WORKERS={wanted}: {shape.name} does not fit the memory that each would have. "
        f"Set SHOAL_WORKERS={number}, or auto."
    )


def _parts(
    hardware: Hardware,
    settings: Settings,
    shape: CheckpointShape,
    rows: Sequence[Measurement],
    first: Plan,
    number: int,
) -> tuple[Plan, ...]:
    """The plans of `number` workers that share CPU and memory; none where they do not fit."""
    memory = hardware.memory
    part = replace(
        memory,
        limit_bytes=memory.limit_bytes // number,
        available_bytes=memory.available_bytes // number,
    )
    try:
        plan = tuned_plan(replace(hardware, memory=part), settings, shape, rows)
    except (BadSetting, NotEnoughMemory):
        return ()
    threads = plan.num_threads
    most = max(1, _cores(hardware.cpu) // number)
    if threads.source != "user" and threads.value > most:
        threads = Choice(most, f"its part of the cores, of which {number} workers compute")
    cpus, size = first.cpu_affinity, len(first.cpu_affinity.value) // number
    plans = []
    for place in range(number):
        own = cpus.value[place * size : (place + 1) * size] if size >= threads.value else ()
        reason = f"its part of CPUs that {number} workers share" if own else cpus.reason
        affinity = replace(cpus, value=own, reason=reason)
        plans.append(replace(plan, num_threads=threads, cpu_affinity=affinity))
    return tuple(plans)


def _cores(cpu: Cpu) -> int:
    """That compute for this process, a container's quota considered."""
    cores = usable_performance_cores(cpu)
    return cores if cpu.quota_cpus is None else max(1, min(cores, int(cpu.quota_cpus)))
