"""The server's side of the worker: asks it, and hands each answer to the one that waits for it.

One pipe carries every request's audio, and one task reads it, which may not wait for anybody: it
hands each piece of audio to the `take` of its request, which must return at once. What takes the
pieces bounds what it keeps of them (`serving.backlog`). Here one answer is bounded to
`MAX_ANSWER_BYTES`, more than a checkpoint's context can say: a worker that says more is at fault.
In the other direction a large message waits for the pipe to drain, in its own request's task.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from backend.core import MIB, EngineInfo, ReferenceCodes
from backend.errors import EngineFailed, ShoalError, TimedOut, error_from_code
from backend.worker.messages import (
    Abort,
    Answer,
    Asked,
    Beat,
    ClearCaches,
    Cleared,
    Configure,
    Configured,
    DecodeCodes,
    Decoded,
    Done,
    Encoded,
    EncodeVoice,
    Failed,
    FromWorker,
    Load,
    Measured,
    Pcm,
    Ready,
    Speak,
    Starting,
    WayState,
)
from backend.worker.transport import Patience, Transport, WorkerState, loaded

__all__ = ["Patience", "WorkerClient", "WorkerState"]

MAX_ANSWER_BYTES = 128 * MIB
"""Audio of one answer: about twelve minutes at 44.1 kHz."""

Take = Callable[[bytes], None]
"""Keeps a piece of audio, float32 samples; must not wait."""


@dataclass(slots=True)
class _Listener:
    """One request in flight: where its audio goes, and what its last message will be."""

    take: Take
    last: asyncio.Future[Done | Encoded | Decoded]
    audio_bytes: int = 0

    def fail(self, error: ShoalError) -> None:
        """Nothing follows `error`."""
        if not self.last.done():
            self.last.set_exception(error)
            self.last.exception()  # its request may have left


class WorkerClient:
    """Speaks, encodes and decodes through the worker at the other end of `transport`."""

    def __init__(self, transport: Transport, patience: Patience | None = None) -> None:
        self._transport, self._patience = transport, patience or Patience()
        transport.attach(self)
        self._load = Load(0, 0)
        self._way_state: WayState | None = None
        self._listeners: dict[str, _Listener] = {}
        self._aborting: dict[str, asyncio.TimerHandle] = {}
        self._asked: deque[asyncio.Future[Configured | Cleared]] = deque()
        self.suspects = asyncio.Lock()
        """Held by what is spoken again because a worker died under it: `serving.sentence`."""
        self._encoding = asyncio.Lock()
        self._ids = itertools.count(1)
        self.on_lost: Callable[[ShoalError], None] = lambda error: None
        """Told why, before its requests are, when a worker has died; must not wait."""

    @property
    def load(self) -> Load:
        """How busy the worker last said it is."""
        return self._load

    @property
    def way_state(self) -> WayState | None:
        """In which way it computes frames now; None while nothing is loaded."""
        if self._way_state is None and self.info is not None:
            return WayState(self.info.way, self.info.way_detail)
        return self._way_state

    @property
    def is_at_work(self) -> bool:
        """A request waits for its answer."""
        return bool(self._listeners)

    async def speak(self, speak: Speak, take: Take) -> Done:
        """Speak, handing the audio to `take`; raises what the worker's `Failed` says, `EngineDown`.

        Cancelling aborts it in the worker.
        """
        done = await self._answer(speak, take)
        assert isinstance(done, Done)
        return done

    async def encode(self, encode: EncodeVoice) -> ReferenceCodes:
        """The recording as codes; raises what the worker's `Failed` says or `EngineDown`.

        Cancelling aborts it in the worker.
        """
        # The worker encodes one after another. It need not hold the others' recordings meanwhile.
        async with self._encoding:
            encoded = await self._answer(encode, lambda _: None)
        assert isinstance(encoded, Encoded)
        return encoded.codes

    async def decode(self, decode: DecodeCodes) -> bytes:
        """Codes as float32 samples; raises what the worker's `Failed` says or `EngineDown`.

        Cancelling aborts it in the worker.
        """
        pieces: list[bytes] = []
        await self._answer(decode, pieces.append)
        return b"".join(pieces)

    async def configure(self, configure: Configure) -> Configured:
        """Change how the running worker goes on; what it goes on with, or `EngineDown`."""
        answer = await self._ask(configure)
        assert isinstance(answer, Configured)
        return answer

    async def clear_caches(self) -> Cleared:
        """Let the worker forget what it can; what that freed, or `EngineDown`, `TimedOut`."""
        answer = await self._ask(ClearCaches())
        assert isinstance(answer, Cleared)
        return answer

    async def _ask(self, question: Configure | ClearCaches) -> Configured | Cleared:
        self.loaded()
        # The worker answers such questions in the order in which they were asked.
        answer: asyncio.Future[Configured | Cleared] = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        self._transport.send(question)
        try:
            async with asyncio.timeout(self._patience.answer_s):
                return await answer
        except TimeoutError:
            raise TimedOut(
                f"The worker has not answered for {self._patience.answer_s:g} s; try again later."
            ) from None

    async def _answer(self, message: Asked, take: Take) -> Done | Encoded | Decoded:
        """Send `message` and wait for its last answer; leaving before that aborts it."""
        self.loaded()
        # Ids on the wire are ours: two users may send the same one, and what still arrives for an
        # aborted request must not reach the next that has its name.
        wire_id = f"{message.request_id}#{next(self._ids)}"
        listener = _Listener(take, asyncio.get_running_loop().create_future())
        self._listeners[wire_id] = listener
        is_answered = False
        try:
            self._transport.send(msgspec.structs.replace(message, request_id=wire_id))
            await self._transport.drain()
            await asyncio.wait({listener.last})
            is_answered = True
        finally:
            del self._listeners[wire_id]
            if not is_answered:
                self._abort(wire_id)
        return listener.last.result()

    def _abort(self, wire_id: str) -> None:
        """Tell the worker, without waiting: this runs while a task is being cancelled."""
        if self.info is None:
            return
        self._transport.send(Abort(wire_id))
        self._aborting[wire_id] = asyncio.get_running_loop().call_later(
            self._patience.unresponsive_s,
            self._transport.kill,
            f"it hangs, request {wire_id} cannot be aborted",
        )

    # -- its life, as the transport has it ---------------------------------------------------------

    @property
    def state(self) -> WorkerState:
        """How the worker is, now."""
        return self._transport.state

    @property
    def info(self) -> EngineInfo | None:
        """What the worker has loaded; None unless it is ready or silent."""
        return self._transport.info

    @property
    def pid(self) -> int | None:
        """Of the worker's process; None while there is none on this machine."""
        return self._transport.pid

    def use(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start workers like this from the next start on."""
        self._transport.use(command, environment)

    def start(self) -> None:
        """Start the worker, and again whenever it dies; returns at once."""
        self._transport.start()

    async def ready(self) -> EngineInfo:
        """Wait until the worker can speak; `EngineDown` once it is clear that it never will."""
        return await self._transport.ready()

    def loaded(self) -> EngineInfo:
        """What the worker has loaded; `EngineDown` with the reason unless it is ready."""
        return loaded(self._transport)

    async def restart(self, reason: str) -> None:
        """End the worker; the next is started, which `ready` waits for."""
        await self._transport.restart(reason)

    async def unload(self, reason: str) -> None:
        """Stop the worker until `start` is called again: its memory is the system's meanwhile."""
        await self._transport.unload(reason)

    async def close(self, reason: str = "the server is stopping") -> None:
        """Stop the worker, and leave nothing of it; `reason` is what `state` says from then on."""
        await self._transport.close(reason)

    # -- what the transport calls: `transport.Ear` -------------------------------------------------

    def hear(self, message: FromWorker) -> None:
        """Take in what the worker says; must not wait."""
        match message:
            case Load():
                self._load = message
            case WayState():
                self._way_state = message
            case Configured() | Cleared():
                if self._asked and not (asked := self._asked.popleft()).done():
                    asked.set_result(message)
            case Pcm() | Done() | Encoded() | Decoded() | Failed():
                self._deliver(message)
            case Starting() | Ready() | Beat() | Measured():
                pass

    def lose(self, error: ShoalError) -> None:
        """Tell `error` to every request that waits for the worker: it is gone."""
        self._load, self._way_state = Load(0, 0), None
        self.on_lost(error)
        for timer in self._aborting.values():
            timer.cancel()
        self._aborting.clear()
        for asked in self._asked:
            if not asked.done():
                asked.set_exception(error)
        self._asked.clear()
        for listener in self._listeners.values():
            listener.fail(error)

    def _deliver(self, message: Answer | Failed) -> None:
        request_id, is_over = message.request_id, not isinstance(message, Pcm)
        if is_over and (timer := self._aborting.pop(request_id, None)) is not None:
            timer.cancel()
        listener = self._listeners.get(request_id)
        if listener is None or listener.last.done():
            return  # it has hung up
        if isinstance(message, Failed):
            listener.fail(error_from_code(message.code, message.message, message.step))
        elif not isinstance(message, Pcm):
            listener.last.set_result(message)
        elif listener.audio_bytes + len(message.samples) <= MAX_ANSWER_BYTES:
            listener.audio_bytes += len(message.samples)
            listener.take(message.samples)
        else:
            listener.fail(EngineFailed("The worker does not come to an end and was stopped."))
            self._abort(request_id)
