"""The worker process: `python -m backend.worker.main --config '<WorkerConfig as JSON>'`.

Messages come on stdin and leave on stdout, nothing else does; the log goes to stderr.
"""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import BinaryIO

# Threads that wait for work sleep. By default they spin, and where anybody else wants a core, our
# server included, each step waits for a thread that spins on it: measured ten times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import msgspec
from loguru import logger

from backend.errors import BadCheckpoint, BadField, BadSetting, ShoalError
from backend.worker.load import Loaded, load
from backend.worker.loop import Inbox, WorkerLoop
from backend.worker.messages import (
    Failed,
    FromWorker,
    Ready,
    Shutdown,
    WorkerConfig,
    frame,
    read_body,
    to_worker_decoder,
)
from backend.worker.speech import Send

EXIT_OK, EXIT_FAILED, EXIT_BAD_SETTING, EXIT_BAD_CHECKPOINT, EXIT_BAD_MESSAGE = range(5)


class Outbox:
    """Writes messages to a pipe, whole ones whoever calls."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe, self._lock = pipe, threading.Lock()

    def send(self, message: FromWorker) -> None:
        """Write `message` now."""
        data = frame(message)
        with self._lock:
            self._pipe.write(data)
            self._pipe.flush()


class Reader(threading.Thread):
    """Moves messages from a pipe into an inbox, so that the loop never waits for the pipe."""

    def __init__(self, pipe: BinaryIO, inbox: Inbox, send: Send) -> None:
        super().__init__(name="messages in", daemon=True)
        self._pipe, self._inbox, self._send = pipe, inbox, send
        self.exit_code = EXIT_OK

    def run(self) -> None:
        """Read to the end, to a `Shutdown`, or to where the pipe makes no sense."""
        try:
            while (body := read_body(self._pipe)) is not None:
                if self._deliver(body):
                    return
        except (ValueError, OSError) as error:
            # Where the next message begins is lost: only a new worker can go on.
            logger.error("Leaving, stdin makes no sense: {}", error)
            self.exit_code = EXIT_BAD_MESSAGE
        finally:
            self._inbox.put(None)

    def _deliver(self, body: bytes) -> bool:
        try:
            message = to_worker_decoder.decode(body)
        except msgspec.MsgspecError as error:
            logger.error("Ignored what is no message: {}", error)
            if request_id := _request_id(body):
                self._send(Failed(request_id, BadField.code, f"not a valid message: {error}"))
            return False
        self._inbox.put(message)
        return isinstance(message, Shutdown)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until stdin ends; the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then tells us
    outbox = Outbox(_take_stdout())
    parser = argparse.ArgumentParser(prog="python -m backend.worker.main")
    parser.add_argument("--config", required=True, help="WorkerConfig as JSON")
    argument = parser.parse_args(arguments).config
    try:
        loaded = _load(argument)
    except ShoalError as error:
        logger.error("Cannot start: {}", error)
        outbox.send(Failed("", error.code, str(error)))
        return EXIT_BAD_CHECKPOINT if isinstance(error, BadCheckpoint) else EXIT_BAD_SETTING
    outbox.send(Ready(loaded.info))
    inbox = Inbox()
    reader = Reader(sys.stdin.buffer, inbox, outbox.send)
    reader.start()
    try:
        WorkerLoop(loaded, inbox, outbox.send).run()
    except BrokenPipeError:
        logger.warning("Leaving, nobody reads what is said.")
        return EXIT_FAILED
    except Exception:  # noqa: BLE001 - the process boundary; every request has been told
        logger.exception("The worker failed.")
        return EXIT_FAILED
    return reader.exit_code


def _load(argument: str) -> Loaded:
    try:
        config = WorkerConfig.from_json(argument)
    except msgspec.MsgspecError as error:
        raise BadSetting(f"--config is not a WorkerConfig: {error}") from error
    logger.remove()
    logger.add(sys.stderr, level=config.log_level)
    return load(config)


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


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # The reader may still be inside stdin, whose lock an ordinary exit would wait for or trip over;
    # nothing is left to be saved.
    os._exit(code)
