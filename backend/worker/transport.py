"""What carries messages to a worker and back, whatever lies between; and how the worker is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from backend.core import EngineInfo
from backend.errors import EngineDown, ShoalError
from backend.worker.messages import FromWorker, ToWorker

Phase = Literal["starting", "ready", "silent", "restarting", "unloaded", "stopped"]


@dataclass(frozen=True, slots=True)
class WorkerState:
    """How the worker is, in words that a user may read."""

    phase: Phase
    reason: str = ""
    """Why it is not ready."""
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a worker is waited for, and for what."""

    start_timeout_s: float = 600.0
    restart_delay_s: float = 0.5
    restart_delay_max_s: float = 30.0
    unresponsive_s: float = 120.0
    """From an Abort to the end of its request, and from one step to the next; a worker that takes
    longer hangs, and is killed."""
    silent_s: float = 2.5
    """Without a sign of life; then it is suspected, and after twice as long killed."""
    answer_s: float = 30.0
    """For the answer to a question that is no request, as `configure` asks."""
    shutdown_grace_s: float = 5.0
    start_attempts: int | None = None
    """Give up when the worker failed to become ready so often in a row; None never does."""


class Ear(Protocol):
    """Who hears a worker, as `WorkerClient` does."""

    def hear(self, message: FromWorker) -> None:
        """Take in what the worker says once it is ready; must not wait."""

    def lose(self, error: ShoalError) -> None:
        """Tell `error` to every request that waits for the worker: it is gone."""


class Transport(Protocol):
    """The way to one worker, and its life, as `Supervisor` has both of a process of its own.

    Everything happens on one event loop.
    """

    @property
    def state(self) -> WorkerState:
        """How the worker is, now."""

    @property
    def info(self) -> EngineInfo | None:
        """What the worker has loaded; None unless it is ready or silent."""

    @property
    def pid(self) -> int | None:
        """Of the worker's process, where that is on this machine; None while there is none."""

    def attach(self, ear: Ear) -> None:
        """Let `ear` hear what the worker says from now on."""

    def use(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start workers like this from the next start on."""

    def start(self) -> None:
        """Start the worker, and again whenever it dies; returns at once."""

    async def ready(self) -> EngineInfo:
        """Wait until the worker can speak; `EngineDown` once it is clear that it never will."""

    async def restart(self, reason: str) -> None:
        """End the worker; the next is started, which `ready` waits for."""

    async def unload(self, reason: str) -> None:
        """Stop the worker until `start` is called again: its memory is the system's meanwhile."""

    async def close(self, reason: str = ...) -> None:
        """Stop the worker, and leave nothing of it; `reason` is what `state` says from then on."""

    def send(self, message: ToWorker) -> None:
        """Say `message`, without waiting; to a worker that is gone, nothing is said."""

    async def drain(self) -> None:
        """Wait until what was said is on its way."""

    def kill(self, reason: str) -> None:
        """End the worker at once, as one that hangs; the next is started."""


def loaded(transport: Transport) -> EngineInfo:
    """What its worker has loaded; `EngineDown` with the reason unless it is ready."""
    state, info = transport.state, transport.info
    if state.phase != "ready" or info is None:
        raise EngineDown(f"The worker is {state.phase}: {state.reason}.")
    return info
