import numpy as np
import pytest

from backend.audio.tempo import Tempo
from tests.heard import Sound, level_db, pitch_of, tone, voice


def at_speed(sound: Sound, rate_hz: int, speed: float, piece_samples: int = 1_000) -> Sound:
    tempo = Tempo(rate_hz, speed)
    starts = range(0, len(sound), piece_samples)
    pieces = [tempo.push(sound[start : start + piece_samples]) for start in starts]
    return np.concatenate([*pieces, tempo.finish()])


@pytest.mark.parametrize("rate_hz", [8_000, 44_100])
@pytest.mark.parametrize("speed", [0.25, 0.5, 0.8, 1.25, 2.0, 4.0])
def test_tempo_changes_and_pitch_does_not(speed: float, rate_hz: int) -> None:
    for pitch_hz, sound in ((440, tone(6.0, rate_hz)), (120, voice(6.0, rate_hz))):
        changed = at_speed(sound, rate_hz, speed)
        assert len(changed) / len(sound) == pytest.approx(1 / speed, rel=0.02)
        assert pitch_of(changed, rate_hz) == pytest.approx(pitch_hz, rel=0.01)
        assert level_db(changed) == pytest.approx(level_db(sound), abs=1.0)


@pytest.mark.parametrize("speed", [0.5, 0.8, 1.25, 2.0])
def test_loud_speech_does_not_clip(speed: float) -> None:
    sound = voice(3.0, 24_000)
    assert np.abs(at_speed(sound, 24_000, speed)).max() <= np.abs(sound).max() + 1e-3


@pytest.mark.parametrize("speed", [0.25, 0.8, 1.25, 4.0])
def test_the_end_is_not_cut_off(speed: float) -> None:
    sound = np.zeros(24_000, np.float32)
    sound[-240:] = tone(0.01, 24_000)
    assert np.sum(at_speed(sound, 24_000, speed) ** 2) > 0.6 / max(speed, 1.0) * np.sum(sound**2)


@pytest.mark.parametrize("speed", [0.5, 1.3, 4.0])
@pytest.mark.parametrize("piece_samples", [7, 997, 4_096])
def test_pieces_do_not_matter(speed: float, piece_samples: int) -> None:
    pause = np.zeros(4_000, np.float32)
    sound = np.concatenate([voice(1.0, 16_000), pause, voice(0.7, 16_000), pause])
    by_the_bit = at_speed(sound, 16_000, speed, piece_samples)
    assert np.array_equal(by_the_bit, at_speed(sound, 16_000, speed, len(sound)))


@pytest.mark.parametrize("speed", [0.25, 0.5, 0.8, 1.25, 2.0, 4.0])
def test_sound_begins_where_it_should_after_every_pause(speed: float) -> None:
    rate_hz = 16_000
    each = np.concatenate([voice(0.9, rate_hz), np.zeros(rate_hz // 2, np.float32)])
    changed = at_speed(np.concatenate(20 * [each]), rate_hz, speed)
    assert len(changed) == round(20 * len(each) / speed)
    for number in range(20):
        start = round(number * len(each) / speed)
        assert not changed[max(0, start - round(0.02 * rate_hz)) : start].any()
        assert changed[start : start + round(0.005 * rate_hz)].any()


@pytest.mark.parametrize("speed", [0.25, 0.5, 0.8])
def test_the_end_of_slow_speech_is_heard(speed: float) -> None:
    rate_hz = 16_000
    sound = voice(1.0, rate_hz)
    sound[-400:] = tone(0.025, rate_hz, 3_000.0, 0.9)
    changed = at_speed(sound, rate_hz, speed)
    assert len(changed) == pytest.approx(len(sound) / speed, rel=0.1)
    last = changed[np.flatnonzero(np.abs(changed) > 1e-3)[-1] - 200 :][:200]
    assert pitch_of(last, rate_hz) == pytest.approx(3_000, rel=0.05)


@pytest.mark.parametrize("piece_samples", [240, 24_000])
@pytest.mark.parametrize(
    ("speed", "within_s"), [(0.25, 0.1), (0.8, 0.1), (1.25, 0.1), (2.0, 0.1), (4.0, 0.25)]
)
def test_little_is_held_back(speed: float, within_s: float, piece_samples: int) -> None:
    tempo = Tempo(24_000, speed)
    sound = tone(2.0, 24_000)
    ready_s = taken_s = 0.0
    for start in range(0, len(sound), piece_samples):
        ready_s += len(tempo.push(sound[start : start + piece_samples])) / 24_000
        taken_s += piece_samples / 24_000
        assert taken_s - ready_s * speed < within_s


def test_nothing_in_nothing_out() -> None:
    assert len(at_speed(np.zeros(0, np.float32), 24_000, 2.0)) == 0


@pytest.mark.parametrize("speed", [0.0, 0.2, 4.1, -1.0, float("nan")])
def test_speed_has_limits(speed: float) -> None:
    with pytest.raises(ValueError, match=r"outside 0\.25–4"):
        Tempo(24_000, speed)
