"""Small recordings whose headers claim ten hours: refused before they are decoded, or as short as
they really are."""

import io
import struct
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import soundfile

from backend.worker.messages import Encoded, Failed
from tests.test_worker_loop import Worker, loaded

RATE_HZ = 8_000
HOURS_SAMPLES = 10 * 3600 * RATE_HZ


def tone(kind: str) -> bytearray:
    out = io.BytesIO()
    samples = 0.5 * np.sin(np.arange(int(1.5 * RATE_HZ)) * 0.1)
    soundfile.write(out, samples, RATE_HZ, format=kind)
    assert out.tell() < 40_000
    return bytearray(out.getvalue())


def wav() -> bytes:
    audio = tone("WAV")
    at = audio.index(b"data")
    struct.pack_into("<I", audio, at + 4, 2 * HOURS_SAMPLES)
    return bytes(audio)


def flac() -> bytes:
    """36 bits of STREAMINFO are the number of samples."""
    audio = tone("FLAC")
    at = 8 + 13
    audio[at] = audio[at] & 0xF0 | HOURS_SAMPLES >> 32
    struct.pack_into(">I", audio, at + 1, HOURS_SAMPLES & 0xFFFFFFFF)
    return bytes(audio)


def ogg() -> bytes:
    """The last page says where it ends; its checksum is made anew."""
    audio = tone("OGG")
    at = audio.rindex(b"OggS")
    struct.pack_into("<q", audio, at + 6, HOURS_SAMPLES)
    struct.pack_into("<I", audio, at + 22, 0)
    struct.pack_into("<I", audio, at + 22, _ogg_checksum(bytes(audio[at:])))
    return bytes(audio)


def _ogg_checksum(page: bytes) -> int:
    register = 0
    for byte in page:
        register ^= byte << 24
        for _ in range(8):
            register = (register << 1 ^ (0x04C11DB7 if register >> 31 else 0)) & 0xFFFFFFFF
    return register


def mp3() -> bytes:
    """The number of frames, each of 576 samples at this rate, in the first frame's tag."""
    audio = tone("MP3")
    at = max(audio.find(b"Xing"), audio.find(b"Info"))
    assert at > 0
    assert audio[at + 7] & 1
    struct.pack_into(">I", audio, at + 8, HOURS_SAMPLES // 576)
    return bytes(audio)


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker(loaded())
    yield worker
    worker.leave()


@pytest.mark.parametrize("lie", [wav, flac, ogg, mp3])
def test_a_recording_that_claims_ten_hours(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, lie: Callable[[], bytes]
) -> None:
    read, samples = soundfile.SoundFile.read, 0

    def counted(file: soundfile.SoundFile, *given: int, **options: object) -> object:
        nonlocal samples
        block = read(file, *given, **options)
        samples += len(block)
        return block

    monkeypatch.setattr(soundfile.SoundFile, "read", counted)
    answer = worker.encode(lie())
    if isinstance(answer, Failed):
        assert answer.code == "bad_reference"
        assert "36000 s long" in answer.message
        assert samples == 0
    else:
        assert isinstance(answer, Encoded)
        assert answer.codes.audio_s < 2.0
        assert samples < 2 * 2 * RATE_HZ  # heard twice: where the voice is, and what is used


@pytest.mark.parametrize(("kind", "says"), [("FLAC", "1800 s long"), ("OGG", "longer than 120 s")])
def test_ten_hours_of_silence_are_small_and_refused(worker: Worker, kind: str, says: str) -> None:
    """Honest ones: a few kilobytes for each hour."""
    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", 4_000, 1, format=kind) as file:
        for _ in range(10):
            file.write(np.zeros(180 * 4_000, np.float32))
    answer = worker.encode(out.getvalue())
    assert isinstance(answer, Failed)
    assert says in answer.message
