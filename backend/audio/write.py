"""PCM to bytes. For now WAV: 16 bit, mono, whole."""

import struct
from collections.abc import Iterable

import numpy as np

BYTES_PER_SAMPLE = 2
_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")


def pcm16(samples: bytes) -> bytes:
    """16-bit samples of float32 ones, clipped at full scale; what is no number is silent."""
    pcm = np.nan_to_num(np.frombuffer(samples, dtype="<f4"), nan=0.0, posinf=1.0, neginf=-1.0)
    return bytes(np.rint(np.clip(pcm, -1.0, 1.0) * 32_767.0).astype("<i2").tobytes())


def wav_header(data_bytes: int, sample_rate_hz: int) -> bytes:
    """The 44 bytes in front of `data_bytes` of 16-bit mono samples."""
    if data_bytes > 2**32 - _HEADER.size:
        raise ValueError(f"{data_bytes} bytes of samples do not fit one WAV file")
    return _HEADER.pack(
        b"RIFF",
        _HEADER.size - 8 + data_bytes,
        b"WAVE",
        b"fmt ",
        16,  # bytes of the format that follow
        1,  # plain integer samples
        1,  # channel
        sample_rate_hz,
        sample_rate_hz * BYTES_PER_SAMPLE,
        BYTES_PER_SAMPLE,
        8 * BYTES_PER_SAMPLE,
        b"data",
        data_bytes,
    )


def wav(pcm: Iterable[bytes], sample_rate_hz: int) -> bytes:
    """A whole WAV file of 16-bit pieces, as `pcm16` makes them."""
    data = b"".join(pcm)
    return wav_header(len(data), sample_rate_hz) + data
