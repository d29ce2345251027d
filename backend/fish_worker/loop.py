"""Which request is spoken next, and which is answered at once: one at a time, the others wait."""

import contextlib
import threading
import time
from collections import deque
from pathlib import Path

import torch

from backend.core import MIB, EngineInfo
from backend.errors import Aborted, BadField, EngineFailed, ShoalError
from backend.fish_worker.loaded_package import Loaded, load
from backend.fish_worker.package import NAME
from backend.fish_worker.speech import Speech, decode, encode
from backend.logs import log_fault
from backend.monitoring.fish_log import FishLog
from backend.worker.device import use_threads
from backend.worker.messages import (
    Abort,
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
    Shutdown,
    Speak,
    ToWorker,
    WayState,
    WorkerConfig,
)
from backend.worker.pipe import Send
from backend.worker.process_memory import reset_peak

_LEAVE_S = 0.5
"""How long the end waits for a token to be finished. Nothing is left to be saved."""


class FishWorker:
    """Speaks in a thread of its own, so that an abort and the end are answered while it does.

    The package cannot be stopped. A request that is given up is told at once; the thread learns of
    it at its next token.
    """

    def __init__(self, loaded: Loaded, send: Send, log: FishLog, is_compile_asked: bool) -> None:
        self._loaded, self._send, self._log = loaded, send, log
        self._is_compile_asked = is_compile_asked
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Asked, float]] = deque()
        self._orders: deque[Configure | ClearCaches] = deque()
        self._current = ""
        """Id of the request that is worked at, while it still waits for its answer."""
        self._is_busy = False
        self._is_closed = False
        self._crash: Exception | None = None
        self._steps = 0
        """Tokens made and tasks begun."""
        self._told = Load(0, 0)

    @property
    def info(self) -> EngineInfo:
        """What was loaded."""
        return self._loaded.info

    def deliver(self, message: ToWorker | None) -> None:
        """Take `message` in, None at the end of them."""
        with self._changed:
            match message:
                case Speak() | EncodeVoice() | DecodeCodes():
                    self._admit(message)
                case Abort():
                    self._abort(message.request_id)
                case Configure() | ClearCaches():
                    self._orders.append(message)
                case None | Shutdown():
                    self._close()
            self._changed.notify_all()

    def beat(self) -> Beat:
        """How far it has got; without the lock, which is held while an answer is sent."""
        return Beat(self._steps, "answering a request" if self._is_busy else "")

    def run(self) -> None:
        """Answer until the messages end; raises what the speaking thread died of."""
        if self._is_compile_asked:
            detail = f"{NAME} is spoken as it was published, without torch.compile"
            self._send(WayState("eager", detail))
        speaker = threading.Thread(target=self._work, name="speaker", daemon=True)
        speaker.start()
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._crash is not None)
        if self._crash is not None:
            raise self._crash
        speaker.join(_LEAVE_S)

    # -- messages in, in the reader's thread; the lock is held -------------------------------------

    def _admit(self, asked: Asked) -> None:
        known = {self._current, *(waiting.request_id for waiting, _ in self._waiting)}
        if self._is_closed:
            self._tell_failed(asked.request_id, Aborted("The worker is stopping."))
        elif asked.request_id in known:
            error = BadField(f"{asked.request_id} is being worked at already")
            self._tell_failed(asked.request_id, error)
        else:
            self._waiting.append((asked, time.perf_counter()))
            self._tell_load()

    def _abort(self, request_id: str) -> None:
        waiting = [entry for entry in self._waiting if entry[0].request_id == request_id]
        for entry in waiting:
            self._waiting.remove(entry)
        if not waiting and request_id != self._current:
            return
        if request_id == self._current:
            self._current = ""
        self._tell_failed(request_id, Aborted("The request was given up."))
        self._tell_load()

    def _close(self) -> None:
        self._is_closed = True
        open_ids = [asked.request_id for asked, _ in self._waiting]
        if self._current:
            open_ids.append(self._current)
        self._current = ""
        self._waiting.clear()
        # The pipe may be what broke; then nobody is there to be told.
        with contextlib.suppress(OSError):
            for request_id in open_ids:
                self._tell_failed(request_id, Aborted("The worker is stopping."))

    # -- work, in the speaking thread --------------------------------------------------------------

    def _work(self) -> None:
        try:
            use_threads(self._loaded.info.num_threads)  # what was set before was another thread's
            while self._serve(self._next()):
                pass  # a recording is not kept until the next task comes
        except Exception as error:  # noqa: BLE001 - handed to run(), which raises it
            with self._changed:
                self._crash = error
                self._changed.notify_all()

    def _serve(self, task: Configure | ClearCaches | tuple[Asked, float] | None) -> bool:
        """Do `task`; False where none follows."""
        if task is None:
            return False
        if isinstance(task, Configure | ClearCaches):
            self._obey(task)
        else:
            self._answer(*task)
        return True

    def _next(self) -> Configure | ClearCaches | tuple[Asked, float] | None:
        """What to do now, waiting until there is something; None to leave."""
        with self._changed:
            self._is_busy, self._current = False, ""
            if not self._is_closed:
                self._tell_load()
            self._changed.wait_for(lambda: self._is_closed or self._orders or self._waiting)
            if self._is_closed:
                return None
            if self._orders:
                return self._orders.popleft()
            asked, arrived_s = self._waiting.popleft()
            self._is_busy, self._current = True, asked.request_id
            self._steps += 1
            self._tell_load()
            return asked, arrived_s

    def _answer(self, asked: Asked, arrived_s: float) -> None:
        # One request is at work, however many wait: the peak is its own.
        reset_peak(self._loaded.place.device)
        try:
            if isinstance(asked, EncodeVoice):
                self._say(Encoded(asked.request_id, encode(asked.audio, self._loaded)))
            elif isinstance(asked, DecodeCodes):
                decode(asked, self._loaded, self._say)
            else:
                speech = Speech(asked, self._loaded, arrived_s)
                speech.run(self._say, self._between_tokens, self._log)
        except OSError:
            raise  # nobody reads any more
        except Exception as error:
            # The request's boundary: it alone fails.
            with self._changed:
                if self._current == asked.request_id:  # else it has its answer
                    self._current = ""
                    self._tell_failed(asked.request_id, error)
            if isinstance(error, torch.AcceleratorError):
                raise  # a GPU that has failed once fails this process for ever: a new one is needed

    def _say(self, message: FromWorker) -> None:
        """Send something of the current request, unless that was given up."""
        with self._changed:
            self._check_wanted()
            self._send(message)
            if isinstance(message, Done | Encoded | Decoded):
                self._current = ""

    def _between_tokens(self) -> None:
        self._steps += 1
        with self._changed:
            self._check_wanted()
            orders = list(self._orders)
            self._orders.clear()
        for order in orders:
            self._obey(order)

    def _check_wanted(self) -> None:
        if not self._current:
            raise Aborted("The request was given up.")

    def _obey(self, order: Configure | ClearCaches) -> None:
        if isinstance(order, ClearCaches):
            self._send(Cleared(self._loaded.clear_caches()))
            return
        use_threads(order.num_threads)
        # Its cache is allocated whole and stays.
        cache_mb = -(-self._loaded.info.cache_limit_bytes // MIB)
        self._send(Configured(order.num_threads, cache_mb))

    # -- answers; the lock is held -----------------------------------------------------------------

    def _tell_failed(self, request_id: str, error: Exception) -> None:
        if not isinstance(error, ShoalError):
            log_fault("Request {} failed.", request_id, error=error)
            error = EngineFailed(f"{NAME} failed: {type(error).__name__}: {error}")
        self._send(Failed(request_id, error.code, str(error)))

    def _tell_load(self) -> None:
        held = self._loaded.info.cache_limit_bytes
        load = Load(int(self._is_busy), len(self._waiting), cache_bytes=held)
        if load != self._told:
            self._told = load
            self._send(load)


def start(config: WorkerConfig, converted: Path, send: Send) -> FishWorker:
    """Load what `config` names; `BadCheckpoint` or `BadSetting` say what is wrong with it."""
    loaded = load(config, converted)
    log = FishLog()
    log.listen()
    return FishWorker(loaded, send, log, config.try_compile)
