"""What is measured of speech, on sounds of which it is known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from training.demo_voice.defects import defects, edge_clicks, hum_dbfs, level_steps
from training.demo_voice.measure import (
    Samples,
    mel_cepstra,
    nearest,
    rank_correlation,
    speech_level_db,
    voice_statistics,
    warped_distance,
)
from training.demo_voice.pitch import median_pitch_hz, pitch_deviation_semitones, pitch_track
from training.demo_voice.recordings import noisy, telephone

RATE_HZ = 22_050
VOWELS = {"a": (700.0, 1200.0, 2500.0), "i": (300.0, 2200.0, 3000.0), "u": (350.0, 800.0, 2300.0)}


def noise(seconds: float, level: float) -> Samples:
    drawn = np.random.default_rng(0).standard_normal(round(seconds * RATE_HZ))
    return (level * drawn).astype(np.float32)


def vowel(
    pitch_hz: float,
    seconds: float = 1.5,
    deviation: float = 0.0,
    formants: tuple[float, ...] = VOWELS["a"],
    rate_hz: int = RATE_HZ,
) -> Samples:
    """A voice whose pitch swings by `deviation` semitones (standard deviation) in every second."""
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    hertz = pitch_hz * 2 ** (deviation * np.sqrt(2) * np.sin(2 * np.pi * t) / 12)
    phase = 2 * np.pi * np.cumsum(hertz) / rate_hz
    sound: NDArray[np.float64] = np.zeros(len(t))
    for k in range(1, int(4_000 / pitch_hz)):
        strength = sum(1 / (1 + ((k * hertz - formant) / 120) ** 2) for formant in formants)
        sound += (strength / np.sqrt(k) + 0.05 / k) * np.sin(k * phase)
    loud: Samples = (0.3 * sound / np.abs(sound).max()).astype(np.float32)
    return loud


@pytest.mark.parametrize("formants", VOWELS.values(), ids=VOWELS)
@pytest.mark.parametrize("pitch_hz", [60, 82, 120, 190, 290, 380])
def test_pitch_is_found_in_its_octave(pitch_hz: float, formants: tuple[float, ...]) -> None:
    sound = vowel(pitch_hz, formants=formants) + noise(1.5, 0.003)
    assert median_pitch_hz(sound, RATE_HZ) == pytest.approx(pitch_hz, rel=0.005)


@pytest.mark.parametrize("rate_hz", [16_000, 24_000, 44_100])
def test_pitch_does_not_depend_on_the_rate(rate_hz: int) -> None:
    sound = vowel(110, rate_hz=rate_hz)
    assert median_pitch_hz(sound, rate_hz) == pytest.approx(110, rel=0.005)


@pytest.mark.parametrize("deviation", [0.0, 1.5, 3.0, 4.5])
def test_how_much_pitch_moves_is_found(deviation: float) -> None:
    sound = vowel(140, seconds=2, deviation=deviation) + noise(2, 0.003)
    assert pitch_deviation_semitones(sound, RATE_HZ) == pytest.approx(deviation, abs=0.1)


def test_what_has_no_pitch_has_none() -> None:
    assert not pitch_track(noise(2, 0.1), RATE_HZ).any()
    assert not pitch_track(np.zeros(RATE_HZ, np.float32), RATE_HZ).any()
    assert median_pitch_hz(np.zeros(100, np.float32), RATE_HZ) == 0
    hiss_then_voice = np.concatenate([noise(1, 0.02), vowel(130, 1)])
    voiced = pitch_track(hiss_then_voice, RATE_HZ) > 0
    assert voiced[:90].mean() < 0.05
    assert voiced[105:190].all()


def faded(sound: Samples) -> Samples:
    edge = np.minimum(np.arange(len(sound)) / 400, 1)
    return (sound * edge * edge[::-1]).astype(np.float32)


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * RATE_HZ), np.float32)


def click(seconds: float = 0.002) -> Samples:
    return noise(seconds, 0.1)


def test_good_sentences_have_no_defects() -> None:
    assert defects(faded(vowel(110)), RATE_HZ) == []
    low = faded(vowel(60, deviation=2))
    assert defects(np.concatenate([silence(0.1), low, silence(0.1)]), RATE_HZ) == []


def test_clicks_are_found_at_both_ends() -> None:
    sound = faded(vowel(110))
    assert edge_clicks(np.concatenate([click(), silence(0.05), sound]), RATE_HZ) == [
        "click at the start"
    ]
    assert edge_clicks(np.concatenate([sound, silence(0.05), click()]), RATE_HZ) == [
        "click at the end"
    ]
    cut = vowel(110)[37:]
    assert abs(cut[0]) > 0.03
    assert "click at the start" in edge_clicks(cut, RATE_HZ)


def test_a_released_t_is_no_click() -> None:
    breath = noise(0.03, 0.05) * np.linspace(1, 0.1, round(0.03 * RATE_HZ), dtype=np.float32)
    sound = np.concatenate([faded(vowel(110)), silence(0.08), breath])
    assert edge_clicks(faded(sound), RATE_HZ) == []


def test_direct_current_is_found() -> None:
    sound = faded(vowel(110))
    assert "DC" in defects((sound + 0.01).astype(np.float32), RATE_HZ)
    assert "DC" not in defects((sound + 0.0005).astype(np.float32), RATE_HZ)


@pytest.mark.parametrize("mains_hz", [50, 60])
def test_hum_is_found_and_measured(mains_hz: int) -> None:
    t = np.arange(round(1.5 * RATE_HZ)) / RATE_HZ
    line = (10 ** (-45 / 20) * np.sqrt(2) * np.sin(2 * np.pi * mains_hz * t)).astype(np.float32)
    assert hum_dbfs(vowel(110) + line, RATE_HZ) == pytest.approx(-45, abs=1)
    assert "hum" in defects(faded(vowel(110) + line), RATE_HZ)
    assert hum_dbfs(vowel(110), RATE_HZ) < -60


def test_levels_leave_pauses_out_and_steps_are_counted() -> None:
    sound = vowel(110)
    level_db = speech_level_db(sound, RATE_HZ)
    with_pause = np.concatenate([sound, silence(2), sound])
    assert speech_level_db(with_pause, RATE_HZ) == pytest.approx(level_db, abs=0.1)
    louder_db = speech_level_db((1.3 * sound).astype(np.float32), RATE_HZ)
    assert louder_db - level_db == pytest.approx(2.28, abs=0.01)
    assert speech_level_db(silence(1), RATE_HZ) == -120
    assert level_steps([-22.0, -21.0, -22.4, -24.0, -23.9]) == 1


def test_the_same_at_another_pace_is_nearer_than_something_else() -> None:
    def word(*names: str, seconds: float) -> NDArray[np.float64]:
        parts = [vowel(120, seconds, formants=VOWELS[name]) for name in names]
        return mel_cepstra(np.concatenate(parts), RATE_HZ)

    once, slower = word("a", "i", "u", seconds=0.3), word("a", "i", "u", seconds=0.4)
    other = word("u", "a", "i", seconds=0.3)
    assert warped_distance(once, once) == pytest.approx(0, abs=1e-4)
    assert warped_distance(once, slower) < 0.5 * warped_distance(once, other)


def test_speakers_are_told_apart_whatever_is_said_and_whatever_recorded_them() -> None:
    def says(tract: float, pitch_hz: float, names: str) -> Samples:
        parts = [
            vowel(pitch_hz, 0.4, formants=tuple(tract * f for f in VOWELS[name])) for name in names
        ]
        return np.concatenate(parts)

    speakers = [(0.85, 100.0), (1.0, 105.0), (1.1, 190.0), (1.25, 230.0), (0.92, 160.0)]
    references = [voice_statistics(says(*who, "aiua"), RATE_HZ) for who in speakers]
    coloured = [np.convolve(says(*who, "uaia"), [1, 0.4], "same") for who in speakers]
    spoken = [voice_statistics(pcm.astype(np.float32), RATE_HZ) for pcm in coloured]
    assert nearest(spoken, references) == [0, 1, 2, 3, 4]


def test_ranks() -> None:
    assert rank_correlation([80.0, 120.0, 200.0], [90.0, 100.0, 260.0]) == pytest.approx(1)
    assert rank_correlation([80.0, 120.0, 200.0], [260.0, 100.0, 90.0]) == pytest.approx(-1)


def test_a_telephone_passes_its_band_only() -> None:
    t = np.arange(RATE_HZ) / RATE_HZ
    level = {}
    for hertz in (100, 1_000, 5_000):
        passed = telephone((0.5 * np.sin(2 * np.pi * hertz * t)).astype(np.float32), RATE_HZ)
        assert len(passed) == 8_000
        level[hertz] = float(np.sqrt(np.mean(np.square(passed[800:-800]))))
    assert level[1_000] == pytest.approx(0.5 / np.sqrt(2), rel=0.02)
    assert level[100] < 0.01
    assert level[5_000] < 0.01


@pytest.mark.parametrize("below_db", [15, 20])
def test_noise_is_as_far_below_as_it_was_asked(below_db: int) -> None:
    sound = vowel(110)
    added = noisy(sound, below_db) - sound
    ratio = np.mean(np.square(sound)) / np.mean(np.square(added))
    assert 10 * np.log10(ratio) == pytest.approx(below_db, abs=0.2)
