import io

import numpy as np
import pytest
import soundfile

from backend.audio.write import pcm16, wav, wav_header


def test_round_trip() -> None:
    samples = np.linspace(-1.0, 1.0, 1001, dtype=np.float32)
    file = wav([pcm16(samples[:400].tobytes()), pcm16(samples[400:].tobytes())], 22_050)
    decoded, rate_hz = soundfile.read(io.BytesIO(file), dtype="float32")
    assert rate_hz == 22_050
    assert np.abs(decoded - samples).max() < 1.0 / 16_384
    assert len(file) == 44 + 2 * 1001


def test_clipping_and_what_is_no_number() -> None:
    loud = np.array([2.0, -2.0, np.nan, np.inf, -np.inf], np.float32)
    assert np.frombuffer(pcm16(loud.tobytes()), "<i2").tolist() == [
        *(32_767, -32_767, 0),
        *(32_767, -32_767),
    ]


def test_empty() -> None:
    assert len(wav([], 44_100)) == 44


def test_too_large_for_the_format() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        wav_header(2**32, 44_100)
