"""A real `shoal serve` in a process of its own, speaking with the shipped voice."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from backend.hardware.need import CheckpointShape
from backend.settings import SHIPPED_VOICE_DIR

VOICE = CheckpointShape.from_folder(SHIPPED_VOICE_DIR)
"""The shipped voice: what it is made of, and what it says of itself."""
RATE_HZ = VOICE.codec.sample_rate_hz
"""Of what it speaks."""
START_S = 300.0
"""Large weights are read and packed; a machine may be busy."""
CLUSTER = ("--cluster",) if os.environ.get("E2E_CLUSTER") else ()
"""Set, every test's server speaks through a replica of Ray Serve."""
_compiled = tempfile.TemporaryDirectory(prefix="shoal-compiled-")
"""The kernels that the first server compiled, and what it tried of them: later ones begin with
them, which spares each some ten seconds."""


@dataclass(slots=True)
class Served:
    """A running server: where it is, its process, what it has logged."""

    url: str
    process: psutil.Process
    log: list[str] = field(default_factory=list)

    def worker(self) -> psutil.Process:
        """The worker process it speaks through."""
        pid = httpx.get(f"{self.url}/health").json()["worker"]["pid"]
        return psutil.Process(pid)


def begin_with_compiled(data: Path) -> None:
    """Put what was compiled so far into a server's SHOAL_DATA_DIR, where nothing is."""
    if not (data / "compiled").exists():
        shutil.copytree(_compiled.name, data / "compiled")


def keep_compiled(data: Path) -> None:
    """Let later servers begin with what one has compiled."""
    if (data / "compiled").is_dir():
        shutil.copytree(data / "compiled", _compiled.name, dirs_exist_ok=True)


@contextmanager
def serving(*command: str, **environment: str) -> Iterator[Served]:
    """Start it on a free port of 127.0.0.1, wait until it can speak, stop it in the end.

    `command` starts another server in the place of `shoal serve`; options alone are added to it.
    RuntimeError with its log where that cannot speak after `START_S`.
    """
    if not command or command[0].startswith("--"):
        options = command or CLUSTER
        command = (sys.executable, "-m", "backend.cli", "serve", *options)
    kept = tempfile.TemporaryDirectory(prefix="shoal-e2e-")
    data = Path(environment.get("SHOAL_DATA_DIR", kept.name))
    begin_with_compiled(data)
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "SHOAL_PORT": "0",
            "SHOAL_METRICS": "false",
            "SHOAL_WORKERS": "1",
            "SHOAL_DATA_DIR": kept.name,
            **environment,
        },
    )
    served = Served("", psutil.Process(process.pid))

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            served.log.append(line)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        served.url = _wait(process, served.log)
        yield served
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join(10)
        assert process.stderr is not None
        process.stderr.close()
        keep_compiled(data)
        kept.cleanup()


def _wait(process: "subprocess.Popen[str]", log: list[str]) -> str:
    deadline_s = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline_s:
        # The line it prints for its user names the port it took.
        found = re.search(r"curl .*(http://127\.0\.0\.1:\d+)/tts", "".join(log))
        if found:
            return found[1]
        time.sleep(0.05)
    raise RuntimeError("the server did not become ready:\n" + "".join(log))
