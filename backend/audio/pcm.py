"""Samples as the worker sends them, and as 16-bit files hold them."""

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
"""Mono, full scale at 1."""


def samples_of(piece: bytes) -> Samples:
    """The float32 little-endian samples of `piece`, clipped; what is no number is silent."""
    raw = np.frombuffer(piece, dtype="<f4")
    samples: Samples = np.nan_to_num(raw, nan=0.0, posinf=1.0, neginf=-1.0)
    return samples.clip(-1.0, 1.0)


def int16_samples(samples: Samples) -> NDArray[np.int16]:
    """Samples within [-1, 1] as 16-bit little-endian ones."""
    scaled: NDArray[np.int16] = np.rint(samples * 32_767.0).astype("<i2")
    return scaled
