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
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import psutil
import torch
from torch import Tensor
from torch._inductor import aoti_compile_and_package
from torch.export import Dim, export

from backend.engine.compiled import NAMES, WithWeights, load_pieces, piece
from backend.engine.compiler import Job, explain, read_job
from backend.engine.slots import WINDOW
from backend.model.dual_ar import DualAR, FastFrame

_ROWS = 3
"""What the compiler optimizes for; with one row it would make code for one row only."""


def compile_job(job: Job, folder: Path) -> None:
    """Compile all pieces of `job` into `folder`."""
    rows = Dim("rows", min=1, max=max(job.max_rows, _ROWS))
    for name in NAMES:
        made = piece(job.model, name)
        weights = [_empty_like(tensor) for tensor in made.weights()]
        inputs = _inputs(job.model, name)
        dynamic = [{0: rows} if each.is_by_row else {} for each in inputs]
        with torch.no_grad():
            program = export(
                WithWeights(made),
                (weights, [each.tensor for each in inputs]),
                dynamic_shapes=([None] * len(weights), dynamic),
            )
            aoti_compile_and_package(program, package_path=str(folder / f"{name}.pt2"))


def try_out(job: Job, folder: Path) -> None:
    """Load what was compiled and run it with several rows and with one, whatever it answers."""
    for name, run in load_pieces(folder).items():
        weights = [_empty_like(tensor) for tensor in piece(job.model, name).weights()]
        inputs = _inputs(job.model, name)
        run([*weights, *(each.tensor for each in inputs)])
        run([*weights, *(each.tensor[:1] if each.is_by_row else each.tensor for each in inputs)])


def _empty_like(meta: Tensor) -> Tensor:
    return torch.empty_strided(meta.shape, meta.stride(), dtype=meta.dtype, device="cpu")


@dataclass(frozen=True, slots=True)
class Input:
    """What a piece is called with."""

    tensor: Tensor
    is_by_row: bool = True
    """Its first dimension is that of the rows, and may differ from call to call."""


def _inputs(model: DualAR, name: str) -> list[Input]:
    config, slow = model.config, model.config.slow
    fast, books = FastFrame(model, torch.device("cpu")), config.num_codebooks
    past = Input(fast.past(_ROWS))
    x = Input(past.tensor.new_zeros(_ROWS, 1, slow.dim))
    attended = Input(past.tensor.new_zeros(_ROWS, slow.n_head, 1, slow.head_dim))
    if name == "between":
        return [x, attended, Input(torch.zeros(_ROWS, 1, 1, slow.head_dim // 2, 2))]
    temperature, top_p, penalty = (Input(torch.zeros(_ROWS, 1)) for _ in range(3))
    codes, keys, frames = (Input(torch.zeros(_ROWS, dtype=torch.int64)) for _ in range(3))
    if name == "first":
        history = Input(codes.tensor.new_zeros(_ROWS, WINDOW, books))
        rows = [x, attended, temperature, top_p, penalty, keys, frames, history]
        return [*rows, Input(fast.rope, is_by_row=False), past]
    at = [Input(tensor, is_by_row=False) for tensor in fast.at(2)]
    noise = Input(torch.zeros(_ROWS, books, 1))
    factors = Input(torch.zeros(_ROWS, books, config.codebook_size + 1))
    return [codes, *at, past, temperature, top_p, noise, factors]


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
        # Here first: where loading crashes, it takes this process along, not the one that speaks.
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
