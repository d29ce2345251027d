"""From one sample rate to another, piece by piece, through soxr."""

import numpy as np
import soxr

from backend.audio.pcm import Samples


class Resampler:
    """Brings mono samples of `source_hz` to `target_hz`."""

    def __init__(self, source_hz: int, target_hz: int) -> None:
        self._stream = soxr.ResampleStream(source_hz, target_hz, 1, dtype="float32", quality="HQ")

    def push(self, samples: Samples) -> Samples:
        """What is ready once `samples` are in."""
        return self._resampled(samples, is_last=False)

    def finish(self) -> Samples:
        """The rest; nothing may be pushed after it."""
        return self._resampled(np.zeros(0, np.float32), is_last=True)

    def _resampled(self, samples: Samples, *, is_last: bool) -> Samples:
        resampled: Samples = self._stream.resample_chunk(samples, last=is_last)
        return resampled
