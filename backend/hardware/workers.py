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
from backend.hardware.machine import Gpu, Hardware
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
_ASKED = "SHOAL_WORKERS asks for it"


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
    several = _Several(hardware, settings, shape, tuple(rows), first)
    if wanted == 1:
        return Workers((first,), Choice(1, _ASKED, "user"))
    if first.device_uuid:
        return several.on_gpus()
    if first.device.value == "cpu":
        return several.on_cpu()
    if wanted is not None:
        raise BadSetting(
            f"SHOAL_WORKERS={wanted}: {first.device.value} is one device, for one worker. "
            "Leave SHOAL_WORKERS unset, or set DEVICE=cpu."
        )
    return Workers((first,), ONE)


def computing_cores(hardware: Hardware, plan: Plan) -> int:
    """Cores that may compute: the CPUs that this process may run on, a container's quota and the
    user's list of CPUs considered."""
    cpu, cpus = hardware.cpu, plan.cpu_affinity
    most = [usable_performance_cores(cpu)]
    if cpu.quota_cpus is not None:
        most.append(max(1, int(cpu.quota_cpus)))
    if cpus.source == "user" and cpus.value:
        most.append(len(cpus.value))
    return min(most)


@dataclass(frozen=True, slots=True)
class _Several:
    """What may be planned beside the plan of the `first`."""

    hardware: Hardware
    settings: Settings
    shape: CheckpointShape
    rows: tuple[Measurement, ...]
    first: Plan

    def on_gpus(self) -> Workers:
        """One for each GPU that may be used."""
        wanted = self.settings.worker_count
        plans = (self.first, *self._on_further_gpus(is_asked_for=wanted is not None))
        devices = ", ".join(plan.device.value for plan in plans)
        if wanted is None and len(plans) == 1:
            return Workers(plans, ONE)
        if wanted is None:
            return Workers(plans, Choice(len(plans), f"one for each GPU: {devices}", "machine"))
        if wanted > len(plans):
            raise BadSetting(
                f"SHOAL_WORKERS={wanted}: each worker has a GPU of its own, and {self.shape.name} "
                f"can have {devices} here. Set SHOAL_WORKERS={len(plans)}, auto, or DEVICE=cpu."
            )
        return Workers(plans[:wanted], Choice(wanted, _ASKED, "user"))

    def _on_further_gpus(self, *, is_asked_for: bool) -> Iterator[Plan]:
        """Best first; none where the user named one."""
        if self.settings.device not in ("auto", "cuda"):
            return
        gpus = {f"cuda:{gpu.index}": gpu for gpu in self.hardware.gpus}
        for device in preferred_devices(self.hardware, self.settings):
            gpu = gpus.get(device)
            if gpu is None or gpu.uuid == self.first.device_uuid:
                continue
            if not is_asked_for and gpu.free_bytes < _FREE_SHARE * gpu.total_bytes:
                continue
            alone = replace(self.hardware, gpus=(gpu,))
            try:
                plan = tuned_plan(alone, self.settings, self.shape, self._measured_on(gpu))
            except (BadSetting, NotEnoughMemory):
                continue
            if plan.device_uuid:
                yield plan

    def _measured_on(self, gpu: Gpu) -> list[Measurement]:
        """What was measured on cards of the same name, as if on `gpu`."""
        alike = {f"cuda:{each.index}" for each in self.hardware.gpus if each.name == gpu.name}
        device = f"cuda:{gpu.index}"
        return [
            replace(row, setup=replace(row.setup, device=device))
            for row in self.rows
            if row.setup.device in alike
        ]

    @property
    def cores(self) -> int:
        """That may compute."""
        return computing_cores(self.hardware, self.first)

    def on_cpu(self) -> Workers:
        """One, or several that share cores and memory."""
        wanted = self.settings.worker_count
        return self._worth_it() if wanted is None else self._asked_for(wanted)

    def _worth_it(self) -> Workers:
        cores = self.cores
        is_light = is_small(self.shape) and self.first.num_threads.value == 1
        most = min(MOST_SMALL, cores // CORES_FOR_EACH)
        if is_light and self.settings.engine == "shoal":
            for number in range(most, 1, -1):
                if plans := self._parts(number):
                    name = self.shape.name
                    why = f"{name} is small: each computes with one thread of {cores} cores"
                    return Workers(plans, Choice(number, why, "machine"))
        return Workers((self.first,), ONE)

    def _asked_for(self, wanted: int) -> Workers:
        cores, threads = self.cores, self.settings.num_threads or 1
        if wanted * threads > cores:
            each = "needs one" if threads == 1 else f"computes with {threads} threads"
            raise BadSetting(
                f"SHOAL_WORKERS={wanted}: {cores} cores may be used here, and each worker {each}. "
                f"Set SHOAL_WORKERS={max(1, cores // threads)}, or auto."
            )
        if plans := self._parts(wanted):
            return Workers(plans, Choice(wanted, _ASKED, "user"))
        fitting = next((fewer for fewer in range(wanted - 1, 1, -1) if self._parts(fewer)), 1)
        raise BadSetting(
            f"SHOAL_WORKERS={wanted}: {self.shape.name} does not fit the memory that each would "
            f"have. Set SHOAL_WORKERS={fitting}, or auto."
        )

    def _parts(self, number: int) -> tuple[Plan, ...]:
        """The plans of `number` workers that share CPU and memory; none where they do not fit."""
        memory = self.hardware.memory
        part = replace(
            memory,
            limit_bytes=memory.limit_bytes // number,
            available_bytes=memory.available_bytes // number,
        )
        machine = replace(self.hardware, memory=part)
        try:
            plan = tuned_plan(machine, self.settings, self.shape, self.rows)
        except (BadSetting, NotEnoughMemory):
            return ()
        threads, most = plan.num_threads, max(1, self.cores // number)
        if threads.source != "user" and threads.value > most:
            threads = Choice(most, f"its part of the cores that {number} workers share", "machine")
        pinned = self.first.cpu_affinity
        size = len(pinned.value) // number
        if not pinned.value or size < threads.value:
            unpinned = replace(pinned, value=())
            return (replace(plan, num_threads=threads, cpu_affinity=unpinned),) * number
        why = f"its part of the CPUs that {number} workers share"
        return tuple(
            replace(
                plan,
                num_threads=threads,
                cpu_affinity=replace(pinned, value=pinned.value[start : start + size], reason=why),
            )
            for start in range(0, number * size, size)
        )
