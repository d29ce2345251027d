"""The machine, the checkpoint and the plan, put together once at start."""

from dataclasses import dataclass, replace
from typing import Self

from backend.core import MIB, Choice, Plan
from backend.hardware.detect import detect
from backend.hardware.machine import Hardware
from backend.hardware.measurements import Measurements
from backend.hardware.need import CPU_STARTING_BYTES, CheckpointShape
from backend.hardware.readings import read_machine
from backend.hardware.workers import ONE, plan_workers
from backend.settings import Settings


@dataclass(frozen=True, slots=True)
class Deployment:
    """What was found, which checkpoint is to be spoken with, and what follows from both."""

    hardware: Hardware
    shape: CheckpointShape
    plan: Plan
    """Of the worker that speaks, or of the first of several."""
    more: tuple[Plan, ...] = ()
    """Of the others."""
    workers: Choice[int] = ONE
    """How many there are, and why."""

    @classmethod
    def look(cls, settings: Settings, hardware: Hardware | None = None) -> Self:
        """Look once. Raises what `plan_workers` raises, and `BadCheckpoint`."""
        found = hardware or detect(read_machine())
        shape = CheckpointShape.from_folder(settings.checkpoint_dir)
        rows = Measurements(settings.data_dir).find(found, settings.checkpoint_dir)
        workers = plan_workers(found, settings, shape, rows)
        first, *more = workers.plans
        return cls(found, shape, first, tuple(more), workers.number)

    def each(self) -> "tuple[Deployment, ...]":
        """One for each worker, which is the only one in it."""
        plans = (self.plan, *self.more)
        return tuple(replace(self, plan=plan, more=(), workers=ONE) for plan in plans)

    @property
    def resident_bytes(self) -> int:
        """Memory that the worker is expected to take once it has loaded."""
        return self.resident_bytes_as(self.plan, self.plan.max_batch.value)

    @property
    def starting_bytes(self) -> int:
        """Memory that the worker is expected to take beside that until it has loaded."""
        return CPU_STARTING_BYTES if self.plan.device.value == "cpu" else 0

    def resident_bytes_as(self, plan: Plan, rows: int) -> int:
        """The same of another `plan` for its checkpoint, with places for `rows`."""
        precision, quantization = plan.precision.value, plan.quantization.value
        loaded = self.shape.resident_bytes(precision, quantization, plan.device.value, rows)
        return loaded + plan.fast_mb * MIB
