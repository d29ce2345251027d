"""A worker that speaks the real protocol and misbehaves on demand; needs no torch, no checkpoint.

Its argument is a JSON object, see `Script`. It says 0.1 s of a 440 Hz tone to each text. The text
may hold a command: `crash` (exit code 3), `kill` (SIGKILL itself), `hang` (never answers, not even
an abort), `stuck` (likewise, and from then on its beats say that it gets no further), `wait`
(answers only an abort), `slow` (40 pieces, `pause_s` apart), `garbage` (writes what is no message),
`flood` (2 MB pieces without end), `bad reference`; `runaway` (ends at the frame limit) and `mute`
(silence in place of the tone) with the first seed that this text is spoken with, and with `forever`
beside them with every seed; `big` (there is not the memory for it, as often as the script says),
`huge` (it dies of that, as many workers of this script as it says).

A recording's codes are a digest of its bytes. It too may hold a command: `bad` (cannot be decoded),
`wait` (answers only an abort). Codes are decoded to the tone, a piece for every frame, unless they
hold `wait`, `crash` or `bad`.
"""

import hashlib
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

from backend.core import EngineInfo, FinishReason, QualityCost, ReferenceCodes, SpeechStats
from backend.worker.messages import (
    Abort,
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
    Measured,
    Pcm,
    Ready,
    Shutdown,
    Speak,
    Starting,
    frame,
    read_body,
    to_worker_decoder,
)

RATE_HZ = 8_000
FRAME_SAMPLES = 80
FRAMES = 10
"""Of each text."""
SAMPLES = FRAMES * FRAME_SAMPLES
CODEC_ID = "scripted"


@dataclass(frozen=True)
class Script:
    starts_file: str = ""
    """A line is added to this file at each start."""
    log_file: str = ""
    """The name of each message received is added to this file."""
    spoken_file: str = ""
    """Of each `Speak` a JSON object is added: text, seed, transcripts and hexadecimal codes of its
    references, and the span that it belongs to."""
    start_s: float = 0.0
    pause_s: float = 0.05
    """Between the pieces of a slow text."""
    fail_code: str = ""
    """Say Failed with this code instead of Ready."""
    damaged_file: str = ""
    """While this file exists, say Failed with `bad_checkpoint` instead of Ready."""
    exit_at_start: bool = False
    ignore_shutdown: bool = False
    """Leave neither when asked nor when terminated."""
    languages: tuple[str, ...] = ("en",)
    device: str = "cpu"
    has_default_voice: bool = True
    trial_rtf: float = 0.0
    beat_s: float = 0.0
    """How often it says that it lives; 0 is never."""
    ready_file: str = ""
    """It says that it is packing, and is ready once this file exists."""
    measures: bool = False
    """It tells later what quantization cost."""
    clear_file: str = ""
    """Caches are cleared once this file exists."""
    big_times: int = 0
    huge_starts: int = 0
    """Needs a `starts_file`."""
    killed_starts: int = 0
    """So many workers are killed, as by somebody else, as soon as they are to speak or to encode.
    Needs a `starts_file`."""
    dies: bool = False
    """Whatever it is to speak, as if the text said `crash`."""
    decode_s: float = 0.1
    """What it says that each text took."""
    peak_memory_mb: float = 1.0
    greedy_agreement: float | None = None
    """What quantization is said to keep."""
    way: str = "eager"


SCRIPT = Script(**json.loads(sys.argv[1])) if len(sys.argv) > 1 else Script()
_lock = threading.Lock()
_aborted: set[str] = set()
_first_seeds: dict[str, int | None] = {}
_stuck = threading.Event()
_big_texts: list[str] = []


def send(*messages: FromWorker) -> None:
    with _lock:
        sys.stdout.buffer.write(b"".join(map(frame, messages)))
        sys.stdout.buffer.flush()


def note(file: str, line: str) -> None:
    if file:
        with Path(file).open("a") as out:
            out.write(line + "\n")


def info() -> EngineInfo:
    return EngineInfo(
        engine="scripted",
        checkpoint="töne",
        device=SCRIPT.device,
        precision="fp32",
        sample_rate_hz=RATE_HZ,
        frame_samples=FRAME_SAMPLES,
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
        codec_id=CODEC_ID,
        trial_rtf=SCRIPT.trial_rtf,
        has_default_voice=SCRIPT.has_default_voice,
        way=SCRIPT.way,
        quality_cost=None
        if SCRIPT.greedy_agreement is None
        else QualityCost(0.01, SCRIPT.greedy_agreement, 8),
    )


def tone() -> bytes:
    wave = (0.5 * math.sin(2 * math.pi * 440 * i / RATE_HZ) for i in range(SAMPLES))
    return struct.pack(f"<{SAMPLES}f", *wave)


def codes_of(given: bytes) -> ReferenceCodes:
    """Codes that are those of `given` alone."""
    digest = hashlib.blake2b(given, digest_size=2 * FRAMES).digest()
    return ReferenceCodes(digest, 1, CODEC_ID, SAMPLES / RATE_HZ)


def stats(finish: FinishReason) -> SpeechStats:
    return SpeechStats(
        prompt_tokens=5,
        frames=FRAMES,
        generated_tokens=FRAMES + (finish == "end"),
        audio_s=SAMPLES / RATE_HZ,
        prefill_s=0.01,
        decode_s=SCRIPT.decode_s,
        first_audio_s=0.02,
        total_s=SCRIPT.decode_s + 0.1,
        fish_bandwidth_gb_s=1.0,
        weight_read_gb_s=1.0,
        peak_memory_mb=SCRIPT.peak_memory_mb,
        segments=1,
        finish_reasons=(finish,),
    )


def wait_for_abort(request_id: str) -> None:
    while request_id not in _aborted:
        time.sleep(0.01)
    send(Failed(request_id, "aborted", "aborted"))


def speak(message: Speak, is_first_seed: bool) -> None:
    """One request, in a thread of its own."""
    text, request_id = message.text, message.request_id
    if "crash" in text or SCRIPT.dies:
        print("about to crash", file=sys.stderr, flush=True)
        os._exit(3)
    if "kill" in text:
        os.kill(os.getpid(), signal.SIGKILL)
    if "big" in text and len(_big_texts) < SCRIPT.big_times:
        _big_texts.append(text)
        send(Failed(request_id, "out_of_memory", "There is not enough memory."))
        return
    if "huge" in text and len(Path(SCRIPT.starts_file).read_text().split()) <= SCRIPT.huge_starts:
        print("MemoryError", file=sys.stderr, flush=True)
        os._exit(1)
    if "hang" in text:
        return
    if "stuck" in text:
        _stuck.set()
        return
    if "garbage" in text:
        sys.stdout.buffer.write(b"\xff" * 64)
        sys.stdout.buffer.flush()
        return
    if "bad reference" in text:
        send(Failed(request_id, "bad_reference", "speaker_file cannot be decoded; send a wav."))
        return
    if "wait" in text:
        wait_for_abort(request_id)
        return
    repeat, pause_s = (40, SCRIPT.pause_s) if "slow" in text else (1, 0.0)
    fails = is_first_seed or "forever" in text
    piece = bytes(4 * SAMPLES) if "mute" in text and fails else tone()
    if "flood" in text:
        repeat, piece = 1_000_000, b"\0" * (2 << 20)
    for _ in range(repeat - 1):
        if request_id in _aborted:
            send(Failed(request_id, "aborted", "aborted"))
            return
        send(Pcm(request_id, piece))
        time.sleep(pause_s)
    codes = codes_of(text.encode()) if message.return_codes else None
    finish: FinishReason = "frame_limit" if "runaway" in text and fails else "end"
    # At once: what this audio lets the server begin may crash us.
    send(Pcm(request_id, piece), Done(request_id, stats(finish), codes))


def encode(message: EncodeVoice) -> None:
    """One recording, in a thread of its own."""
    if b"wait" in message.audio:
        wait_for_abort(message.request_id)
    elif b"bad" in message.audio:
        says = "speaker_file cannot be decoded; send a wav."
        send(Failed(message.request_id, "bad_reference", says))
    else:
        send(Encoded(message.request_id, codes_of(message.audio)))


def decode(message: DecodeCodes) -> None:
    """The sound of codes, in a thread of its own."""
    codes, request_id = message.codes, message.request_id
    if b"crash" in codes.codes:
        os._exit(3)
    if b"wait" in codes.codes:
        send(Pcm(request_id, tone()))
        wait_for_abort(request_id)
    elif b"bad" in codes.codes:
        send(Failed(request_id, "bad_reference", "The reference voice has codes that are none."))
    else:
        for index in range(codes.frames):
            at = 4 * FRAME_SAMPLES * (index % FRAMES)
            send(Pcm(request_id, tone()[at : at + 4 * FRAME_SAMPLES]))
        send(Decoded(request_id))


def be_killed() -> None:
    if len(Path(SCRIPT.starts_file).read_text().split()) <= SCRIPT.killed_starts:
        os.kill(os.getpid(), signal.SIGKILL)


def take(message: Speak) -> None:
    seed = message.sampling.seed
    voices = [(voice.transcript, voice.codes.codes.hex()) for voice in message.references]
    line = {"text": message.text, "seed": seed, "references": voices}
    line["trace_parent"] = message.trace_parent
    note(SCRIPT.spoken_file, json.dumps(line))
    is_first_seed = _first_seeds.setdefault(message.text, seed) == seed
    threading.Thread(target=speak, args=(message, is_first_seed), daemon=True).start()


def beat() -> None:
    """In a thread of its own."""
    steps = 0
    while True:
        time.sleep(SCRIPT.beat_s)
        steps += not _stuck.is_set()
        send(Beat(steps, "speaking"))


def main() -> None:
    note(SCRIPT.starts_file, "start")
    if SCRIPT.ignore_shutdown:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(SCRIPT.start_s)
    if SCRIPT.exit_at_start:
        print("ModuleNotFoundError: No module named 'nothing'", file=sys.stderr, flush=True)
        os._exit(1)
    if SCRIPT.damaged_file and Path(SCRIPT.damaged_file).exists():
        send(Failed("", "bad_checkpoint", "model.pth is damaged"))
        return
    if SCRIPT.fail_code:
        send(Failed("", SCRIPT.fail_code, "the folder is empty"))
        return
    if SCRIPT.ready_file:
        send(Starting("packing, 25%"))
        while not Path(SCRIPT.ready_file).exists():
            time.sleep(0.01)
    send(Ready(info(), beats=SCRIPT.beat_s > 0))
    if SCRIPT.measures:
        send(Measured(QualityCost(0.01, 0.99, 8)))
    if SCRIPT.beat_s:
        threading.Thread(target=beat, daemon=True).start()
    while (body := read_body(sys.stdin.buffer)) is not None:
        message = to_worker_decoder.decode(body)
        note(SCRIPT.log_file, type(message).__name__)
        if SCRIPT.killed_starts and isinstance(message, Speak | EncodeVoice):
            be_killed()
        match message:
            case Abort():
                _aborted.add(message.request_id)
            case Configure():
                send(Configured(message.num_threads, message.cache_limit_mb))
            case ClearCaches():
                while SCRIPT.clear_file and not Path(SCRIPT.clear_file).exists():
                    time.sleep(0.01)
                send(Cleared(4096))
            case Shutdown():
                break
            case EncodeVoice():
                threading.Thread(target=encode, args=(message,), daemon=True).start()
            case DecodeCodes():
                threading.Thread(target=decode, args=(message,), daemon=True).start()
            case Speak():
                take(message)
    while SCRIPT.ignore_shutdown:
        time.sleep(1)
    os._exit(0)


if __name__ == "__main__":
    main()
