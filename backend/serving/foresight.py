"""What a request will take, as earlier ones teach: believed as long as it errs less than the
formula, and learned anew while nobody is inside."""

import asyncio
import importlib.util
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec
from loguru import logger

from backend.core import MIB, EngineInfo, Plan, SpeechStats
from backend.errors import BadCheckpoint
from backend.hardware.deployment import Deployment
from backend.hardware.detect import read_memory
from backend.hardware.measurements import Key
from backend.hardware.memory import Demand, MemoryBudgetManager, Peaks
from backend.learning.case import TARGETS, Case, Foreseen, Formula, Target
from backend.learning.judge import Judge
from backend.learning.learned import (
    FILE_NAME,
    MOST_TIMES,
    Learned,
    Model,
    read_learned,
    write_learned,
)
from backend.monitoring.rows import timestamp
from backend.serving.quiet import Quiet
from backend.serving.speed import CHARACTERS_PER_AUDIO_S, Forecast
from backend.serving.tasks import end
from backend.settings import Settings

LIBRARY = "river"
"""What learns, where it is installed: `pip install "shoal-tts[learn]"`."""
NEW_REQUESTS = 48
"""Between two times that something is learned."""
QUIET_S = 3.0
"""Nobody was inside for so long."""
LEARN_S = 60.0
"""The process that learns is ended after so long."""
FREE_BYTES = 384 * MIB
"""It is not started where less main memory is free: three times what it takes."""


class Foresight:
    """Predicts for workers on one kind of device, and has what is logged of them learned.
    Everything is on one event loop.

    Where nothing was learned, or what was learned is no better, each answer is the formula's.
    """

    def __init__(
        self,
        settings: Settings,
        deployment: Callable[[], Deployment],
        quiet: Quiet,
        free_bytes: Callable[[], int] = lambda: read_memory().available_bytes,
    ) -> None:
        """`deployment` is one in use; `free_bytes` tells the free main memory, and blocks."""
        self._settings, self._deployment = settings, deployment
        self._quiet, self._free_bytes = quiet, free_bytes
        self._learned: Learned | None = None
        self._judges = {target: Judge(target) for target in TARGETS}
        self._engine = ""
        self._new, self._needed = 0, NEW_REQUESTS
        self._is_enough = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Read what was learned, and learn from now on; returns at once."""
        if self._settings.learn:
            self._task = asyncio.create_task(self._run(), name="foresight")

    async def open(self) -> Key:
        """Read what was learned, or begin anew; raises `BadCheckpoint`."""
        return await asyncio.to_thread(self._open)

    async def close(self) -> None:
        """Learn no more."""
        await end(self._task)

    @property
    def file(self) -> Path:
        """Where what was learned is kept: one for each kind of device."""
        return self._settings.data_dir / f"{self._device_kind}-{FILE_NAME}"

    @property
    def _device_kind(self) -> str:
        kind, _, _ = self._deployment().plan.device.value.partition(":")
        return kind

    # -- predictions ------------------------------------------------------------------------------

    def forecast(self, case: Case, formula: Forecast, info: EngineInfo) -> Forecast:
        """How long `case` will take and sound, alone; `formula` where nothing better is known."""
        told = Formula(formula.expected_s, formula.audio_s * info.frame_rate_hz, 0.0)
        seconds, frames = self._told("seconds", case, told), self._told("frames", case, told)
        return replace(
            formula,
            expected_s=formula.expected_s if seconds is None else seconds,
            audio_s=formula.audio_s if frames is None else frames / info.frame_rate_hz,
            is_learned=seconds is not None,
        )

    def weight(self, case: Case, info: EngineInfo) -> float:
        """What one of its characters weighs in the queue: their speech against the usual."""
        usual_s = max(1, case.characters) / CHARACTERS_PER_AUDIO_S
        usual = Formula(0.0, usual_s * info.frame_rate_hz, 0.0)
        frames = self._told("frames", case, usual)
        return 1.0 if frames is None else frames / info.frame_rate_hz / usual_s

    def peaks(self, plan: Callable[[], Plan]) -> Peaks | None:
        """What foretells the peaks of a worker of `plan`, as it runs now; None, without asking for
        it, where nothing was learned of them."""
        if self._model("memory") is None or not self._judges["memory"].is_content:
            return None
        running = plan()
        return lambda demand, formula_mb: self._peak_mb(running, demand, formula_mb)

    def _peak_mb(self, plan: Plan, demand: Demand, formula_mb: float) -> tuple[float, float] | None:
        """The peak, and what that stays below in 99 of 100: `hardware.memory.Peaks`."""
        case = Case(
            demand.characters,
            demand.wide_share,
            reference_s=demand.reference_s,
            chunk_length=demand.chunk_length,
            strategy=plan.strategy,
            num_threads=plan.num_threads.value,
        )
        peak_mb = self._told("memory", case, Formula(0.0, 0.0, formula_mb))
        if peak_mb is None or self._learned is None:
            return None
        above = math.exp(self._learned.models["memory"].above)
        return peak_mb, min(peak_mb * above, MOST_TIMES * formula_mb)

    def foresee(
        self,
        case: Case,
        demand: Demand,
        forecast: Forecast,
        memory: MemoryBudgetManager,
        info: EngineInfo,
    ) -> Foreseen:
        """What the formulas say of it, to be compared with what comes."""
        self._engine = f"{info.engine}/{info.checkpoint}"
        frames = forecast.audio_s * info.frame_rate_hz
        formula = Formula(forecast.expected_s, frames, memory.formula_peak_mb(demand))
        return Foreseen(case, formula)

    def spoke(self, foreseen: Foreseen, stats: SpeechStats, beside: int) -> None:
        """It was spoken whole, with at most so many beside it."""
        if set(stats.finish_reasons) != {"end"} or stats.retries:
            return
        took: dict[Target, float] = {"frames": stats.frames}
        if not beside:
            took |= {"seconds": stats.total_s, "memory": stats.peak_memory_mb}
        for target, truth in took.items():
            learned = self._predicted(target, foreseen.case, foreseen.formula)
            if learned is not None and truth > 0:
                self._judges[target].hear(learned, foreseen.formula, truth)
        self._new += 1
        if self._new >= self._needed:
            self._is_enough.set()

    def _told(self, target: Target, case: Case, formula: Formula) -> float | None:
        """What is predicted; None where the formula is believed instead."""
        judge, learned = self._judges[target], self._predicted(target, case, formula)
        return judge.told(learned, formula) if learned and judge.is_content else None

    def _predicted(self, target: Target, case: Case, formula: Formula) -> float | None:
        """As it was learned; None where nothing is."""
        model = self._model(target)
        if model is None or formula.of(target) <= 0:
            return None
        return formula.base(target, case) * model.times(case)

    def _model(self, target: Target) -> Model | None:
        """What was learned of it; None where that is nothing, or no better than the formula."""
        model = self._learned.models.get(target) if self._learned else None
        return model if model is not None and model.is_better else None

    # -- learning ---------------------------------------------------------------------------------

    async def _run(self) -> None:
        with suppress(BadCheckpoint):  # the worker says so
            await self.open()
            if not self._settings.metrics or importlib.util.find_spec(LIBRARY) is None:
                return
            while True:
                await self._is_enough.wait()
                await self._quiet.reached(QUIET_S)
                self._is_enough.clear()
                self._new = 0
                # Anew: the plan may be for another device by now, or the file gone.
                key = await self.open()
                if await asyncio.to_thread(self._free_bytes) >= FREE_BYTES:
                    await self._learn(key)

    def _open(self) -> Key:
        deployment = self._deployment()
        key = Key.of(deployment.hardware, self._settings.checkpoint_dir)
        self._learned = read_learned(self.file, key)
        if self._learned is None:
            with suppress(OSError):
                write_learned(self.file, Learned(key, since=timestamp(time.time())))
        return key

    async def _learn(self, key: Key) -> None:
        """Have a process learn from the log, and go by what it leaves."""
        asked = {
            "key": msgspec.to_builtins(key),
            "file": str(self.file.absolute()),
            "metrics_dir": str(self._settings.metrics_dir.absolute()),
            "engine": self._engine,
            "device_kind": self._device_kind,
        }
        # -P: a folder called backend where the server is started must not stand in for ours.
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "backend.learning.learner", json.dumps(asked)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # each would set memory aside
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        try:
            async with asyncio.timeout(LEARN_S):
                _, told = await process.communicate()
        except TimeoutError:
            told = f"it took longer than {LEARN_S:g} s".encode()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            self._needed *= 4  # whatever is wrong with it, it is tried ever more seldom
            last = told.decode(errors="replace").strip().rpartition("\n")[2]
            logger.warning("Nothing was learned from the request log: {}", last)
            return
        self._learned = await asyncio.to_thread(read_learned, self.file, key)
        self._judges = {target: Judge(target) for target in TARGETS}
        for target, model in self._learned.models.items() if self._learned else ():
            logger.info(
                "Learned from {} requests: predictions of {} are {:.0%} off, the formula's {:.0%}.",
                *(model.rows, target, model.error, model.formula_error),
            )
