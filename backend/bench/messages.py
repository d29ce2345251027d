"""What the bench asks of a process that computes, and what that answers: lines of JSON.

The first line from a process is its `Hello` or its `Trouble`. After that it answers one question
after another, until its stdin ends. It needs no torch and runs under any interpreter of ours.
"""

import os
import sys
from typing import TextIO

import msgspec

TEXT = "The old lighthouse keeper climbed the stairs every evening to light the lamp for the ships."
"""What is spoken."""
RANDOM_PREFIX = "random-"
"""How the names of checkpoints begin whose weights are random: they speak until their limit."""


class MakeFrames(msgspec.Struct, frozen=True, tag="make_frames"):
    """Make frames of `rows` for at least `seconds`, and at least one."""

    seconds: float
    rows: int = 1
    context: int = 0
    """Positions that each row has before it; the published package has those of its own prompt."""


class DecodePieces(msgspec.Struct, frozen=True, tag="decode_pieces"):
    """Decode one signal in pieces of `frames` for at least `seconds`, and at least one."""

    seconds: float
    frames: int


class ReadMemory(msgspec.Struct, frozen=True, tag="read_memory"):
    """Read `mib` of memory as fast as it can be read, several times; the fastest counts."""

    mib: int


Question = MakeFrames | DecodePieces | ReadMemory


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """What was loaded, and how it computes."""

    engine: str
    way: str
    precision: str
    quantization: str
    codec: str
    """What codes are decoded in."""
    threads: int
    torch: str
    weight_bytes_per_frame: int
    load_s: float
    pid: int


class Took(msgspec.Struct, frozen=True, tag="took"):
    """What was done, and for how long."""

    amount: float
    """Frames, or bytes."""
    wall_s: float
    cpu_s: float
    """Of all threads of the process: on a busy machine they get less than the wall clock."""
    way: str = ""
    """In which frames were made."""

    @property
    def rate(self) -> float:
        """Of the amount in a second."""
        return self.amount / self.wall_s

    @property
    def cpu_rate(self) -> float:
        """Of the amount in a second of processor time."""
        return self.amount / self.cpu_s


class Trouble(msgspec.Struct, frozen=True, tag="trouble"):
    """What was asked cannot be done."""

    message: str


Answer = Hello | Took | Trouble

_questions: msgspec.json.Decoder[Question] = msgspec.json.Decoder(Question)


class Channel:
    """The process's own end: stdin for questions, stdout for answers alone."""

    def __init__(self) -> None:
        """Takes stdout: whatever else prints, Python or a library, prints to stderr."""
        sys.stdout.flush()
        self._out: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        sys.stdout = sys.stderr

    def tell(self, answer: Answer) -> None:
        """Say `answer`."""
        self._out.write(msgspec.json.encode(answer).decode() + "\n")
        self._out.flush()

    def asked(self) -> Question | None:
        """The next question; None at the end of them."""
        line = sys.stdin.readline()
        return _questions.decode(line) if line.strip() else None
