import numpy as np
import pytest

from backend.audio.measure import WINDOW_SAMPLES, is_silent
from tests.heard import Sound, tone

SECOND = 44_100


def noise(level_db: float) -> Sound:
    rng = np.random.default_rng(0)
    return rng.normal(0, 10 ** (level_db / 20), SECOND).astype(np.float32)


@pytest.mark.parametrize(
    "sound",
    [
        np.zeros(0, np.float32),
        np.zeros(SECOND, np.float32),
        np.full(SECOND, np.nan, np.float32),
        noise(-65),
        tone(1.0, SECOND, level=0.002),
        np.eye(1, SECOND, 20_000, dtype=np.float32)[0] * 0.05,  # a click
    ],
)
def test_silent(sound: Sound) -> None:
    assert is_silent(sound.tobytes())


@pytest.mark.parametrize(
    "sound",
    [
        noise(-50),
        tone(1.0, SECOND, level=0.01),
        np.pad(tone(0.05, SECOND, level=0.01), (SECOND, SECOND)),  # one short syllable
        tone(0.01, SECOND),  # shorter than a window
        np.pad(tone(0.05, SECOND, level=0.01), (WINDOW_SAMPLES // 2, 0)),
    ],
)
def test_not_silent(sound: Sound) -> None:
    assert not is_silent(sound.tobytes())
