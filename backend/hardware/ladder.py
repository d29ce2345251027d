"""What is given up, and in which order, when memory runs short all the same. Pure.

The budgets keep what is promised within what is free. Another program may take that: then a worker
goes on with less, one step at a time, and back up one step for each minute without want.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from backend.core import Choice, Plan
from backend.hardware.pressure import LEAST_CACHE_MB, LEAST_CHUNK_LENGTH
from backend.hardware.quantization import STRONGER

CLEAR_S = 60.0
"""Without want of memory, before a step is taken back."""
WANT_S = 3.0
"""For so long less must be free than was promised, before it counts: readings are half a second
apart, and a worker that gives memory back is seen to in the next."""
SMALL_WINDOW_FRAMES = 4
"""Of the codec, instead of 24 on a CPU and 16 on a GPU: twice the first piece."""

_WHY: Final = ("memory ran short", "machine")
"""Reason and source of what a step chooses."""

SAYS: dict[str, str] = {
    "": "as planned",
    "fewer_rows": "a quarter of the rows",
    "one_row": "one row at a time",
    "small_windows": "the codec in smaller windows",
    "codec_on_cpu": "the codec on the CPU",
    "small_cache": "less memory for keys and values, and shorter pieces",
    "int8": "weights in int8",
    "int4": "weights in int4",
    "cpu": "everything on the CPU",
}
"""Every step by its name, the gentlest first; "" is the plan."""


@dataclass(frozen=True, slots=True)
class Footing:
    """What a worker goes on with: a step of the ladder, those above it included."""

    plan: Plan
    """With rows, keys and values, pieces and quantization of this step."""
    step: str = ""
    """One of `SAYS`."""
    worker_rows: int = 0
    """Rows that the worker has places for."""
    decode_frames: int | None = None
    """Most frames that the codec decodes in one go; None is as many as are best."""
    codec_on_cpu: bool = False

    @property
    def says(self) -> str:
        """What it is, in words."""
        return SAYS[self.step]

    def is_loaded_as(self, other: "Footing") -> bool:
        """Whether a worker that was started for the other can go on with this."""
        return self._loaded == other._loaded

    @property
    def _loaded(self) -> tuple[object, ...]:
        plan = self.plan
        return (
            plan.device.value,
            plan.quantization.value,
            self.worker_rows,
            self.decode_frames,
            self.codec_on_cpu,
        )


def footings(
    plan: Plan, *, may_quantize: bool = True, may_leave_gpu: bool = True
) -> tuple[Footing, ...]:
    """The plan, and below it every step that means something for it, the gentlest first.

    `may_quantize` and `may_leave_gpu` say that no user has chosen. The last step of a GPU's names
    the CPU; what is planned there is looked for when it is wanted.
    """
    return tuple(_downwards(plan, may_quantize, may_leave_gpu))


def _downwards(plan: Plan, may_quantize: bool, may_leave_gpu: bool) -> Iterator[Footing]:
    at = Footing(plan, worker_rows=plan.max_batch.value)
    yield at
    rows = plan.max_batch.value
    for step, fewer in (("fewer_rows", max(1, rows // 4)), ("one_row", 1)):
        if fewer < at.plan.max_batch.value:
            at = replace(at, step=step, plan=replace(at.plan, max_batch=Choice(fewer, *_WHY)))
            yield at
    at = replace(at, step="small_windows", worker_rows=1, decode_frames=SMALL_WINDOW_FRAMES)
    yield at
    is_on_gpu = bool(plan.device_uuid)
    if is_on_gpu:
        at = replace(at, step="codec_on_cpu", codec_on_cpu=True)
        yield at
    cache_mb, chunk = plan.cache_limit_mb.value, plan.chunk_length.value
    smaller = replace(
        at.plan,
        cache_limit_mb=Choice(min(cache_mb, max(LEAST_CACHE_MB, cache_mb // 4)), *_WHY),
        chunk_length=Choice(min(chunk, LEAST_CHUNK_LENGTH), *_WHY),
    )
    at = replace(at, step="small_cache", plan=smaller)
    yield at
    for kind in STRONGER[plan.quantization.value] if may_quantize else ():
        at = replace(at, step=kind, plan=replace(at.plan, quantization=Choice(kind, *_WHY)))
        yield at
    if is_on_gpu and may_leave_gpu:
        yield Footing(replace(plan, device=Choice("cpu", *_WHY), device_uuid=""), "cpu")


class Ladder:
    """Where on its steps a worker stands. Times are seconds of any clock that does not leap."""

    def __init__(self, steps: int) -> None:
        """So many `steps` below the plan."""
        self.steps, self.level = steps, 0
        self.steps_down = self.steps_up = 0
        """Taken so far."""
        self._wanting_since_s: float | None = None
        self._clear_since_s = 0.0

    def down(self, now_s: float) -> bool:
        """Take a step down; False on the last."""
        self.wait(now_s)
        if self.level == self.steps:
            return False
        self.level += 1
        self.steps_down += 1
        return True

    def up(self, now_s: float) -> None:
        """Take a step back up."""
        self._clear_since_s = now_s
        self.level -= 1
        self.steps_up += 1

    def is_wanting(self, now_s: float, is_short: bool) -> bool:
        """Whether memory has been short for so long that a step is due; looked at every second."""
        if not is_short:
            self._wanting_since_s = None
            return False
        self._clear_since_s = now_s
        if self._wanting_since_s is None:
            self._wanting_since_s = now_s
        return now_s - self._wanting_since_s >= WANT_S

    def wait(self, now_s: float) -> None:
        """Nobody can tell now whether it is short."""
        self._clear_since_s, self._wanting_since_s = now_s, None

    def is_clear(self, now_s: float) -> bool:
        """Whether a step may be taken back."""
        return self.level > 0 and now_s - self._clear_since_s >= CLEAR_S
