"""Setups measured one after another, within a budget of seconds, and what follows from it."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from loguru import logger

from backend.core import MIB, Plan
from backend.errors import BadSetting, NotEnoughMemory, ShoalError
from backend.hardware.deployment import Deployment
from backend.hardware.detect import read_memory
from backend.hardware.machine import Hardware
from backend.hardware.measured import REASON_CHARACTERS, Figures, Measurement, Setup, Verdict
from backend.hardware.measurements import Measurements
from backend.hardware.memory import MemoryBudgetManager, MemoryNow
from backend.hardware.need import CheckpointShape
from backend.hardware.plan import make_plan
from backend.hardware.quantization import SMALL_CALIBRATION_SAMPLES, is_small
from backend.hardware.tuned import refusal, tuned_plan, verdict_on
from backend.serving import launch
from backend.settings import Settings
from backend.tuning.candidates import candidates
from backend.tuning.measure import measure

DEFAULT_SECONDS = 60.0
_LEAST_S = 1.0
"""A shorter time measures nothing."""
_SHORTER = 1 / 2
"""A trial is begun in this share of what the longest took, which packed weights or compiled first;
one that does not end in time costs no more than what was left."""
_RIVALS, _TRIALS = 2.0, 3
"""Up to so many times the best's RTF a setup is tried again, so many times in all: on a machine
that others use as well, the same one was three times slower from one minute to the next."""

_SENTENCE, _SHORT_SENTENCE = "How fast does it go?", "Hello."
"""What is said with a small checkpoint, and with another: weights that do not end by themselves go
on to the frame limit, which is 75 frames of the short one, and those take a slow machine seconds.
"""

FreeBytes = Callable[[Plan], int]
"""What is free now of the memory that a plan's worker would take."""


class Tuning:
    """Measures what this machine speaks `settings`' checkpoint fastest with.

    Nothing is kept before `save`. Raises what `make_plan` raises, and `BadSetting` for an engine
    that has no setups.
    """

    def __init__(
        self,
        settings: Settings,
        hardware: Hardware,
        shape: CheckpointShape,
        seconds: float = DEFAULT_SECONDS,
        free_bytes: FreeBytes | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if settings.engine != "shoal":
            raise BadSetting("ENGINE=fish-speech has nothing to choose: unset it to measure.")
        self.settings, self.hardware, self.shape = settings, hardware, shape
        self.seconds = seconds
        self._free_bytes = free_bytes or self._free_now
        self._clock = clock
        self.rows: list[Measurement] = []
        self.spent_s = 0.0
        """On measuring, not on waiting; of what was given up nothing counts."""
        self._longest_s = self._began_s = 0.0
        self._trials: Counter[Setup] = Counter()
        self.current: Setup | None = None
        """What is being measured."""
        self.expected_rtf = make_plan(hardware, settings, shape).expected_rtf
        """The tier's."""

    @property
    def ahead(self) -> list[Setup]:
        """What is not measured yet, the most promising first."""
        return candidates(self.hardware, self.settings, self.shape, self.rows)

    @property
    def elapsed_s(self) -> float:
        """Seconds spent, on what is being measured too."""
        return self.spent_s + (self._clock() - self._began_s if self.current else 0.0)

    @property
    def left_s(self) -> float:
        """Seconds that are left to measure in."""
        return max(0.0, self.seconds - self.spent_s)

    def next(self) -> Setup | None:
        """What to measure now; None where nothing is left, or the time would not do for it.

        What is nearly as fast as the best is measured again in the end.
        """
        if self.left_s <= max(_LEAST_S, self._longest_s * _SHORTER):
            return None
        return next(iter(self.ahead or self._rivals()), None)

    async def measure(self, setup: Setup) -> Measurement:
        """What becomes of `setup`, added to `rows`; cancelling it leaves no trace of it."""
        self._began_s, self.current = self._clock(), setup
        try:
            row = await self._tried(setup)
        finally:
            self.current = None
        took_s = self._clock() - self._began_s
        self.spent_s += took_s
        if row.outcome == "measured":
            self._longest_s = max(self._longest_s, took_s)
        self._trials[setup] += 1
        self._record(row)
        logger.info("Measured {}: {}.", setup, row.figures or row.reason)
        return row

    def verdict(self) -> Verdict | None:
        """The best so far; None where the tier table has to decide."""
        found = verdict_on(self.hardware, self.settings, self.shape, self.rows)
        return None if found is None else found[0]

    def plan(self) -> Plan:
        """What follows from the measurements."""
        return tuned_plan(self.hardware, self.settings, self.shape, self.rows)

    def save(self) -> None:
        """Keep what was measured for the plans to come; raises `StorageFull`."""
        Measurements(self.settings.data_dir).keep(
            self.hardware, self.settings.checkpoint_dir, self.shape.name, self.rows
        )

    def _rivals(self) -> list[Setup]:
        """What may yet turn out to be the fastest, the least tried first: other programs make one
        trial slower than the next."""
        verdict = self.verdict()
        if verdict is None:
            return []
        most_rtf = _RIVALS * verdict.figures.rtf
        close = [
            (self._trials[row.setup], row.figures.rtf, row.setup)
            for row in self.rows
            if row.figures is not None and row.figures.rtf <= most_rtf and row.figures.is_faithful
        ]
        again = [each for each in close if each[0] < _TRIALS and len(close) > 1]
        return [setup for *_, setup in sorted(again, key=lambda each: each[:2])]

    def _record(self, row: Measurement) -> None:
        """Of several trials the fastest counts."""
        old = next((each for each in self.rows if each.setup == row.setup), None)
        if old is None:
            self.rows.append(row)
        elif row.figures and old.figures and row.figures.rtf < old.figures.rtf:
            self.rows[self.rows.index(old)] = row

    async def _tried(self, setup: Setup) -> Measurement:
        try:
            plan = make_plan(self.hardware, setup.pinned(self.settings), self.shape)
        except NotEnoughMemory as error:
            return Measurement(setup, "too_large", reason=refusal(error))
        except BadSetting as error:
            return Measurement(setup, "failed", reason=refusal(error))
        now = MemoryNow(self._free_bytes(plan), 0)
        try:
            memory = MemoryBudgetManager(plan, self.shape, lambda: now)
            memory.check_load(Deployment(self.hardware, self.shape, plan).resident_bytes)
        except NotEnoughMemory as error:
            return Measurement(setup, "skipped", reason=refusal(error))
        left_s, kept_codes = self.left_s, self._kept_codes(setup)
        # Of a large checkpoint it takes minutes, and makes nothing faster.
        is_calibrated = is_small(self.shape) and kept_codes is None
        samples = SMALL_CALIBRATION_SAMPLES if is_calibrated else 0
        try:
            async with asyncio.timeout(left_s):
                tried = replace(plan, calibration_samples=samples)
                figures = await measure(
                    launch.worker_command(self.settings, tried),
                    launch.worker_environment(plan),
                    self.settings.worker_start_timeout_s,
                    _SENTENCE if is_small(self.shape) else _SHORT_SENTENCE,
                )
        except TimeoutError:
            return Measurement(setup, "skipped", reason=f"not done in the {left_s:.0f} s left")
        except ShoalError as error:
            return Measurement(setup, "failed", reason=_told(error))
        if figures.kept_codes is None:
            figures = replace(figures, kept_codes=kept_codes)
        return self._fitting(setup, plan, figures)

    def _kept_codes(self, setup: Setup) -> float | None:
        """What quantization left alone of the same weights, where that was measured before."""
        for row in self.rows:
            if row.figures is not None and row.setup.weights == setup.weights:
                return row.figures.kept_codes
        return None

    def _fitting(self, setup: Setup, plan: Plan, figures: Figures) -> Measurement:
        """Measured, unless it took more memory than it may have."""
        gpu = next((gpu for gpu in self.hardware.gpus if gpu.uuid == plan.device_uuid), None)
        room_bytes = gpu.free_bytes if gpu else self.hardware.memory.limit_bytes
        room_mb = room_bytes // MIB - plan.safety_margin_mb
        if figures.peak_mb <= room_mb:
            return Measurement(setup, "measured", figures)
        reason = f"it took {figures.peak_mb:.0f} MB, and {room_mb} MB may be taken"
        return Measurement(setup, "too_large", reason=reason)

    def _free_now(self, plan: Plan) -> int:
        gpu = next((gpu for gpu in self.hardware.gpus if gpu.uuid == plan.device_uuid), None)
        return gpu.free_bytes if gpu else read_memory().available_bytes


def _told(error: ShoalError) -> str:
    """Without the advice for a client."""
    words = str(error).removesuffix(" Try again shortly.").rstrip(".")
    return words.removeprefix("The worker is down: ")[:REASON_CHARACTERS]
