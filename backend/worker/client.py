"""The server's side of the worker: starts it, supervises it, restarts it, speaks through it.

**Back-pressure.** One pipe carries every request's audio, so nothing that a slow listener does may
stop the one task that reads it: each request has its own unbounded queue, and that task only ever
appends. What bounds the queue is its content: a listener with more than `MAX_UNREAD_BYTES` of audio
still unread has its request aborted, and is told so, while the others go on. In the other direction
a `Speak` with a large recording waits for the pipe to drain, in its own request's task.
"""

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from loguru import logger

from backend.core import EngineInfo
from backend.errors import (
    Aborted,
    BadCheckpoint,
    BadSetting,
    EngineDown,
    ShoalError,
    error_from_code,
)
from backend.worker.messages import (
    Abort,
    ClearCaches,
    Cleared,
    CompileState,
    Configure,
    Configured,
    Done,
    Failed,
    FromWorker,
    Load,
    Pcm,
    Ready,
    Speak,
    frame,
)
from backend.worker.process import (
    WorkerLog,
    describe_exit,
    end_process,
    read_message,
    start_process,
)

MAX_UNREAD_BYTES = 128 * 1024 * 1024
"""About twelve minutes of speech at 44.1 kHz."""

Phase = Literal["starting", "ready", "restarting", "stopped"]


@dataclass(frozen=True, slots=True)
class WorkerState:
    """How the worker is, in words that a user may read."""

    phase: Phase
    reason: str = ""
    """Why it is not ready."""
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the supervision waits for what."""

    start_timeout_s: float = 600.0
    restart_delay_s: float = 0.5
    restart_delay_max_s: float = 30.0
    unresponsive_s: float = 120.0
    """From an Abort to the end of its request; a worker that takes longer hangs, and is killed."""
    shutdown_grace_s: float = 5.0
    start_attempts: int | None = None
    """Give up when the worker failed to become ready so often in a row; None never does."""


@dataclass(slots=True)
class _Listener:
    """One request in flight: what has arrived for it and is not read yet."""

    queue: asyncio.Queue[Pcm | Done | Exception] = field(default_factory=asyncio.Queue)
    unread_bytes: int = 0
    is_over: bool = False
    """Its last message has arrived."""


class WorkerClient:
    """Supervises one worker process started by `command`; use it within one event loop."""

    def __init__(
        self,
        command: Sequence[str],
        patience: Patience | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command = tuple(command)
        self._patience = patience or Patience()
        self._environment = dict(environment or {})
        self._state = WorkerState("stopped", "not started")
        self._changed = asyncio.Condition()
        self._info: EngineInfo | None = None
        self._load = Load(0, 0)
        self._compile_state: CompileState | None = None
        self._asked: deque[asyncio.Future[Configured | Cleared]] = deque()
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._listeners: dict[str, _Listener] = {}
        self._aborting: dict[str, asyncio.TimerHandle] = {}
        self._ids = itertools.count(1)
        self._kill_reason = ""
        self._was_ready = False

    @property
    def state(self) -> WorkerState:
        """How the worker is, now."""
        return self._state

    @property
    def info(self) -> EngineInfo | None:
        """What the worker has loaded; None unless it is ready."""
        return self._info

    @property
    def load(self) -> Load:
        """How busy the worker last said it is."""
        return self._load

    @property
    def compile_state(self) -> CompileState | None:
        """How its background compilation ended; None while it has not, or where there is none."""
        return self._compile_state

    def use(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start workers like this from the next start on."""
        self._command, self._environment = tuple(command), dict(environment)

    async def restart(self, reason: str) -> None:
        """End the worker and wait until it is gone; the supervision starts the next."""
        async with self._changed:
            self._kill(reason)
            await self._changed.wait_for(lambda: self._state.phase != "ready")

    def start(self) -> None:
        """Start the worker and its supervision; returns at once."""
        if self._supervisor is not None:
            raise RuntimeError("the worker was started already")
        self._state = WorkerState("starting", "the worker is loading its checkpoint")
        self._supervisor = asyncio.create_task(self._supervise(), name="worker supervisor")

    async def ready(self) -> EngineInfo:
        """Wait until the worker can speak; `EngineDown` once it is clear that it never will."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._state.phase in ("ready", "stopped"))
        return self.loaded()

    def loaded(self) -> EngineInfo:
        """What the worker has loaded; `EngineDown` with the reason unless it is ready."""
        if self._info is None:
            raise EngineDown(f"The worker is {self._state.phase}: {self._state.reason}.")
        return self._info

    async def close(self) -> None:
        """Stop the worker: ask, wait for the grace, terminate, kill. Leaves no process, no task."""
        if self._supervisor is None:
            return
        supervisor, self._supervisor = self._supervisor, None
        supervisor.cancel()
        await asyncio.gather(supervisor, return_exceptions=True)
        await self._set_state("stopped", "the server is stopping")

    async def speak(self, speak: Speak) -> AsyncGenerator[Pcm | Done, None]:
        """Speak; ends after `Done`, raises what the worker's `Failed` says or `EngineDown`.

        Closing it early, or cancelling, aborts the request in the worker.
        """
        self.loaded()
        # Ids on the wire are ours: two users may send the same one, and what still arrives for an
        # aborted request must not reach the next that has its name.
        wire_id = f"{speak.request_id}#{next(self._ids)}"
        data = frame(msgspec.structs.replace(speak, request_id=wire_id))
        listener = self._listeners[wire_id] = _Listener()
        try:
            self._write(data)
            await self._drain()
            while True:
                message = await listener.queue.get()
                if isinstance(message, Exception):
                    raise message
                yield message
                if isinstance(message, Done):
                    return
                listener.unread_bytes -= len(message.samples)
        finally:
            self._listeners.pop(wire_id, None)
            if not listener.is_over:
                self._abort(wire_id)

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

    # -- supervision ------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        loop = asyncio.get_running_loop()
        delay_s = self._patience.restart_delay_s
        failed_starts = 0
        while True:
            started_s = loop.time()
            try:
                reason = await self._run_worker()
            except (BadCheckpoint, BadSetting) as error:
                # It would fail the same way for ever: stay down and say why.
                logger.error("The worker cannot start: {}", error)
                await self._set_state("stopped", str(error))
                return
            failed_starts = 0 if self._was_ready else failed_starts + 1
            if failed_starts == self._patience.start_attempts:
                await self._set_state("stopped", reason)
                return
            if loop.time() - started_s > self._patience.restart_delay_max_s:
                delay_s = self._patience.restart_delay_s
            logger.error("The worker is down: {}. Starting it again in {:.1f} s.", reason, delay_s)
            await self._set_state("restarting", reason, self._state.restarts + 1)
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, self._patience.restart_delay_max_s)

    async def _run_worker(self) -> str:
        """Start a worker and serve until it dies; why it did."""
        self._kill_reason = ""
        self._was_ready = False
        try:
            process = await start_process(self._command, self._environment)
        except OSError as error:
            return f"{self._command[0]} cannot be started: {error.strerror or error}"
        self._process = process
        words = WorkerLog()
        assert process.stderr is not None
        stderr = asyncio.create_task(words.forward(process.stderr), name="worker stderr")
        try:
            await self._serve(process)
        finally:
            self._info = self._compile_state = None
            self._load = Load(0, 0)
            self._process = None
            for timer in self._aborting.values():
                timer.cancel()
            self._aborting.clear()
            is_closing = self._supervisor is None
            grace_s: float | None = self._patience.shutdown_grace_s
            if self._kill_reason:
                grace_s = None
            elif is_closing and not self._was_ready:
                grace_s = 0.0  # it is loading: it does not listen, and has nothing to finish
            await _finish(asyncio.create_task(end_process(process, grace_s), name="worker end"))
            await asyncio.wait({stderr}, timeout=1.0)  # a process it started may hold it open
            stderr.cancel()
            reason = self._kill_reason or describe_exit(process.returncode, words.last)
            self._fail_all(
                Aborted("The server is stopping.")
                if is_closing
                else EngineDown(f"The worker is down: {reason}. Try again shortly.")
            )
        return reason

    async def _serve(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        try:
            async with asyncio.timeout(self._patience.start_timeout_s):
                first = await read_message(process.stdout)
            if isinstance(first, Failed):
                raise error_from_code(first.code, first.message)
            if not isinstance(first, Ready):
                return  # it died, or says nothing that makes sense; its exit tells
            self._info, self._was_ready = first.info, True
            logger.info(
                "The worker is ready: {0.engine}, {0.checkpoint} on {0.device} in {0.precision}.",
                first.info,
            )
            await self._set_state("ready", "", self._state.restarts)
            while (message := await read_message(process.stdout)) is not None:
                self._deliver(message)
        except TimeoutError:
            self._kill_reason = f"not ready after {self._patience.start_timeout_s:g} s"
        except (ValueError, msgspec.MsgspecError) as error:
            self._kill_reason = f"it wrote something that is no message ({error})"
        except (BadCheckpoint, BadSetting):
            raise
        except ShoalError as error:
            self._kill_reason = str(error)

    def _deliver(self, message: FromWorker) -> None:
        if isinstance(message, Load):
            self._load = message
            return
        if isinstance(message, CompileState):
            self._compile_state = message
            return
        if isinstance(message, Configured | Cleared):
            if self._asked and not (asked := self._asked.popleft()).done():
                asked.set_result(message)
            return
        if isinstance(message, Ready):
            return
        is_over = not isinstance(message, Pcm)
        if is_over and (timer := self._aborting.pop(message.request_id, None)) is not None:
            timer.cancel()
        listener = self._listeners.get(message.request_id)
        if listener is None or listener.is_over:
            return  # it has hung up
        listener.is_over = is_over
        if isinstance(message, Failed):
            listener.queue.put_nowait(error_from_code(message.code, message.message))
            return
        listener.queue.put_nowait(message)
        if isinstance(message, Pcm):
            listener.unread_bytes += len(message.samples)
            if listener.unread_bytes > MAX_UNREAD_BYTES:
                listener.is_over = True
                listener.queue.put_nowait(
                    Aborted("The audio is not fetched as fast as it is made.")
                )
                self._abort(message.request_id)

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

    def _kill(self, reason: str) -> None:
        self._kill_reason = reason
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def _fail_all(self, error: ShoalError) -> None:
        for asked in self._asked:
            if not asked.done():
                asked.set_exception(error)
        self._asked.clear()
        for listener in self._listeners.values():
            if not listener.is_over:
                listener.is_over = True
                listener.queue.put_nowait(error)

    def _write(self, data: bytes) -> None:
        process = self._process
        if process is not None and process.stdin is not None and not process.stdin.is_closing():
            process.stdin.write(data)

    async def _drain(self) -> None:
        process = self._process
        if process is not None and process.stdin is not None:
            # A broken pipe is a dead worker: the supervisor notices, and answers every listener.
            with contextlib.suppress(ConnectionError):
                await process.stdin.drain()

    async def _set_state(self, phase: Phase, reason: str, restarts: int | None = None) -> None:
        count = self._state.restarts if restarts is None else restarts
        async with self._changed:
            self._state = WorkerState(phase, reason, count)
            self._changed.notify_all()


async def _finish(task: asyncio.Task[None]) -> None:
    """Wait for `task` even when cancelled meanwhile: it must not leave a process behind."""
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
