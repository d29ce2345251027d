"""The worker's loop: take in messages, make a frame for everybody, hand out what it made."""

import contextlib
import queue
import time
from collections import deque
from pathlib import Path

from loguru import logger

from backend.core import EngineInfo
from backend.engine.background import BackgroundCompile
from backend.engine.engine import Progress
from backend.engine.sequence import Sequence
from backend.errors import Aborted, BadField, EngineFailed, ShoalError
from backend.worker.device import use_threads
from backend.worker.load import Loaded, load
from backend.worker.memory import held_of_gpu_bytes, reset_peak
from backend.worker.messages import (
    Abort,
    ClearCaches,
    Cleared,
    CompileState,
    Configure,
    Configured,
    Done,
    Failed,
    Load,
    Shutdown,
    Speak,
    ToWorker,
    WorkerConfig,
)
from backend.worker.pipe import Send
from backend.worker.speech import SpeechJob

_MIB = 1024 * 1024

Inbox = queue.SimpleQueue[ToWorker | None]
"""Messages to the worker; None is the end of them."""


class WorkerLoop:
    """Answers every `Speak` with `Done` or `Failed`, whatever happens to it or to the others."""

    def __init__(
        self,
        loaded: Loaded,
        inbox: Inbox,
        send: Send,
        compilation: BackgroundCompile | None = None,
    ) -> None:
        self._loaded, self._engine = loaded, loaded.engine
        self._compilation = compilation
        self._inbox, self._send = inbox, send
        self._arrived: deque[tuple[Speak, float]] = deque()
        """Not begun yet: a reference may have to be encoded, which the running rows wait for."""
        self._jobs: dict[str, SpeechJob] = {}
        self._owners: dict[Sequence, SpeechJob] = {}
        self._told = Load(0, 0)

    @property
    def info(self) -> EngineInfo:
        """What was loaded."""
        return self._loaded.info

    def deliver(self, message: ToWorker | None) -> None:
        """Put `message` into the inbox."""
        self._inbox.put(message)

    def run(self) -> None:
        """Serve until `Shutdown` or the end of messages."""
        if self._compilation is not None:
            self._compilation.start()
        try:
            while self._receive():
                if self._arrived:
                    self._begin(*self._arrived.popleft())
                self._step()
                self._tell_load()
        except Exception as error:
            # The process boundary: the engine's state is not to be trusted any more.
            self._fail_all(EngineFailed(f"The engine failed: {type(error).__name__}: {error}"))
            raise
        finally:
            if self._compilation is not None:
                self._compilation.stop()
        self._fail_all(Aborted("The worker is stopping."))

    def _receive(self) -> bool:
        """Take in what has arrived, waiting only if there is nothing else to do; False to leave."""
        is_idle = self._engine.is_idle and not self._arrived
        while True:
            try:
                message = self._inbox.get(block=is_idle)
            except queue.Empty:
                return True
            is_idle = False
            match message:
                case None | Shutdown():
                    return False
                case Speak():
                    self._admit(message)
                case Abort():
                    self._abort(message.request_id)
                case Configure():
                    self._configure(message)
                case ClearCaches():
                    self._send(Cleared(self._loaded.clear_caches()))

    def _admit(self, speak: Speak) -> None:
        if speak.request_id in self._jobs or any(
            speak.request_id == waiting.request_id for waiting, _ in self._arrived
        ):
            self._fail(speak.request_id, BadField(f"{speak.request_id} is being spoken already"))
            return
        self._arrived.append((speak, time.perf_counter()))

    def _abort(self, request_id: str) -> None:
        waiting = [entry for entry in self._arrived if entry[0].request_id == request_id]
        for entry in waiting:
            self._arrived.remove(entry)
        job = self._jobs.get(request_id)
        if job is not None:
            self._drop(job)
        if job is not None or waiting:
            self._fail(request_id, Aborted("The request was given up."))

    def _configure(self, wanted: Configure) -> None:
        use_threads(wanted.num_threads)
        self._engine.set_cache_bytes(wanted.cache_limit_mb * _MIB)
        self._send(Configured(wanted.num_threads, wanted.cache_limit_mb))

    def _begin(self, speak: Speak, arrived_s: float) -> None:
        if not self._jobs:
            reset_peak(self._loaded.place.device)
        try:
            job = SpeechJob(speak, self._loaded, self._send, arrived_s)
        except Exception as error:  # noqa: BLE001 - the request's boundary
            self._fail(speak.request_id, error)
            return
        self._jobs[speak.request_id] = job
        self._go_on(job)

    def _step(self) -> None:
        step = self._engine.step()
        touched: dict[str, SpeechJob] = {}
        for progress in step.progress:
            job = self._owners.get(progress.sequence)
            if job is None:
                continue  # another of its sequences has just failed
            touched[job.request_id] = job
            self._feed(job, progress)
        for job in touched.values():
            job.count_decode(step.decode_s)
            if self._jobs.get(job.request_id) is job:
                self._go_on(job)

    def _feed(self, job: SpeechJob, progress: Progress) -> None:
        if progress.finish is not None or progress.error is not None:
            del self._owners[progress.sequence]
        try:
            job.take(progress)
        except OSError:
            raise  # nobody reads any more
        except Exception as error:  # noqa: BLE001 - the request's boundary
            self._drop(job)
            self._fail(job.request_id, error)

    def _go_on(self, job: SpeechJob) -> None:
        """Start the segments whose turn it is, or say that there are none left."""
        if job.is_over:
            del self._jobs[job.request_id]
            self._send(Done(job.request_id, job.stats()))
            return
        for sequence in job.next_sequences():
            self._owners[sequence] = job
            self._engine.add(sequence)

    def _drop(self, job: SpeechJob) -> None:
        del self._jobs[job.request_id]
        for sequence in job.open_sequences:
            self._owners.pop(sequence, None)
            self._engine.abort(sequence)

    def _fail(self, request_id: str, error: Exception) -> None:
        if not isinstance(error, ShoalError):
            logger.opt(exception=error).error("Request {} failed.", request_id)
            error = EngineFailed(f"The engine failed: {type(error).__name__}: {error}")
        self._send(Failed(request_id, error.code, str(error)))

    def _fail_all(self, error: ShoalError) -> None:
        # The pipe may be what broke; then nobody is there to be told.
        with contextlib.suppress(OSError):
            for request_id in (*self._jobs, *(speak.request_id for speak, _ in self._arrived)):
                self._fail(request_id, error)

    def _tell_load(self) -> None:
        load = Load(
            running=self._engine.running,
            waiting=self._engine.waiting + len(self._arrived),
            cache_bytes=self._engine.cache_bytes,
            reference_bytes=self._loaded.references.held_bytes,
            memory_bytes=held_of_gpu_bytes(self._loaded.place.device),
        )
        if load != self._told:
            self._told = load
            self._send(load)


def start(config: WorkerConfig, send: Send) -> WorkerLoop:
    """Load what `config` names; `BadCheckpoint` or `BadSetting` say what is wrong with it."""
    loaded = load(config)
    compilation = None
    if config.try_compile:
        compilation = BackgroundCompile(
            loaded.engine,
            on_done=lambda is_active, detail: send(CompileState(is_active, detail)),
            cache_dir=Path(config.compile_dir) if config.compile_dir else None,
        )
    return WorkerLoop(loaded, Inbox(), send, compilation)
