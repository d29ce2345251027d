"""The worker's loop: take in messages, make a frame of every sequence, hand them out."""

import contextlib
import queue
import time
from collections.abc import Iterator
from typing import cast

from loguru import logger

from backend.core import MIB, EngineInfo
from backend.engine.sequence import Sequence
from backend.engine.ways import reason_of
from backend.errors import Aborted, BadField, ShoalError
from backend.model.out_of_memory import told_of
from backend.worker.device import use_threads
from backend.worker.encoding import VoiceEncoding
from backend.worker.failure import failed
from backend.worker.loaded import Loaded, load, told_cost
from backend.worker.messages import (
    Abort,
    Asked,
    Beat,
    ClearCaches,
    Cleared,
    Configure,
    Configured,
    DecodeCodes,
    EncodeVoice,
    FromWorker,
    Load,
    Measured,
    Shutdown,
    Speak,
    Starting,
    ToWorker,
    WayState,
    WorkerConfig,
)
from backend.worker.pipe import Send
from backend.worker.process_memory import give_back_unused, held_of_gpu_bytes, reset_peak
from backend.worker.speech import SpeechJob

MEASURING_AFTER_S = 2.0
"""Without a message, before that begins which nobody waits for."""
_LOAD_STEPS = 32
"""Between two looks at what is held while the same number of sequences is spoken."""

Inbox = queue.SimpleQueue[ToWorker | None]
"""Messages to the worker; None is the end of them."""


class WorkerLoop:
    """Answers every request with its last message, whatever happens to it or to the others."""

    def __init__(
        self,
        loaded: Loaded,
        inbox: Inbox,
        send: Send,
    ) -> None:
        self._loaded, self._engine, self._stage = loaded, loaded.engine, loaded.stage
        self._encoding = VoiceEncoding(loaded, send)
        self._inbox, self._send = inbox, send
        self._jobs: dict[Sequence, SpeechJob] = {}
        self._told = Load(0, 0)
        self._steps, self._busy_with = 0, ""
        self._is_prepared = False
        self._measuring = loaded.checkpoint.measuring

    @property
    def info(self) -> EngineInfo:
        """What was loaded."""
        return self._loaded.info

    def deliver(self, message: ToWorker | None) -> None:
        """Put `message` into the inbox."""
        self._inbox.put(message)

    def beat(self) -> Beat:
        """Steps made so far, and what it is at; called by another thread than `run`."""
        return Beat(self._steps, self._busy_with)

    def run(self) -> None:
        """Serve until `Shutdown` or the end of messages."""
        self._encoding.start()
        try:
            while self._receive():
                self._step()
                self._tell_load()
        except Exception as error:
            # The process boundary: the engine's state is not to be trusted any more.
            self._fail_all(told_of(error))
            raise
        self._fail_all(Aborted("The worker is stopping."))

    def _receive(self) -> bool:
        """Take in what has arrived, waiting only if there is nothing else to do; False to leave."""
        is_idle = self._engine.is_idle and self._stage.is_idle
        self._busy_with = "" if is_idle else "taking in messages"
        while is_idle and self._inbox.empty() and self._prepare():
            pass
        patience_s = MEASURING_AFTER_S
        while True:
            try:
                message = self._inbox.get(is_idle, patience_s if self._measuring else None)
            except queue.Empty:
                if not is_idle:
                    return True
                patience_s = self._measure()
                continue
            is_idle, self._busy_with = False, "taking in messages"
            match message:
                case None | Shutdown():
                    return False
                case Speak() | EncodeVoice() | DecodeCodes():
                    self._admit(message)
                case Abort():
                    self._abort(message.request_id)
                case Configure():
                    self._configure(message)
                case ClearCaches():
                    self._send(Cleared(self._loaded.clear_caches()))

    def _prepare(self) -> bool:
        """Make one thing ready that later speech would else wait for; False where nothing is left.

        What cannot be had for want of memory is made when it is needed, and told then.
        """
        try:
            more = not self._is_prepared and (self._engine.prepare() or self._stage.prepare())
        except RuntimeError as error:
            logger.warning("Not everything is made ready beforehand: {}", error)
            more = False
        if not (more or self._is_prepared):
            give_back_unused(self._loaded.place.device)  # what was passed through on the way
        self._is_prepared = not more
        return more

    def _measure(self) -> float:
        """Go on measuring what quantization cost; seconds without a message until the next step.

        A message that comes meanwhile waits for the step, which takes less than a second.
        """
        assert self._measuring is not None
        if not self._encoding.is_idle:
            return MEASURING_AFTER_S
        try:
            cost = next(self._measuring)
        except (ShoalError, RuntimeError) as error:  # its files are being replaced, say
            logger.warning("What quantization cost is not measured: {}", error)
        else:
            if cost is None:
                return 0.0
            logger.info("{}", told_cost(cost))
            self._send(Measured(cost))
        self._measuring = None
        give_back_unused(self._loaded.place.device)
        return 0.0

    def _admit(self, asked: Asked) -> None:
        request_id = asked.request_id
        try:
            if request_id in self._encoding or self._job(request_id) is not None:
                raise BadField(f"{request_id} is being worked at already")
            if isinstance(asked, Speak):
                self._begin(asked)
            else:
                self._encoding.add(asked)
        except Exception as error:  # noqa: BLE001 - the request's boundary
            self._send(failed(request_id, error))

    def _begin(self, speak: Speak) -> None:
        if not self._jobs:
            reset_peak(self._loaded.place.device)
        job = SpeechJob(speak, self._loaded, time.perf_counter())
        self._jobs[job.sequence] = job
        self._engine.add(job.sequence)

    def _abort(self, request_id: str) -> None:
        self._encoding.abort(request_id)
        if (job := self._job(request_id)) is not None:
            self._drop(job)
            self._send(failed(request_id, Aborted("The request was given up.")))

    def _configure(self, wanted: Configure) -> None:
        use_threads(wanted.num_threads)
        self._encoding.num_threads = wanted.num_threads
        self._engine.set_cache_bytes(wanted.cache_limit_mb * MIB)
        self._send(Configured(wanted.num_threads, wanted.cache_limit_mb))

    def _step(self) -> None:
        self._steps, self._busy_with = self._steps + 1, "speaking"
        for progress in self._engine.step():
            if (job := self._jobs.get(progress.sequence)) is not None:
                with self._boundary_of(job):
                    job.take(progress)
        # Frames that are still to come are not waited for by sound that is: they overlap.
        told: list[FromWorker] = []
        for heard in self._stage.heard(wait=self._engine.is_idle):
            if (job := self._jobs.get(cast(Sequence, heard.key))) is not None:
                with self._boundary_of(job):
                    told.append(job.tell(heard))
                    if heard.is_over:
                        del self._jobs[job.sequence]
        if told:
            self._send(*told)

    @contextlib.contextmanager
    def _boundary_of(self, job: SpeechJob) -> Iterator[None]:
        try:
            yield
        except OSError:
            raise  # nobody reads any more
        except Exception as error:  # noqa: BLE001 - the request's boundary
            self._drop(job)
            self._send(failed(job.request_id, error))

    def _drop(self, job: SpeechJob) -> None:
        """Make no more of it."""
        del self._jobs[job.sequence]
        self._engine.abort(job.sequence)
        self._stage.forget(job.sequence)

    def _job(self, request_id: str) -> SpeechJob | None:
        return next((job for job in self._jobs.values() if job.request_id == request_id), None)

    def _fail_all(self, error: ShoalError) -> None:
        self._encoding.stop(error)
        # The pipe may be what broke; then nobody is there to be told.
        with contextlib.suppress(OSError):
            for job in self._jobs.values():
                self._send(failed(job.request_id, error))

    def _tell_load(self) -> None:
        running, waiting = self._engine.running, self._engine.waiting
        is_as_told = (running, waiting) == (self._told.running, self._told.waiting)
        # What torch holds of a GPU takes it longer to say than the shipped voice takes for a frame.
        if is_as_told and running and self._steps % _LOAD_STEPS:
            return
        load = Load(
            running=running,
            waiting=waiting,
            cache_bytes=self._engine.cache_bytes,
            memory_bytes=held_of_gpu_bytes(self._loaded.place.device),
        )
        if load != self._told:
            self._told = load
            self._send(load)


def start(config: WorkerConfig, send: Send) -> WorkerLoop:
    """Load what `config` names; `BadCheckpoint` or `BadSetting` say what is wrong with it."""
    loaded = load(config, lambda doing: send(Starting(doing)))
    if loaded.info.way != "eager":

        def fell_back(error: RuntimeError) -> None:
            way, reason = loaded.info.way, reason_of(error)
            detail = f"Frames are made eagerly: the {way} way failed: {reason}"
            logger.warning("{}", detail)
            send(WayState("eager", detail))

        loaded.engine.runner.on_fallback = fell_back
    return WorkerLoop(loaded, Inbox(), send)
