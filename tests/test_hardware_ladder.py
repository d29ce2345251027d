"""What is given up when memory runs short, in which order, and when it is had again."""

import itertools
from dataclasses import replace

import pytest

from backend.core import Choice, Plan, Quantization
from backend.hardware.ladder import CLEAR_S, SAYS, WANT_S, Footing, Ladder, footings
from tests.monitored import plan


def planned(device: str, quantization: Quantization = "int8", rows: int = 16) -> Plan:
    return replace(
        plan(device=device),
        quantization=Choice(quantization, "for the test"),
        max_batch=Choice(rows, "for the test"),
    )


def names(*steps: Footing) -> list[str]:
    return [step.step for step in steps]


def test_a_cpus_steps() -> None:
    steps = footings(planned("cpu"))
    assert names(*steps) == ["", "fewer_rows", "one_row", "small_windows", "small_cache", "int4"]
    assert [step.plan.max_batch.value for step in steps] == [16, 4, 1, 1, 1, 1]
    assert [step.worker_rows for step in steps] == [16, 16, 16, 1, 1, 1]
    assert [step.decode_frames for step in steps] == [None, None, None, 4, 4, 4]
    assert [step.plan.cache_limit_mb.value for step in steps] == [1024] * 4 + [256] * 2
    assert [step.plan.chunk_length.value for step in steps] == [200] * 4 + [40] * 2
    assert [step.plan.quantization.value for step in steps] == ["int8"] * 5 + ["int4"]


def test_a_gpus_steps_end_on_the_cpu() -> None:
    steps = footings(planned("cuda:0", "none", rows=128))
    assert names(*steps) == list(SAYS)
    assert [step.plan.max_batch.value for step in steps[:3]] == [128, 32, 1]
    assert [step.codec_on_cpu for step in steps] == [False] * 4 + [True] * 4 + [False]
    assert (steps[-1].plan.device.value, steps[-1].plan.device_uuid) == ("cpu", "")


def test_what_a_user_chose_is_not_given_up() -> None:
    steps = footings(planned("cuda:0"), may_quantize=False, may_leave_gpu=False)
    assert names(*steps)[-1] == "small_cache"


@pytest.mark.parametrize("quantization", ["none", "int8", "int4"])
def test_no_step_is_one_that_changes_nothing(quantization: Quantization) -> None:
    steps = footings(planned("cpu", quantization, rows=1))
    assert names(*steps)[:2] == ["", "small_windows"]
    for above, below in itertools.pairwise(steps):
        assert replace(above, step="") != replace(below, step="")
    assert names(*steps).count("int4") == (quantization != "int4")


def test_rows_and_keys_need_no_worker_anew() -> None:
    steps = footings(planned("cuda:0", "none"))
    loads = [not b.is_loaded_as(a) for a, b in itertools.pairwise(steps)]
    names_of_loads = [step.step for step, is_load in zip(steps[1:], loads, strict=True) if is_load]
    assert names_of_loads == ["small_windows", "codec_on_cpu", "int8", "int4", "cpu"]


def test_each_step_is_counted_and_the_last_is_the_last() -> None:
    ladder = Ladder(2)
    assert [ladder.down(at_s) for at_s in (0.0, 1.0, 2.0)] == [True, True, False]
    assert (ladder.level, ladder.steps_down, ladder.steps_up) == (2, 2, 0)
    ladder.up(100.0)
    assert (ladder.level, ladder.steps_down, ladder.steps_up) == (1, 2, 1)


def test_a_minute_without_want_takes_one_step_back() -> None:
    ladder = Ladder(3)
    ladder.down(0.0)
    ladder.down(10.0)
    assert not ladder.is_clear(10.0 + CLEAR_S - 1)
    assert ladder.is_clear(10.0 + CLEAR_S)
    ladder.up(10.0 + CLEAR_S)
    assert not ladder.is_clear(11.0 + CLEAR_S), "the next is a minute away"
    assert not ladder.is_wanting(100.0, is_short=True)
    assert not ladder.is_clear(99.0 + CLEAR_S), "it was short meanwhile"
    assert ladder.is_clear(100.0 + CLEAR_S)
    ladder.up(200.0)
    assert not ladder.is_clear(1000.0), "it is as planned"


def test_a_moment_of_want_is_none() -> None:
    ladder = Ladder(3)
    assert not ladder.is_wanting(1.0, is_short=True)
    assert not ladder.is_wanting(1.0 + WANT_S / 2, is_short=False)
    assert not ladder.is_wanting(1.0 + WANT_S, is_short=True)
    assert ladder.is_wanting(1.0 + 2 * WANT_S, is_short=True)
    ladder.down(1.0 + 2 * WANT_S)
    assert not ladder.is_wanting(2.0 + 2 * WANT_S, is_short=True), "what was done is to show first"
