"""A worker process around whatever speaks: messages in on stdin, out on stdout, then the end.

Needs no torch and is the same for every engine: `run_worker` is all that a worker's `main` calls.
"""

import argparse
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import BinaryIO, NoReturn, Protocol

import msgspec
from loguru import logger

from backend.core import EngineInfo
from backend.errors import BadCheckpoint, BadField, BadSetting, ShoalError
from backend.logs import log_fault, log_to_stderr
from backend.worker.messages import (
    BEAT_S,
    Beat,
    Failed,
    FromWorker,
    Ready,
    Shutdown,
    ToWorker,
    WorkerConfig,
    frame,
    read_body,
    to_worker_decoder,
)

EXIT_OK, EXIT_FAILED, EXIT_BAD_SETTING, EXIT_BAD_CHECKPOINT, EXIT_BAD_MESSAGE = range(5)

Send = Callable[[FromWorker], None]


class Worker(Protocol):
    """What speaks, once it is loaded."""

    @property
    def info(self) -> EngineInfo:
        """What it loaded."""

    def deliver(self, message: ToWorker | None) -> None:
        """Take `message` in, None at the end of them; called by another thread than `run`."""

    def run(self) -> None:
        """Answer until it is told to leave."""

    def beat(self) -> Beat:
        """How far it has got; called by another thread than `run`, and must not wait for that."""


Deliver = Callable[[ToWorker | None], None]
"""Takes a message in; None is the end of them."""
Start = Callable[[WorkerConfig, Send], Worker]
"""Loads what the configuration names; `ShoalError` says what is wrong with it."""


class Outbox:
    """Writes messages to a pipe, each whole, from any thread."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe, self._lock = pipe, threading.Lock()

    def send(self, message: FromWorker) -> None:
        """Write `message` now."""
        data = frame(message)
        with self._lock:
            self._pipe.write(data)
            self._pipe.flush()


class Reader(threading.Thread):
    """Delivers the messages of a pipe, so that the computing thread never waits for it."""

    def __init__(self, pipe: BinaryIO, deliver: Deliver, send: Send) -> None:
        super().__init__(name="messages in", daemon=True)
        self._pipe, self._deliver, self._send = pipe, deliver, send
        self.exit_code = EXIT_OK

    def run(self) -> None:
        """Read to the end, to a `Shutdown`, or to where the pipe makes no sense."""
        try:
            while self._take(read_body(self._pipe)):
                pass  # a recording is not kept until the next message comes
        except (ValueError, OSError) as error:
            # Where the next message begins is lost: only a new worker can go on.
            logger.error("Leaving, stdin makes no sense: {}", error)
            self.exit_code = EXIT_BAD_MESSAGE
        finally:
            self._deliver(None)

    def _take(self, body: bytes | None) -> bool:
        """Deliver what is in `body`; False where nothing follows it."""
        if body is None:
            return False
        try:
            message = to_worker_decoder.decode(body)
        except msgspec.MsgspecError as error:
            logger.error("Ignored what is no message: {}", error)
            if request_id := _request_id(body):
                self._send(Failed(request_id, BadField.code, f"not a valid message: {error}"))
            return True
        self._deliver(message)
        return not isinstance(message, Shutdown)


class Heart(threading.Thread):
    """Says every `BEAT_S` that this process lives and how far it has got, until nobody reads."""

    def __init__(self, beat: Callable[[], Beat], send: Send) -> None:
        super().__init__(name="heart", daemon=True)
        self._beat, self._send = beat, send

    def run(self) -> None:
        """Beat; the process's end ends it."""
        with contextlib.suppress(OSError):
            while True:
                time.sleep(BEAT_S)
                self._send(self._beat())


def run_worker(start: Start, arguments: Sequence[str] | None = None) -> int:
    """Serve until stdin ends; the exit code. Messages alone go to stdout, the log to stderr."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then tells us
    outbox = Outbox(_take_stdout())
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True, help="WorkerConfig as JSON")
    argument = parser.parse_args(arguments).config
    try:
        worker = start(_configured(argument), outbox.send)
    except ShoalError as error:
        logger.error("Cannot start: {}", error)
        outbox.send(Failed("", error.code, str(error)))
        return EXIT_BAD_CHECKPOINT if isinstance(error, BadCheckpoint) else EXIT_BAD_SETTING
    outbox.send(Ready(worker.info, beats=True))
    Heart(worker.beat, outbox.send).start()
    reader = Reader(sys.stdin.buffer, worker.deliver, outbox.send)
    reader.start()
    try:
        worker.run()
    except BrokenPipeError:
        logger.warning("Leaving, nobody reads what is said.")
        return EXIT_FAILED
    except Exception as error:  # noqa: BLE001 - the process boundary; every request has been told
        log_fault("The worker failed.", error=error)
        return EXIT_FAILED
    return reader.exit_code


def leave(exit_code: int) -> NoReturn:
    """End the process now.

    The reader may still be inside stdin, whose lock an ordinary exit would wait for or trip over;
    nothing is left to be saved.
    """
    sys.stderr.flush()
    os._exit(exit_code)


def _configured(argument: str) -> WorkerConfig:
    try:
        config = WorkerConfig.from_json(argument)
    except msgspec.MsgspecError as error:
        raise BadSetting(f"--config is not a WorkerConfig: {error}") from error
    log_to_stderr(config.log_level)
    return config


def _take_stdout() -> BinaryIO:
    """Stdout for messages alone: whatever else prints, Python or a library, prints to stderr."""
    sys.stdout.flush()
    messages = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return messages


def _request_id(body: bytes) -> str:
    try:
        raw = msgspec.msgpack.decode(body)
    except msgspec.MsgspecError:
        return ""
    request_id = raw.get("request_id") if isinstance(raw, dict) else None
    return request_id if isinstance(request_id, str) else ""
