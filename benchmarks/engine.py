"""`python -m benchmarks.engine`: rows at once with their codec, in this process, without a server.

Frames a second of transformer and codec at several batch sizes, in the fastest way or with
`--eager` in the plain one. Against the floor and upstream `shoal bench` measures. Prints a table,
then one JSON line.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import torch

import backend
from backend.bench.random_checkpoint import DTYPES
from backend.codec.stage import CodecStage
from backend.codec.way import take_fastest_, ways
from backend.core import SamplingParams
from backend.engine.engine import Engine
from backend.engine.prompt import Prompt
from backend.engine.sequence import Sequence
from backend.engine.ways import Settled, settle
from backend.model.checkpoint import Checkpoint, load_checkpoint
from backend.model.packed import tried_pool
from backend.native.compiler import compile_library
from backend.worker.loaded import stage_of

TEXT = "The old lighthouse keeper climbed the stairs every evening to light the lamp for the ships."


def speak(
    checkpoint: Checkpoint,
    engine: Engine,
    stage: CodecStage,
    rows: int,
    frames: int,
    with_codec: bool,
) -> tuple[int, float]:
    """Frames made by `rows` sequences of at most `frames` side by side, and the seconds it took."""
    prompt = Prompt.build(checkpoint.tokenizer, checkpoint.config.num_codebooks, TEXT)
    for row in range(rows):
        sampling = SamplingParams(temperature=0.7, top_p=0.7, repetition_penalty=1.1, seed=row)
        sequence = Sequence(prompt, sampling, frames, checkpoint.config.max_seq_len)
        engine.add(sequence)
    made, began_s = 0, time.perf_counter()
    while not (engine.is_idle and stage.is_idle):
        for progress in engine.step():
            if progress.error is not None:
                raise progress.error
            if progress.frame is not None:
                made += 1
                if with_codec:
                    stage.push(progress.sequence, progress.frame)
            if with_codec and progress.finish is not None:
                stage.end(progress.sequence)
        for heard in stage.heard(wait=engine.is_idle):
            if heard.error is not None:
                raise heard.error
    return made, time.perf_counter() - began_s


def memory_mb(device: torch.device) -> float:
    """What this process holds now: on the GPU where it computes there, else resident."""
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device) / 1e6
    return float(psutil.Process().memory_info().rss) / 1e6


def table(
    arguments: argparse.Namespace, checkpoint: Checkpoint, engine: Engine, stage: CodecStage
) -> dict[str, Any]:
    """Speed at each number of rows, printed and returned."""
    result: dict[str, Any] = {}
    rate_hz = checkpoint.codec_config.frame_rate_hz
    print(f"{'rows':>5} {'frames/s':>9} {'with codec':>11} {'RTF each':>9}")
    for rows in arguments.rows:
        speeds: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(arguments.repeats):
            for with_codec, found in speeds.items():  # in turn: others' load falls on both alike
                frames, seconds = speak(
                    checkpoint, engine, stage, rows, arguments.frames, with_codec
                )
                found.append(frames / seconds)
        alone, whole = (statistics.median(found) for found in speeds.values())
        rtf = rate_hz * rows / whole
        result[f"rows_{rows}"] = {"frames_s": alone, "with_codec_frames_s": whole, "rtf": rtf}
        print(f"{rows:5} {alone:9.1f} {whole:11.1f} {rtf:9.3f}", flush=True)
    return result


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    voice = Path(backend.__file__).parent / "checkpoints" / "demo"
    parser.add_argument("--model-dir", type=Path, default=voice)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N")
    parser.add_argument("--precision", choices=DTYPES, default="fp32")
    parser.add_argument("--quantization", choices=("none", "int8", "int4"), default="none")
    parser.add_argument("--eager", action="store_true", help="one torch operation after another")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 4, 10])
    parser.add_argument("--frames", type=int, default=200, help="most frames of one sequence")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    began_s = time.perf_counter()
    pool = None
    if arguments.device == "cpu" and not arguments.eager:
        with tempfile.TemporaryDirectory() as folder:
            pool = tried_pool(compile_library(Path(folder)))
    checkpoint = load_checkpoint(
        arguments.model_dir,
        device=arguments.device,
        dtype=DTYPES[arguments.precision],
        codec_dtype=torch.float32,
        quantization=arguments.quantization,
        pool=pool,
    )
    model = checkpoint.model
    device = model.embeddings.weight.device
    engine = Engine(model, max(arguments.rows))
    settled = Settled("eager", "")
    if not arguments.eager:
        settled = settle(engine, may_use_triton=True, pool=pool)
    way = take_fastest_(checkpoint.codec, ways(device))
    stage = stage_of(checkpoint.codec, max(arguments.rows))
    result: dict[str, Any] = {
        "checkpoint": checkpoint.info.name,
        "machine": platform.processor() or platform.machine(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "precision": arguments.precision,
        "quantization": arguments.quantization,
        "way": settled.name,
        "codec": str(way),
        "threads": arguments.threads,
        "torch": str(torch.__version__),
        "load_s": time.perf_counter() - began_s,
    }
    speak(checkpoint, engine, stage, 1, arguments.frames, True)
    result |= table(arguments, checkpoint, engine, stage)
    result["memory_mb"] = memory_mb(device)
    for name, value in result.items():
        if isinstance(value, float):
            print(f"{name:20} {value:.1f}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
