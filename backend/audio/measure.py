"""What can be heard of a piece of speech."""

import numpy as np

from backend.audio.pcm import samples_of

SILENCE_RMS = 10 ** (-55 / 20)
"""-55 dB of full scale: whispers lie above -45 dB, a codec's noise in pauses below -60 dB."""
WINDOW_SAMPLES = 2_048
"""46 ms at 44.1 kHz: a short syllable fills it, a single click does not make it loud."""


def is_silent(samples: bytes) -> bool:
    """Whether even the loudest window of these float32 little-endian samples is silent."""
    pcm = samples_of(samples)
    windows = np.pad(pcm, (0, -len(pcm) % WINDOW_SAMPLES)).reshape(-1, WINDOW_SAMPLES)
    power = np.mean(np.square(windows, dtype=np.float64), axis=1)
    return float(power.max(initial=0.0)) < SILENCE_RMS**2
