"""The child process that compiles: what it is told, from its start to its certain end, and why it
made nothing.

It is told a model's structure, without a single number of it.
"""

import contextlib
import copy
import hashlib
import io
import json
import os
import pickle
import platform
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil
import torch
from torch import Tensor, nn

from backend.model.dual_ar import DualAR

COMMAND = (sys.executable, "-m", "backend.engine.compile_pieces")
"""What is run, with the folder to write to behind it."""

_MOST_S = 7200.0
"""Beside speech that never pauses it is given little time; this bounds a compiler that hangs."""
_POLL_S = 0.1
_LENGTH = struct.Struct("<Q")
_SOURCES = (
    *("compile_pieces.py", "compiled.py", "compiler.py", "frame.py", "sampler.py", "slots.py"),
    *("../model/dual_ar.py", "../model/layers.py", "../model/quantize.py"),
)
"""Files beside this one that decide what is compiled."""

_MEANINGS = (
    (
        ("InvalidCxxCompiler", "No working C++ compiler"),
        "there is no C++ compiler (Debian, Ubuntu: apt install g++; macOS: xcode-select --install)",
    ),
    (
        ("Python.h: No such file", "'Python.h' file not found"),
        "Python's headers are missing (Debian, Ubuntu: apt install python3-dev)",
    ),
    (
        ("GLIBC_", "GLIBCXX_"),
        "the C or C++ library of this system is too old for what was compiled",
    ),
    (
        ("MemoryError", "out of memory"),
        "there was not enough memory to compile",
    ),
    (("No space left on device",), "the disk is full"),
)
"""Signs in what an exception says, and what they mean."""


class CompileFailed(Exception):
    """There is no compiled code to be had; the text says why, in words for a user."""


class CompileStopped(Exception):
    """Nobody wants it any more."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to compile."""

    model: DualAR
    """All tensors are on the meta device, with their shapes, strides and types."""
    max_rows: int

    @classmethod
    def of(cls, model: DualAR, max_rows: int) -> "Job":
        """The job for `model`, for up to `max_rows` rows."""
        tensors = (*model.parameters(), *model.buffers())
        # What deepcopy finds in its memo it takes for copied: no number is.
        skeleton = copy.deepcopy(model, {id(tensor): _on_meta(tensor) for tensor in tensors})
        return cls(skeleton, max_rows)

    def pickled(self) -> bytes:
        """The job for a child process of our own; its modules may be of any class."""
        return pickle.dumps(self)

    def key(self) -> str:
        """A name for what comes of it: another for anything that may change that."""
        # Not of the pickle: that may differ from process to process for the same structure.
        digest = hashlib.sha256(repr((self.max_rows, self.model.config)).encode())
        for name, module in self.model.named_modules():
            digest.update(f"{name} {type(module).__qualname__}\n".encode())
        for name, like in (*self.model.named_parameters(), *self.model.named_buffers()):
            layout = (tuple(like.shape), like.stride(), str(like.dtype))
            digest.update(f"{name} {layout}\n".encode())
        cpu = torch.backends.cpu.get_cpu_capability()
        for part in (sys.version, str(torch.__version__), platform.platform(), cpu):
            digest.update(part.encode())
        for source in _SOURCES:
            digest.update((Path(__file__).parent / source).read_bytes())
        return digest.hexdigest()[:32]


def write_job(pickled: bytes, pipe: IO[bytes]) -> None:
    """Send a job through `pipe`, which stays open."""
    pipe.write(_LENGTH.pack(len(pickled)) + pickled)
    pipe.flush()


def read_job(pipe: IO[bytes]) -> Job:
    """What `write_job` sent."""
    (length,) = _LENGTH.unpack(pipe.read(_LENGTH.size))
    job = pickle.load(io.BytesIO(pipe.read(length)))
    assert isinstance(job, Job)
    return job


def _on_meta(tensor: Tensor) -> Tensor:
    meta = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(meta, requires_grad=False)
    return meta


def compile_job(
    job: Job, folder: Path, stopping: threading.Event, command: Sequence[str] = COMMAND
) -> None:
    """Let a child process compile `job` into `folder`; CompileFailed or CompileStopped if not."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        scratch = Path(name)
        answer_file, log_file = scratch / "answer", scratch / "log"
        with answer_file.open("wb") as answer, log_file.open("wb") as log:
            process = subprocess.Popen(
                [*command, str(folder)],
                stdin=subprocess.PIPE,
                stdout=answer,
                stderr=log,
                env=_environment(scratch),
            )
        try:
            _await(process, job, stopping)
        finally:
            _end(process)
        reason = _reason(answer_file.read_bytes(), process.returncode, log_file)
    if reason is not None:
        raise CompileFailed(reason)


def _await(process: subprocess.Popen[bytes], job: Job, stopping: threading.Event) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError):  # it is gone already: its log says why
        write_job(job.pickled(), process.stdin)
    deadline_s = time.monotonic() + _MOST_S
    while process.poll() is None:
        if stopping.wait(_POLL_S):
            raise CompileStopped
        if time.monotonic() > deadline_s:
            raise CompileFailed(f"it took more than {_MOST_S / 3600:.0f} hours")


def _reason(answer: bytes, returncode: int, log: Path) -> str | None:
    """Why there is nothing; None where all went well."""
    if answer:
        told = json.loads(answer)
        return None if told.get("reason") is None else str(told["reason"])
    if returncode == -signal.SIGSEGV:
        return "what the compiler makes here crashes when it is loaded, or the compiler itself does"
    if returncode < 0:
        return "the compiler was killed, probably for want of memory"
    lines = log.read_text("utf-8", errors="replace").strip().splitlines()
    return explain_text(lines[-1] if lines else "")


def _environment(scratch: Path) -> dict[str, str]:
    """What the compiling process finds around it."""
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "OMP_NUM_THREADS": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor"),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # in its own process: no pool of further ones
    }


def _end(process: subprocess.Popen[bytes]) -> None:
    """Make sure that `process` and what it started are gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid)
        for child in (*family.children(recursive=True), family):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    process.wait()


def explain(error: BaseException) -> str:
    """What `error` of a compiler or of loading compiled code means, and what would help."""
    return explain_text(f"{type(error).__name__}: {error}")


def explain_text(said: str) -> str:
    """As `explain`, from the text alone."""
    for signs, meaning in _MEANINGS:
        if any(sign in said for sign in signs):
            return meaning
    first = next((line for line in said.splitlines() if line.strip()), "nothing was said")
    return f"the compiler failed: {first.strip()[:300]}"
