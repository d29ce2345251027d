"""Faster or slower speech at the same pitch: FFmpeg's atempo, piece by piece."""

import math
from contextlib import suppress
from fractions import Fraction

import numpy as np
from av.audio.frame import AudioFrame
from av.filter import Graph

from backend.audio.pcm import Samples

MIN_SPEED, MAX_SPEED = 0.25, 4.0
_FRAME_S = 0.01
"""All frames are of one length: where a shorter one lies changes what atempo makes."""
_PAUSE_S = 0.02
"""Exact silence that is a pause between sentences, and no part of a sound."""
_DRAIN_S = 0.25
"""Silence that drives the last of a sound out, of which atempo keeps up to 0.1 s at speed 0.25."""
_NOTHING = 1e-6
"""Softer than this is the silence after a sound: 16 bits have no such number."""
_NONE: Samples = np.zeros(0, np.float32)


class Tempo:
    """Changes how long mono speech of `rate_hz` takes: at `speed` 2 half as long.

    atempo makes a stretch of sound up to 30 ms too long or too short, and leaks into the silence at
    its sides. So each stretch between two pauses goes alone, and begins exactly where it should;
    the pause before it makes up for the difference.

    Raises `ValueError` for a speed outside 0.25–4.
    """

    def __init__(self, rate_hz: int, speed: float) -> None:
        if not MIN_SPEED <= speed <= MAX_SPEED:
            raise ValueError(f"speed {speed:g} is outside {MIN_SPEED:g}–{MAX_SPEED:g}")
        self._rate_hz, self._speed = rate_hz, speed
        self._pause_samples = max(1, round(_PAUSE_S * rate_hz))
        self._stretch: _Stretch | None = None
        """None in a pause."""
        self._silent = 0
        """Samples of silence that came last, and may become a pause."""
        self._taken = self._made = 0

    def push(self, samples: Samples) -> Samples:
        """What is ready once `samples` are in."""
        ready, position = [_NONE], 0
        sounding = np.flatnonzero(samples)
        is_after_pause = np.diff(sounding) > self._pause_samples
        for sound in np.split(sounding, np.flatnonzero(is_after_pause) + 1):
            if len(sound):
                first, last = int(sound[0]), int(sound[-1]) + 1
                self._silent += first - position
                ready.append(self._sound(samples[first:last]))
                position = last
        self._silent += len(samples) - position
        if self._is_pause:
            ready.append(self._pause())
        return np.concatenate(ready)

    def finish(self) -> Samples:
        """The rest; nothing may be pushed after it."""
        return self._pause()

    @property
    def _is_pause(self) -> bool:
        return self._stretch is None or self._silent >= self._pause_samples

    def _sound(self, samples: Samples) -> Samples:
        """What is ready once the silence so far and these samples are in."""
        before = _NONE
        if self._is_pause:
            before = self._pause()
        else:
            samples = np.concatenate([np.zeros(self._silent, np.float32), samples])
            self._silent = 0
        if self._stretch is None:
            self._stretch = _Stretch(self._rate_hz, self._speed)
        self._taken += len(samples)
        ready = self._stretch.push(samples)
        self._made += len(ready)
        return np.concatenate([before, ready])

    def _pause(self) -> Samples:
        """The end of the sound, and silence until where the next one begins."""
        end = self._stretch.finish() if self._stretch is not None else _NONE
        self._stretch = None
        self._taken += self._silent
        self._silent = 0
        silence = max(0, round(self._taken / self._speed) - self._made - len(end))
        self._made += len(end) + silence
        return np.concatenate([end, np.zeros(silence, np.float32)])


class _Stretch:
    """Sound without a pause, through an atempo of its own."""

    def __init__(self, rate_hz: int, speed: float) -> None:
        self._rate_hz = rate_hz
        self._frame_samples = max(1, round(_FRAME_S * rate_hz))
        self._pushed_samples = 0
        self._rest = _NONE
        """Too little for a frame."""
        self._graph = Graph()
        with suppress(AttributeError):  # PyAV before 17.1 cannot: FFmpeg starts one for each core
            self._graph.threads = 1
        nodes = [self._graph.add_abuffer(sample_rate=rate_hz, format="flt", layout="mono")]
        nodes += [self._graph.add("atempo", f"{factor:.9f}") for factor in _factors(speed)]
        nodes.append(self._graph.add("abuffersink"))
        self._graph.link_nodes(*nodes).configure()

    def push(self, samples: Samples) -> Samples:
        """What is ready once `samples` are in."""
        samples = np.concatenate([self._rest, samples])
        whole = len(samples) // self._frame_samples * self._frame_samples
        self._rest = samples[whole:].copy()
        for piece in samples[:whole].reshape(-1, self._frame_samples):
            frame = AudioFrame.from_ndarray(piece[None], format="flt", layout="mono")
            frame.sample_rate = self._rate_hz
            frame.time_base = Fraction(1, self._rate_hz)
            frame.pts = self._pushed_samples
            self._pushed_samples += len(piece)
            self._graph.push(frame)
        return self._ready()

    def finish(self) -> Samples:
        """The rest, to the last that sounds; nothing may be pushed after it."""
        drained = self.push(np.zeros(round(_DRAIN_S * self._rate_hz), np.float32))
        self._graph.push(None)
        rest = np.concatenate([drained, self._ready()])
        sounding = np.flatnonzero(np.abs(rest) > _NOTHING)
        return rest[: int(sounding[-1]) + 1] if len(sounding) else _NONE

    def _ready(self) -> Samples:
        pieces = [_NONE]
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
