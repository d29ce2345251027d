import io
import struct

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from backend.audio.read import read_reference
from backend.errors import BadReference

RATE_HZ = 16_000


def tone(seconds: float, rate_hz: int = RATE_HZ, channels: int = 1) -> NDArray[np.float32]:
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    mono = (0.5 * np.sin(2 * np.pi * 220 * t)).astype(np.float32)
    return np.repeat(mono[:, None], channels, axis=1)


def encoded(samples: NDArray[np.float32], rate_hz: int = RATE_HZ, kind: str = "WAV") -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate_hz, format=kind)
    return out.getvalue()


def float_wav(samples: NDArray[np.float32]) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, RATE_HZ, format="WAV", subtype="FLOAT")
    return out.getvalue()


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize(("rate_hz", "channels"), [(16_000, 1), (44_100, 2)])
def test_decodes_and_resamples(kind: str, rate_hz: int, channels: int) -> None:
    audio = encoded(tone(2.0, rate_hz, channels), rate_hz, kind)
    recording = read_reference(audio, 24_000, 30.0)
    assert recording.samples.dtype == np.float32
    assert recording.samples.ndim == 1
    assert len(recording.samples) / 24_000 == pytest.approx(2.0, abs=0.12)
    assert not any("trimmed" in told for told in recording.warnings)
    spectrum = np.abs(np.fft.rfft(recording.samples))
    pitch_hz = np.argmax(spectrum) * 24_000 / len(recording.samples)
    assert pitch_hz == pytest.approx(220, abs=2)
    assert float(np.abs(recording.samples).max()) == pytest.approx(0.5, abs=0.1)


def test_silence_is_trimmed() -> None:
    silence = np.zeros((RATE_HZ * 3, 1), np.float32)
    samples = np.concatenate([silence, tone(2.0), silence])
    recording = read_reference(encoded(samples), RATE_HZ, 30.0)
    assert len(recording.samples) / RATE_HZ == pytest.approx(2.1, abs=0.02)


def test_longer_than_the_checkpoint_listens_is_trimmed_and_said() -> None:
    recording = read_reference(encoded(tone(8.0)), RATE_HZ, 5.0)
    assert len(recording.samples) == 5 * RATE_HZ
    assert "8.0 s" in recording.warnings[0]
    assert "5 s" in recording.warnings[0]


@pytest.mark.parametrize(
    ("audio", "says"),
    [
        (b"", "empty"),
        (b"not audio at all" * 100, "cannot be decoded"),
        (encoded(tone(2.0))[:30], "speaker_file"),
        (encoded(tone(0.5)), r"0\.5 s of sound"),
        (encoded(tone(61.0)), "at most 60 s"),
        (encoded(tone(130.0)), "130 s long"),
        (encoded(np.zeros((RATE_HZ * 2, 1), np.float32)), "silent"),
        (encoded(tone(2.0, channels=9)), "9 channels"),
        (encoded(tone(2.0, 2_000), 2_000), "2000 samples a second"),
        (encoded(tone(2.0), kind="AU"), "format AU"),
        (float_wav(np.full((RATE_HZ * 2, 1), np.nan, np.float32)), "no numbers"),
    ],
)
def test_what_is_wrong_is_said(audio: bytes, says: str) -> None:
    with pytest.raises(BadReference, match=says):
        read_reference(audio, RATE_HZ, 30.0)


def test_a_lying_header_does_not_decode_without_end() -> None:
    audio = bytearray(encoded(tone(130.0)))
    struct.pack_into("<I", audio, 40, 0xFFFFFFFF)
    with pytest.raises(BadReference, match="long"):
        read_reference(bytes(audio), RATE_HZ, 30.0)


def test_loud_float_samples_are_scaled() -> None:
    recording = read_reference(float_wav(tone(2.0) * 100), RATE_HZ, 30.0)
    assert float(np.abs(recording.samples).max()) == pytest.approx(1.0)
