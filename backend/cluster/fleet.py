"""The replicas of the cluster behind one queue, as they come and go."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from loguru import logger

from backend.cluster.exposition import told_by
from backend.cluster.lane import ReplicaLane
from backend.cluster.told import Described, Pressure, Replicas
from backend.core import EngineInfo
from backend.errors import EngineDown
from backend.hardware.deployment import Deployment
from backend.hardware.report import hardware_json, worker_json
from backend.logs import log_fault
from backend.serving.fleet import Fleet
from backend.serving.lane import Lane
from backend.serving.shortage import until
from backend.serving.tasks import end
from backend.settings import Settings
from backend.worker.messages import Load
from backend.worker.transport import WorkerState

_GONE = ("unloaded", "stopped")
"""Phases of a worker that will not speak again unless another is started."""
REPORT_S = 1.0
"""Between two looks at a replica: how it is told what is to be done, and tells how it is."""


class ClusterFleet(Fleet):
    """A lane for each replica. While there is none, one that nothing is sent to stands for all.

    `described` is any of them, `kinds` the ways to the replicas of each kind: those with a GPU and
    those without, say; `ingress` is the name of who asks them. `metrics` reads the cluster's own,
    as Prometheus text, and `others` that of each ingress of the same application, by its name.
    """

    is_here = False

    def __init__(
        self,
        settings: Settings,
        described: Described,
        kinds: Sequence[Replicas],
        ingress: str,
        metrics: Callable[[], Awaitable[bytes]] | None = None,
        others: Callable[[], Awaitable[dict[str, bytes]]] | None = None,
    ) -> None:
        self._ingress, self._others = ingress, others
        self._settings, self._described, self._kinds = settings, described, kinds
        self._metrics = metrics
        self._known: dict[Replicas, frozenset[str]] = dict.fromkeys(kinds, frozenset())
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._waking_up: asyncio.Task[None] | None = None
        super().__init__(settings, described.deployment)

    def _made(
        self,
        settings: Settings,
        deployment: Deployment,
        command: tuple[str, ...] | None,
        start_attempts: int | None,
    ) -> tuple[Lane, ...]:
        self._nobody = self._lane(_absent(self._described), self._kinds[0])
        return (self._nobody,)

    def _lane(self, described: Described, replicas: Replicas) -> ReplicaLane:
        return ReplicaLane(
            self._settings,
            described,
            replicas,
            self._able,
            self.admission,
            self.foresight,
            self.quiet,
        )

    def _start_workers(self) -> None:
        """Take the replicas in that there are, and those that come."""
        for replicas in self._kinds:
            replicas.watch(partial(self._see, replicas))

    async def ready(self) -> EngineInfo:
        """Wait until one can speak."""
        await self._able()
        return self.lead.worker.loaded()

    async def awake(self) -> float:
        """Have a replica started where there is none, and wait for it; seconds that took."""
        if any(each.worker.state.phase not in _GONE for each in self.lanes):
            return 0.0
        return await self._able()

    async def _able(self) -> float:
        """Wait until a replica can speak; seconds that took."""
        began_s = asyncio.get_running_loop().time()
        while not self.lead.is_able:
            if self._nobody in self.lanes and (self._waking_up is None or self._waking_up.done()):
                self._waking_up = self._begin(self._kinds[0].wake(), "waking")
            self._changed.clear()
            await self._changed.wait()
        return asyncio.get_running_loop().time() - began_s

    async def close(self) -> None:
        """Part from the replicas; Serve ends them."""
        await super().close()
        await end(*self._tasks)

    @property
    def pressure(self) -> Pressure:
        """How much there is to do."""
        queue = self.admission
        return Pressure(self._ingress, queue.speaking + queue.waiting, queue.wait_s(""))

    def place(self, lane: Lane) -> tuple[str, str]:
        """The replica's name, and its machine's."""
        assert isinstance(lane, ReplicaLane)
        return lane.replica, lane.node

    async def exposition(self, ours: bytes) -> bytes:
        """Of each ingress, with its name, whichever of them is asked; and the cluster's own."""
        if self._others is not None:
            texts = {self._ingress: ours} | await self._others()
            ours = told_by(texts, len({each.ingress for each in self._ingresses()} - set(texts)))
        return ours + (await self._metrics() if self._metrics else b"")

    def beside(self) -> dict[str, Any]:
        """Which ingress tells, and how much each has to do."""
        each = [
            {"ingress": one.ingress, "inside": one.inside, "wait_s": round(one.wait_s, 3)}
            for one in sorted(self._ingresses(), key=lambda one: one.ingress)
        ]
        return {"ingress": self._ingress, "ingresses": each}

    def _ingresses(self) -> tuple[Pressure, ...]:
        """As the replica knows that most of them have told."""
        return max((lane.ingresses for lane in self._replicas()), key=len)

    def planned(self, deployment: Deployment) -> dict[str, Any]:
        """The replicas that there are, each as its own machine has planned it, and the machines."""
        there = [each for each in self._replicas() if each is not self._nobody]
        return {
            "workers": {
                "count": len(there),
                "reason": "replicas that there are now",
                "source": "tier" if self._settings.worker_count is None else "user",
                "each": [
                    {"replica": each.replica, "kind": each.kind, "node": each.node}
                    | worker_json(self._number[each], each.plan)
                    for each in there
                ],
            },
            "machines": {each.node: hardware_json(each.deployment.hardware) for each in there},
        }

    def _status(self, lane: Lane) -> dict[str, Any]:
        assert isinstance(lane, ReplicaLane)
        told = super()._status(lane)
        return told | {
            "replica": lane.replica,
            "kind": lane.kind,
            "node": lane.node,
            "rows_at_work": lane.worker.load.running,
            "rows_elsewhere": lane.elsewhere,
        }

    # -- replicas come and go ---------------------------------------------------------------------

    def _see(self, replicas: Replicas, names: frozenset[str]) -> None:
        """Those of one kind are `names` now."""
        known, self._known[replicas] = self._known[replicas], names
        for name in sorted(names - known):
            self._begin(self._follow(replicas, name), f"replica {name}")
        for lane in self.lanes:
            if isinstance(lane, ReplicaLane) and lane.replica in known - names:
                self._begin(self._part(lane), f"replica {lane.replica} leaves")

    async def _follow(self, replicas: Replicas, name: str) -> None:
        """Take a replica in, and hear how it is until it is gone."""
        try:
            lane = self._lane(await replicas.describe(name), replicas)
        except EngineDown as error:
            logger.warning("The replica {} has ended before it was known: {}", name, error)
            return
        self._join(lane)
        logger.info("The replica {} on {} speaks.", name, lane.node)
        silent_s = self._settings.worker_silent_s
        while True:
            await asyncio.sleep(REPORT_S)
            if name not in self._known[replicas]:
                return  # to ask one that is gone would have Serve start another
            try:
                async with asyncio.timeout(silent_s):
                    lane.hear(await replicas.report(name, self.pressure))
            except TimeoutError:
                lane.silent(f"it has said nothing for {silent_s:g} s")
            except EngineDown as error:
                if name in self._known[replicas]:
                    logger.warning("The replica {} is gone: {}", name, error)
                    lane.lost(error)
                return
            self._look()

    def _join(self, lane: ReplicaLane) -> None:
        if self._nobody in self.lanes:
            self.admission.part(self._nobody)
        others = tuple(each for each in self.lanes if each is not self._nobody)
        taken = {self._number[each] for each in others}
        self._number[lane] = next(n for n in range(len(taken) + 1) if n not in taken)
        self.lanes = (*others, lane)
        self._look()

    async def _part(self, lane: ReplicaLane) -> None:
        """Send nothing there any more, and let it finish what it speaks."""
        lane.is_leaving = True
        self.lanes = tuple(each for each in self.lanes if each is not lane)
        if not self.lanes:
            self.lanes = (self._nobody,)
            self._nobody.join()
        self.admission.part(lane)
        self._look()
        try:
            await until(lambda: not lane.worker.is_at_work, self._settings.request_timeout_s)
        finally:
            await lane.close()
            del self._number[lane]
        logger.info("The replica {} has left.", lane.replica)

    def _look(self) -> None:
        """Something is different: who waits may go on."""
        lanes = self._replicas()
        for lane in lanes:
            shares = not lane.plan.device_uuid
            lane.beside = [
                other
                for other in lanes
                if shares and other.node == lane.node and other is not lane
                if not other.plan.device_uuid
            ]
        self._changed.set()
        self.admission.queues = max(1, len(self._ingresses()))
        self.admission.look()

    def _replicas(self) -> list[ReplicaLane]:
        return [each for each in self.lanes if isinstance(each, ReplicaLane)]

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log_fault("{} has failed.", task.get_name(), error=error)


def _absent(described: Described) -> Described:
    """In the place of replicas where there are none: what they would be."""
    state = WorkerState("unloaded", "there is no replica; the next request has one started")
    report = described.report
    report = replace(report, state=state, pid=None, load=Load(0, 0), elsewhere=0, ingresses=())
    return replace(described, replica="", node="", report=report)
