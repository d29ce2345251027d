"""`python -m benchmarks.quantization`: what 8 and 4 bits a weight gain in speed and memory.

Times single products of one matrix, whole frames (transformer only) and the reading of a prompt,
for every way to hold the weights that this machine has. With `--quality`, what it costs the shipped
voice instead: see `benchmarks.quantization_quality`. Prints tables, then one JSON line.

Weights are rotated, so that they come from memory as they do in a frame of a large checkpoint. Run
it with OMP_WAIT_POLICY=PASSIVE, as the worker runs. On a machine that others use as well, take one
thread and `--cpu-time`: then only what this process computes is counted.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from backend.core import Quantization, SamplingParams
from backend.engine.engine import Engine
from backend.engine.prompt import Prompt
from backend.engine.sequence import Sequence
from backend.model.checkpoint import Checkpoint, load_checkpoint
from backend.model.kv_cache import KVCache
from backend.model.layers import by_columns
from backend.model.packed import tried_pool
from backend.model.quantize import quantize_matrix, quantized_linear
from backend.native.compiler import compile_library
from backend.settings import SHIPPED_VOICE_DIR
from benchmarks.quantization_quality import measure_quality, measure_words

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
WAYS: tuple[Quantization, ...] = ("none", "int8", "int4")
SHAPES = {
    "demo": ((512, 256), (256, 256), (704, 256), (256, 704), (1024, 192), (1025, 256)),
    "s1-mini": ((4096, 1024), (1024, 2048), (3072, 1024), (1024, 3072), (4097, 1024)),
}
"""[out, in] of a layer's matrices and of the legal head."""
ROWS = (1, 4, 16, 200)
PREFILL_TOKENS = 200
FRAMES = 32
TEXT = "Sailors believed that whistling on board would bring a storm, so they sang instead."
_ROTATED_BYTES = 64e6


Clock = Callable[[], float]


def best_us(run: Callable[[int], object], seconds: float, clock: Clock) -> float:
    """Microseconds of `run`, called with 0, 1, 2 …; the fastest tenth of several short averages."""
    run(0), run(1)
    found: list[float] = []
    began_s = clock()
    while clock() - began_s < seconds or len(found) < 5:
        at_s = clock()
        for index in range(4):
            run(index)
        found.append((clock() - at_s) / 4)
    return statistics.quantiles(found, n=10)[0] * 1e6


def products(shape: tuple[int, int], rows: int, seconds: float, clock: Clock) -> dict[str, float]:
    """Microseconds of one product, by how weights and activations are held."""
    count = max(1, min(8, int(_ROTATED_BYTES / (4 * shape[0] * shape[1]))))
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(shape, generator=generator) / 32 for _ in range(count)]
    x32 = torch.randn(rows, shape[1], generator=generator)
    found: dict[str, float] = {}
    for name, dtype in DTYPES.items():
        x, plain = x32.to(dtype), [weight.to(dtype) for weight in weights]
        columns = [by_columns(weight) for weight in plain]
        found[name] = _time_linear(x, plain, seconds, clock)
        found[f"{name} by columns"] = _time_linear(x, columns, seconds, clock)
        for bits in (8, 4):
            for kind, kernel in (("", None), (" plain", False)):
                made = [
                    quantized_linear(quantize_matrix(weight, bits), uses_kernel=kernel)
                    for weight in weights
                ]
                found[f"int{bits} {name}{kind}"] = best_us(
                    lambda index, made=made, x=x: made[index % count](x),  # type: ignore[misc]
                    seconds,
                    clock,
                )
    return found


def _time_linear(x: Tensor, weights: list[Tensor], seconds: float, clock: Clock) -> float:
    return best_us(lambda index: F.linear(x, weights[index % len(weights)]), seconds, clock)


def frames_per_s(checkpoint: Checkpoint, rows: int, frames: int, clock: Clock) -> float:
    """Frames a second that `rows` sequences make together, transformer only.

    Of the fastest tenth of the steps: what else the machine does only ever adds time.
    """
    engine = Engine(checkpoint.model, rows)
    prompt = Prompt.build(checkpoint.tokenizer, checkpoint.config.num_codebooks, TEXT)
    for row in range(rows):
        sampling = SamplingParams(temperature=0.7, top_p=0.7, repetition_penalty=1.1, seed=row)
        # One joins in each step; the first is still to speak when the last has come.
        engine.add(Sequence(prompt, sampling, rows + frames, checkpoint.config.max_seq_len))
    speeds = []
    while not engine.is_idle:
        all_speak = engine.running == rows
        began_s = clock()
        engine.step()
        if all_speak:
            speeds.append(rows / (clock() - began_s))
    return statistics.quantiles(speeds, n=10)[-1]


@torch.inference_mode()
def prefill_ms(checkpoint: Checkpoint, repeats: int, clock: Clock) -> float:
    """Milliseconds to read a prompt of `PREFILL_TOKENS`; the best of `repeats`."""
    model = checkpoint.model
    weight = model.embeddings.weight
    tokens = torch.arange(PREFILL_TOKENS, device=weight.device) % 256
    codes = tokens.new_zeros(PREFILL_TOKENS, model.config.num_codebooks)
    found = []
    for _ in range(repeats):
        cache = KVCache(model.config.slow, weight.dtype, weight.device)
        cache.open(0, PREFILL_TOKENS)
        cache.extend([0], PREFILL_TOKENS)
        began_s = clock()
        model.prefill(tokens, codes, cache, 0).cpu()
        found.append(clock() - began_s)
    return min(found) * 1e3


def whole_frames(arguments: argparse.Namespace, clock: Clock) -> list[dict[str, Any]]:
    """One entry for each checkpoint, precision and way."""
    found = []
    rows_wanted = [rows for rows in ROWS if rows <= 16]
    print(f"\n{'checkpoint':>16} {'':>4} {'':>4} {'load s':>7} {'MB':>6} {'MB/frame':>8}", end="")
    print("".join(f"{f'{rows} rows':>9}" for rows in rows_wanted), f"{'prefill ms':>11}")
    for folder in arguments.model_dir:
        for precision in arguments.precision:
            for way in WAYS:
                began_s = clock()
                checkpoint = load_checkpoint(
                    folder,
                    device=arguments.device,
                    dtype=DTYPES[precision],
                    codec_dtype=torch.bfloat16,  # it is not used
                    quantization=way,
                )
                entry: dict[str, Any] = {
                    "checkpoint": checkpoint.info.name,
                    "precision": precision,
                    "quantization": way,
                    "load_s": clock() - began_s,
                    "weight_mb": checkpoint.weight_bytes / 1e6,
                    "weight_mb_per_frame": checkpoint.model.weight_bytes_per_frame() / 1e6,
                }
                for rows in rows_wanted:
                    entry[f"frames_s_{rows}"] = frames_per_s(
                        checkpoint, rows, arguments.frames, clock
                    )
                entry["prefill_ms"] = prefill_ms(checkpoint, 3, clock)
                found.append(entry)
                _print_entry(entry, rows_wanted)
                del checkpoint
    return found


def _print_entry(entry: dict[str, Any], rows_wanted: list[int]) -> None:
    print(
        f"{entry['checkpoint']:>16} {entry['precision']:>4} {entry['quantization']:>4} "
        f"{entry['load_s']:7.1f} {entry['weight_mb']:6.0f} {entry['weight_mb_per_frame']:8.1f}"
        + "".join(f"{entry[f'frames_s_{rows}']:9.1f}" for rows in rows_wanted)
        + f" {entry['prefill_ms']:11.1f}",
        flush=True,
    )


def matrices(seconds: float, clock: Clock) -> list[dict[str, Any]]:
    """One entry for each shape and number of rows; the table as it goes."""
    found = []
    for name, shapes in SHAPES.items():
        header_printed = False
        for shape in shapes:
            for rows in ROWS:
                timed = products(shape, rows, seconds, clock)
                if not header_printed:
                    print(f"\n{name}, microseconds a product")
                    print(f"{'out x in':>12} {'rows':>4} " + " ".join(f"{k:>15}" for k in timed))
                    header_printed = True
                values = " ".join(f"{value:15.1f}" for value in timed.values())
                print(f"{shape[0]:>7}x{shape[1]:<4} {rows:>4} {values}", flush=True)
                found.append({"of": name, "shape": shape, "rows": rows, "us": timed})
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model-dir", type=Path, nargs="+", default=[SHIPPED_VOICE_DIR])
    parser.add_argument("--precision", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--frames", type=int, default=FRAMES, help="of each sequence")
    parser.add_argument("--seconds", type=float, default=0.1, help="for each product")
    parser.add_argument("--no-products", action="store_true", help="whole frames only")
    parser.add_argument("--quality", action="store_true", help="what it costs the shipped voice")
    parser.add_argument(
        "--cpu-time", action="store_true", help="this process's own, of all threads"
    )
    arguments = parser.parse_args()
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    torch.set_num_threads(arguments.threads)
    result: dict[str, Any] = {
        "machine": platform.processor() or platform.machine(),
        "device": arguments.device,
        "threads": arguments.threads,
        "clock": "cpu" if arguments.cpu_time else "wall",
        "torch": str(torch.__version__),
    }
    if arguments.quality:
        with TemporaryDirectory() as folder:
            pool = tried_pool(compile_library(Path(folder)))
        result["quality"] = measure_quality(arguments.model_dir[0], pool)
        result["words"] = measure_words(arguments.model_dir[0], pool)
    else:
        if not arguments.no_products:
            with torch.inference_mode():
                result["products"] = matrices(arguments.seconds, clock)
        result["frames"] = whole_frames(arguments, clock)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
