"""Runs the compiling child process from its start to its certain end."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import psutil

from backend.engine.compile_failure import explain_text
from backend.engine.compile_job import Job, write_job

COMMAND = (sys.executable, "-m", "backend.engine.compile_pieces")
"""What is run, with the folder to write to behind it."""

_MOST_S = 7200.0
"""Beside speech that never pauses it is given little time; this bounds a compiler that hangs."""
_POLL_S = 0.1


class CompileFailed(Exception):
    """There is no compiled code to be had; the text says why, in words for a user."""


class CompileStopped(Exception):
    """Nobody wants it any more."""


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
                env=_environment(job.device, scratch),
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


def _environment(device: str, scratch: Path) -> dict[str, str]:
    """What the compiling process finds around it."""
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "OMP_NUM_THREADS": "1",
        "TORCHINDUCTOR_CACHE_DIR": str(scratch / "inductor"),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # in its own process: no pool of further ones
    }
    if device.startswith("cuda"):
        environment |= _cuda_environment()
    return environment


def _cuda_environment() -> dict[str, str]:
    """Where the C++ compiler finds CUDA's headers and driver if the toolkit is not installed."""
    toolkit = Path("/usr/local/cuda")
    if "CUDA_HOME" in os.environ or shutil.which("nvcc") is not None or toolkit.exists():
        return {}
    triton = find_spec("triton")
    if triton is None or triton.origin is None:
        return {}
    # Triton brings the same headers along; WSL2 keeps the driver's library where it alone looks.
    places = [os.environ.get("LIBRARY_PATH", ""), "/usr/lib/wsl/lib"]
    return {
        "CUDA_HOME": str(Path(triton.origin).parent / "backends" / "nvidia"),
        "LIBRARY_PATH": os.pathsep.join(place for place in places if place),
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
