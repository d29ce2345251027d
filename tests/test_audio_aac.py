"""AAC at a constant rate: what is filled in changes no sample, and players find the duration."""

import io

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from backend.audio import compressed
from backend.audio.aac import ConstantRate, filled
from backend.audio.write import AudioWriter
from backend.core import AudioOutput

RATE_HZ = 24_000


def speech_like(seconds: float) -> NDArray[np.float32]:
    """Syllables of a voice, and pauses that grow."""
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    voice = sum(np.sin(2 * np.pi * 120 * k * t) / k**2 for k in range(1, 20))
    loud = np.clip(np.sin(2 * np.pi * 3 * t), 0, 1) * (
        np.sin(2 * np.pi * t / 7) > t / seconds - 0.5
    )
    breath = np.random.default_rng(0).standard_normal(len(t))
    samples: NDArray[np.float32] = ((0.1 * voice + 0.01 * breath) * loud).astype("<f4")
    return samples


def encoded(samples: NDArray[np.float32], rate_hz: int = RATE_HZ) -> bytes:
    sink = io.BytesIO()
    writer = AudioWriter(sink, AudioOutput("aac", rate_hz), RATE_HZ)
    for start in range(0, len(samples), RATE_HZ):
        writer.write(samples[start : start + RATE_HZ].tobytes())
    writer.close()
    return sink.getvalue()


def decoded(audio: bytes) -> NDArray[np.float32]:
    with av.open(io.BytesIO(audio), "r") as file:
        return np.concatenate([frame.to_ndarray().ravel() for frame in file.decode(audio=0)])


def frames(audio: bytes) -> list[bytes]:
    """The raw_data_blocks, without what ADTS puts before them."""
    found, start = [], 0
    while start < len(audio):
        size = int.from_bytes(audio[start + 3 : start + 6]) >> 5 & 0x1FFF
        found.append(audio[start + 7 : start + size])
        start += size
    return found


@pytest.mark.parametrize("more", [*range(40), 270, 271, 272, 273, 286, 287, 542, 543, 1000])
def test_a_filled_frame_is_that_much_longer(more: int) -> None:
    frame = bytes(range(1, 200))
    assert len(filled(frame, more)) == len(frame) + more


def test_what_is_filled_in_changes_no_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = speech_like(4)
    sent = {}
    for name, fill in (
        ("plain", lambda self, frame: frame),
        ("filled", lambda self, frame: filled(frame, len(frame) * 7 % 600)),
    ):
        monkeypatch.setattr(ConstantRate, "fill", fill)
        sent[name] = encoded(samples)
    assert len(sent["filled"]) > 1.5 * len(sent["plain"])
    assert np.array_equal(decoded(sent["plain"]), decoded(sent["filled"]))


@pytest.mark.parametrize(
    "rate_hz", [each for each in compressed.CODECS["aac"].rates_hz if each <= RATE_HZ]
)
def test_players_find_the_duration_of_speech_with_pauses(rate_hz: int) -> None:
    samples = speech_like(30)
    with av.open(io.BytesIO(encoded(samples, rate_hz)), "r") as file:
        found_s = (file.duration or 0) / av.time_base
    priming_s = 2 * 1024 / rate_hz
    assert found_s == pytest.approx(len(samples) / RATE_HZ, abs=0.15 + priming_s)


def test_silence_takes_as_much_as_speech() -> None:
    sizes = [len(frame) + 7 for frame in frames(encoded(np.zeros(10 * RATE_HZ, "<f4")))]
    wanted = 1.25 * 96_000 / 8 * 1024 / RATE_HZ
    assert max(sizes) - min(sizes) <= 1
    assert np.mean(sizes) == pytest.approx(wanted, abs=1)
