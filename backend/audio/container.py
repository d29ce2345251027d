"""Recordings from phones and browsers: decoded by FFmpeg, apart.

A process of its own decodes (`demux.py`), and ends where that takes more memory or time than an
honest recording can.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from backend.audio.limits import (
    MAX_CHANNELS,
    MAX_RATE_HZ,
    MAX_RECORDING_S,
    MAX_S,
    MIN_RATE_HZ,
    check_channels,
    check_rate,
)
from backend.audio.pcm import Samples
from backend.audio.sniff import find_demuxer, find_start
from backend.core import RECORDING_FORMATS
from backend.errors import BadReference

MAX_PROCESS_BYTES = 96 << 20
"""Of the decoding process beside the file: Python, FFmpeg and a block take about 50 MiB."""
MAX_BLOCKS_BYTES = 8 << 20
"""Of a block of eight channels as it is decoded, mixed, measured and resampled: 4 MiB measured."""
_FILE_COPIES = 2
"""In the worker: the message that brought it, and the file that was in that."""
MAX_CPU_S = 20.0
"""Two minutes of Opus or AAC, decoded twice, take about two on a slow core."""

_PROGRAM = Path(__file__).with_name("demux.py")


def max_memory_bytes(audio: bytes) -> int:
    """Memory at which the process that decodes `audio` is ended."""
    return MAX_PROCESS_BYTES + len(audio) * 5 // 4  # what is read from a pipe grows by an eighth


def decoding_bytes(audio: bytes) -> int:
    """Memory that decoding `audio` takes at most, beside the samples that are used of it."""
    process = max_memory_bytes(audio) if find_demuxer(audio) else 0
    return _FILE_COPIES * len(audio) + MAX_BLOCKS_BYTES + process


class Container:
    """What `open_container` opens: the sound that a process decodes, twice."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self.rate_hz = 0
        self._ahead: Samples | None = self._receive()  # it tells the rate

    def blocks(self) -> Iterator[Samples]:
        """The first audio track from its beginning; `BadReference` where it is broken.

        May be read twice, to its end the first time.
        """
        while len(block := self._receive() if self._ahead is None else self._ahead):
            self._ahead = None
            yield block
        self._ahead = None

    def _receive(self) -> Samples:
        """The next block, an empty one at the end."""
        assert self._process.stdout is not None
        header = self._process.stdout.readline()
        answer = json.loads(header) if header.endswith(b"\n") else self._ended()
        if "problem" in answer:
            raise _bad_reference(answer["problem"], answer["detail"])
        self.rate_hz, shape = int(answer["rate_hz"]), (answer["frames"], answer["channels"])
        length = 4 * math.prod(shape)
        if len(samples := self._process.stdout.read(length)) < length:
            self._ended()
        return np.frombuffer(samples, dtype="<f4").astype(np.float32, copy=False).reshape(shape)

    def _ended(self) -> NoReturn:
        """Say why it ended before the sound did."""
        if self._process.wait() in (0, 1):  # a traceback: our fault, and none of the recording's
            raise RuntimeError("demux.py failed, as the log says.")
        raise BadReference(
            "speaker_file claims more than a recording can hold, or is damaged; export it again."
        )


@contextmanager
def open_container(audio: bytes, demuxer: str) -> Iterator[Container]:
    """`audio`, decoded by a process that ends with the block.

    `demuxer` is from `sniff.find_demuxer`. Raises `BadReference` with what is wrong and what to do.
    """
    start = find_start(audio)
    asked = {
        "demuxer": demuxer,
        "max_channels": MAX_CHANNELS,
        "rates_hz": (MIN_RATE_HZ, MAX_RATE_HZ),
        "max_s": MAX_RECORDING_S,
        "max_memory_bytes": max_memory_bytes(audio),
        "max_cpu_s": MAX_CPU_S,
    }
    with subprocess.Popen(
        (sys.executable, "-I", str(_PROGRAM), json.dumps(asked)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,  # its stderr is ours: only a bug writes there
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},  # each would set memory aside
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    ) as process:
        try:
            _feed(process, memoryview(audio)[start:])
            yield Container(process)
        finally:
            process.kill()


def _feed(process: "subprocess.Popen[bytes]", audio: memoryview) -> None:
    """Give the program the file: it reads all of it before it answers."""
    assert process.stdin is not None
    with suppress(OSError):  # it has ended, and will be asked why
        process.stdin.write(audio)
    with suppress(OSError):
        process.stdin.close()


def _bad_reference(problem: str, detail: Any) -> BadReference:
    if problem == "channels":
        check_channels(detail)
    if problem == "rate":
        check_rate(detail)
    return BadReference(
        {
            "long": f"speaker_file is longer than {MAX_RECORDING_S:g} s; "
            f"cut it to at most {MAX_S:g} s.",
            "no_sound": "speaker_file holds no sound; send a recording of the voice to speak in.",
            "rate_change": "speaker_file changes its sample rate midway; export it again as wav.",
            "elsewhere": "speaker_file refers to another file; send one that holds the sound.",
            "codec": f"speaker_file holds sound of the codec {detail}, which is not read; "
            "export it again as wav.",
            "broken": f"speaker_file cannot be decoded ({detail}); "
            f"send a {RECORDING_FORMATS} file.",
        }[problem]
    )
