"""Reads what the published `fish-speech` package logs of itself, inside the worker that runs it.

Text of users is in that log too ("Encoded text: …"), so a line counts only if it is one of the
package's figures from its first character to its last.
"""

import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from loguru import logger

if TYPE_CHECKING:
    from loguru import Message, Record

_NUMBER = r"(\d+(?:\.\d+)?)"
_GENERATED = re.compile(rf"Generated (\d+) tokens in {_NUMBER} seconds, {_NUMBER} tokens/sec")
_BANDWIDTH = re.compile(rf"Bandwidth achieved: {_NUMBER} GB/s")
_GPU_MEMORY = re.compile(rf"GPU Memory used: {_NUMBER} GB")
_VQ_FEATURES = re.compile(r"VQ features: torch\.Size\(\[(\d+(?:, \d+)*)\]\)")


@dataclass(frozen=True, slots=True)
class FishFigures:
    """What the package said of one request; None is what it did not say.

    A request spoken in several pieces has its tokens, seconds and frames added up, its rates as
    they follow from those, and the most memory of any piece.
    """

    generated_tokens: int | None = None
    """Frames and the end token."""
    generation_time_s: float | None = None
    """Text to semantic tokens, without the codec."""
    tokens_per_s: float | None = None
    bandwidth_gb_s: float | None = None
    """Parameters in billions x tokens/s: no byte is counted."""
    gpu_memory_gb: float | None = None
    """`torch.cuda.max_memory_reserved` in 1e9 bytes; not said without CUDA."""
    vq_features_shape: tuple[int, ...] | None = None
    """(code books, frames)."""


@dataclass(slots=True)
class _Piece:
    tokens: int
    seconds: float
    tokens_per_s: float
    bandwidth_gb_s: float | None = None


class FishLog:
    """A loguru sink that keeps the figures until they are taken. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pieces: list[_Piece] = []
        self._gpu_memory_gb: float | None = None
        self._shape: tuple[int, ...] | None = None

    def listen(self) -> int:
        """Add this sink to the log, for the package's own lines; returns loguru's handler id."""
        return logger.add(self.sink, level="INFO", format="{message}", filter=_is_of_fish_speech)

    def sink(self, message: "Message | str") -> None:
        """Take a line of the log in."""
        record = getattr(message, "record", None)
        self.read(record["message"] if record else str(message).rstrip("\n"))

    def read(self, line: str) -> None:
        """Take the bare text of one log message in."""
        with self._lock:
            if found := _GENERATED.fullmatch(line):
                tokens, seconds, rate = found.groups()
                self._pieces.append(_Piece(int(tokens), float(seconds), float(rate)))
            elif found := _BANDWIDTH.fullmatch(line):
                if self._pieces:
                    self._pieces[-1].bandwidth_gb_s = float(found[1])
            elif found := _GPU_MEMORY.fullmatch(line):
                self._gpu_memory_gb = max(self._gpu_memory_gb or 0.0, float(found[1]))
            elif found := _VQ_FEATURES.fullmatch(line):
                self._add_shape(tuple(int(size) for size in found[1].split(", ")))

    def take(self) -> FishFigures:
        """What was said since the last call, which is forgotten with it."""
        with self._lock:
            pieces, memory_gb, shape = self._pieces, self._gpu_memory_gb, self._shape
            self._pieces, self._gpu_memory_gb, self._shape = [], None, None
        if not pieces:
            return FishFigures(gpu_memory_gb=memory_gb, vq_features_shape=shape)
        tokens = sum(piece.tokens for piece in pieces)
        seconds = sum(piece.seconds for piece in pieces)
        return FishFigures(
            generated_tokens=tokens,
            generation_time_s=seconds,
            # Its own rounding stands where one piece is all there is.
            tokens_per_s=pieces[0].tokens_per_s if len(pieces) == 1 else _rate(tokens, seconds),
            bandwidth_gb_s=_mean_bandwidth_gb_s(pieces),
            gpu_memory_gb=memory_gb,
            vq_features_shape=shape,
        )

    def _add_shape(self, shape: tuple[int, ...]) -> None:
        if self._shape is not None and self._shape[:-1] == shape[:-1]:
            shape = (*shape[:-1], self._shape[-1] + shape[-1])
        self._shape = shape


def _is_of_fish_speech(record: "Record") -> bool:
    return "fish_speech" in (record["name"] or "")


def _rate(tokens: int, seconds: float) -> float | None:
    return tokens / seconds if seconds > 0 else None


def _mean_bandwidth_gb_s(pieces: list[_Piece]) -> float | None:
    """Over the time that each piece took."""
    told = [(piece.bandwidth_gb_s, piece.seconds) for piece in pieces if piece.bandwidth_gb_s]
    if len(told) <= 1:
        return told[0][0] if told else None
    seconds = sum(took for _, took in told)
    return sum(gb_s * took for gb_s, took in told) / seconds if seconds > 0 else None
