"""The way to a worker on a machine of the cluster: its messages, carried by calls of a replica."""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from backend.cluster.told import Replicas, Report
from backend.cluster.wire import asking, said
from backend.core import EngineInfo
from backend.errors import Aborted, EngineDown, EngineFailed, ShoalError, WorkerKilled
from backend.logs import log_fault
from backend.serving.tasks import end
from backend.worker.messages import (
    Abort,
    Asked,
    ClearCaches,
    Configure,
    DecodeCodes,
    EncodeVoice,
    Failed,
    FromWorker,
    Load,
    Pcm,
    Speak,
    ToWorker,
)
from backend.worker.transport import Ear, Phase, WorkerState, loaded

_DEATHS = frozenset({EngineDown.code, WorkerKilled.code})
"""Errors of a request that say that the replica's worker has died, and is started again."""


class ReplicaTransport:
    """The `Transport` to the worker of one replica, whose life is the replica's own affair.

    Each request is a call of its own: Serve counts it, drains it before it ends the replica, and
    gives it up where it is cancelled here. `another` waits until any replica can speak.
    """

    def __init__(
        self, replicas: Replicas, replica: str, another: Callable[[], Awaitable[object]]
    ) -> None:
        self._replicas, self._replica, self._another = replicas, replica, another
        self._ear: Ear | None = None
        self._state = WorkerState("starting", "it is not known yet")
        self._info: EngineInfo | None = None
        self._known: EngineInfo | None = None
        """What it had loaded, whatever has become of it."""
        self._pid: int | None = None
        self._changed = asyncio.Event()
        self._calls: dict[str, asyncio.Task[None]] = {}
        self._telling: asyncio.Task[None] | None = None

    @property
    def state(self) -> WorkerState:
        """How the worker is, as the replica told last."""
        return self._state

    @property
    def info(self) -> EngineInfo | None:
        """What the worker has loaded; None unless it is ready or silent."""
        return self._info

    @property
    def pid(self) -> int | None:
        """Of the worker's process, on its own machine."""
        return self._pid

    def attach(self, ear: Ear) -> None:
        """Let `ear` hear what the worker says from now on."""
        self._ear = ear

    def use(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Nothing: its replica plans for the machine that it is on."""

    def start(self) -> None:
        """Nothing: its replica has started it."""

    async def ready(self) -> EngineInfo:
        """Wait until the worker can speak; where its replica is gone, until another's can: what is
        asked here then fails at once, and goes there."""
        while self._state.phase not in ("ready", "unloaded", "stopped"):
            await self._changed.wait()
        if self._state.phase != "ready":
            await self._another()
            if self._known is not None:
                return self._known
        return loaded(self)

    async def restart(self, reason: str) -> None:
        """Nothing: its replica restarts it where that is needed."""

    async def unload(self, reason: str) -> None:
        """Nothing: Serve ends replicas that nobody needs."""

    async def close(self, reason: str = "the server is stopping") -> None:
        """Say nothing more; what is under way is given up."""
        self._set(WorkerState("stopped", reason, self._state.restarts))
        await end(*self._calls.values(), self._telling)
        self._tell(Aborted(f"{reason[:1].upper()}{reason[1:]}."))

    def send(self, message: ToWorker) -> None:
        """Say `message`, without waiting."""
        match message:
            case Speak() | EncodeVoice() | DecodeCodes():
                call = _apart(self._ask(message), message.request_id)
                self._calls[message.request_id] = call
                call.add_done_callback(self._over)
            case Abort(request_id):
                if (given_up := self._calls.get(request_id)) is not None:
                    given_up.cancel()
            case Configure() | ClearCaches():
                self._telling = _apart(self._question(message, self._telling), "question")
            case _:
                pass  # a Shutdown is Serve's to say

    async def drain(self) -> None:
        """Nothing: the call carries it."""

    def kill(self, reason: str) -> None:
        """Take it for gone: its replica's health is looked after there, and by Serve."""
        self.lost(EngineDown(f"The worker is down: {reason}. Try again shortly."))

    # -- what the fleet has heard of the replica --------------------------------------------------

    def hear(self, report: Report) -> None:
        """Go by what the replica tells of itself."""
        if self._state.phase == "stopped":
            return
        is_another = report.state.restarts != self._state.restarts
        info = report.info if report.state.phase in ("ready", "silent") else None
        if info != self._info or is_another:  # the same object as long as it is the same
            self._info = info
        self._known = report.info or self._known
        self._pid = report.pid
        self._set(report.state)
        self._hear(report.load)
        if report.way is not None:
            self._hear(report.way)

    def silent(self, reason: str) -> None:
        """It does not answer: nothing begins there until it does."""
        self._unable("silent", reason)

    def lost(self, error: EngineDown) -> None:
        """The replica is gone."""
        if self._state.phase != "stopped":
            self._set(WorkerState("stopped", str(error).rstrip("."), self._state.restarts))
            self._tell(error)

    # -- calls ------------------------------------------------------------------------------------

    async def _ask(self, message: Asked) -> None:
        is_over = False
        async with aclosing(self._replicas.ask(self._replica, asking(message))) as answer:
            try:
                async for block in answer:
                    for each in said(block):
                        is_over = not isinstance(each, Pcm | Load)
                        if isinstance(each, Failed) and each.code in _DEATHS:
                            self._unable("restarting", each.message)
                        self._hear(each)
            except EngineDown as error:
                self.lost(error)
        if not is_over:
            told = "The replica has said no last word."
            self._hear(Failed(message.request_id, EngineFailed.code, told))

    def _over(self, call: "asyncio.Task[None]") -> None:
        request_id = call.get_name()
        del self._calls[request_id]
        if call.cancelled():
            self._hear(Failed(request_id, Aborted.code, "It was given up."))
        elif (error := call.exception()) is not None:
            log_fault("A call of a replica has failed.", error=error)
            problem = f"The call of the replica failed ({type(error).__name__})."
            self._hear(Failed(request_id, EngineFailed.code, problem))

    async def _question(
        self, message: Configure | ClearCaches, before: "asyncio.Task[None] | None"
    ) -> None:
        """Ask after the question `before`: answers come in the order of the questions."""
        if before is not None:
            await asyncio.wait({before})
        try:
            answer = await self._replicas.tell(self._replica, asking(message))
        except EngineDown as error:
            self.lost(error)
            return
        for each in said(answer):
            self._hear(each)

    def _unable(self, phase: Phase, reason: str) -> None:
        """Nothing begins there until it tells that it can speak again."""
        if self._state.phase == "ready":
            self._set(WorkerState(phase, reason, self._state.restarts))

    def _hear(self, message: FromWorker) -> None:
        if self._ear is not None:
            self._ear.hear(message)

    def _tell(self, error: ShoalError) -> None:
        self._info = None
        if self._ear is not None:
            self._ear.lose(error)

    def _set(self, state: WorkerState) -> None:
        self._state = state
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _apart(work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
    """A task that knows nothing of the request in which it is made: Serve takes calls of one
    request for parts of one, and would mix them up and end them together."""
    return asyncio.create_task(work, name=name, context=contextvars.Context())
