"""Whether predictions are still believed, and that seconds follow a machine that slows down."""

import pytest

from backend.learning.case import Formula
from backend.learning.judge import LATELY, LEAST_JUDGED, Judge
from backend.learning.learned import MOST_TIMES

FORMULA = Formula(seconds=2.0, frames=200.0, memory_mb=400.0)


def test_what_errs_more_than_the_formula_is_not_believed_until_it_errs_less() -> None:
    judge = Judge("frames")
    for heard in range(8):
        assert judge.is_content == (heard < LEAST_JUDGED)
        judge.hear(300.0, FORMULA, 200.0)
    for _ in range(20):
        judge.hear(300.0, FORMULA, 300.0)
    assert judge.is_content


def test_seconds_follow_a_machine_that_slows_down_and_frames_do_not() -> None:
    seconds, frames = Judge("seconds"), Judge("frames")
    for _ in range(LATELY):
        seconds.hear(1.5, FORMULA, 3.0)
        frames.hear(150.0, FORMULA, 300.0)
    assert seconds.told(1.5, FORMULA) == pytest.approx(3.0)
    assert frames.told(150.0, FORMULA) == 150.0
    seconds.hear(1.5, FORMULA, 150.0)  # one that was held up by something else
    assert seconds.told(1.5, FORMULA) == pytest.approx(3.0)
    for _ in range(LATELY):
        seconds.hear(1.5, FORMULA, 1.5)
    assert seconds.told(1.5, FORMULA) == pytest.approx(1.5)


def test_however_far_off_it_stays_near_the_formula() -> None:
    judge = Judge("seconds")
    for _ in range(LATELY):
        judge.hear(1.0, FORMULA, 1e6)
    assert judge.told(1.0, FORMULA) == MOST_TIMES * FORMULA.seconds
    assert Judge("memory").told(1e-9, FORMULA) == FORMULA.memory_mb / MOST_TIMES
