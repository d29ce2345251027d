"""Faster or slower speech at the same pitch: FFmpeg's atempo, piece by piece."""

import math
from contextlib import suppress
from fractions import Fraction

import numpy as np
from av.audio.frame import AudioFrame
from av.filter import Graph

from backend.audio.pcm import Samples

MIN_SPEED, MAX_SPEED = 0.25, 4.0
_FRAME_S = 0.04


class Tempo:
    """Changes how long mono speech of `rate_hz` takes: at `speed` 2 half as long.

    Raises `ValueError` for a speed outside 0.25–4.
    """

    def __init__(self, rate_hz: int, speed: float) -> None:
        if not MIN_SPEED <= speed <= MAX_SPEED:
            raise ValueError(f"speed {speed:g} is outside {MIN_SPEED:g}–{MAX_SPEED:g}")
        self._rate_hz = rate_hz
        # atempo holds back as much as the last frame was long.
        self._frame_samples = max(1, round(_FRAME_S * rate_hz))
        self._pushed_samples = 0
        self._graph = Graph()
        with suppress(AttributeError):  # PyAV before 17.1 cannot: FFmpeg starts one for each core
            self._graph.threads = 1
        nodes = [self._graph.add_abuffer(sample_rate=rate_hz, format="flt", layout="mono")]
        nodes += [self._graph.add("atempo", f"{factor:.9f}") for factor in _factors(speed)]
        nodes.append(self._graph.add("abuffersink"))
        self._graph.link_nodes(*nodes).configure()

    def push(self, samples: Samples) -> Samples:
        """What is ready once `samples` are in."""
        for start in range(0, len(samples), self._frame_samples):
            piece = samples[start : start + self._frame_samples]
            frame = AudioFrame.from_ndarray(piece[None], format="flt", layout="mono")
            frame.sample_rate = self._rate_hz
            frame.time_base = Fraction(1, self._rate_hz)
            frame.pts = self._pushed_samples
            self._pushed_samples += len(piece)
            self._graph.push(frame)
        return self._ready()

    def finish(self) -> Samples:
        """The rest; nothing may be pushed after it."""
        self._graph.push(None)
        return self._ready()

    def _ready(self) -> Samples:
        pieces = [np.zeros(0, np.float32)]
        while True:
            try:
                frame = self._graph.pull()
            except (BlockingIOError, EOFError):  # wants more, or has ended
                return np.concatenate(pieces)
            assert isinstance(frame, AudioFrame)
            pieces.append(frame.to_ndarray()[0])


def _factors(speed: float) -> list[float]:
    """Equal steps that make `speed`, none beyond 0.5–2: below it atempo refuses, above it skips."""
    steps = max(1, math.ceil(abs(math.log2(speed))))
    return [speed ** (1 / steps)] * steps
