"""A replica as a station of the ingress's queue: a lane whose figures it tells itself."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from backend.cluster.told import Described, Pressure, Replicas, Report
from backend.cluster.transport import ReplicaTransport
from backend.core import EngineInfo
from backend.errors import EngineDown
from backend.hardware.deployment import Deployment
from backend.hardware.ladder import Footing
from backend.hardware.memory import MemoryNow
from backend.hardware.pressure import RunningConfig
from backend.hardware.usage import MachineUsage
from backend.serving.admission import Admission
from backend.serving.cooling import Cooling
from backend.serving.foresight import Foresight
from backend.serving.lane import Lane
from backend.serving.quiet import Quiet
from backend.serving.shortage import Shortage
from backend.serving.speed import CHARACTERS_PER_AUDIO_S
from backend.settings import Settings
from backend.thermometer import Heat
from backend.worker.client import WorkerClient
from backend.worker.transport import Patience


class ReplicaLane(Lane):
    """What heat, memory and idleness ask for, the replica does on its machine; here it is only
    told of, and its memory leased once more, so that nothing is sent there in vain."""

    def __init__(
        self,
        settings: Settings,
        described: Described,
        replicas: Replicas,
        another: Callable[[], Awaitable[object]],
        admission: Admission,
        foresight: Foresight,
        quiet: Quiet,
    ) -> None:
        """`another` waits until any replica can speak."""
        self.replica, self.node, self.kind = described.replica, described.node, replicas.kind
        self.is_leaving = False
        """Serve ends its replica once what it speaks is spoken."""
        self._report = described.report
        self._transport = ReplicaTransport(replicas, described.replica, another)
        patience = Patience(
            unresponsive_s=settings.worker_unresponsive_s, answer_s=settings.worker_answer_s
        )
        super().__init__(
            settings.model_copy(update={"thermal_control": False, "unload_after_s": 0.0}),
            described.deployment,
            WorkerClient(self._transport, patience),
            admission,
            foresight,
            quiet,
            is_alone=False,
        )
        self.name = described.replica
        self.hear(described.report)

    def hear(self, report: Report) -> None:
        """Go by what the replica tells of itself."""
        self._report, self.footing, self.rows = report, report.footing, report.rows
        # What it may have whatever the others do: they make room for it at the replica.
        part = math.ceil(report.rows / max(1, len(report.ingresses)))
        self.elsewhere = min(report.elsewhere, report.rows - part)
        self._transport.hear(report)
        self.admission.look()

    @property
    def ingresses(self) -> tuple[Pressure, ...]:
        """Those that its replica speaks for, this one with them once it has told of itself."""
        return self._report.ingresses

    def silent(self, reason: str) -> None:
        """It does not answer."""
        self._transport.silent(reason)

    def lost(self, error: EngineDown) -> None:
        """Its replica is gone."""
        self._transport.lost(error)

    def join(self) -> None:
        """Stand in the queue, having parted from it."""
        self.admission.join(
            self,
            rows=self.rows,
            most_rows=self.rows,
            characters_per_s=CHARACTERS_PER_AUDIO_S / self.plan.expected_rtf,
        )

    @property
    def is_able(self) -> bool:
        """Its worker can speak now, and will be there."""
        return super().is_able and not self.is_leaving

    @property
    def config(self) -> RunningConfig:
        """What it goes on with there, and what was asked of it here."""
        told = self._report.config
        return replace(told, chunk_length=min(told.chunk_length, self.asked.chunk_length))

    def _take(self, deployment: Deployment, usage: MachineUsage | None = None) -> None:
        told = _ToldUsage(deployment, self._worker_now, lambda: self._report)
        super()._take(deployment, told)
        self.cooling = _ToldCooling(lambda: self._report)

    def _ladder(self) -> Shortage:
        return _ToldShortage(self.worker, self, lambda: self._report)

    def _instruct(self) -> None:
        """Its replica does."""


class _ToldUsage(MachineUsage):
    """What a replica's machine has left, as it tells."""

    def __init__(
        self,
        deployment: Deployment,
        worker: Callable[[], tuple[EngineInfo | None, int]],
        report: Callable[[], Report],
    ) -> None:
        super().__init__(deployment.plan, deployment.hardware, worker)
        self._report, self.card = report, None

    def start(self) -> None:
        """Nothing: the replica reads."""

    def memory(self) -> MemoryNow:
        return self._report().memory

    def heat(self) -> Heat | None:
        return self._report().heat

    def memory_pct(self) -> float:
        return float(self._report().machine["memory_percent"])

    def resources(self) -> dict[str, Any]:
        return self.load() | {"temperatures_c": _temperatures_c(self.heat())}

    def load(self) -> dict[str, Any]:
        return self._report().machine


class _ToldCooling(Cooling):
    """How a replica is kept cool, as it tells."""

    def __init__(self, report: Callable[[], Report]) -> None:
        threads = report().config.num_threads
        super().__init__(lambda: None, threads, lambda: False, _nothing, may_lower=False)
        self._report = report

    @property
    def level(self) -> int:
        return int(self._report().thermal["level"])

    def start(self) -> None:
        """Nothing: the replica looks."""

    def warning(self) -> str:
        return str(self._report().thermal["warning"])

    def status(self) -> dict[str, Any]:
        told = self._report().thermal
        self.steps_back = int(told["steps_back"])
        return {name: value for name, value in told.items() if name not in ("level", "warning")}


class _ToldShortage(Shortage):
    """Where a replica stands on its ladder, as it tells."""

    def __init__(self, worker: WorkerClient, lane: Lane, report: Callable[[], Report]) -> None:
        super().__init__(worker, (report().footing,), lane)
        self._report = report

    @property
    def level(self) -> int:
        return int(self._report().ladder["level"])

    @property
    def steps_down(self) -> int:
        return int(self._report().ladder["steps_down"])

    @property
    def footing(self) -> Footing:
        return self._report().footing

    def start(self) -> None:
        """Nothing: the replica looks."""

    def status(self) -> dict[str, Any]:
        return self._report().ladder


def _temperatures_c(heat: Heat | None) -> dict[str, float]:
    if heat is None or heat.temperature_c is None:
        return {}
    return {heat.name: heat.temperature_c}


async def _nothing() -> None:
    """A cooling that is only told changes nothing."""
