"""16-bit mono samples without compression: WAV, or nothing but the samples."""

import struct

from backend.audio.pcm import Samples, int16_samples
from backend.audio.sink import Sink

BYTES_PER_SAMPLE = 2
UNKNOWN_BYTES = 0xFFFFFFFF
"""Size in the header of a stream: players read on until it ends."""

_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")


class PcmEncoder:
    """Writes 16-bit little-endian samples to `sink`."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, samples: Samples) -> None:
        """Take samples within [-1, 1]."""
        self._sink.write(int16_samples(samples).tobytes())

    def close(self) -> None:
        """Everything is written already."""


class WavEncoder(PcmEncoder):
    """Writes a WAV file; its sizes are filled in at the end where `sink` can seek."""

    def __init__(self, sink: Sink, rate_hz: int) -> None:
        super().__init__(sink)
        self._rate_hz = rate_hz
        sink.write(wav_header(None, rate_hz))

    def close(self) -> None:
        """Fill in the sizes."""
        if self._sink.seekable():
            end = self._sink.tell()
            self._sink.seek(0)
            self._sink.write(wav_header(end - _HEADER.size, self._rate_hz))
            self._sink.seek(end)


def wav_header(data_bytes: int | None, rate_hz: int) -> bytes:
    """The 44 bytes in front of `data_bytes` of samples; of a stream if None or more than fit."""
    is_stream = data_bytes is None or data_bytes > UNKNOWN_BYTES - _HEADER.size
    size_bytes = UNKNOWN_BYTES if data_bytes is None or is_stream else data_bytes
    return _HEADER.pack(
        b"RIFF",
        UNKNOWN_BYTES if is_stream else _HEADER.size - 8 + size_bytes,
        b"WAVE",
        b"fmt ",
        16,  # bytes of the format that follow
        1,  # plain integer samples
        1,  # channel
        rate_hz,
        rate_hz * BYTES_PER_SAMPLE,
        BYTES_PER_SAMPLE,
        8 * BYTES_PER_SAMPLE,
        b"data",
        size_bytes,
    )
