import io
import wave

import numpy as np
import pytest
import soundfile

from backend.audio.wav import UNKNOWN_BYTES, WavEncoder, wav_header
from backend.audio.write import Outlet


def test_round_trip() -> None:
    samples = np.linspace(-1.0, 1.0, 1001, dtype=np.float32)
    file = io.BytesIO()
    encoder = WavEncoder(file, 22_050)
    encoder.write(samples[:400])
    encoder.write(samples[400:])
    encoder.close()
    assert len(file.getvalue()) == 44 + 2 * 1001
    decoded, rate_hz = soundfile.read(io.BytesIO(file.getvalue()), dtype="float32")
    assert rate_hz == 22_050
    assert np.abs(decoded - samples).max() < 1.0 / 16_384
    with wave.open(io.BytesIO(file.getvalue())) as told:
        assert told.getparams()[:4] == (1, 2, 22_050, 1001)


def test_a_stream_says_that_its_length_is_unknown() -> None:
    outlet = Outlet()
    encoder = WavEncoder(outlet, 24_000)
    assert outlet.take() == wav_header(None, 24_000)
    encoder.write(np.zeros(10, np.float32))
    assert outlet.take() == bytes(20)
    encoder.close()
    assert outlet.take() == b""


@pytest.mark.parametrize("data_bytes", [None, 2**32 - 1, 2**40])
def test_more_than_a_header_can_tell_is_a_stream(data_bytes: int | None) -> None:
    header = wav_header(data_bytes, 24_000)
    assert int.from_bytes(header[4:8], "little") == UNKNOWN_BYTES
    assert int.from_bytes(header[40:44], "little") == UNKNOWN_BYTES


def test_sizes() -> None:
    header = wav_header(1000, 24_000)
    assert int.from_bytes(header[4:8], "little") == 1036
    assert int.from_bytes(header[40:44], "little") == 1000
