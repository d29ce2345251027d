"""AAC at a constant rate: ADTS has no place for a length, players find it from size and rate."""

_SHORT_BYTES, _LONG_BYTES = 15, 271
"""Most that one fill element adds, with the short form of its size and with the long one."""
_FILL = 0b110
"""What a fill element begins with, in three bits; its size and zeros follow."""
_HEADER_BYTES = 7
"""What ADTS puts before each frame."""
_FRAME_SAMPLES = 1024


_ABOVE_ENCODER = 1.25
"""The rate that is filled up to, against the encoder's, which is above its mean for seconds: less
leaves the duration wrong by 2 to 8 % (MDs/LOG.md)."""


class ConstantRate:
    """Fills frames up, so that as many bytes are written in any second.

    Players measure the rate over the first second. FFmpeg's encoder spends more or less on the
    others, and next to nothing on silence.
    """

    def __init__(self, encoder_bit_rate: int, sample_rate_hz: int) -> None:
        bit_rate = _ABOVE_ENCODER * encoder_bit_rate
        self._frame_bytes = bit_rate * _FRAME_SAMPLES / sample_rate_hz / 8
        self._due_bytes = 0.0

    def fill(self, frame: bytes) -> bytes:
        """`frame`, a raw_data_block of ISO/IEC 14496-3, as long as it is due."""
        self._due_bytes += self._frame_bytes - _HEADER_BYTES
        frame = filled(frame, max(0, int(self._due_bytes) - len(frame)))
        self._due_bytes -= len(frame)
        return frame


def filled(frame: bytes, more_bytes: int) -> bytes:
    """`frame` with fill elements before it, which decoders skip, and so many bytes longer."""
    while more_bytes > 0:
        added = min(more_bytes, _LONG_BYTES)
        if added <= _SHORT_BYTES:
            element, bits, content = _FILL << 4 | added - 1, 7, added - 1
        else:
            element, bits, content = (_FILL << 4 | 15) << 8 | added - 16, 15, added - 2
        assert bits + 8 * content == 8 * added - 1
        shifted = element << 8 * content + 8 * len(frame) | int.from_bytes(frame)
        frame = (shifted << 1).to_bytes(added + len(frame))
        more_bytes -= added
    return frame
