"""`python -m benchmarks.codec_cpu [FOLDER ...]`: the codec on a CPU, torch's kernels against ours.

For each checkpoint: how long reading what decodes and trying it took; ms a frame in streaming
pieces, both ways in turns, so that whatever else the machine does slows both; how far rounding lies
below the sound of a recording's codes; a recording of 10 s to codes, and how many of them differ.
Beside the median stands the CPU time of one thread, which grows less with the load. The shipped
voice, if no folder is named. The last line is JSON.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backend.codec.cpu_way import read_decoder_
from backend.codec.reference import encode_reference
from backend.codec.way import Way, snr_of
from backend.core import MIB
from backend.model.checkpoint import Checkpoint, load_checkpoint
from backend.model.dac import DAC
from backend.model.layers import stored_bytes
from backend.model.stream import Stream
from backend.native.compiler import compile_library
from backend.settings import SHIPPED_VOICE_DIR

PIECES = (2, 4, 8, 16)
SPEECH_FRAMES = 96
RECORDING_S = 10.0


@dataclass(frozen=True, slots=True)
class Row:
    """Pieces of one size, by so many threads."""

    checkpoint: str
    threads: int
    frames: int
    torch_ms: float
    """A frame in float32, the median of the turns."""
    native_ms: float
    ratio: float
    """The median over the turns of how often one fits into the other."""
    torch_cpu_ms: float
    """Of one thread, the least of the turns."""
    native_cpu_ms: float
    load: float


def decoded(codec: DAC, pieces: list[Tensor], stream: Stream) -> tuple[float, float]:
    """Seconds and CPU seconds of this thread that the pieces took."""
    began_s, cpu_s = time.perf_counter(), time.thread_time()
    for piece in pieces:
        codec.decode(piece, stream)
    return time.perf_counter() - began_s, time.thread_time() - cpu_s


def measure(
    name: str, plain: DAC, native: DAC, codes: Tensor, frames: int, threads: int, turns: int
) -> Row:
    """Each turn decodes a second piece in both ways."""
    torch.set_num_threads(threads)
    pieces = list(torch.split(codes[:, :, : 2 * frames], frames, -1))
    took: list[list[float]] = []
    cpu: list[list[float]] = []
    streams = [Stream(), Stream()]
    for turn in range(turns + 1):
        both = [decoded(c, pieces, s) for c, s in zip((plain, native), streams, strict=True)]
        if turn:  # the first one prepares
            took.append([1000 * each / (2 * frames) for each, _ in both])
            cpu.append([1000 * each / (2 * frames) for _, each in both])
    torch_ms, native_ms = (statistics.median(column) for column in zip(*took, strict=True))
    torch_cpu, native_cpu = (min(column) for column in zip(*cpu, strict=True))
    ratio = statistics.median(slow / fast for slow, fast in took)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return Row(
        name, threads, frames, torch_ms, native_ms, ratio, torch_cpu, native_cpu, round(load, 1)
    )


def recording(rate_hz: int) -> NDArray[np.float32]:
    """Ten seconds that glide and rustle."""
    at = np.arange(int(RECORDING_S * rate_hz)) / rate_hz
    chance = np.random.default_rng(0)
    voice = np.sin(2 * np.pi * (120 * at + 20 * np.sin(at))) * (1 + np.sin(7 * at))
    sound: NDArray[np.float32] = 0.2 * voice + 0.05 * chance.standard_normal(len(at))
    return sound.astype(np.float32)


def speech_codes(checkpoint: Checkpoint) -> Tensor:
    """Codes as its own encoder makes them: chance draws some that no speech has."""
    codes = encode_reference(checkpoint.codec, recording(checkpoint.codec_config.sample_rate_hz))
    return codes[None, :, :SPEECH_FRAMES]


def timed(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """What came of it, and seconds."""
    began_s = time.perf_counter()
    made = work()
    return made, time.perf_counter() - began_s


@torch.inference_mode()
def compare(folder: Path, library: Path, turns: int, most_threads: int) -> dict[str, object]:
    """All that is said of one checkpoint, printed as it is found."""
    checkpoint, plain = load_checkpoint(folder, codec_in_parts=True), load_checkpoint(folder)
    stored, name = checkpoint.stored_codec, checkpoint.info.name
    assert stored is not None
    began_s, cpu_s = time.perf_counter(), time.process_time()
    way: Way = read_decoder_(stored, library)
    cpu_s = time.process_time() - cpu_s
    print(
        f"{name}: {way}; read and tried in {time.perf_counter() - began_s:.1f} s "
        f"({cpu_s:.1f} s of CPU); {stored_bytes(checkpoint.codec) / MIB:.0f} MiB instead of "
        f"{stored_bytes(plain.codec) / MIB:.0f}"
    )
    codes = speech_codes(plain)
    heard = [torch.cat([c.decode(p, s) for p in torch.split(codes, 16, -1)], -1)
             for c, s in ((plain.codec, Stream()), (checkpoint.codec, Stream()))]  # fmt: skip
    snr_db = snr_of(*heard)
    print(f"{name}: rounding {snr_db:.1f} dB below the sound of a recording's codes")
    rows = []
    for threads in dict.fromkeys((most_threads, 1)):
        for frames in PIECES:
            row = measure(name, plain.codec, checkpoint.codec, codes, frames, threads, turns)
            rows.append(row)
            print(
                f"{name}: {threads} threads, pieces of {frames:2}: fp32 {row.torch_ms:6.2f} ms a "
                f"frame, native {row.native_ms:6.2f}, {row.ratio:.2f} times as fast; CPU of one "
                f"thread {row.torch_cpu_ms:.2f} and {row.native_cpu_ms:.2f}; load {row.load}"
            )
    sound = recording(checkpoint.codec_config.sample_rate_hz)
    encoding = {}
    found: list[Tensor] = []
    for threads in dict.fromkeys((most_threads, 1)):
        torch.set_num_threads(threads)
        wanted, torch_s = timed(lambda: encode_reference(plain.codec, sound))
        began_s = time.perf_counter()
        deque(stored.encoding_stages(), maxlen=0)
        read_s = time.perf_counter() - began_s
        mine, native_s = timed(
            lambda: encode_reference(checkpoint.codec, sound, stages=stored.encoding_stages())
        )
        found = [wanted, mine]
        encoding[threads] = {"torch_s": torch_s, "native_s": native_s, "read_s": read_s}
        print(
            f"{name}: {threads} threads, {RECORDING_S:.0f} s to codes: fp32 {torch_s:.2f} s, "
            f"native {native_s:.2f} s, {read_s:.2f} s of which what encodes is read"
        )
    differ = int((found[0] != found[1]).sum())
    print(f"{name}: {differ} of {found[0].numel()} codes differ")
    return {
        "checkpoint": name,
        "snr_db": snr_db,
        "decode": [asdict(row) for row in rows],
        "encode": encoding,
        "codes_that_differ": differ,
    }


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, default=[SHIPPED_VOICE_DIR])
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        began_s = time.perf_counter()
        library = compile_library(Path(name))
        print(f"compiled in {time.perf_counter() - began_s:.1f} s", file=sys.stderr)
        found = [compare(f, library, asked.turns, asked.threads) for f in asked.folders]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
