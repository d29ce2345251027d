"""The second worker that `force_cpu` asks for: on the CPU, beside one that computes on a GPU."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from loguru import logger

from backend.errors import BadCheckpoint, BadSetting, NotEnoughMemory, OverCapacity
from backend.hardware.look import Machine
from backend.hardware.machine import Hardware
from backend.hardware.memory import Demand
from backend.lane import Lane
from backend.settings import Settings


class CpuLane:
    """Starts the worker when it is first asked for, ends it when it was idle for a while."""

    def __init__(
        self, settings: Settings, hardware: Hardware, command: tuple[str, ...] | None = None
    ) -> None:
        # What was set for the GPU's weights need not be possible on the CPU.
        on_cpu = {"device": "cpu", "precision": "auto", "quantization": "auto"}
        self._settings = settings.model_copy(update=on_cpu)
        self._hardware, self._command = hardware, command
        self._lane: Lane | None = None
        self._users = 0
        self._idle: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Lane]:
        """The lane, ready to speak. `OverCapacity` where there is no memory for it now."""
        self._users += 1
        try:
            async with self._lock:
                lane = self._lane = self._lane or await self._start()
            await lane.ready()
            yield lane
        finally:
            self._users -= 1
            if not self._users:
                self._end_later()

    async def fits(self, demand: Demand) -> bool:
        """Whether `demand` could be spoken there now; nothing is started for that."""
        if (running := self._lane) is not None:
            return running.memory.admits(demand)
        try:
            lane = await self._make()
            lane.memory.check_load(lane.machine.resident_bytes + lane.memory.need_bytes(demand))
        except (BadCheckpoint, BadSetting, NotEnoughMemory):
            return False
        return True

    async def close(self) -> None:
        """End it now."""
        if self._idle is not None:
            self._idle.cancel()
        async with self._lock:
            lane, self._lane = self._lane, None
        if lane is not None:
            await lane.close()

    async def _start(self) -> Lane:
        try:
            lane = await self._make()
        except (BadCheckpoint, BadSetting, NotEnoughMemory) as error:
            raise OverCapacity(f"force_cpu needs a second worker: {error}") from None
        logger.info("A second worker is started, on the CPU.")
        lane.worker.start()
        return lane

    async def _make(self) -> Lane:
        """A lane whose worker is not started."""
        machine = await asyncio.to_thread(Machine.look, self._settings, self._hardware)
        return Lane(self._settings, machine, self._command)

    def _end_later(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.create_task(self._end_idle(), name="idle CPU worker")

    async def _end_idle(self) -> None:
        await asyncio.sleep(self._settings.cpu_worker_idle_s)
        async with self._lock:
            if self._users:
                return
            lane, self._lane = self._lane, None
        if lane is not None:
            logger.info("The CPU worker was idle for a while and is ended.")
            await lane.close()
