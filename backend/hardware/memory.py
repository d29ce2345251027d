"""What a request may take of the memory that is free now: limits, leases, estimates. No torch."""

import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from backend.core import MIB, OPEN_SENTENCES, Plan
from backend.errors import NotEnoughMemory, OverCapacity, TextTooLong
from backend.hardware.leases import Lease, Leases
from backend.hardware.need import CheckpointShape, Reading, RequestNeed
from backend.hardware.pressure import LEAST_CHUNK_LENGTH, RunningConfig

SAFE_SHARE = 0.8
"""Of the memory there is: an estimate below it is safe."""
CLEARLY_LESS_SHARE = 0.9
"""Of an estimate that is not safe: less than so much is worth asking for."""
PLENTY_SHARE = 0.5
"""A longer text is spoken where it takes less than this of the room."""
_MARGIN_SHARE = 0.5
"""Of the free memory, at most kept back: a margin larger than what is free would silence a machine
on which everything fits."""
_KNOWN_DEMANDS = 1024
"""Whose need is kept: each is asked for several times, and most are like others before."""


@dataclass(frozen=True, slots=True)
class MemoryNow:
    """Memory of the device that computes, in bytes: VRAM on a GPU, else main memory."""

    free_bytes: int
    worker_bytes: int
    """What the worker takes of it now."""
    idle_bytes: int = 0
    """What it took when it had loaded and spoke nothing."""

    @property
    def working_bytes(self) -> int:
        """What it takes for what it is asked, beside what it has loaded."""
        return max(0, self.worker_bytes - self.idle_bytes)


def part_of(own: MemoryNow, others: Sequence[MemoryNow]) -> MemoryNow:
    """One worker's part of memory that it shares with `others`: as much as each of them.

    Parts are of what would be free if nobody spoke, so that no part shrinks while another is taken.
    `free_bytes` may be below 0, where the worker has taken more than its part.
    """
    every = (own, *others)
    free_if_idle = own.free_bytes + sum(now.working_bytes for now in every)
    return replace(own, free_bytes=free_if_idle // len(every) - own.working_bytes)


@dataclass(frozen=True, slots=True)
class Demand:
    """A request, as far as its memory goes."""

    characters: int
    chunk_length: int
    """Characters of its longest segment, or the most that one may have."""
    open_segments: int = OPEN_SENTENCES
    reference_s: float = 0.0
    """Seconds of recordings that it is spoken after."""
    encoded_s: float = 0.0
    """Seconds of a recording that is encoded; nothing is spoken then."""
    decoding_bytes: int = 0
    """Main memory that is taken while that recording is decoded, beside its samples."""
    decoded_s: float = 0.0
    """Seconds of a saved voice that are decoded; nothing is spoken then."""
    wide_share: float = 0.0
    """Of its characters, as `reading.wide_share` counts them."""

    def least(self) -> "Demand":
        """The same with `optimize_for_memory`."""
        chunk_length = min(self.chunk_length, LEAST_CHUNK_LENGTH)
        return replace(self, chunk_length=chunk_length, open_segments=1)


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """What a text would take: the `estimate` of `POST /estimate-memory`."""

    estimated_mb: float
    """The worker at its peak: what it takes when idle, and this text as most voices read it."""
    formula_mb: float
    """The changelog's formula: base + tokens / 100 x per_100_tokens + cache overhead."""
    available_mb: float
    """What is free, and what the worker has already."""
    safe: bool
    """Less than 80 % of what is available."""
    text_tokens: int
    """By the bytes of the text: the server holds no tokenizer."""
    text_length: int


Peaks = Callable[[Demand, float], tuple[float, float] | None]
"""The worker's peak while it speaks a demand of which the formula says so much, and what that stays
below, both in MiB; None where nothing better than the formula is known."""

Foresee = Callable[[], Peaks | None]
"""What foretells peaks now; None where nothing was learned of any."""


class MemoryBudgetManager:
    """Promises each request what it adds at most, and no more in all than is free.

    A lease is a bound: every open segment read as slowly as the engine lets it be. What requests
    need together is less than the sum of what each needs alone, because they pass through the same
    workspace one after another, and keys and values have a limit of their own. Those of voices'
    prompts, kept for the next request, lie within that limit and give way to rows: nobody is
    promised them. What `foresee` says raises a bound that measured peaks have passed, never lowers
    one.
    """

    def __init__(
        self,
        plan: Plan,
        shape: CheckpointShape,
        read: Callable[[], MemoryNow],
        is_limit_dynamic: bool = True,
        *,
        is_bounded: bool = True,
        foresee: Foresee = lambda: None,
    ) -> None:
        """Not `is_bounded`, it promises whatever is asked for: to measure what its bounds are
        worth."""
        self._foresee = foresee
        self._plan, self._shape, self._read = plan, shape, read
        self._is_limit_dynamic = is_limit_dynamic and is_bounded
        self._is_bounded = is_bounded
        self._leases = Leases()
        self._need_of = lru_cache(_KNOWN_DEMANDS)(self._request_need)
        self._lock = threading.Lock()

    @property
    def leased_bytes(self) -> int:
        """Promised to requests now."""
        return self._size_bytes(self._leases.together())

    @property
    def room_bytes(self) -> int:
        """What all requests together may take: what is free if nobody speaks, less the margin."""
        if not self._is_bounded:
            return sys.maxsize
        free = _free_if_idle(self._read())
        return free - self._margin_bytes(free)

    @property
    def is_safe(self) -> bool:
        """What is promised is there."""
        return self.leased_bytes <= self.room_bytes

    def check_load(self, resident_bytes: int, starting_bytes: int = 0) -> None:
        """Raise `NotEnoughMemory` unless a worker of that size, or a new one, would fit now, with
        what it takes beside until it has loaded."""
        worker_bytes = resident_bytes + starting_bytes
        now = self._read()
        free = now.free_bytes + now.worker_bytes
        room = free - self._margin_bytes(free)
        if worker_bytes <= room or not self._is_bounded:
            return
        precision, device = self._plan.precision.value, self._plan.device.value
        rows = self._plan.max_batch.value
        int4 = self._shape.resident_bytes(precision, "int4", device, rows) + starting_bytes
        # The margin grows with what is free, up to the plan's.
        needed = worker_bytes + min(self._plan.safety_margin_mb * MIB, worker_bytes)
        works = f"{-(-(needed - free) // MIB)} MB more that are free"
        if int4 <= room:
            works += f", or QUANTIZATION=int4, which takes {int4 // MIB} MB"
        raise NotEnoughMemory(
            f"{self._shape.name} takes {worker_bytes // MIB} MB to start, and "
            f"{room // MIB} MB are free beyond a margin of {(free - room) // MIB} MB. "
            f"Would work: {works}."
        )

    def need_bytes(self, demand: Demand) -> int:
        """What `demand` adds to an idle worker at most."""
        return self._size_bytes(self._need(demand))

    def admits(self, demand: Demand) -> bool:
        """Whether `lease` would promise it now."""
        return self._size_bytes(self._leases.together(self._need(demand))) <= self.room_bytes

    def lease(self, demand: Demand) -> Lease:
        """Promise `demand` its memory.

        Raises `OverCapacity` where it would fit an idle machine, `TextTooLong` naming the length
        that fits where it would not.
        """
        need, room = self._need(demand), self.room_bytes
        if self._size_bytes(need) > room:
            raise self._never_fits(demand, room)
        with self._lock:
            together = self._size_bytes(self._leases.together(need))
            if together > room:
                raise OverCapacity(
                    f"Requests that are being spoken hold {self.leased_bytes // MIB} of "
                    f"{room // MIB} MB, with this one they would need {together // MIB}. "
                    "Try again shortly."
                )
            return self._leases.add(need)

    def text_limit(self, config: RunningConfig, demand: Demand) -> tuple[int, str]:
        """Characters that a request like `demand` may have now, and why.

        The plan's, as `config` has it; less where that does not fit what is free; more, up to the
        plan's ceiling, where that takes less than half of it.
        """
        planned = config.max_text_length
        is_reduced = planned < self._plan.max_text_length.value
        reason = (
            "reduced under memory pressure" if is_reduced else self._plan.max_text_length.reason
        )
        if not self._is_limit_dynamic:
            return planned, reason
        room = self.room_bytes
        ceiling = planned if is_reduced else self._plan.max_text_length_ceiling
        fitting = self._longest(demand, room, ceiling)
        if fitting and fitting < planned:
            return fitting, f"lowered from {planned} because only {room // MIB} MB are free"
        plenty = self._longest(demand, int(room * PLENTY_SHARE), ceiling)
        if plenty > planned:
            return plenty, f"raised from {planned} because {room // MIB} MB are free"
        return planned, reason

    def estimate(self, text: str, demand: Demand) -> MemoryEstimate:
        """What `text` would take, as `demand`."""
        plan, now = self._plan, self._read()
        tokens = -(-len(text.encode("utf-8", "replace")) // self._shape.bytes_per_token)
        estimated, available = self._peak_bytes(demand, now), _available(now)
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
            text_tokens=int(tokens),
            text_length=len(text),
        )

    def longest_safe(self, demand: Demand) -> int:
        """Characters up to which an estimate is safe; 0 if nothing is."""
        now = self._read()
        safe = SAFE_SHARE * _available(now)
        return _largest(
            demand.characters,
            lambda length: self._peak_bytes(replace(demand, characters=length), now) < safe,
        )

    def _need(self, demand: Demand, reading: Reading = "longest") -> RequestNeed:
        if demand.encoded_s:
            return self._shape.encoding_need(
                demand.encoded_s, demand.decoding_bytes, self._plan.device.value
            )
        if demand.decoded_s:
            return self._shape.decoding_need(demand.decoded_s, self._plan.device.value)
        need = self._need_of(demand, reading)
        return self._raised(need, demand) if reading == "longest" else need

    def _raised(self, need: RequestNeed, demand: Demand) -> RequestNeed:
        """`need`, or what peaks that were measured teach, where that is more."""
        if (peaks := self._foresee()) is None:
            return need
        now = self._read()
        foreseen = peaks(demand, self._formula_peak_bytes(demand, now) / MIB)
        if foreseen is None:
            return need
        _, most_mb = foreseen
        missing = int(most_mb * MIB) - now.idle_bytes - self._size_bytes(need)
        # A peak holds what earlier requests left behind, which is there once, not once for each.
        return replace(need, passing_bytes=need.passing_bytes + max(0, missing))

    def _request_need(self, demand: Demand, reading: Reading) -> RequestNeed:
        return self._shape.request_need(
            demand.characters,
            self._plan.precision.value,
            demand.chunk_length,
            demand.open_segments,
            demand.reference_s,
            reading=reading,
            wide_share=demand.wide_share,
            device=self._plan.device.value,
            quantization=self._plan.quantization.value,
        )

    def _size_bytes(self, need: RequestNeed) -> int:
        return need.within(self._plan.cache_limit_mb.value * MIB)

    def formula_peak_mb(self, demand: Demand) -> float:
        """The worker's expected peak while it speaks `demand` alone, whatever was learned."""
        return self._formula_peak_bytes(demand, self._read()) / MIB

    def _formula_peak_bytes(self, demand: Demand, now: MemoryNow) -> int:
        return now.idle_bytes + self._size_bytes(self._need(demand, "expected"))

    def _peak_bytes(self, demand: Demand, now: MemoryNow) -> int:
        """The worker's expected peak while it speaks `demand` alone."""
        formula, peaks = self._formula_peak_bytes(demand, now), self._foresee()
        foreseen = None if peaks is None else peaks(demand, formula / MIB)
        return formula if foreseen is None else max(now.idle_bytes, int(foreseen[0] * MIB))

    def _never_fits(self, demand: Demand, room: int) -> OverCapacity | TextTooLong:
        need_mb, room_mb = self.need_bytes(demand) // MIB, room // MIB
        if fitting := self._longest(demand, room, demand.characters):
            return TextTooLong(
                f"text needs {need_mb} MB of the {room_mb} MB that are free; send at most "
                f"{fitting} characters."
            )
        least_mb = self.need_bytes(replace(demand, characters=1)) // MIB
        needs = "even a few words need"
        if demand.encoded_s or demand.decoded_s:
            needs = "a recording needs" if demand.encoded_s else "a saved voice's sample needs"
        return OverCapacity(
            f"Memory is short: {needs} {least_mb} MB, and {room_mb} MB are free. "
            "Close other programs, or try again later."
        )

    def _longest(self, demand: Demand, room: int, most: int) -> int:
        """Characters up to `most` whose need fits `room`; 0 if none."""
        return _largest(
            most, lambda length: self.need_bytes(replace(demand, characters=length)) <= room
        )

    def _margin_bytes(self, free_bytes: int) -> int:
        return min(self._plan.safety_margin_mb * MIB, int(free_bytes * _MARGIN_SHARE))


def _largest(most: int, holds: Callable[[int], bool]) -> int:
    """The largest number from 1 to `most` for which it still holds; 0 if it never does."""
    if most > 0 and holds(most):  # as nearly always
        return most
    low, high = 0, most - 1
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _free_if_idle(now: MemoryNow) -> int:
    # What running requests took is missing in what is free, and counted in their leases.
    return now.free_bytes + now.working_bytes


def _available(now: MemoryNow) -> int:
    """Free, or the worker's already."""
    return _free_if_idle(now) + now.idle_bytes
