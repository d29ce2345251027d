"""Frames of mp3 and of AAC in ADTS, which need no header of a file: where the first one begins."""

import itertools
import re
from typing import Literal

Kind = Literal["mp3", "aac"]

SEARCHED_BYTES = 1 << 20
"""What may stand before the first frame: the rest of a cut one, of a tag, or of its picture."""
_MAX_TRIED = 4096
"""Places in it that look like a frame's beginning: of a hundred and sixty by chance."""
_IN_A_ROW = 4
"""Frames that must follow each other: two bytes that look like one's beginning are in any file."""
_SYNC = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb\xf0\xf1\xf8\xf9]")
_ADTS_RATES = 13
_ADTS_HEADER_BYTES = 7
_MP3_RATES_HZ = (44_100, 48_000, 32_000)
_MP3_KBIT = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MP3_KBIT_LOW = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MPEG_1, _MPEG_2, _MPEG_2_5 = 3, 2, 0
_LENGTH_TAG_BYTES = 64
"""From a frame's beginning to the end of the word that says that it tells a file's length."""


def kind_of_frame(audio: bytes, at: int) -> Kind | None:
    """What begins at `at`, if it is a frame."""
    if not _length_bytes(audio, at):
        return None
    return "mp3" if audio[at + 1] >> 1 & 3 else "aac"


def find_first_frame(audio: bytes, start: int) -> int | None:
    """Where the first of some frames in a row begins, from `start` on; None where none does."""
    found = _SYNC.finditer(audio, start, start + SEARCHED_BYTES)
    for sync in itertools.islice(found, _MAX_TRIED):
        if _are_in_a_row(audio, sync.start()):
            return sync.start()
    return None


def tells_length(audio: bytes, at: int) -> bool:
    """Whether the mp3 frame at `at` is the one in front that says how many follow.

    Without it, and with a rate that varies, mpg123 guesses from the first ones, and stops there.
    """
    head = audio[at : at + _LENGTH_TAG_BYTES]
    return any(word in head for word in (b"Xing", b"Info", b"VBRI"))


def _are_in_a_row(audio: bytes, at: int) -> bool:
    first = _signature(audio, at)
    for _ in range(_IN_A_ROW):
        length = _length_bytes(audio, at)
        if not length or _signature(audio, at) != first:
            return False
        at += length
    return True


def _signature(audio: bytes, at: int) -> tuple[int, int]:
    """What all frames of a file have in common: version and layer, and the rate's index."""
    return audio[at + 1] & 0xFE, audio[at + 2] & (0x0C if audio[at + 1] >> 1 & 3 else 0x3C)


def _length_bytes(audio: bytes, at: int) -> int:
    """Of the frame that begins at `at`; 0 where none does."""
    header = audio[at : at + _ADTS_HEADER_BYTES]
    if len(header) < _ADTS_HEADER_BYTES or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return 0
    layer = header[1] >> 1 & 3
    if layer == 1:  # mp3; 3 and 2 are those before it
        return _mp3_length_bytes(header)
    if layer == 0 and header[1] & 0xF0 == 0xF0 and header[2] >> 2 & 15 < _ADTS_RATES:
        length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
        return length if length > _ADTS_HEADER_BYTES else 0
    return 0


def _mp3_length_bytes(header: bytes) -> int:
    version = header[1] >> 3 & 3
    bit_rate, rate, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version not in (_MPEG_1, _MPEG_2, _MPEG_2_5) or bit_rate in (0, 15) or rate == 3:
        return 0
    if version == _MPEG_1:
        return 144_000 * _MP3_KBIT[bit_rate - 1] // _MP3_RATES_HZ[rate] + padding
    rate_hz = _MP3_RATES_HZ[rate] // (2 if version == _MPEG_2 else 4)
    return 72_000 * _MP3_KBIT_LOW[bit_rate - 1] // rate_hz + padding
