"""Uploads that are meant to do harm, made by code: for tests, and as seeds of fuzzers."""

import io
import struct
from collections.abc import Callable

import numpy as np
import soundfile

from tests.recordings import encoded, speech_like

_BLOCK = 1 << 16
_BOOK_ENTRIES = (1 << 23) - 1
_VORBIS_BOOK = 0x564342


def mostly_silent(
    seconds: float, rate_hz: int, channels: int = 1, sound_s: float = 4.0, kind: str = "FLAC"
) -> bytes:
    """Sound in the middle of silence, which FLAC writes in next to no bytes."""
    sound = np.repeat(speech_like(sound_s, rate_hz)[:, None], channels, axis=1)
    silence = np.zeros((_BLOCK, channels), np.float32)
    silent_frames = round((seconds - sound_s) * rate_hz / 2)
    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", rate_hz, channels, format=kind, subtype="PCM_16") as file:
        for part in ("before", "sound", "after"):
            if part == "sound":
                file.write(sound)
                continue
            for start in range(0, silent_frames, _BLOCK):
                file.write(silence[: silent_frames - start])
    return out.getvalue()


def code_books(books: int = 256) -> bytes:
    """Ogg Vorbis of 3 kB whose code books claim 8 million entries each: 2 GiB in libvorbis."""
    setup, bits = 0, 0
    fields = [
        (_VORBIS_BOOK, 24),
        (1, 16),  # dimensions
        (_BOOK_ENTRIES, 24),
        (1, 1),  # the lengths are told in runs
        (22, 5),  # the first one is 23
        (_BOOK_ENTRIES, 23),  # and all have it
        (0, 4),  # no values
    ]
    for value, width in [(books - 1, 8), *fields * books]:
        setup |= value << bits
        bits += width
    packets = (
        b"\x01vorbis" + struct.pack("<IBIiiiBB", 0, 1, 44_100, 0, 64_000, 0, 0xB8, 1),
        b"\x03vorbis" + bytes(8) + b"\x01",
        b"\x05vorbis" + setup.to_bytes(-(-bits // 8), "little"),
    )
    return b"".join(_ogg_page(packet, number) for number, packet in enumerate(packets))


def table_bomb() -> bytes:
    """30 kB whose sample table claims 80 million samples: 2.8 GB of index, were it believed."""
    changed, samples = (
        bytearray(encoded(speech_like(3.0, 16_000), 16_000, "ipod", "aac")),
        80_000_000,
    )
    struct.pack_into(">II", changed, changed.index(b"stsz") + 8, 1, samples)
    at = changed.index(b"stsc")
    (entries,) = struct.unpack_from(">I", changed, at + 8)
    for entry in range(entries):
        struct.pack_into(">I", changed, at + 16 + 12 * entry, samples)
    return bytes(changed)


def wav(at: int = 0, value: bytes = b"") -> bytes:
    """Three seconds of WAV with `value` at byte `at`."""
    out = io.BytesIO()
    soundfile.write(out, speech_like(3.0, 48_000), 48_000, format="WAV", subtype="PCM_16")
    changed = bytearray(out.getvalue())
    changed[at : at + len(value)] = value
    return bytes(changed)


def _float_wav(first: float) -> bytes:
    samples = speech_like(2.0, 16_000)
    samples[0] = first
    out = io.BytesIO()
    soundfile.write(out, samples, 16_000, format="WAV", subtype="FLOAT")
    return out.getvalue()


def _endless_flac() -> bytes:
    """An hour at 8 kHz whose header says that its length is unknown."""
    changed = bytearray(mostly_silent(3_600.0, 8_000))
    changed[21] &= 0xF0
    changed[22:26] = bytes(4)
    return bytes(changed)


def _playlist(place: str) -> bytes:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{place}\n#EXT-X-ENDLIST\n".encode()


FOR_FFMPEG: dict[str, Callable[[], bytes]] = {
    "vorbis code books": code_books,
    "code books behind a tag": lambda: b"ID3\4\0\0\0\0\0\0" + code_books(),
    "mp4 sample table": table_bomb,
    "Ogg capture patterns": lambda: b"OggS\0\2" + b"OggS" * 25_000,
    "an mp4 that ends early": lambda: table_bomb()[:5_000],
    "flac of unknown length": _endless_flac,
    "mp3 sync words": lambda: b"\xff\xfb\x90\0" * 25_000,
}
FOR_LIBSNDFILE: dict[str, Callable[[], bytes]] = {
    "two silent minutes at 192 kHz": lambda: mostly_silent(119.0, 192_000),
    "eight channels at 192 kHz": lambda: mostly_silent(20.0, 192_000, channels=8),
    "flac that ends early": lambda: mostly_silent(10.0, 48_000)[:5_000],
    "code books behind many tags": lambda: b"ID3\4\0\0\0\0\0\0" * 5 + code_books(),
    "wav without its end": lambda: wav()[:1_000],
    "wav of 4 GB": lambda: wav(40, b"\xff" * 4),
    "wav of nothing": lambda: wav(40, bytes(4)),
    "wav of 65,535 channels": lambda: wav(22, b"\xff\xff"),
    "wav at no rate": lambda: wav(24, bytes(4)),
    "wav at 2 GHz": lambda: wav(24, b"\0\0\0\x80"),
    "wav with infinity": lambda: _float_wav(np.inf),
    "wav with one loud sample": lambda: _float_wav(1e30),
    "wav of chunks": lambda: b"RIFF\xff\xff\xff\x7fWAVE" + b"junk\0\0\0\0" * 100_000,
    "flac of metadata": lambda: b"fLaC" + b"\4\0\0\x08" + bytes(8) + b"\1\0\0\0" * 100_000,
    "a tag alone": lambda: b"ID3\4\0\0\x7f\x7f\x7f\x7f" + bytes(10_000),
    "a playlist": lambda: _playlist("http://127.0.0.1:9/a.wav"),
    "a playlist of a file": lambda: _playlist("file:///etc/passwd"),
    "a script of FFmpeg": lambda: b"ffconcat version 1.0\nfile '/etc/passwd'\n",
    "svg": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="/etc/passwd"/></svg>',
    "nothing": lambda: b"",
}
RECORDINGS = FOR_FFMPEG | FOR_LIBSNDFILE
"""Files by what is wrong with them. None may take more memory than `decoding_bytes` says."""


def _ogg_page(packet: bytes, number: int) -> bytes:
    lengths = [255] * (len(packet) // 255) + [len(packet) % 255]
    head = struct.pack("<4sBBqIIIB", b"OggS", 0, 0 if number else 2, 0, 7, number, 0, len(lengths))
    page = bytearray(head + bytes(lengths) + packet)
    struct.pack_into("<I", page, 22, _ogg_checksum(bytes(page)))
    return bytes(page)


def _ogg_checksum(page: bytes) -> int:
    checksum = 0
    for byte in page:
        checksum ^= byte << 24
        for _ in range(8):
            checksum = (checksum << 1) ^ (0x104C11DB7 if checksum & 0x80000000 else 0)
    return checksum
