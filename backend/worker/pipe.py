"""A worker process around whatever speaks: messages in on stdin, out on stdout, then the end.

Needs no torch and is the same for every engine: `run_worker` is all that a worker's `main` calls.
"""

import argparse
import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import BinaryIO, NoReturn, Protocol

import msgspec
from loguru import logger

from backend.core import MIB, EngineInfo
from backend.errors import BadCheckpoint, BadField, BadSetting, ShoalError
from backend.logs import log_fault, log_to_stderr
from backend.spans import open_spans
from backend.worker.asked_span import WorkerSpans
from backend.worker.messages import (
    BEAT_S,
    Asked,
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

MOST_UNREAD_BYTES = 8 * MIB
"""What is said and not read yet, before the worker waits: a piece of every row. More would only be
heard later, where the server is behind."""
PIPE_BYTES = MIB
"""Held by the pipe itself where the system lets it: a piece of every row. By default it is 64 KiB,
and the server wakes for each."""
SPANS_S = 1.0
"""The last spans get so long to reach the collector: the server waits for the worker's end."""
EXIT_OK, EXIT_FAILED, EXIT_BAD_SETTING, EXIT_BAD_CHECKPOINT, EXIT_BAD_MESSAGE = range(5)


class Send(Protocol):
    """Says something to the server."""

    def __call__(self, *messages: FromWorker) -> None:
        """Say all of it, in this order and with nothing in between."""


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
    """Writes messages to a pipe, each whole, from any thread.

    What speaks does not wait for the server to read: what the pipe does not take at once, a thread
    writes. Only with `MOST_UNREAD_BYTES` waiting for that does `send` wait.
    """

    def __init__(self, descriptor: int) -> None:
        """Takes `descriptor` over, the pipe's writing end."""
        self._descriptor = descriptor
        self._changed = threading.Condition()
        self._unread: deque[memoryview] = deque()
        self._unread_bytes = 0
        self._error: OSError | None = None
        self._is_quick = _make_quick(descriptor)
        threading.Thread(target=self._write_on, name="messages out", daemon=True).start()

    def send(self, *messages: FromWorker) -> None:
        """Say `messages`; raises OSError once nobody reads any more."""
        data = memoryview(frame(*messages))
        with self._changed:
            self._changed.wait_for(self._has_room)
            if self._is_quick and not self._unread:
                data = data[self._write(data) :]
            if self._error is not None:
                raise self._error
            if data:
                self._unread.append(data)
                self._unread_bytes += len(data)
                self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all is written, or nobody reads any more."""
        with self._changed:
            self._changed.wait_for(lambda: not self._unread or self._error is not None)

    def _has_room(self) -> bool:
        return self._unread_bytes < MOST_UNREAD_BYTES or self._error is not None

    def _write_on(self) -> None:
        """In the thread: write what waits, in its order."""
        while self._error is None:
            with self._changed:
                self._changed.wait_for(lambda: self._unread)
                data = self._unread[0]
            if self._is_quick:
                select.select((), (self._descriptor,), ())
            written = self._write(data)
            with self._changed:
                self._unread[0] = data[written:]
                self._unread_bytes -= written
                if not self._unread[0]:
                    self._unread.popleft()
                self._changed.notify_all()

    def _write(self, data: memoryview) -> int:
        """How much of `data` the pipe took."""
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._error = error
            return 0


class Reader(threading.Thread):
    """Delivers the messages of a pipe, so that the computing thread never waits for it."""

    def __init__(
        self, pipe: BinaryIO, deliver: Deliver, send: Send, spans: WorkerSpans | None = None
    ) -> None:
        super().__init__(name="messages in", daemon=True)
        self._pipe, self._deliver, self._send, self._spans = pipe, deliver, send, spans
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
        if self._spans is not None and isinstance(message, Asked):
            self._spans.hear(message)
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
        return _run(start, outbox.send, argument)
    finally:
        outbox.flush()


def _run(start: Start, send: Send, argument: str) -> int:
    try:
        config = _configured(argument)
        opened = open_spans()
        if opened is None:
            return _serve(start, config, send, None)
        spans = WorkerSpans(opened)
        try:
            return _serve(start, config, _traced(send, spans), spans)
        finally:
            opened.close(SPANS_S)
    except ShoalError as error:
        logger.error("Cannot start: {}", error)
        send(Failed("", error.code, str(error)))
        return EXIT_BAD_CHECKPOINT if isinstance(error, BadCheckpoint) else EXIT_BAD_SETTING


def _traced(send: Send, spans: WorkerSpans) -> Send:
    def say(*messages: FromWorker) -> None:
        spans.say(*messages)
        send(*messages)

    return say


def _serve(start: Start, config: WorkerConfig, send: Send, spans: WorkerSpans | None) -> int:
    worker = start(config, send)
    send(Ready(worker.info, beats=True))
    Heart(worker.beat, send).start()
    reader = Reader(sys.stdin.buffer, worker.deliver, send, spans)
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


def _take_stdout() -> int:
    """Stdout for messages alone: whatever else prints, Python or a library, prints to stderr."""
    sys.stdout.flush()
    messages = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return messages


if sys.platform == "win32":

    def _make_quick(descriptor: int) -> bool:
        """Whether writing to the pipe never waits; `descriptor`'s cannot be told."""
        return False

else:
    import fcntl

    def _make_quick(descriptor: int) -> bool:
        """Let writing to the pipe never wait, and let it hold much; whether that was done."""
        os.set_blocking(descriptor, False)
        if sys.platform == "linux":
            with contextlib.suppress(OSError):  # a system may allow less
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        return True


def _request_id(body: bytes) -> str:
    try:
        raw = msgspec.msgpack.decode(body)
    except msgspec.MsgspecError:
        return ""
    request_id = raw.get("request_id") if isinstance(raw, dict) else None
    return request_id if isinstance(request_id, str) else ""
