"""Samples as the worker sends them, and as 16-bit files hold them."""

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
"""Mono, full scale at 1."""


def samples_of(piece: bytes) -> Samples:
    """The float32 little-endian samples of `piece`, clipped; what is no number is silent.

    They may be a view of `piece`, which cannot be written to.
    """
    raw = np.frombuffer(piece, dtype="<f4")
    # Speech is nearly always as it should be, and two looks cost a tenth of mending it. What is no
    # number makes a comparison false.
    if not len(raw) or (np.minimum.reduce(raw) >= -1.0 and np.maximum.reduce(raw) <= 1.0):
        return raw
    samples: Samples = np.nan_to_num(raw, nan=0.0, posinf=1.0, neginf=-1.0)
    return samples.clip(-1.0, 1.0)


def int16_samples(samples: Samples) -> NDArray[np.int16]:
    """Samples within [-1, 1] as 16-bit little-endian ones."""
    scaled = samples * np.float32(32_767.0)
    rounded: NDArray[np.int16] = np.rint(scaled, out=scaled).astype("<i2")
    return rounded
