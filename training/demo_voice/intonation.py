"""Pitch as a number a frame: what readers that do not ship are asked for, beside the phoneme."""

import numpy as np
from numpy.typing import NDArray

PITCHES = 64
"""0 is unvoiced, the others lie 0.6 semitones apart from 55 Hz on."""
UNVOICED_HZ = 50.0
"""The teacher's curve lies below that where no voice is."""
_LOWEST_HZ, _PER_OCTAVE = 55.0, 20


def pitch_numbers(hz: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Numbers below `PITCHES` of pitches in hertz, any shape."""
    steps = np.rint(_PER_OCTAVE * np.log2(np.maximum(hz, UNVOICED_HZ) / _LOWEST_HZ))
    voiced = 1 + np.clip(steps, 0, PITCHES - 2)
    return np.where(hz > UNVOICED_HZ, voiced, 0).astype(np.uint8)
