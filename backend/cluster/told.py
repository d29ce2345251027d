"""What replicas tell the ingress, and it them, beside what is spoken. No Ray."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from backend.core import EngineInfo
from backend.hardware.deployment import Deployment
from backend.hardware.ladder import Footing
from backend.hardware.memory import MemoryNow
from backend.hardware.pressure import RunningConfig
from backend.thermometer import Heat
from backend.worker.messages import Load, WayState
from backend.worker.transport import WorkerState


@dataclass(frozen=True, slots=True)
class Pressure:
    """How much an ingress has to do."""

    ingress: str
    """Its name, which no other has."""
    inside: int
    """Requests that are spoken or wait."""
    wait_s: float
    """Until a newcomer's first sentence would begin, as it looks."""


@dataclass(frozen=True, slots=True)
class Report:
    """How a replica is, at one moment, as one ingress is told it."""

    state: WorkerState
    info: EngineInfo | None
    way: WayState | None
    load: Load
    pid: int | None
    """Of its worker, on its node."""
    rows: int
    """Sentences that it speaks together."""
    elsewhere: int
    """Sentences of other ingresses that it speaks, or that wait there for a row."""
    ingresses: tuple[Pressure, ...]
    """What each ingress has told of itself lately."""
    memory: MemoryNow
    machine: dict[str, Any]
    """Its node's load, as `MachineUsage.load` tells it."""
    heat: Heat | None
    config: RunningConfig
    footing: Footing
    """What memory has left of its plan."""
    thermal: dict[str, Any]
    """As `Cooling.status` tells it, with `level` and `warning` beside."""
    ladder: dict[str, Any]
    """As `Shortage.status` tells it."""


@dataclass(frozen=True, slots=True)
class Described:
    """What does not change of a replica as long as it lives."""

    replica: str
    """Its name, which no other has."""
    node: str
    """The machine that it is on."""
    deployment: Deployment
    """That machine, and the plan that was made there."""
    report: Report


class Replicas(Protocol):
    """The way to the replicas of one kind, as `handles.RayReplicas` has it.

    Each call but `ask` raises `EngineDown` where the replica is gone.
    """

    @property
    def kind(self) -> str:
        """The name of their deployment."""

    def watch(self, told: Callable[[frozenset[str]], None]) -> None:
        """Tell the names of those that are there, now and whenever they are others; on this event
        loop."""

    async def wake(self) -> None:
        """Have one started where there is none, and wait for it."""

    async def describe(self, replica: str) -> Described:
        """What it is; of any where `replica` is ""."""

    async def report(self, replica: str, pressure: Pressure) -> Report:
        """How it is."""

    async def tell(self, replica: str, message: bytes) -> bytes:
        """Ask what is no request, and the answer: messages, as on a worker's pipe."""

    def ask(self, replica: str, message: bytes) -> AsyncGenerator[bytes, None]:
        """The answer to a request, in blocks of messages as on a worker's pipe; closing it before
        its end gives it up. Raises `EngineDown` where the replica dies or is gone."""
