"""A worker that speaks the real protocol and misbehaves on demand; needs no torch, no checkpoint.

Its argument is a JSON object, see `Script`. It speaks 0.1 s of a 440 Hz tone for each segment. The
text of the first segment may hold a command: `crash` (exit code 3), `kill` (SIGKILL itself),
`hang` (never answers, not even an abort), `wait` (answers only an abort), `slow` (40 pieces,
0.05 s apart), `garbage` (writes what is no message), `flood` (2 MB pieces without
end), `bad reference`.
"""

import json
import math
import os
import signal
import struct
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from backend.core import EngineInfo, FinishReason, SpeechStats
from backend.worker.messages import (
    Abort,
    ClearCaches,
    Cleared,
    Configure,
    Configured,
    Done,
    Failed,
    FromWorker,
    Pcm,
    Ready,
    Shutdown,
    Speak,
    frame,
    read_body,
    to_worker_decoder,
)

RATE_HZ = 8_000
SEGMENT_SAMPLES = 800


@dataclass(frozen=True)
class Script:
    starts_file: str = ""
    """A line is added to this file at each start."""
    log_file: str = ""
    """The name of each message received is added to this file."""
    start_s: float = 0.0
    fail_code: str = ""
    """Say Failed with this code instead of Ready."""
    exit_at_start: bool = False
    ignore_shutdown: bool = False
    """Leave neither when asked nor when terminated."""
    languages: tuple[str, ...] = ("en",)


SCRIPT = Script(**json.loads(sys.argv[1])) if len(sys.argv) > 1 else Script()
_lock = threading.Lock()
_aborted: set[str] = set()


def send(message: FromWorker) -> None:
    with _lock:
        sys.stdout.buffer.write(frame(message))
        sys.stdout.buffer.flush()


def note(file: str, line: str) -> None:
    if file:
        with Path(file).open("a") as out:
            out.write(line + "\n")


def info() -> EngineInfo:
    return EngineInfo(
        engine="scripted",
        checkpoint="töne",
        device="cpu",
        precision="fp32",
        sample_rate_hz=RATE_HZ,
        frame_samples=80,
        num_codebooks=1,
        parameters=1,
        weight_bytes=4,
        context_tokens=100,
        max_segment_characters=80,
        max_reference_s=30.0,
        languages=SCRIPT.languages,
        torch_version="none",
        pid=os.getpid(),
        memory_mb=1.0,
        load_s=0.0,
    )


def tone() -> bytes:
    wave = (0.5 * math.sin(2 * math.pi * 440 * i / RATE_HZ) for i in range(SEGMENT_SAMPLES))
    return struct.pack(f"<{SEGMENT_SAMPLES}f", *wave)


def stats(segments: int) -> SpeechStats:
    end: FinishReason = "end"
    return SpeechStats(
        prompt_tokens=5,
        frames=10 * segments,
        generated_tokens=11 * segments,
        audio_s=0.1 * segments,
        prefill_s=0.01,
        decode_s=0.1,
        first_audio_s=0.02,
        total_s=0.2,
        fish_bandwidth_gb_s=1.0,
        weight_read_gb_s=1.0,
        peak_memory_mb=1.0,
        segments=segments,
        finish_reasons=(end,) * segments,
    )


def speak(message: Speak) -> None:
    """One request, in a thread of its own."""
    command, request_id = message.segments[0], message.request_id
    if "crash" in command:
        print("about to crash", file=sys.stderr, flush=True)
        os._exit(3)
    if "kill" in command:
        os.kill(os.getpid(), signal.SIGKILL)
    if "hang" in command:
        return
    if "garbage" in command:
        sys.stdout.buffer.write(b"\xff" * 64)
        sys.stdout.buffer.flush()
        return
    if "bad reference" in command:
        send(Failed(request_id, "bad_reference", "speaker_file cannot be decoded; send a wav."))
        return
    if "wait" in command:
        while request_id not in _aborted:
            time.sleep(0.01)
    repeat, pause_s = (40, 0.05) if "slow" in command else (1, 0.0)
    piece = tone()
    if "flood" in command:
        repeat, piece = 1_000_000, b"\0" * (2 << 20)
    for segment in range(len(message.segments)):
        for _ in range(repeat):
            if request_id in _aborted:
                send(Failed(request_id, "aborted", "aborted"))
                return
            send(Pcm(request_id, piece, segment))
            time.sleep(pause_s)
    send(Done(request_id, stats(len(message.segments))))


def main() -> None:
    note(SCRIPT.starts_file, "start")
    if SCRIPT.ignore_shutdown:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(SCRIPT.start_s)
    if SCRIPT.exit_at_start:
        print("ModuleNotFoundError: No module named 'nothing'", file=sys.stderr, flush=True)
        os._exit(1)
    if SCRIPT.fail_code:
        send(Failed("", SCRIPT.fail_code, "the folder is empty"))
        return
    send(Ready(info()))
    while (body := read_body(sys.stdin.buffer)) is not None:
        message = to_worker_decoder.decode(body)
        note(SCRIPT.log_file, type(message).__name__)
        if isinstance(message, Abort):
            _aborted.add(message.request_id)
        elif isinstance(message, Configure):
            send(Configured(message.num_threads, message.cache_limit_mb))
        elif isinstance(message, ClearCaches):
            send(Cleared(4096))
        elif isinstance(message, Shutdown):
            break
        else:
            threading.Thread(target=speak, args=(message,), daemon=True).start()
    while SCRIPT.ignore_shutdown:
        time.sleep(1)
    os._exit(0)


if __name__ == "__main__":
    main()
