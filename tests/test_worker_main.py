"""The worker as the process it is."""

import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from backend.core import SamplingParams, VoicePrompt
from backend.model.config import CodecConfig, codec_fingerprint
from backend.worker.messages import (
    Abort,
    Beat,
    Done,
    Encoded,
    EncodeVoice,
    Failed,
    FromWorker,
    Load,
    Pcm,
    Ready,
    Shutdown,
    Speak,
    Starting,
    ToWorker,
    WorkerConfig,
    frame,
    from_worker_decoder,
    read_body,
)
from tests.test_worker_loop import recording
from tests.tiny import TINY_CODEC, tiny_checkpoint

GREEDY = SamplingParams(temperature=0.0, seed=1)
ROOT = Path(__file__).parent.parent


class Process:
    """A worker process that is talked to through its pipes."""

    def __init__(self, config: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "backend.worker.main", "--config", config],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        self.stdin = cast(BinaryIO, self.process.stdin)
        self.stdout = cast(BinaryIO, self.process.stdout)
        self.beats: list[Beat] = []

    def send(self, *messages: ToWorker) -> None:
        self.write(b"".join(map(frame, messages)))

    def write(self, data: bytes) -> None:
        self.stdin.write(data)
        self.stdin.flush()

    def read(self) -> FromWorker | None:
        """The next message but `Starting`, `Load` and `Beat`; None at the end."""
        while (body := read_body(self.stdout)) is not None:
            message: FromWorker = from_worker_decoder.decode(body)
            if isinstance(message, Beat):
                self.beats.append(message)
            elif not isinstance(message, Starting | Load):
                return message
        return None

    def read_to_end_of(self, request_id: str) -> list[FromWorker]:
        said: list[FromWorker] = []
        while not said or isinstance(said[-1], Pcm):
            message = self.read()
            assert message is not None
            assert isinstance(message, Pcm | Done | Failed)
            if message.request_id == request_id:
                said.append(message)
        return said

    def exit_code(self) -> int:
        return self.process.wait(timeout=30)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.stdout.close()
        self.stdin.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # It never ends by itself: what is spoken runs into its frame limit.
    return tiny_checkpoint(tmp_path_factory.mktemp("tiny"), end_scale=0.0)


@pytest.fixture
def worker(folder: Path) -> Iterator[Process]:
    worker = Process(WorkerConfig(str(folder), num_threads=1, log_level="WARNING").to_json())
    yield worker
    worker.close()


def test_it_beats_while_it_waits_and_while_it_speaks(worker: Process) -> None:
    ready = worker.read()
    assert isinstance(ready, Ready)
    assert ready.beats
    idle = from_worker_decoder.decode(read_body(worker.stdout) or b"")
    assert idle == Beat(0, "")
    worker.send(*(Speak(str(number), "x" * 40, GREEDY) for number in range(200)))
    while len(worker.beats) < 2:
        assert isinstance(worker.read(), Pcm | Done)
    first, second = worker.beats
    assert 0 < first.steps < second.steps
    assert first.busy_with == second.busy_with == "speaking"


def test_it_is_ready_speaks_aborts_and_leaves_at_the_end_of_stdin(
    worker: Process, folder: Path
) -> None:
    ready = worker.read()
    assert isinstance(ready, Ready)
    info = ready.info
    assert (info.engine, info.checkpoint, info.device, info.precision) == (
        *("shoal", "tiny", "cpu", "fp32"),
    )
    assert info.pid == worker.process.pid
    assert info.frame_rate_hz == 100
    encoder = CodecConfig(**TINY_CODEC).encoding_parameters
    assert (info.parameters - encoder) * 4 == info.weight_bytes, "it comes when it is needed"
    assert 0 < info.trial_rtf < 1000

    if sys.platform != "win32":
        os.kill(info.pid, signal.SIGINT)  # Ctrl-C is not for the worker
    worker.send(Speak("a", "Hi.", GREEDY))
    *pieces, done = worker.read_to_end_of("a")
    assert isinstance(done, Done)
    assert done.stats.finish_reasons == ("frame_limit",)
    heard = sum(len(piece.samples) for piece in pieces if isinstance(piece, Pcm))
    assert heard == 4 * done.stats.frames * 80

    worker.send(EncodeVoice("v", recording(1.5)))
    encoded = worker.read()
    assert isinstance(encoded, Encoded)
    assert encoded.codes.codec_id == info.codec_id == codec_fingerprint(folder)
    worker.send(Speak("c", "Hi.", GREEDY, (VoicePrompt(encoded.codes, "Ah."),)))
    assert isinstance(worker.read_to_end_of("c")[-1], Done)

    worker.send(Speak("b", "x" * 40, GREEDY))
    assert isinstance(worker.read(), Pcm)
    worker.send(Abort("b"))
    last = worker.read_to_end_of("b")[-1]
    assert isinstance(last, Failed)
    assert last.code == "aborted"

    worker.stdin.close()
    assert worker.read() is None
    assert worker.exit_code() == 0


def test_shutdown_ends_it_and_answers_who_is_speaking(worker: Process) -> None:
    worker.read()
    worker.send(Speak("a", "x" * 40, GREEDY), Shutdown())
    last = worker.read_to_end_of("a")[-1]
    assert isinstance(last, Failed)
    assert last.code == "aborted"
    assert worker.exit_code() == 0


def test_a_message_that_is_none_is_passed_over_and_its_request_told(worker: Process) -> None:
    worker.read()
    worker.write(struct.pack("<I", 5) + b"hello")
    bad = b"\x83\xa4type\xa5speak\xaarequest_id\xa1a\xa4text\x07"
    worker.write(struct.pack("<I", len(bad)) + bad)
    failed = worker.read()
    assert isinstance(failed, Failed)
    assert (failed.request_id, failed.code) == ("a", "bad_field")
    worker.send(Speak("b", "a", GREEDY))
    assert isinstance(worker.read_to_end_of("b")[-1], Done)


def test_garbage_on_stdin_ends_it_with_a_code_of_its_own(worker: Process) -> None:
    worker.read()
    worker.send(Speak("a", "x" * 40, GREEDY))
    worker.write(b"GET / HTTP/1.1\r\n\r\n")
    assert isinstance(worker.read_to_end_of("a")[-1], Failed)
    assert worker.exit_code() == 4


@pytest.mark.parametrize(
    ("config", "code", "exit_code"),
    [
        (WorkerConfig("/nowhere").to_json(), "bad_checkpoint", 3),
        (WorkerConfig("/nowhere", device="toaster").to_json(), "bad_setting", 2),
        (WorkerConfig("/nowhere", precision="int3").to_json(), "bad_setting", 2),
        ("{}", "bad_setting", 2),
    ],
)
def test_it_says_why_it_cannot_start(config: str, code: str, exit_code: int) -> None:
    worker = Process(config)
    failed = worker.read()
    assert isinstance(failed, Failed)
    assert (failed.request_id, failed.code) == ("", code)
    assert worker.exit_code() == exit_code
    worker.close()
