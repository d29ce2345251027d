"""Keeps one worker process running: starts it, watches it, starts it again when it dies."""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
from backend.worker.messages import Failed, FromWorker, Ready
from backend.worker.process import (
    WorkerLog,
    describe_exit,
    end_process,
    read_message,
    start_process,
)

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


class Supervisor(ABC):
    """Supervises one worker process started by `command`; use it within one event loop.

    What the worker says once it is ready goes to `_hear`. `_lose` is told when it has died.
    """

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
        self._process: asyncio.subprocess.Process | None = None
        self._supervision: asyncio.Task[None] | None = None
        self._kill_reason = self._end_reason = ""
        self._was_ready = False

    @property
    def state(self) -> WorkerState:
        """How the worker is, now."""
        return self._state

    @property
    def info(self) -> EngineInfo | None:
        """What the worker has loaded; None unless it is ready."""
        return self._info

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
        if self._supervision is not None:
            raise RuntimeError("the worker was started already")
        self._state = WorkerState("starting", "the worker is loading its checkpoint")
        self._supervision = asyncio.create_task(self._supervise(), name="worker supervision")

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

    async def close(self, reason: str = "the server is stopping") -> None:
        """Stop the worker: ask, wait for the grace, terminate, kill. Leaves no process, no task.

        `reason` is what `state` says from then on.
        """
        if self._supervision is None:
            return
        supervision, self._supervision = self._supervision, None
        self._end_reason = reason
        supervision.cancel()
        await asyncio.gather(supervision, return_exceptions=True)
        await self._set_state("stopped", reason)

    @abstractmethod
    def _hear(self, message: FromWorker) -> None:
        """Take in what the worker says; must not wait."""

    @abstractmethod
    def _lose(self, error: ShoalError) -> None:
        """Tell `error` to everybody who waits for the worker: it is gone."""

    def _write(self, data: bytes) -> None:
        process = self._process
        if process is not None and process.stdin is not None and not process.stdin.is_closing():
            process.stdin.write(data)

    async def _drain(self) -> None:
        process = self._process
        if process is not None and process.stdin is not None:
            # A broken pipe is a dead worker: the supervision notices, and tells everybody.
            with contextlib.suppress(ConnectionError):
                await process.stdin.drain()

    def _kill(self, reason: str) -> None:
        if self._process is not None:
            self._kill_reason = reason
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

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
        """Start a worker and listen until it dies; why it did."""
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
            await self._listen(process)
        finally:
            self._info = self._process = None
            is_closing = self._supervision is None
            grace_s: float | None = self._patience.shutdown_grace_s
            if self._kill_reason:
                grace_s = None
            elif is_closing and not self._was_ready:
                grace_s = 0.0  # it is loading: it does not listen, and has nothing to finish
            await _finish(asyncio.create_task(end_process(process, grace_s), name="worker end"))
            await asyncio.wait({stderr}, timeout=1.0)  # a process it started may hold it open
            stderr.cancel()
            reason = self._kill_reason or describe_exit(process.returncode, words.last)
            self._lose(
                Aborted(f"{self._end_reason[:1].upper()}{self._end_reason[1:]}.")
                if is_closing
                else EngineDown(f"The worker is down: {reason}. Try again shortly.")
            )
        return reason

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
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
                self._hear(message)
        except TimeoutError:
            self._kill_reason = f"not ready after {self._patience.start_timeout_s:g} s"
        except (ValueError, msgspec.MsgspecError) as error:
            self._kill_reason = f"it wrote something that is no message ({error})"
        except (BadCheckpoint, BadSetting):
            raise
        except ShoalError as error:
            self._kill_reason = str(error)

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
