"""Where the voice of a recording begins and ends, heard block by block."""

import numpy as np
from numpy.typing import NDArray

from backend.audio.pcm import Samples
from backend.errors import BadReference

_WINDOW_S = 0.01
_MARGIN_S = 0.05
"""Silence kept on both sides, so that no soft consonant is cut."""
_SILENCE_BELOW_PEAK = 0.01
"""-40 dB: a window this much below the loudest one is silence."""
_SILENCE_RMS = 1e-4
"""-80 dB: a recording whose loudest window is below holds nothing."""


class Loudness:
    """The power of each hundredth of a second: all that is kept of the blocks."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._window_samples = max(1, round(_WINDOW_S * rate_hz))
        self._powers: list[NDArray[np.float64]] = []
        self._rest: Samples = np.zeros(0, np.float32)
        self._samples = 0
        self._peak = 1.0

    @property
    def peak(self) -> float:
        """Of the loudest sample; 1 where none is louder than full scale."""
        return self._peak

    def hear(self, block: Samples) -> None:
        """Take the next samples; `BadReference` where some are no numbers."""
        if not np.isfinite(block).all():
            raise BadReference("speaker_file holds samples that are no numbers; export it again.")
        self._samples += len(block)
        self._peak = max(self._peak, float(np.abs(block).max(initial=0.0)))
        samples = np.concatenate([self._rest, block])
        whole = len(samples) // self._window_samples * self._window_samples
        self._powers.append(self._power(samples[:whole]))
        self._rest = samples[whole:].copy()

    def voiced(self) -> tuple[int, int]:
        """The first sample of the voice and the one after its last; `BadReference` if it has none.

        No more blocks are taken after it.
        """
        last = np.pad(self._rest, (0, -len(self._rest) % self._window_samples))
        rms = np.sqrt(np.concatenate([*self._powers, self._power(last)])) / self._peak
        loudest = float(rms.max(initial=0.0))
        if loudest < _SILENCE_RMS:
            raise BadReference("speaker_file is silent; send a recording of the voice to speak in.")
        voiced = np.flatnonzero(rms > loudest * _SILENCE_BELOW_PEAK)
        margin = round(_MARGIN_S * self._rate_hz)
        start = int(voiced[0]) * self._window_samples - margin
        end = (int(voiced[-1]) + 1) * self._window_samples + margin
        return max(0, start), min(self._samples, end)

    def _power(self, samples: Samples) -> NDArray[np.float64]:
        windows = samples.reshape(-1, self._window_samples)
        power: NDArray[np.float64] = np.mean(np.square(windows, dtype=np.float64), axis=1)
        return power
