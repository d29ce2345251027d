"""Keeps one worker process running: starts it, watches it, starts it again when it dies.

A worker that beats (`Ready.beats`) and has said nothing for `Patience.silent_s` is suspected: no
request begins until it speaks again. After twice as long it is killed, and its requests are told as
of any death. One that beats and is busy, but makes no step for `unresponsive_s`, is killed too.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
from loguru import logger

from backend.core import EngineInfo
from backend.errors import (
    Aborted,
    BadCheckpoint,
    BadSetting,
    EngineDown,
    ShoalError,
    WorkerKilled,
    error_from_code,
)
from backend.logs import log_fault
from backend.worker.client import WorkerClient
from backend.worker.messages import Failed, Measured, Ready, Starting, ToWorker, frame
from backend.worker.process import (
    MessageReader,
    WorkerLog,
    describe_exit,
    end_process,
    is_from_outside,
    oom_kills,
    ran_out_of_memory,
    start_process,
)
from backend.worker.pulse import Pulse
from backend.worker.transport import Ear, Patience, Phase, WorkerState, loaded

_LOOKS = 5
"""How often a worker is looked at within `Patience.silent_s`."""
_SETTLED_S = 5.0
"""A worker that was ready for so long had nothing wrong with it when it died."""
_LOADABLE_PAUSE_S = 2.0
"""Longest pause after one that had become ready: the next can be loaded, too."""


@dataclass(slots=True)
class Backoff:
    """How long to wait before a dead worker is started again.

    The pause doubles each time, up to `most_s`, so that one that cannot start does not keep the
    machine busy. One that had become ready can: it is started again within `_LOADABLE_PAUSE_S`,
    whatever killed it how often.
    """

    first_s: float
    most_s: float
    _next_s: float = 0.0

    def pause_s(self, ready_s: float | None) -> float:
        """The pause after a worker that was ready for so long; None if it never was."""
        if ready_s is not None and ready_s > _SETTLED_S:
            self._next_s = 0.0
        most_s = self.most_s if ready_s is None else min(self.most_s, _LOADABLE_PAUSE_S)
        pause_s = min(max(self._next_s, self.first_s), most_s)
        self._next_s = 2 * pause_s
        return pause_s


class Supervisor:
    """The `Transport` to one worker process, started by `command`, which it supervises."""

    def __init__(
        self,
        command: Sequence[str] = (),
        patience: Patience | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command = tuple(command)
        self._patience = patience or Patience()
        self._environment = dict(environment or {})
        self._ear: Ear | None = None
        self._state = WorkerState("stopped", "not started")
        self._changed = asyncio.Event()
        self._info: EngineInfo | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._supervision: asyncio.Task[None] | None = None
        self._kill_reason = self._end_reason = ""
        self._ready_s: float | None = None
        """For how long it has been ready; None before."""
        self._pulse = Pulse()

    @property
    def state(self) -> WorkerState:
        """How the worker is, now."""
        return self._state

    @property
    def info(self) -> EngineInfo | None:
        """What the worker has loaded; None unless it is ready or silent."""
        return self._info

    @property
    def pid(self) -> int | None:
        """Of the worker process; None while there is none."""
        return None if self._process is None else self._process.pid

    @property
    def _was_ready(self) -> bool:
        return self._ready_s is not None

    def attach(self, ear: Ear) -> None:
        """Let `ear` hear what the worker says from now on."""
        self._ear = ear

    def use(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start workers like this from the next start on."""
        self._command, self._environment = tuple(command), dict(environment)

    async def restart(self, reason: str) -> None:
        """End the worker; the supervision starts the next, which `ready` waits for."""
        self.kill(reason)
        await self._until(lambda: self._info is None)

    def start(self) -> None:
        """Start the worker and its supervision; returns at once."""
        if self._supervision is not None:
            raise RuntimeError("the worker was started already")
        self._set_state("starting", "it is loading its checkpoint")
        self._supervision = asyncio.create_task(self._supervise(), name="worker supervision")

    async def ready(self) -> EngineInfo:
        """Wait until the worker can speak; `EngineDown` once it is clear that it never will."""
        await self._until(lambda: self._state.phase in ("ready", "stopped"))
        return loaded(self)

    async def close(self, reason: str = "the server is stopping") -> None:
        """Stop the worker: ask, wait for the grace, terminate, kill. Leaves no process, no task.

        `reason` is what `state` says from then on.
        """
        if self._supervision is None:
            return
        supervision, self._supervision = self._supervision, None
        self._end_reason = reason
        self._set_state("stopped", reason)
        supervision.cancel()
        await asyncio.gather(supervision, return_exceptions=True)

    async def unload(self, reason: str) -> None:
        """Stop the worker until `start` is called again: its memory is the system's meanwhile."""
        await self.close(reason)
        self._set_state("unloaded", f"{reason}; it starts with the next request")

    def send(self, message: ToWorker) -> None:
        """Say `message`, without waiting; to a worker that is gone, nothing is said."""
        process = self._process
        if process is not None and process.stdin is not None and not process.stdin.is_closing():
            process.stdin.write(frame(message))

    async def drain(self) -> None:
        """Wait until the pipe has taken what was said."""
        process = self._process
        if process is not None and process.stdin is not None:
            # A broken pipe is a dead worker: the supervision notices, and tells everybody.
            with contextlib.suppress(ConnectionError):
                await process.stdin.drain()

    def kill(self, reason: str) -> None:
        """End the worker at once; the supervision starts the next."""
        if self._process is not None:
            self._kill_reason = reason
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def _supervise(self) -> None:
        patience, failed_starts, has_been_ready = self._patience, 0, False
        backoff = Backoff(patience.restart_delay_s, patience.restart_delay_max_s)
        while True:
            try:
                reason = await self._run_worker()
            except (BadCheckpoint, BadSetting) as error:
                if isinstance(error, BadSetting) or not has_been_ready:
                    # It would fail the same way for ever: stay down and say why.
                    logger.error("The worker cannot start: {}", error)
                    self._set_state("stopped", str(error))
                    return
                # It was whole before: its files are being replaced, and will be again.
                reason = f"its checkpoint cannot be loaded any more: {error}"
            except Exception as error:  # noqa: BLE001 - the supervision's boundary: it goes on
                log_fault("The supervision of the worker failed.", error=error)
                reason = f"its supervision failed ({type(error).__name__}: {error})"
                self._tell(EngineDown(f"The worker is down: {reason}."))
            failed_starts = 0 if self._was_ready else failed_starts + 1
            has_been_ready = has_been_ready or self._was_ready
            if failed_starts == patience.start_attempts:
                self._set_state("stopped", reason)
                return
            pause_s = backoff.pause_s(self._ready_s)
            logger.error("The worker is down: {}. Starting it again in {:.1f} s.", reason, pause_s)
            self._set_state("restarting", reason, self._state.restarts + 1)
            await asyncio.sleep(pause_s)

    async def _run_worker(self) -> str:
        """Start a worker and listen until it dies; why it did."""
        self._kill_reason, self._ready_s = "", None
        try:
            process = await start_process(self._command, self._environment, in_blocks=True)
        except OSError as error:
            return f"{self._command[0]} cannot be started: {error.strerror or error}"
        self._process = process
        words, kills_before = WorkerLog(), oom_kills()
        assert process.stderr is not None
        stderr = asyncio.create_task(words.forward(process.stderr), name="worker stderr")
        try:
            await self._listen(process)
        except Exception as error:
            self._kill_reason = self._kill_reason or f"{type(error).__name__}: {error}"
            raise
        finally:
            self._info = self._process = None
            is_closing = self._supervision is None
            if self._was_ready and not is_closing:
                self._set_state("restarting", self._kill_reason or "it has ended")
            grace_s: float | None = self._patience.shutdown_grace_s
            if self._kill_reason:
                grace_s = None
            elif is_closing and not self._was_ready:
                grace_s = 0.0  # it is loading: it does not listen, and has nothing to finish
            ending = asyncio.create_task(end_process(process, grace_s), name="worker end")
            is_ours = await _finish(ending)
            await asyncio.wait({stderr}, timeout=1.0)  # a process it started may hold it open
            stderr.cancel()
            code = process.returncode
            is_killed = not self._kill_reason and ran_out_of_memory(code, words.last, kills_before)
            outside = not (is_ours or is_killed) and is_from_outside(code)
            reason = self._kill_reason or describe_exit(code, words.last, is_from_outside=outside)
            told = f"The worker is down: {reason}. Try again shortly."
            self._tell(
                Aborted(f"{self._end_reason[:1].upper()}{self._end_reason[1:]}.")
                if is_closing
                else WorkerKilled(told)
                if is_killed
                else EngineDown(told, is_from_outside=outside)
            )
        return reason

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        reader = MessageReader(process.stdout)
        try:
            async with asyncio.timeout(self._patience.start_timeout_s):
                while isinstance(first := await reader.first(), Starting):
                    self._set_state(self._state.phase, f"it is {first.doing}")
            if isinstance(first, Failed):
                raise error_from_code(first.code, first.message)
            if not isinstance(first, Ready):
                return  # it died, or says nothing that makes sense; its exit tells
            await self._attend(first, reader)
        except TimeoutError:
            self._kill_reason = f"not ready after {self._patience.start_timeout_s:g} s"
        except (ValueError, msgspec.MsgspecError) as error:
            self._kill_reason = f"it wrote something that is no message ({error})"
        except (BadCheckpoint, BadSetting):
            raise
        except ShoalError as error:
            self._kill_reason = str(error)

    async def _attend(self, ready: Ready, reader: MessageReader) -> None:
        """Hear the worker that has become ready, and look after it, until it ends or is killed."""
        self._info, self._ready_s, self._pulse = ready.info, 0.0, Pulse()
        logger.info(
            "The worker is ready: {0.engine}, {0.checkpoint} on {0.device} in {0.precision}.",
            ready.info,
        )
        self._set_state("ready", "")
        tick_s = self._patience.silent_s / _LOOKS
        reading = asyncio.create_task(self._read(reader), name="worker messages")
        try:
            while not reading.done() and not self._kill_reason:
                done, _ = await asyncio.wait({reading}, timeout=tick_s)
                self._ready_s += tick_s
                if not done and ready.beats:
                    self._look(tick_s)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        if not reading.cancelled():
            reading.result()

    async def _read(self, reader: MessageReader) -> None:
        while messages := await reader.read():
            for message in messages:
                self._pulse.hear(message)
                if isinstance(message, Measured) and self._info is not None:
                    self._info = replace(self._info, quality_cost=message.cost)
                if self._state.phase == "silent" and not self._kill_reason:
                    logger.info("The worker speaks again.")
                    self._set_state("ready", "")
                if self._ear is not None:
                    self._ear.hear(message)

    def _tell(self, error: ShoalError) -> None:
        if self._ear is not None:
            self._ear.lose(error)

    def _look(self, tick_s: float) -> None:
        """Look after a worker that beats; the server was awake for `tick_s` more."""
        pulse, patience = self._pulse, self._patience
        pulse.tick(tick_s)
        if pulse.silent_s >= 2 * patience.silent_s:
            self.kill(f"it hangs, it has said nothing for {pulse.silent_s:.1f} s")
        elif pulse.silent_s >= patience.silent_s and self._state.phase == "ready":
            logger.warning("The worker has said nothing for {:.1f} s.", pulse.silent_s)
            self._set_state("silent", f"it has said nothing for {patience.silent_s:g} s")
        elif pulse.stuck_s >= patience.unresponsive_s:
            self.kill(
                f"it hangs, it has got no further for {pulse.stuck_s:.0f} s while {pulse.busy_with}"
            )

    def _set_state(self, phase: Phase, reason: str, restarts: int | None = None) -> None:
        count = self._state.restarts if restarts is None else restarts
        self._state = WorkerState(phase, reason, count)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            await self._changed.wait()


def supervised(
    command: Sequence[str] = (),
    patience: Patience | None = None,
    environment: Mapping[str, str] | None = None,
) -> WorkerClient:
    """A client of a worker process that `command` starts, with `environment` beside ours."""
    return WorkerClient(Supervisor(command, patience, environment), patience)


async def _finish(task: asyncio.Task[bool]) -> bool:
    """Wait for `task` even when cancelled meanwhile: it must not leave a process behind."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
