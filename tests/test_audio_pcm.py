"""Samples as they come from a worker: as they are where they are right, else mended."""

import numpy as np
import pytest

from backend.audio.pcm import int16_samples, samples_of


def test_right_samples_stay_as_they_are() -> None:
    sound = np.array([0.0, -1.0, 1.0, 1e-30, -0.5], "<f4")
    assert samples_of(sound.tobytes()).tobytes() == sound.tobytes()
    assert len(samples_of(b"")) == 0


@pytest.mark.parametrize(
    ("sent", "heard"),
    [
        (np.nan, 0.0),
        (-np.nan, 0.0),
        (np.inf, 1.0),
        (-np.inf, -1.0),
        (1.5, 1.0),
        (-3e38, -1.0),
        (np.nextafter(np.float32(1), np.float32(2)), 1.0),
    ],
)
@pytest.mark.parametrize("at", [0, 1, 4095, 8191])
def test_one_wrong_sample_is_mended_and_no_other(sent: float, heard: float, at: int) -> None:
    sound = np.linspace(-0.9, 0.9, 8192, dtype="<f4")
    wanted = sound.copy()
    sound[at], wanted[at] = sent, heard
    assert np.array_equal(samples_of(sound.tobytes()), wanted)


def test_sixteen_bits_are_rounded_to_the_nearest() -> None:
    sound = np.array([0.0, 1.0, -1.0, 0.4 / 32_767, 0.6 / 32_767, -0.6 / 32_767], np.float32)
    assert int16_samples(sound).tolist() == [0, 32_767, -32_767, 0, 1, -1]
    assert int16_samples(sound).dtype == np.dtype("<i2")
