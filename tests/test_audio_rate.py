import numpy as np
import pytest

from backend.audio.rate import Resampler
from tests.heard import Sound, level_db, pitch_of, tone

RATES_HZ = (8_000, 22_050, 44_100, 48_000)


def resampled(sound: Sound, source_hz: int, target_hz: int, piece_samples: int = 333) -> Sound:
    resampler = Resampler(source_hz, target_hz)
    starts = range(0, len(sound), piece_samples)
    pieces = [resampler.push(sound[start : start + piece_samples]) for start in starts]
    return np.concatenate([*pieces, resampler.finish()])


@pytest.mark.parametrize("source_hz", RATES_HZ)
@pytest.mark.parametrize("target_hz", RATES_HZ)
def test_the_tone_and_its_length_stay(source_hz: int, target_hz: int) -> None:
    sound = resampled(tone(1.0, source_hz), source_hz, target_hz)
    assert len(sound) == target_hz
    assert pitch_of(sound, target_hz) == pytest.approx(440, abs=0.2)
    assert level_db(sound) == pytest.approx(level_db(tone(1.0, source_hz)), abs=0.1)


def test_what_the_target_cannot_hold_is_gone() -> None:
    sound = resampled(tone(1.0, 44_100, pitch_hz=6_000), 44_100, 8_000)
    assert level_db(sound) < -80


def test_pieces_do_not_matter() -> None:
    sound = tone(1.0, 44_100)
    assert np.array_equal(resampled(sound, 44_100, 24_000, 1), resampled(sound, 44_100, 24_000))


def test_nothing_in_nothing_out() -> None:
    assert len(resampled(np.zeros(0, np.float32), 44_100, 24_000)) == 0
