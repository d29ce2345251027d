"""A client's program from the side of the tests: jobs go in, answers come back."""

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from tests.clients.environments import command, made
from tests.clients.roster import Client
from tests.documents import ROOT

NOWHERE = "http://127.0.0.1:9"
"""A proxy that is not there: what would call home through one fails."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One utterance as the client got it.

    `early`: the server was still speaking when its first piece came. `first_s` and `whole_s` count
    from the client's request to its first and last audio.
    """

    samples: NDArray[np.float32]
    rate_hz: int
    early: bool
    first_s: float
    whole_s: float

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.samples) / self.rate_hz

    @property
    def rms(self) -> float:
        """Of samples in [-1, 1]; speech of the shipped voice has 0.05 and more."""
        return float(np.sqrt(np.mean(self.samples**2))) if len(self.samples) else 0.0


class Answer:
    """What came of one job: utterances, the client's own error, and what else it told."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.told = told
        self.error: str | None = told.get("error")
        self.heard = [_heard(take) for take in told.get("takes", [])]


def _heard(take: dict[str, Any]) -> Heard:
    data = Path(take["file"]).read_bytes()
    samples, rate_hz = np.zeros(0, np.float32), take["rate_hz"] or 1
    if take["rate_hz"]:
        samples = np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)
    elif data:
        samples, rate_hz = decoded(take["file"])
    return Heard(samples, rate_hz, take["early"], take["first_s"], take["whole_s"])


def decoded(file: str) -> tuple[NDArray[np.float32], int]:
    """Samples and rate of a file that says itself what it is."""
    resampler = av.AudioResampler("flt", "mono")
    with av.open(file, "r") as opened:
        rate_hz = opened.streams.audio[0].rate
        frames = [each for frame in opened.decode(audio=0) for each in resampler.resample(frame)]
    if not frames:
        return np.zeros(0, np.float32), rate_hz
    return np.concatenate([frame.to_ndarray().ravel() for frame in frames]), rate_hz


class Driver:
    """The client's program, started once for all that is tried with it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._folder = tempfile.TemporaryDirectory(prefix="shoal-client-")
        self._log = Path(self._folder.name) / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command(client, made(client)),
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(),
            )

    @property
    def alive(self) -> bool:
        """Whether it can be asked again."""
        return self._process.poll() is None

    def do(self, job: dict[str, Any]) -> Answer:
        """Ask for one job, and wait for its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = json.dumps({"folder": self._folder.name, **job})
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the client's program ended:\n{self.log()}"
        return Answer(json.loads(answer))

    def log(self) -> str:
        """The end of what the client printed."""
        return self._log.read_text("utf-8", errors="replace")[-4000:]

    def close(self) -> None:
        """End the program, which ends when its stdin does."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._folder.cleanup()


def _environment() -> dict[str, str]:
    """Without keys, proxies and paths of whoever runs the tests."""
    kept = ("PATH", "HOME", "TMPDIR", "TEMP", "SYSTEMROOT", "USERPROFILE", "LANG")
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), NOWHERE),
        "NO_PROXY": "127.0.0.1,localhost",
        "PYTHONUNBUFFERED": "1",
    }
