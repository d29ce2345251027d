"""`python -m benchmarks.gpu`: the table of what a GPU must do, measured on this machine.

    python -m benchmarks.gpu --checkpoint /tmp/s1mini                # every row
    python -m benchmarks.gpu --checkpoint /tmp/s1mini --rows decode_1 decode_many --quick
    python -m benchmarks.gpu --tiny --device cpu                     # tries the script itself

The engine alone in this process (`gpu_decode`), then a worker process over its pipe (`gpu_worker`),
the shipped voice, and the server under load (`benchmarks.load`). Each figure of frames a second
stands beside the floor: the bytes that a step must read at the copy bandwidth measured in the same
run. A row that fails says why, and the others go on. Prints a Markdown table, then one JSON line;
with $OUT set, that line is in its gpu.json after each row. `benchmarks/gpu.sh` makes the checkpoint
and runs upstream beside it.
"""

import argparse
import asyncio
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from backend.bench.random_checkpoint import DTYPES
from backend.hardware.need import ELEMENT_BYTES, CheckpointShape
from backend.settings import SHIPPED_VOICE_DIR
from benchmarks import gpu_decode
from benchmarks.gpu_report import TINY, Report, Size
from benchmarks.gpu_rows import (
    ENGINE_ROWS,
    WORKER_ROWS,
    demo_rows,
    engine_rows,
    load_rows,
    worker_rows,
)
from benchmarks.gpu_table import BAR, Floor, markdown
from benchmarks.gpu_worker import Case
from tests.tiny import tiny_checkpoint


def about(device: str, copy_bytes_s: float) -> dict[str, Any]:
    """Which machine, when, by which versions."""
    is_cuda = device.startswith("cuda")
    return {
        "measure": "gpu",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name(device) if is_cuda else "cpu",
        "torch": str(torch.__version__),
        "copy_gb_s": copy_bytes_s / 1e9,
    }


def upstream_of(files: Sequence[Path]) -> dict[str, Any]:
    """What runs of `benchmarks.upstream_gpu` wrote, one after another."""
    found: dict[str, Any] = {}
    for file in files:
        found |= json.loads(file.read_text("utf-8"))
    return found


def run(arguments: argparse.Namespace, folder: Path, size: Size) -> Report:
    """Every row that was asked for."""
    shape = CheckpointShape.from_folder(folder)
    copy_bytes_s = 1e9 * gpu_decode.copy_gb_s(torch.device(arguments.device), size.copy_mib)
    element_bytes = ELEMENT_BYTES[arguments.precision]
    floor = Floor.of(shape.model, element_bytes, copy_bytes_s)
    out = os.environ.get("OUT")
    report = Report(
        about(arguments.device, copy_bytes_s),
        upstream_of(arguments.upstream),
        shape.codec.frame_rate_hz,
        arguments.rows,
        Path(out) if out else None,
    )
    report.about["weight_mb_per_step"] = floor.weight_bytes / 1e6
    print(json.dumps(report.about), flush=True)
    case = Case(folder, arguments.device, arguments.precision, size.many, not arguments.eager)
    with report.stage(*ENGINE_ROWS):
        engine_rows(report, case, size, floor, arguments.ways)
    gpu_decode.give_back()
    with report.stage(*WORKER_ROWS):
        asyncio.run(worker_rows(report, case, size, floor))
    with report.stage("demo_1", "demo_many"):
        voice = replace(case, folder=SHIPPED_VOICE_DIR, max_batch=size.half)
        demo = CheckpointShape.from_folder(SHIPPED_VOICE_DIR)
        demo_floor = Floor.of(demo.model, element_bytes, copy_bytes_s)
        asyncio.run(demo_rows(report, voice, size, demo_floor))
    load_rows(report, case, arguments.load)
    return report


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, help="folder of a random checkpoint")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--precision", choices=DTYPES, default="bf16")
    parser.add_argument("--rows", nargs="+", choices=tuple(BAR), default=tuple(BAR))
    parser.add_argument("--ways", nargs="+", choices=gpu_decode.WAYS, default=["auto"])
    parser.add_argument("--eager", action="store_true", help="workers look for no faster way")
    parser.add_argument("--quick", action="store_true", help="fewer repeats, shorter")
    parser.add_argument("--tiny", action="store_true", help="a tiny checkpoint: tries the script")
    parser.add_argument("--upstream", type=Path, nargs="+", default=[], help="upstream_gpu's files")
    parser.add_argument("--load", default="--clients 64 256", help="arguments of benchmarks.load")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        size, folder = Size(), arguments.checkpoint
        if arguments.tiny:
            size = TINY
            folder = tiny_checkpoint(Path(scratch) / "tiny", end_scale=0.0)
        if folder is None:
            parser.error("--checkpoint or --tiny is needed")
        report = run(arguments, folder, size.quick() if arguments.quick else size)
    print(markdown(report.rows))
    print(report.save())


if __name__ == "__main__":
    main()
