"""How long a text will take: expected at first, then as it was measured."""

import pytest

from backend.serving.speed import CHARACTERS_PER_AUDIO_S, Speed


def test_what_is_expected_until_something_was_spoken() -> None:
    speed = Speed(30.0)
    forecast = speed.forecast(300)
    assert forecast.expected_s == pytest.approx(10)
    assert forecast.audio_s == pytest.approx(300 / CHARACTERS_PER_AUDIO_S)
    assert not forecast.is_measured
    speed.passed(100.0)  # of work that came to nothing
    assert not speed.forecast(300).is_measured


def test_what_is_expected_may_be_known_better_until_it_is_measured() -> None:
    speed = Speed(30.0)
    speed.passed(1.0)
    speed.expect(60.0)
    assert speed.forecast(600).expected_s == pytest.approx(10)
    speed.spoke(10, 1.0)
    measured = speed.forecast(600).expected_s
    speed.expect(1.0)
    assert speed.forecast(600).expected_s == measured


def test_both_paces_are_measured() -> None:
    speed = Speed(30.0)
    for _ in range(100):
        speed.passed(10.0)
        speed.spoke(120, 20.0)
    forecast = speed.forecast(1200)
    assert forecast.is_measured
    assert forecast.expected_s == pytest.approx(100, rel=0.05)
    assert forecast.audio_s == pytest.approx(200, rel=0.01)


def test_the_latest_counts_most() -> None:
    speed = Speed(30.0)
    for characters in (1000, 100):
        for _ in range(100):
            speed.passed(10.0)
            speed.spoke(characters, 10.0)
    assert speed.characters_per_s == pytest.approx(10, rel=0.05)
    assert speed.forecast(100).audio_s == pytest.approx(10, rel=0.05)


def test_one_sentence_is_measured_without_being_all_that_counts() -> None:
    speed = Speed(30.0)
    speed.passed(1.0)
    speed.spoke(15, 3.0)
    assert CHARACTERS_PER_AUDIO_S / 3 < 100 / speed.forecast(100).audio_s < CHARACTERS_PER_AUDIO_S


def test_nothing_divides_by_nothing() -> None:
    speed = Speed(1.0)
    for _ in range(100):
        speed.passed(1000.0)
        speed.spoke(0, 1000.0)
    forecast = speed.forecast(0)
    assert (forecast.expected_s, forecast.audio_s) == (0, 0)
    assert speed.forecast(100).expected_s > 0
