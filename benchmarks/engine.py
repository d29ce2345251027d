"""`python -m benchmarks.engine`: how fast the engine speaks, against the floor and upstream.

In this process, no server: frames a second of transformer and codec at several batch sizes, the
bytes of weights a frame reads against what the memory can deliver, and, with `--upstream`, the
same sentence through `fish-speech==0.1.0` in its own environment on the same cores. Prints a
table, then one JSON line.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from backend.codec.stream import FrameDecoder
from backend.engine.engine import Engine
from backend.engine.prompt import Prompt
from backend.engine.sequence import Sampling, Sequence
from backend.model.checkpoint import Checkpoint, load_checkpoint
from backend.settings import SHIPPED_VOICE_DIR
from tests.parity.official import write_transformer
from tests.parity.oracle import ask

UPSTREAM_CONTEXT_TOKENS = 8192
"""What openaudio-s1-mini's config says; the package attends over all of it at every step."""

TEXT = "The old lighthouse keeper climbed the stairs every evening to light the lamp for the ships."


def speak(checkpoint: Checkpoint, rows: int, with_codec: bool) -> tuple[int, float]:
    """Frames made by `rows` sequences side by side, and the seconds it took."""
    engine = Engine(checkpoint.model, rows)
    decoders: dict[Sequence, FrameDecoder] = {}
    prompt = Prompt.build(checkpoint.tokenizer, checkpoint.config.num_codebooks, TEXT)
    for row in range(rows):
        sampling = Sampling(temperature=0.7, top_p=0.7, repetition_penalty=1.1, seed=row)
        sequence = Sequence(prompt, sampling, 200, checkpoint.config.max_seq_len)
        decoders[sequence] = FrameDecoder(checkpoint.codec)
        engine.add(sequence)
    frames, began_s = 0, time.perf_counter()
    while not engine.is_idle:
        for progress in engine.step().progress:
            if progress.error is not None:
                raise progress.error
            if progress.frame is not None:
                frames += 1
                if with_codec:
                    decoders[progress.sequence].push(progress.frame)
            if with_codec and progress.finish is not None:
                decoders[progress.sequence].flush()
    return frames, time.perf_counter() - began_s


def copy_gb_s(mib: int = 256) -> float:
    """What the memory delivers, bytes read and written, in 1e9 a second; best of seven."""
    source = np.ones(mib * 1024 * 1024 // 8)
    target = np.empty_like(source)
    best_s = float("inf")
    for _ in range(7):
        began_s = time.perf_counter()
        torch.from_numpy(target).copy_(torch.from_numpy(source))
        best_s = min(best_s, time.perf_counter() - began_s)
    return 2 * source.nbytes / best_s / 1e9


def upstream_frames_s(checkpoint: Checkpoint, frames: int) -> float:
    """`fish-speech` 0.1.0's frames a second: transformer only, fp32, one thread."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        folder = write_transformer(scratch / "checkpoint", checkpoint, UPSTREAM_CONTEXT_TOKENS)
        job = {"kind": "greedy", "folder": str(folder), "text": TEXT, "reference_texts": []}
        # The first job loads the model; the second is timed, its prompt included.
        jobs = [job | {"name": f"{n}", "frames": n} for n in (4, frames)]
        answers = ask(jobs, {}, scratch)
    made = int(answers[f"{frames}/grid"].shape[1]) - int(answers[f"{frames}/prompt"])
    return made / float(answers[f"{frames}/seconds"])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-dir", type=Path, default=SHIPPED_VOICE_DIR)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 4, 10])
    parser.add_argument("--upstream", action="store_true", help="compare; give --threads 1")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    began_s = time.perf_counter()
    checkpoint = load_checkpoint(arguments.model_dir)
    load_s = time.perf_counter() - began_s
    rate_hz = checkpoint.codec_config.frame_rate_hz
    speak(checkpoint, 1, True)
    result: dict[str, Any] = {
        "checkpoint": checkpoint.card.name,
        "machine": platform.processor() or platform.machine(),
        "threads": arguments.threads,
        "torch": str(torch.__version__),
        "load_s": load_s,
    }
    print(f"{'rows':>5} {'frames/s':>9} {'with codec':>11} {'RTF each':>9}")
    for rows in arguments.rows:
        speeds: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(arguments.repeats):
            for with_codec, found in speeds.items():  # in turn: others' load falls on both alike
                frames, seconds = speak(checkpoint, rows, with_codec)
                found.append(frames / seconds)
        alone, whole = (statistics.median(found) for found in speeds.values())
        rtf = rate_hz * rows / whole
        result[f"rows_{rows}"] = {"frames_s": alone, "with_codec_frames_s": whole, "rtf": rtf}
        print(f"{rows:5} {alone:9.1f} {whole:11.1f} {rtf:9.3f}")
    legal = checkpoint.config.codebook_size + 1
    frame_bytes = checkpoint.config.weights_read_per_frame(legal) * 4
    result["weight_mb_per_frame"] = frame_bytes / 1e6
    result["copy_gb_s"] = copy_gb_s()
    result["floor_frames_s"] = result["copy_gb_s"] * 1e9 / frame_bytes
    if arguments.upstream:
        result["upstream_frames_s"] = upstream_frames_s(checkpoint, 48)
    for name in ("weight_mb_per_frame", "copy_gb_s", "floor_frames_s", "upstream_frames_s"):
        if name in result:
            print(f"{name:20} {result[name]:.1f}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
