"""`python -m backend.engine.compile_pieces FOLDER`: compiles the pieces of a frame, in a process
apart.

Apart, because tracing a model replaces methods of every `torch.nn.Module` of its process while it
lasts, and a request that was being spoken there failed by it (MDs/LOG.md). And because the
compiler's memory then goes back to the system, nobody waits for Python's lock, and a compiler that
crashes takes nobody along.

The worker says on stdin what to do and holds that pipe open for as long as it wants it; what comes
of it is one line of JSON on stdout.
"""

import contextlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO

import psutil
import torch
from torch import Tensor
from torch._inductor import aoti_compile_and_package
from torch.export import Dim, export

from backend.engine.compile_failure import explain
from backend.engine.compile_job import Job, read_job
from backend.engine.compiled import load_pieces
from backend.engine.pieces import NAMES, WithWeights, piece
from backend.engine.rows import WINDOW
from backend.model.dual_ar import FastFrame

_BY_ROW = "rows"
_ROWS, _CACHE_ROWS, _LENGTH_HINT, _CAPACITY_HINT = 3, 5, 100, 192
"""Sizes that the compiler optimizes for. All differ, or it would take two for one."""


def compile_job(job: Job, folder: Path) -> None:
    """Compile all pieces of `job` into `folder`."""
    for name in NAMES:
        made = piece(job.model, name)
        weights = [_empty_like(tensor, job.device) for tensor in made.weights()]
        inputs, dynamic = _inputs(job, name)
        with torch.no_grad():
            program = export(
                WithWeights(made),
                (weights, inputs),
                dynamic_shapes=([None] * len(weights), dynamic),
            )
            aoti_compile_and_package(program, package_path=str(folder / f"{name}.pt2"))


def try_out(job: Job, folder: Path) -> None:
    """Load what was compiled and run it with several rows and with one, whatever it answers."""
    runs = load_pieces(folder, torch.device(job.device))
    for name, run in runs.items():
        weights = [_empty_like(tensor, job.device) for tensor in piece(job.model, name).weights()]
        inputs, dynamic = _inputs(job, name)
        run([*weights, *inputs])
        pairs = zip(inputs, dynamic, strict=True)
        run(
            weights
            + [x[:1] if 0 in dims and dims[0].__name__ == _BY_ROW else x for x, dims in pairs]
        )
    if job.device.startswith("cuda"):
        torch.cuda.synchronize(job.device)


def _empty_like(meta: Tensor, device: str) -> Tensor:
    return torch.empty_strided(meta.shape, meta.stride(), dtype=meta.dtype, device=device)


Dynamic = dict[int, Dim]
Given = tuple[list[Tensor], list[Dynamic]]
"""What a piece is called with, and which of its dimensions may differ from call to call."""


def _inputs(job: Job, name: str) -> Given:
    rows = Dim(_BY_ROW, min=1, max=max(job.max_rows, _ROWS))
    return _layer_inputs(job, rows) if name == "layer" else _fast_inputs(job, rows, name)


def _layer_inputs(job: Job, rows: Dim) -> Given:
    slow, device = job.model.config.slow, job.device
    dtype = job.model.fast_norm.weight.dtype
    x = torch.zeros(_ROWS, 1, slow.dim, dtype=dtype, device=device)
    rope = torch.zeros(_ROWS, 1, 1, slow.head_dim // 2, 2, device=device)
    mask = torch.zeros(_ROWS, 1, 1, _LENGTH_HINT, dtype=dtype, device=device)
    positions = torch.zeros(_ROWS, dtype=torch.int64, device=device)
    shape = (_CACHE_ROWS, slow.n_local_heads, _CAPACITY_HINT, slow.head_dim)
    keys, values = (torch.zeros(shape, dtype=dtype, device=device) for _ in range(2))
    by_row: Dynamic = {0: rows}
    cache: Dynamic = {
        0: Dim("cache_rows", min=1, max=1 << 16),
        2: Dim("capacity", min=2, max=1 << 24),
    }
    length = Dim("length", min=2, max=1 << 24)
    dynamic: list[Dynamic] = [by_row, by_row, {0: rows, 3: length}, by_row, cache, cache]
    return [x, rope, mask, positions, keys, values], dynamic


def _fast_inputs(job: Job, rows: Dim, name: str) -> Given:
    config, device = job.model.config, torch.device(job.device)
    fast, books = FastFrame(job.model, device), config.num_codebooks
    past = fast.past(_ROWS)
    temperature, top_p, penalty = (torch.zeros(_ROWS, 1, device=device) for _ in range(3))
    codes = torch.zeros(_ROWS, dtype=torch.int64, device=device)
    by_row: Dynamic = {0: rows}
    if name == "first":
        hidden = past.new_zeros(_ROWS, config.slow.dim)
        history = codes.new_zeros(_ROWS, WINDOW, books)
        inputs = [hidden, temperature, top_p, penalty, codes, codes.clone(), history]
        return [*inputs, fast.rope, past], [*([by_row] * 7), {}, by_row]
    noise = torch.zeros(_ROWS, books, 1, device=device)
    factors = torch.zeros(_ROWS, books, config.codebook_size + 1, device=device)
    inputs = [codes, *fast.at(2), past, temperature, top_p, noise, factors]
    return inputs, [by_row, {}, {}, {}, *([by_row] * 5)]


def main() -> int:
    """Do the job on stdin; 0 where all pieces were compiled."""
    answers = _take_stdout()
    _be_modest()
    began_s = time.perf_counter()
    folder, job = Path(sys.argv[1]), read_job(sys.stdin.buffer)
    threading.Thread(target=_leave_with_parent, name="parent", daemon=True).start()
    answer: dict[str, object]
    try:
        compile_job(job, folder)
        # Here first: where loading crashes, as it did with torch 2.11 on an H200, it takes this
        # process along and not the one that speaks.
        try_out(job, folder)
    except Exception as error:  # noqa: BLE001 - the process boundary: the worker is told
        answer = {"reason": explain(error)}
    else:
        answer = {"seconds": time.perf_counter() - began_s}
    answers.write(json.dumps(answer).encode())
    answers.flush()
    return int("reason" in answer)


def _take_stdout() -> BinaryIO:
    """Stdout for the answer alone: whatever else prints, a compiler say, prints to stderr."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def _be_modest() -> None:
    """Take only what nobody else wants: of the processor's time, and of memory."""
    process = psutil.Process()
    if sys.platform == "win32":
        process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
    else:
        process.nice(10)
    # Should memory run out, this process is the one to end, not the one that speaks.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")


def _leave_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    code = main()
    # The thread may be inside stdin, whose lock an ordinary exit would wait for or trip over.
    os._exit(code)
