"""The server's side of the worker: asks it, and hands each answer to who waits for it.

**Back-pressure.** One pipe carries every request's audio, so nothing that a slow listener does may
stop the one task that reads it: each request has its own unbounded queue, and that task only ever
appends. What bounds the queue is its content: a listener with more than `MAX_UNREAD_BYTES` of audio
still unread has its request aborted, and is told so, while the others go on. In the other direction
a large message waits for the pipe to drain, in its own request's task.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec

from backend.core import MIB, ReferenceCodes
from backend.errors import Aborted, ShoalError, error_from_code
from backend.worker.messages import (
    Abort,
    Asked,
    ClearCaches,
    Cleared,
    CompileState,
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
    Pcm,
    Ready,
    Speak,
    frame,
)
from backend.worker.supervisor import Patience, Supervisor, WorkerState

__all__ = ["Patience", "WorkerClient", "WorkerState"]

MAX_UNREAD_BYTES = 128 * MIB
"""About twelve minutes of speech at 44.1 kHz."""

Answer = Pcm | Done | Encoded | Decoded


@dataclass(slots=True)
class _Listener:
    """One request in flight: what has arrived for it and is not read yet."""

    queue: asyncio.Queue[Answer | ShoalError] = field(default_factory=asyncio.Queue)
    unread_bytes: int = 0
    is_over: bool = False
    """Its last message has arrived."""

    async def hear(self) -> Answer:
        """The next message; raises the error that ended the request."""
        message = await self.queue.get()
        if isinstance(message, ShoalError):
            raise message
        if isinstance(message, Pcm):
            self.unread_bytes -= len(message.samples)
        return message

    def end(self, last: Answer | ShoalError) -> None:
        """Nothing follows `last`."""
        self.is_over = True
        self.queue.put_nowait(last)


class WorkerClient(Supervisor):
    """Speaks, encodes and decodes through one worker process, which it supervises."""

    def __init__(
        self,
        command: Sequence[str],
        patience: Patience | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(command, patience, environment)
        self._load = Load(0, 0)
        self._compile_state: CompileState | None = None
        self._listeners: dict[str, _Listener] = {}
        self._aborting: dict[str, asyncio.TimerHandle] = {}
        self._asked: deque[asyncio.Future[Configured | Cleared]] = deque()
        self._encoding = asyncio.Lock()
        self._ids = itertools.count(1)

    @property
    def load(self) -> Load:
        """How busy the worker last said it is."""
        return self._load

    @property
    def compile_state(self) -> CompileState | None:
        """How its background compilation ended; None while it has not, or where there is none."""
        return self._compile_state

    async def speak(self, speak: Speak) -> AsyncGenerator[Pcm | Done, None]:
        """Speak; ends after `Done`, raises what the worker's `Failed` says or `EngineDown`.

        Closing it early, or cancelling, aborts the request in the worker.
        """
        with self._request(speak) as listener:
            await self._drain()
            is_over = False
            while not is_over:
                message = await listener.hear()
                assert isinstance(message, Pcm | Done)
                is_over = isinstance(message, Done)
                yield message

    async def encode(self, encode: EncodeVoice) -> ReferenceCodes:
        """The recording as codes; raises what the worker's `Failed` says or `EngineDown`.

        Cancelling aborts it in the worker.
        """
        # The worker encodes one after another. It need not hold the others' recordings meanwhile.
        async with self._encoding:
            with self._request(encode) as listener:
                await self._drain()
                message = await listener.hear()
        assert isinstance(message, Encoded)
        return message.codes

    async def decode(self, decode: DecodeCodes) -> bytes:
        """Codes as float32 samples; raises what the worker's `Failed` says or `EngineDown`.

        Cancelling aborts it in the worker.
        """
        pieces = []
        with self._request(decode) as listener:
            await self._drain()
            while isinstance(message := await listener.hear(), Pcm):
                pieces.append(message.samples)
        assert isinstance(message, Decoded)
        return b"".join(pieces)

    async def configure(self, configure: Configure) -> Configured:
        """Change how the running worker goes on; what it goes on with, or `EngineDown`."""
        answer = await self._ask(configure)
        assert isinstance(answer, Configured)
        return answer

    async def clear_caches(self) -> Cleared:
        """Let the worker forget what it can; what that freed, or `EngineDown`."""
        answer = await self._ask(ClearCaches())
        assert isinstance(answer, Cleared)
        return answer

    async def _ask(self, question: Configure | ClearCaches) -> Configured | Cleared:
        self.loaded()
        # The worker answers such questions in the order in which they were asked.
        answer: asyncio.Future[Configured | Cleared] = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        self._write(frame(question))
        return await answer

    @contextmanager
    def _request(self, message: Asked) -> Iterator[_Listener]:
        """Send `message` and listen to its answers; who leaves before the last one aborts it."""
        self.loaded()
        # Ids on the wire are ours: two users may send the same one, and what still arrives for an
        # aborted request must not reach the next that has its name.
        wire_id = f"{message.request_id}#{next(self._ids)}"
        data = frame(msgspec.structs.replace(message, request_id=wire_id))
        listener = self._listeners[wire_id] = _Listener()
        try:
            self._write(data)
            yield listener
        finally:
            self._listeners.pop(wire_id, None)
            if not listener.is_over:
                self._abort(wire_id)

    def _abort(self, wire_id: str) -> None:
        """Tell the worker, without waiting: this runs while a task is being cancelled."""
        if self._info is None:
            return
        self._write(frame(Abort(wire_id)))
        self._aborting[wire_id] = asyncio.get_running_loop().call_later(
            self._patience.unresponsive_s,
            self._kill,
            f"it hangs, request {wire_id} cannot be aborted",
        )

    def _hear(self, message: FromWorker) -> None:
        match message:
            case Load():
                self._load = message
            case CompileState():
                self._compile_state = message
            case Configured() | Cleared():
                if self._asked and not (asked := self._asked.popleft()).done():
                    asked.set_result(message)
            case Pcm() | Done() | Encoded() | Decoded() | Failed():
                self._deliver(message)
            case Ready():
                pass

    def _deliver(self, message: Answer | Failed) -> None:
        request_id, is_over = message.request_id, not isinstance(message, Pcm)
        if is_over and (timer := self._aborting.pop(request_id, None)) is not None:
            timer.cancel()
        listener = self._listeners.get(request_id)
        if listener is None or listener.is_over:
            return  # it has hung up
        if isinstance(message, Failed):
            listener.end(error_from_code(message.code, message.message))
        elif not isinstance(message, Pcm):
            listener.end(message)
        else:
            listener.queue.put_nowait(message)
            listener.unread_bytes += len(message.samples)
            if listener.unread_bytes > MAX_UNREAD_BYTES:
                listener.end(Aborted("The audio is not fetched as fast as it is made."))
                self._abort(request_id)

    def _lose(self, error: ShoalError) -> None:
        self._load, self._compile_state = Load(0, 0), None
        for timer in self._aborting.values():
            timer.cancel()
        self._aborting.clear()
        for asked in self._asked:
            if not asked.done():
                asked.set_exception(error)
        self._asked.clear()
        for listener in self._listeners.values():
            if not listener.is_over:
                listener.end(error)
