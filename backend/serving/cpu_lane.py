"""A second worker, on the CPU beside one that computes on a GPU."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from loguru import logger

from backend.errors import Aborted, BadCheckpoint, BadSetting, NotEnoughMemory, OverCapacity
from backend.hardware.deployment import Deployment
from backend.hardware.machine import Hardware
from backend.hardware.memory import Demand
from backend.serving.fleet import Fleet
from backend.serving.lane import look_again, on_cpu
from backend.serving.quiet import Quiet
from backend.settings import Settings


class CpuLane:
    """The lane that `force_cpu` asks for, on the CPU beside one that computes on a GPU.

    Its worker is started by the first request for it, and ended when it was idle for a while.
    """

    def __init__(
        self,
        settings: Settings,
        hardware: Hardware,
        command: tuple[str, ...] | None = None,
        quiet: Quiet | None = None,
    ) -> None:
        self._settings = on_cpu(settings)
        self._hardware, self._command, self._quiet = hardware, command, quiet
        self._fleet: Fleet | None = None
        self._users = 0
        self._is_closed = False
        self._idle: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Fleet]:
        """Its queue and worker, ready to speak.

        Raises `OverCapacity` where there is no memory for it now, `Aborted` after
        `stop_admitting`.
        """
        self._users += 1
        try:
            async with self._lock:
                fleet = self._fleet = self._fleet or await self._start()
            await fleet.ready()
            yield fleet
        finally:
            self._users -= 1
            if not self._users:
                self._end_later()

    async def fits(self, demand: Demand) -> bool:
        """Whether `demand` could be spoken there now; nothing is started for that."""
        if (running := self._fleet) is not None:
            return running.lead.memory.admits(demand)
        try:
            lane = (await self._make()).lead
            lane.memory.check_load(lane.deployment.resident_bytes + lane.memory.need_bytes(demand))
        except (BadCheckpoint, BadSetting, NotEnoughMemory):
            return False
        return True

    def stop_admitting(self) -> None:
        """Start it no more, and refuse what has not begun to be spoken there."""
        self._is_closed = True
        if self._fleet is not None:
            self._fleet.stop_admitting()

    async def close(self) -> None:
        """End it now."""
        self.stop_admitting()
        if self._idle is not None:
            self._idle.cancel()
        async with self._lock:
            fleet, self._fleet = self._fleet, None
        if fleet is not None:
            await fleet.close()

    async def _start(self) -> Fleet:
        try:
            fleet = await self._make()
        except (BadCheckpoint, BadSetting, NotEnoughMemory) as error:
            raise OverCapacity(f"force_cpu needs a second worker: {error}") from None
        if self._is_closed:
            raise Aborted("The server is stopping.")
        logger.info("A second worker is started, on the CPU.")
        fleet.start()
        return fleet

    async def _make(self) -> Fleet:
        """A fleet of one worker, which is not started."""
        deployment = await asyncio.to_thread(self._look)
        return Fleet(self._settings, deployment, self._command, quiet=self._quiet)

    def _look(self) -> Deployment:
        return look_again(self._settings, self._hardware)

    def _end_later(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.create_task(self._end_idle(), name="idle CPU worker")

    async def _end_idle(self) -> None:
        await asyncio.sleep(self._settings.cpu_worker_idle_s)
        async with self._lock:
            if self._users:
                return
            fleet, self._fleet = self._fleet, None
        if fleet is not None:
            logger.info("The CPU worker was idle for a while and is ended.")
            await fleet.close()
