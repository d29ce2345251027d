"""What a request may take of the memory that is free now: limits, leases, estimates. No torch."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from backend.core import Plan
from backend.errors import OverCapacity, TextTooLong
from backend.hardware.need import MIB, CheckpointShape
from backend.hardware.pressure import RunningConfig

SAFE_SHARE = 0.8
"""Of the memory there is: an estimate below it is safe."""
PLENTY_SHARE = 0.5
"""A longer text is spoken where it takes less than this of the room."""
_MARGIN_SHARE = 0.5
"""Of the free memory, at most kept back: a margin larger than what is free would silence a machine
on which everything fits."""
_BYTES_PER_TOKEN = 4
"""UTF-8 bytes of text that a token stands for, on average: the server holds no tokenizer."""


@dataclass(frozen=True, slots=True)
class MemoryNow:
    """Memory of the device that computes, in bytes: VRAM on a GPU, else main memory."""

    free_bytes: int
    worker_bytes: int
    """What the worker takes of it now."""


@dataclass(frozen=True, slots=True)
class Demand:
    """A request, as far as its memory goes."""

    characters: int
    chunk_length: int
    open_segments: int = 3
    reference_s: float = 0.0


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """What a text would take: the `estimate` of `POST /estimate-memory`."""

    estimated_mb: float
    """The worker at its peak: what it takes when idle, and this text."""
    formula_mb: float
    """The changelog's formula: base + tokens / 100 x per_100_tokens + cache overhead."""
    available_mb: float
    """What is free, and what the worker has already."""
    safe: bool
    """Less than 80 % of what is available."""
    text_tokens: int
    text_length: int


@dataclass(slots=True, eq=False)
class Lease:
    """Memory promised to one request until it is released, which happens once however often."""

    size_bytes: int
    _release: Callable[["Lease"], None] = field(repr=False)

    def release(self) -> None:
        """Give it back."""
        self._release(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


class MemoryBudgetManager:
    """Promises each request what it adds, and no more in all than is free beyond the margin."""

    def __init__(self, plan: Plan, shape: CheckpointShape, read: Callable[[], MemoryNow]) -> None:
        self._plan, self._shape, self._read = plan, shape, read
        self._leases: set[Lease] = set()
        self.idle_bytes = 0
        """What the worker takes when it speaks nothing, once it has told."""

    @property
    def leased_bytes(self) -> int:
        """Promised to requests now."""
        return sum(lease.size_bytes for lease in self._leases)

    @property
    def room_bytes(self) -> int:
        """What all requests together may take: what is free if nobody speaks, less the margin."""
        free = self._free_if_idle(self._read())
        return free - self._margin_bytes(free)

    @property
    def is_safe(self) -> bool:
        """What is promised is there."""
        return self.leased_bytes <= self.room_bytes

    def need_bytes(self, demand: Demand) -> int:
        """What `demand` adds to the worker."""
        return self._shape.request_bytes(
            demand.characters,
            self._plan.precision.value,
            demand.chunk_length,
            demand.open_segments,
            demand.reference_s,
        )

    def lease(self, demand: Demand) -> Lease:
        """Promise `demand` its memory.

        Raises `OverCapacity` where it would fit an idle machine, `TextTooLong` naming the length
        that fits where it would not.
        """
        need, room = self.need_bytes(demand), self.room_bytes
        if need > room:
            fitting = self._longest(demand, room)
            if not fitting:
                raise OverCapacity(
                    f"Memory is short: even a few words need {need // MIB} MB, and {room // MIB} "
                    "MB are free. Close other programs, or try again later."
                )
            raise TextTooLong(
                f"text needs {need // MIB} MB of the {room // MIB} MB that are free; send at most "
                f"{fitting} characters."
            )
        if need + self.leased_bytes > room:
            raise OverCapacity(
                f"Requests that are being spoken hold {self.leased_bytes // MIB} of {room // MIB} "
                f"MB, this one needs {need // MIB}. Try again shortly."
            )
        lease = Lease(need, self._leases.discard)
        self._leases.add(lease)
        return lease

    def text_limit(self, config: RunningConfig, demand: Demand) -> tuple[int, str]:
        """Characters that a request like `demand` may have now, and why.

        The plan's, as `config` has it; less where that does not fit what is free, more up to the
        plan's ceiling where that takes little of it.
        """
        planned, room = config.max_text_length, self.room_bytes
        is_reduced = planned < self._plan.max_text_length.value
        ceiling = planned if is_reduced else self._plan.max_text_length_ceiling
        fitting = self._longest(demand, room, ceiling)
        if fitting and fitting < planned:
            return fitting, f"{room // MIB} MB are free, which is less than {planned} need"
        plenty = self._longest(demand, int(room * PLENTY_SHARE), ceiling)
        if plenty > planned:
            return plenty, f"{room // MIB} MB are free, more than twice what that needs"
        if is_reduced:
            return planned, "reduced under memory pressure"
        return planned, self._plan.max_text_length.reason

    def estimate(self, text: str, demand: Demand) -> MemoryEstimate:
        """What `text` would take, as `demand`."""
        plan, now = self._plan, self._read()
        tokens = -(-len(text.encode("utf-8", "replace")) // _BYTES_PER_TOKEN)
        estimated = self.idle_bytes + self.need_bytes(demand)
        available = self._free_if_idle(now) + self.idle_bytes
        return MemoryEstimate(
            estimated_mb=round(estimated / MIB, 1),
            formula_mb=round(
                plan.estimate_base_mb
                + tokens / 100 * plan.estimate_per_100_tokens_mb
                + plan.estimate_cache_overhead_mb,
                1,
            ),
            available_mb=round(available / MIB, 1),
            safe=estimated < SAFE_SHARE * available,
            text_tokens=tokens,
            text_length=len(text),
        )

    def longest_safe(self, demand: Demand) -> int:
        """Characters up to which an estimate is safe; 0 if nothing is."""
        available = self._free_if_idle(self._read()) + self.idle_bytes
        return self._longest(demand, int(SAFE_SHARE * available) - self.idle_bytes)

    def _free_if_idle(self, now: MemoryNow) -> int:
        # What running requests took is missing in what is free, and counted in their leases.
        return now.free_bytes + max(0, now.worker_bytes - self.idle_bytes)

    def _margin_bytes(self, free_bytes: int) -> int:
        return min(self._plan.safety_margin_mb * MIB, int(free_bytes * _MARGIN_SHARE))

    def _longest(self, demand: Demand, room: int, most: int | None = None) -> int:
        """Characters up to `most` (as many as asked for) whose need fits `room`; 0 if none."""
        low, high = 0, demand.characters if most is None else most
        while low < high:
            middle = (low + high + 1) // 2
            tried = Demand(middle, demand.chunk_length, demand.open_segments, demand.reference_s)
            if self.need_bytes(tried) <= room:
                low = middle
            else:
                high = middle - 1
        return low
