"""A worker that costs nothing, in a real server: what server and pipe carry without an engine.

    python -m benchmarks.costless_worker --serve --frames-per-s 16000 --piece-frames 4

serves like `shoal serve`, with settings from the environment; without `--serve` it is the worker.
It answers every text with audio of openaudio-s1-mini's rates, `FRAMES_PER_CHARACTER` for each
character, at `--frames-per-s` of all rows together and at most `--row-frames-per-s` of one. Each
step hands out a piece of every row, as a codec does that decodes many rows at once.

Each frame begins with a mark (`marks`): when it was sent, and when its text was received.
"""

import argparse
import os
import queue
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backend.api.guard import refuse_open
from backend.app import create_app
from backend.connections.server import Server
from backend.core import EngineInfo, ReferenceCodes, SpeechStats
from backend.errors import Aborted
from backend.hardware.deployment import Deployment
from backend.listening import listen
from backend.logs import log_to_stderr
from backend.settings import load_settings
from backend.worker.messages import (
    Abort,
    Beat,
    ClearCaches,
    Cleared,
    Configure,
    Configured,
    Done,
    Encoded,
    EncodeVoice,
    Failed,
    Load,
    Pcm,
    Shutdown,
    Speak,
    ToWorker,
    WorkerConfig,
)
from backend.worker.pipe import Send, leave, run_worker
from benchmarks.marks import Mark, write_mark

RATE_HZ = 44_100
FRAME_SAMPLES = 2_048
NUM_CODEBOOKS = 10
CODEC_ID = "costless"
FRAMES_PER_CHARACTER = 1.4
"""Speech of 15 characters a second."""
REFERENCE_FRAMES = 300
"""Of every recording."""
FIRST_FRAMES = 2
"""The first piece of a text, as `codec.stream` has it."""


@dataclass(slots=True)
class _Row:
    """A text being spoken."""

    speak: Speak
    received_s: float
    frames: int
    """To speak in all."""
    spoken: int = 0
    first_audio_s: float = 0.0


class CostlessWorker:
    """Answers each text with as much audio as it is long, at the speed that it is told."""

    def __init__(self, arguments: argparse.Namespace, send: Send) -> None:
        self._send = send
        self._piece_frames: int = arguments.piece_frames
        self._frames_per_s: float = arguments.frames_per_s
        self._row_frames_per_s: float = arguments.row_frames_per_s
        self._inbox: queue.SimpleQueue[tuple[float, ToWorker | None]] = queue.SimpleQueue()
        self._rows: dict[str, _Row] = {}
        self._told = Load(0, 0)
        self._steps = 0
        shape = (max(FIRST_FRAMES, self._piece_frames), FRAME_SAMPLES)
        noise = 0.1 * np.random.default_rng(0).standard_normal(shape)
        self._sound: NDArray[np.float32] = noise.astype("<f4")

    @property
    def info(self) -> EngineInfo:
        """As of openaudio-s1-mini."""
        return EngineInfo(
            engine="costless",
            checkpoint="noise",
            device="cpu",
            precision="fp32",
            sample_rate_hz=RATE_HZ,
            frame_samples=FRAME_SAMPLES,
            num_codebooks=NUM_CODEBOOKS,
            parameters=1,
            weight_bytes=4,
            context_tokens=8192,
            max_segment_characters=400,
            max_reference_s=30.0,
            languages=("en",),
            torch_version="none",
            pid=os.getpid(),
            memory_mb=1.0,
            load_s=0.0,
            codec_id=CODEC_ID,
            has_default_voice=True,
        )

    def deliver(self, message: ToWorker | None) -> None:
        """Take `message` in, and when it came."""
        self._inbox.put((time.monotonic(), message))

    def beat(self) -> Beat:
        """Pieces sent so far."""
        return Beat(self._steps, "speaking" if self._rows else "")

    def run(self) -> None:
        """Send pieces until told to leave."""
        due_s = time.monotonic()
        while self._receive():
            if not self._rows:
                continue
            self._step()
            rows = len(self._rows)
            step_s = self._piece_frames * max(1 / self._row_frames_per_s, rows / self._frames_per_s)
            # What is late is made up for within one step: more would be a burst.
            due_s = max(due_s + step_s, time.monotonic() - step_s)
            time.sleep(max(0.0, due_s - time.monotonic()))

    def _receive(self) -> bool:
        while True:
            try:
                received_s, message = self._inbox.get(block=not self._rows)
            except queue.Empty:
                return True
            match message:
                case None | Shutdown():
                    return False
                case Speak():
                    frames = max(1, round(len(message.text) * FRAMES_PER_CHARACTER))
                    self._rows[message.request_id] = _Row(message, received_s, frames)
                case EncodeVoice():
                    self._send(Encoded(message.request_id, reference()))
                case Abort():
                    if self._rows.pop(message.request_id, None) is not None:
                        told = "The request was given up."
                        self._send(Failed(message.request_id, Aborted.code, told))
                case Configure():
                    self._send(Configured(message.num_threads, message.cache_limit_mb))
                case ClearCaches():
                    self._send(Cleared(0))

    def _step(self) -> None:
        self._steps += 1
        self._send(*self._messages(time.monotonic()))

    def _messages(self, now_s: float) -> Iterator[Pcm | Done | Load]:
        for request_id, row in list(self._rows.items()):
            most = FIRST_FRAMES if not row.spoken else self._piece_frames
            frames = min(most, row.frames - row.spoken)
            if not row.spoken:
                row.first_audio_s = now_s - row.received_s
            row.spoken += frames
            yield Pcm(request_id, self._samples(frames, now_s, row.received_s))
            if row.spoken == row.frames:
                del self._rows[request_id]
                yield Done(request_id, _stats(row, now_s))
        load = Load(len(self._rows), 0)
        if load != self._told:
            self._told = load
            yield load

    def _samples(self, frames: int, now_s: float, received_s: float) -> bytes:
        sound = self._sound[:frames]
        write_mark(sound, Mark(now_s, received_s))
        return sound.tobytes()


def reference() -> ReferenceCodes:
    """Codes that stand for any recording."""
    codes = np.arange(NUM_CODEBOOKS * REFERENCE_FRAMES, dtype="<u2") % 1000
    seconds = REFERENCE_FRAMES * FRAME_SAMPLES / RATE_HZ
    return ReferenceCodes(codes.astype("<u2").tobytes(), NUM_CODEBOOKS, CODEC_ID, seconds)


def _stats(row: _Row, now_s: float) -> SpeechStats:
    total_s = now_s - row.received_s
    return SpeechStats(
        prompt_tokens=len(row.speak.text),
        frames=row.frames,
        generated_tokens=row.frames + 1,
        audio_s=row.frames * FRAME_SAMPLES / RATE_HZ,
        prefill_s=0.0,
        decode_s=total_s,
        first_audio_s=row.first_audio_s,
        total_s=total_s,
        fish_bandwidth_gb_s=0.0,
        weight_read_gb_s=0.0,
        peak_memory_mb=1.0,
        segments=1,
        finish_reasons=("end",),
    )


def _serve(arguments: argparse.Namespace) -> None:
    """As `shoal serve` does, with this program as the worker."""
    speed = ("--frames-per-s", "--row-frames-per-s", "--piece-frames")
    told = [part for name in speed for part in (name, str(_value(arguments, name)))]
    command = (sys.executable, "-m", "benchmarks.costless_worker", *told)
    settings = load_settings()
    refuse_open(settings)
    log_to_stderr(settings.log_level)
    deployment = Deployment.look(settings)
    with listen(settings.host, settings.port) as listener:
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})
        app = create_app(settings, command, deployment)
        Server(app, settings, app.state.backend.stop_admitting).run(sockets=[listener])


def _value(arguments: argparse.Namespace, option: str) -> float:
    value: float = getattr(arguments, option.removeprefix("--").replace("-", "_"))
    return value


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--serve", action="store_true", help="the server, around this worker")
    parser.add_argument("--frames-per-s", type=float, default=16_000, help="of all rows")
    parser.add_argument("--row-frames-per-s", type=float, default=700, help="most of one row")
    parser.add_argument("--piece-frames", type=int, default=4)
    arguments = parser.parse_args()
    if arguments.serve:
        _serve(arguments)
        return
    config = WorkerConfig(model_dir="").to_json()
    leave(run_worker(lambda _, send: CostlessWorker(arguments, send), ["--config", config]))


if __name__ == "__main__":
    main()
