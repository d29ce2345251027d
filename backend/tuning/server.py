"""Measuring beside a server: while nobody is inside, and giving way to whoever comes."""

import asyncio
from typing import Any

from loguru import logger

from backend.core import Plan
from backend.errors import BadField, ShoalError
from backend.hardware.detect import read_memory
from backend.logs import log_fault
from backend.serving.fleet import Fleet
from backend.serving.tasks import end
from backend.settings import Settings
from backend.tuning.told import tuning_json
from backend.tuning.tuning import Tuning

QUIET_S = 2.0
"""Nobody has been inside for so long before anything is measured: a burst of requests is not
interrupted by workers that start and end."""


class BackgroundTuning:
    """One `Tuning` at a time beside the workers of `fleet`, which stay as they are.

    A setup is measured in a worker of its own, where that fits what is free beside them. When a
    request comes, that worker is ended, and its setup is measured again later. What is kept counts
    from the next start on: nobody's speech is interrupted for it.
    """

    def __init__(self, settings: Settings, fleet: Fleet) -> None:
        self._settings, self._fleet = settings, fleet
        self._tuning: Tuning | None = None
        self._state, self._problem = "none", ""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> dict[str, Any]:
        """Begin, unless it goes on already; where it stands.

        Raises `EngineDown` while the worker is not ready, `BadField` where the workers are on other
        machines, and what `Tuning` raises.
        """
        if not self._fleet.is_here:
            raise BadField(
                "measure: this server speaks through replicas of a cluster, which measure nothing "
                "for it; run `shoal tune` on each of their machines, and start them again."
            )
        self._fleet.lead.worker.loaded()
        if self._task is None or self._task.done():
            deployment = self._fleet.lead.deployment
            self._tuning = Tuning(
                self._settings,
                deployment.hardware,
                deployment.shape,
                free_bytes=self._free_bytes,
            )
            self._state, self._problem = "waiting", ""
            self._task = asyncio.create_task(self._run(self._tuning), name="tuning")
        return self.status()

    def status(self) -> dict[str, Any]:
        """Where it stands: `state` is none, waiting, measuring, done or failed."""
        told = {} if self._tuning is None else tuning_json(self._tuning)
        return {"state": self._state, "problem": self._problem} | told

    async def close(self) -> None:
        """Measure no more; what was not kept is forgotten."""
        await end(self._task)

    async def _run(self, tuning: Tuning) -> None:
        try:
            while (setup := tuning.next()) is not None:
                self._state = "waiting"
                await self._fleet.quiet.reached(QUIET_S)
                self._state = "measuring"
                measuring = asyncio.create_task(tuning.measure(setup), name=f"measure {setup}")
                disturbed = asyncio.create_task(self._fleet.quiet.disturbed(), name="disturbed")
                try:
                    await asyncio.wait({measuring, disturbed}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    is_over = measuring.done()
                    await end(measuring, disturbed)
                if is_over:
                    measuring.result()
            if (verdict := tuning.verdict()) is not None:
                await asyncio.to_thread(tuning.save)
                logger.info(
                    "Measured: {} made {}. The next start goes by it.",
                    verdict.setup,
                    verdict.figures,
                )
            self._state = "done"
        except ShoalError as error:
            self._state, self._problem = "failed", str(error)
            logger.warning("Measuring has ended: {}", error)
        except Exception as error:  # noqa: BLE001 - the task's boundary: it is told
            self._state, self._problem = "failed", f"{type(error).__name__}: {error}"
            log_fault("Measuring has failed.", error=error)

    def _free_bytes(self, plan: Plan) -> int:
        """Beside the workers that speak."""
        for lane in self._fleet.lanes:
            if lane.plan.device_uuid == plan.device_uuid:
                return lane.usage.memory().free_bytes
        return read_memory().available_bytes
