"""The workers of this machine behind one queue: one, or one for each GPU or group of cores."""

import asyncio
from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import Any

from loguru import logger

from backend.core import MIB, EngineInfo
from backend.errors import EngineDown, ShoalError
from backend.hardware.deployment import Deployment
from backend.hardware.pressure import RunningConfig
from backend.hardware.report import workers_json
from backend.serving.admission import Admission
from backend.serving.foresight import Foresight
from backend.serving.lane import Lane
from backend.serving.launch import worker_process
from backend.serving.quiet import Quiet
from backend.serving.shortage import until
from backend.serving.tasks import end
from backend.serving.tidying import Tidying
from backend.settings import Settings


class Fleet:
    """A lane for each plan of `deployment`, and the queue that all of them serve; what their
    requests take is learned together.

    Each has a worker, memory, a ladder and heat of its own. Raises `NotEnoughMemory` where one of
    the workers would not fit what is free now.
    """

    is_here = True
    """Its workers are on this machine: another may be started beside them, and measured."""

    def __init__(
        self,
        settings: Settings,
        deployment: Deployment,
        command: tuple[str, ...] | None = None,
        start_attempts: int | None = None,
        quiet: Quiet | None = None,
    ) -> None:
        """`command` starts each worker in place of what its plan says; `quiet` tells whether a
        request is inside, here or in a fleet that shares it."""
        self.quiet = quiet or Quiet()
        self.admission = Admission(
            queue_limit=settings.queue_limit,
            rows_per_client=settings.max_batch_per_client,
            quiet=self.quiet,
        )
        self.foresight = Foresight(settings, lambda: self.lead.deployment, self.quiet)
        self._tidying = Tidying(self.quiet)
        self.lanes = self._made(settings, deployment, command, start_attempts)
        self._number = {lane: number for number, lane in enumerate(self.lanes)}
        for lane, number in self._number.items():
            lane.name = str(number)
        self._starting: set[asyncio.Task[None]] = set()
        self._waking: dict[Lane, asyncio.Task[ShoalError | None]] = {}

    def _made(
        self,
        settings: Settings,
        deployment: Deployment,
        command: tuple[str, ...] | None,
        start_attempts: int | None,
    ) -> tuple[Lane, ...]:
        """The lanes that it begins with."""
        each = deployment.each()
        lanes = tuple(
            Lane(
                settings,
                one,
                worker_process(settings, start_attempts),
                self.admission,
                self.foresight,
                self.quiet,
                command,
                is_alone=len(each) == 1,
            )
            for one in each
        )
        for lane in lanes:
            if not lane.plan.device_uuid:  # a GPU's memory is one worker's alone
                lane.beside = [other for other in lanes if other is not lane]
        if settings.engine == "shoal":  # what the published package takes is not known
            for lane in lanes:
                lane.check_load()
        return lanes

    @property
    def lead(self) -> Lane:
        """The first whose worker can speak, the first of all where none can. Its plan stands for
        all where it is not known yet who will speak."""
        return next((lane for lane in self.lanes if lane.is_able), self.lanes[0])

    def start(self) -> None:
        """Start the workers; returns at once."""
        self._start_workers()
        self.foresight.start()
        self._tidying.start()

    def _start_workers(self) -> None:
        for lane in self.lanes:
            lane.start()
        if len(self.lanes) > 1:
            self._starting = {
                asyncio.create_task(self._attend(lane), name=f"worker {number} starting")
                for lane, number in self._number.items()
            }

    async def ready(self) -> EngineInfo:
        """Wait until one can speak; `EngineDown` once it is clear that none ever will."""
        starting = self._starting
        while starting:
            _, starting = await asyncio.wait(starting, return_when=asyncio.FIRST_COMPLETED)
            if self.lead.is_able:
                break
        if len(self.lanes) == 1:
            return await self.lanes[0].ready()
        return self.lead.worker.loaded()

    async def awake(self) -> float:
        """Have workers started that have ended for want of requests, and wait for the first of
        them where none can speak; seconds that took. Raises as `Lane.awake` does."""
        if len(self.lanes) == 1:
            return await self.lanes[0].awake()
        for lane in self.lanes:
            if lane.resting.is_asleep and lane not in self._waking:
                self._waking[lane] = asyncio.create_task(self._wake(lane), name="waking")
        waking = set(self._waking.values())
        if not waking or self.lead.is_able:
            return 0.0
        began_s = asyncio.get_running_loop().time()
        problem: ShoalError | None = None
        while waking and not self.lead.is_able:
            done, waking = await asyncio.wait(waking, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                problem = task.result() or problem
        if problem is not None and not self.lead.is_able:
            raise problem
        return asyncio.get_running_loop().time() - began_s

    def stop_admitting(self) -> None:
        """Refuse what has not begun to be spoken; the rest may finish."""
        self.admission.close()

    async def close(self) -> None:
        """End the workers; requests that still wait are told."""
        self.admission.close()
        await end(*self._starting, *self._waking.values())
        await self.foresight.close()
        await self._tidying.close()
        await asyncio.gather(*(lane.close() for lane in self.lanes))

    @property
    def at_hand(self) -> list[Lane]:
        """Those that are able; all where none is."""
        return [lane for lane in self.lanes if lane.is_able] or list(self.lanes)

    async def configure(self, config_of: Callable[[Lane], RunningConfig]) -> None:
        """Let each go on with what is right for it. One that is down starts with it, while others
        can speak; else raises `EngineDown`, or `TimedOut`."""
        at_hand = self.at_hand
        for lane in self.lanes:
            with nullcontext() if lane in at_hand else suppress(EngineDown):
                await lane.configure(config_of(lane))

    async def clear_caches(self) -> int:
        """Let the workers forget what they can; the bytes that became free. Raises as above."""
        workers = [lane.worker for lane in self.at_hand]
        loaded = [worker for worker in workers if worker.state.phase != "unloaded"]
        return sum([(await worker.clear_caches()).freed_bytes for worker in loaded])

    @property
    def cache_bytes(self) -> int:
        """Bytes of keys and values that the workers hold."""
        return sum(lane.worker.load.cache_bytes for lane in self.lanes)

    @property
    def leased_bytes(self) -> int:
        """Promised to sentences, at all workers."""
        return sum(lane.memory.leased_bytes for lane in self.lanes)

    def number(self, lane: Lane) -> int:
        """By which it is known, from 0; it keeps it."""
        return self._number[lane]

    def place(self, lane: Lane) -> tuple[str, str]:
        """Of a worker elsewhere its name and its machine's; "" of those here."""
        return "", ""

    async def exposition(self, ours: bytes) -> bytes:
        """What Prometheus is told: `ours`, and what others tell who belong to it."""
        return ours

    def beside(self) -> dict[str, Any]:
        """What `GET /system-status` tells of other servers before the same workers."""
        return {}

    def planned(self, deployment: Deployment) -> dict[str, Any]:
        """How many workers there are and with what: `workers` of `GET /hardware`."""
        return {"workers": workers_json(deployment)}

    def status(self) -> list[dict[str, Any]]:
        """How each worker is: `workers` of `GET /system-status`."""
        return [self._status(lane) for lane in self.lanes]

    def _status(self, lane: Lane) -> dict[str, Any]:
        state, memory, gpu = lane.worker.state, lane.memory_now(), lane.usage.gpu()
        return {
            "worker": self._number[lane],
            "device": lane.plan.device.value,
            "state": state.phase,
            "reason": state.reason,
            "restarts": state.restarts,
            "pid": lane.worker.pid,
            "speaking": self.admission.at_work(lane),
            "rows": lane.rows,
            "memory_mb": round(memory.worker_bytes / MIB, 1),
            "leased_mb": round(lane.memory.leased_bytes / MIB, 1),
            "memory_budget_safe": lane.memory.is_safe,
            "memory_ladder": lane.shortage.status(),
            "thermal": lane.cooling.status(),
            "gpu_memory_total_mb": gpu.total_bytes // MIB if gpu else None,
            "gpu_memory_free_mb": gpu.free_bytes // MIB if gpu else None,
        }

    async def _attend(self, lane: Lane) -> None:
        """See one of several workers to where it can speak; it is given up where its torch cannot
        use the GPU that it was given, unless it is the last."""
        with suppress(EngineDown):
            info = await lane.ready()
            self.admission.look()
            if lane.plan.device_uuid and info.device == "cpu" and len(self.lanes) > 1:
                problem = f"torch {info.torch_version} cannot use {lane.plan.device.value}"
                logger.warning("Worker {} is ended: {}.", self._number[lane], problem)
                await self._retire(lane)

    async def _retire(self, lane: Lane) -> None:
        self.lanes = tuple(other for other in self.lanes if other is not lane)
        self.admission.part(lane)
        await until(lambda: not lane.worker.is_at_work)
        await lane.close()

    async def _wake(self, lane: Lane) -> ShoalError | None:
        """What kept it from being started."""
        try:
            await lane.awake()
        except ShoalError as error:
            return error
        else:
            return None
        finally:
            del self._waking[lane]
            self.admission.look()
