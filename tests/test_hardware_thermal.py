"""Machines that warm up: what is predicted, and that stepping back in time keeps the clock up."""

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from backend.hardware.thermal import (
    HOLD_S,
    LONGEST_HOLD_S,
    LOST_S,
    STUCK_S,
    Governor,
    Trend,
    board_throttles_at_c,
    ladder,
)
from backend.thermometer import Heat
from tests.plant import (
    BLOCKED_GPU,
    DESKTOP,
    DUSTY,
    FANLESS,
    GENTLE,
    PI_4,
    Machine,
    sensor_of,
    simulate,
)

HALF_AN_HOUR = 1800


# -- the trend -------------------------------------------------------------------------------------


def trend_of(curve: Callable[[float], float], seconds: int, noise_c: float = 0.0) -> Trend:
    """A second each; `curve` is the headroom in °C."""
    draw, trend = random.Random(1), Trend()
    for second in range(seconds):
        trend.add(float(second), curve(float(second)) + draw.gauss(0, noise_c))
    return trend


def test_a_straight_rise_is_predicted_to_the_second() -> None:
    trend = trend_of(lambda t: 40 - 0.25 * t, 61)
    assert trend.seconds_until(60.0) == pytest.approx(100.0)
    assert trend.seconds_until(60.0, 5.0) == pytest.approx(80.0)


@pytest.mark.parametrize("tau_s", [20.0, 60.0, 300.0])
@pytest.mark.parametrize("noise_c", [0.0, 0.5])
def test_a_body_that_warms_up_is_predicted_by_its_first_order_law(
    tau_s: float, noise_c: float
) -> None:
    # It would end 10 °C past the point, and gets there after ln(50 / 10) time constants.
    trend = trend_of(lambda t: -10 + 50 * math.exp(-t / tau_s), round(tau_s) + 1, noise_c)
    expected_s = tau_s * math.log(5) - round(tau_s)
    told_s = trend.seconds_until(float(round(tau_s)))
    assert told_s is not None
    # Between two of the time constants that are tried it errs to the early side.
    assert 0.6 * expected_s < told_s < (1.35 if noise_c else 1.05) * expected_s


@pytest.mark.parametrize("tau_s", [5.0, 20.0, 60.0])
def test_a_rise_that_ends_below_the_point_is_no_reason(tau_s: float) -> None:
    trend = trend_of(lambda t: 10 + 40 * math.exp(-t / tau_s), 61)
    assert trend.seconds_until(60.0) is None


def test_noise_and_rounding_are_no_trend() -> None:
    for seed in range(5):
        draw, trend = random.Random(seed), Trend()
        told: list[float | None] = []
        for second in range(300):
            trend.add(float(second), round(4 + draw.gauss(0, 0.7)))
            told.append(trend.seconds_until(float(second)))
        assert sum(each is not None and each < 20 for each in told) <= 3, seed


def test_one_jump_counts_for_nothing() -> None:
    for jump_c in (-200.0, -60.0, 60.0):
        trend = trend_of(lambda t, jump_c=jump_c: 30.0 + (jump_c if t == 40 else 0.0), 61)  # type: ignore[misc]
        assert trend.headroom_c == 30.0
        assert trend.seconds_until(60.0) is None


def test_at_the_point_there_is_no_time_left() -> None:
    trend = Trend()
    assert (trend.headroom_c, trend.seconds_until(0.0)) == (None, None)
    trend.add(0.0, -1.0)
    assert trend.seconds_until(0.0) == 0.0


def test_what_cools_and_what_is_far_off_is_not_predicted() -> None:
    assert trend_of(lambda t: 10 + 0.2 * t, 61).seconds_until(60.0) is None
    assert trend_of(lambda t: 60 - 0.03 * t, 61).seconds_until(60.0) is None


def test_a_pause_or_a_new_way_of_working_begins_anew() -> None:
    def falls(t: float) -> float:
        return 40 - 0.25 * t

    trend = trend_of(falls, 61)
    trend.restart(68.0)
    for second in range(61, 78):
        trend.add(float(second), 20.0)
    assert trend.seconds_until(77.0) is None
    trend = trend_of(falls, 61)
    trend.add(100.0, 20.0)
    assert trend.seconds_until(100.0) is None
    trend.add(100.0, 0.0)  # the same moment twice
    assert trend.headroom_c == 20.0


def test_a_trend_holds_a_minute_and_not_more() -> None:
    trend = trend_of(lambda t: 1e6 - t, 10_000)
    assert len(trend._points) == 61


# -- the ladder ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("planned", "steps"),
    [(1, (1,)), (2, (2, 1)), (4, (4, 3, 2, 1)), (16, (16, 12, 9, 7, 6, 5, 4, 3, 2, 1))],
)
def test_each_step_is_a_quarter_less(planned: int, steps: tuple[int, ...]) -> None:
    assert ladder(planned) == steps


def test_a_raspberry_pi_throttles_at_80() -> None:
    assert board_throttles_at_c("Raspberry Pi 4 Model B Rev 1.4") == 80.0
    assert board_throttles_at_c("Orange Pi 5") is None
    assert board_throttles_at_c("") is None


# -- machines that speak without a pause for half an hour ------------------------------------------


@pytest.mark.parametrize("machine", [PI_4, FANLESS, DUSTY], ids=lambda machine: machine.name)
@pytest.mark.parametrize("seed", range(2))
def test_without_control_it_throttles_with_it_never_and_it_speaks_more(
    machine: Machine, seed: int
) -> None:
    free = simulate(machine, HALF_AN_HOUR, is_controlled=False)
    assert free.plant.throttled_s > HALF_AN_HOUR / 2
    run = simulate(machine, HALF_AN_HOUR, sensor=sensor_of(machine, seed=seed))
    assert run.plant.throttled_s == 0.0
    assert run.hottest_c < machine.throttles_at_c
    assert run.plant.spoken > 1.05 * free.plant.spoken
    assert run.late_speed > 1.05 * free.late_speed


@pytest.mark.parametrize("machine", [PI_4, FANLESS, DUSTY], ids=lambda machine: machine.name)
def test_it_does_not_swing(machine: Machine) -> None:
    run = simulate(machine, 2 * HALF_AN_HOUR, sensor=sensor_of(machine, seed=9))
    changes = run.changes
    assert run.plant.throttled_s == 0.0
    assert len(changes) <= 14
    # Steps forward under load come ever more seldom, never more than one a minute.
    raised = [i for i in changes if run.levels[i] < run.levels[i - 1]]
    gaps = [b - a for a, b in itertools.pairwise(raised)]
    assert all(gap >= HOLD_S for gap in gaps)
    assert sum(change > HALF_AN_HOUR for change in changes) <= 5


def test_a_desktop_is_left_alone() -> None:
    for seed in range(2):
        run = simulate(DESKTOP, HALF_AN_HOUR, sensor=sensor_of(DESKTOP, seed=seed))
        assert set(run.levels) == {0}
        bursts = simulate(
            DESKTOP,
            HALF_AN_HOUR,
            sensor=sensor_of(DESKTOP, seed=seed),
            is_busy=lambda second: second // 20 % 2 == 0,
        )
        assert set(bursts.levels) == {0}


def test_where_clock_and_voltage_sink_together_control_costs_a_little() -> None:
    """The machine that control gains nothing on: what `SHOAL_THERMAL_CONTROL` is for."""
    free = simulate(GENTLE, HALF_AN_HOUR, is_controlled=False)
    run = simulate(GENTLE, HALF_AN_HOUR)
    assert free.plant.throttled_s > 0 == run.plant.throttled_s
    assert 0.85 * free.plant.spoken < run.plant.spoken < free.plant.spoken


def test_fewer_rows_on_a_gpu_lose_more_speech_than_throttling_does() -> None:
    """Why a GPU is only predicted."""
    free = simulate(BLOCKED_GPU, HALF_AN_HOUR, is_controlled=False)
    run = simulate(BLOCKED_GPU, HALF_AN_HOUR)
    assert free.plant.throttled_s > 0 == run.plant.throttled_s
    assert run.plant.spoken < 0.9 * free.plant.spoken


def test_any_machine_that_one_thread_does_not_overheat() -> None:
    """Plants drawn by chance, except where the chip alone gets there at once."""
    draw, tried = random.Random(7), 0
    while tried < 8:
        planned = draw.choice([2, 3, 4, 6, 8, 12, 16])
        point_c = draw.uniform(75, 105)
        chip, sink = draw.uniform(0.2, 3), draw.uniform(0.3, 7)
        rise_c = point_c - 22.0
        idle_w = draw.uniform(0.1, 0.5) * rise_c / (chip + sink)
        work_w = draw.uniform(1.05, 1.8) * rise_c / (chip + sink) - idle_w
        thread_w = work_w / planned
        if (idle_w + thread_w) * (chip + sink) > rise_c - 5:
            continue
        if idle_w * (chip + sink) + work_w * chip > rise_c - 10:
            continue
        machine = replace(
            PI_4,
            planned=planned,
            throttles_at_c=point_c,
            chip_c_per_w=chip,
            chip_j_per_c=draw.uniform(2, 10) / chip,
            sink_c_per_w=sink,
            sink_j_per_c=draw.uniform(60, 400) / sink,
            idle_w=idle_w,
            work_w=lambda threads, each=thread_w: each * threads,  # type: ignore[misc]
        )
        run = simulate(machine, 900, sensor=sensor_of(machine, seed=tried))
        assert run.plant.throttled_s == 0.0, machine
        tried += 1


def test_it_lets_go_once_nothing_is_spoken() -> None:
    def is_busy(second: int) -> bool:
        return second < 900 or second >= 1500

    run = simulate(PI_4, 1600, is_busy=is_busy)
    assert run.levels[899] == 2
    assert run.levels[1499] == 0  # two steps in ten idle minutes, a minute each
    assert run.levels[1510] == 0
    assert run.plant.throttled_s == 0.0


def test_it_lets_go_once_the_room_is_cooler() -> None:
    run = simulate(PI_4, 2 * HALF_AN_HOUR, ambient_c=lambda second: 22.0 if second < 1200 else -5.0)
    assert run.levels[1199] == 2
    assert run.levels[-1] == 0
    assert run.plant.throttled_s == 0.0


# -- sensors that are worth nothing ----------------------------------------------------------------


def ticks(
    governor: Governor, heat: Callable[[int], Heat | None], seconds: int, start: int = 0
) -> list[int]:
    return [governor.step(float(t), heat(t), True) for t in range(start, start + seconds)]


def test_without_a_sensor_or_a_point_nothing_is_lowered_or_said() -> None:
    for heat in (None, Heat("k10temp", 99.0), Heat("k10temp", None, 95.0)):
        governor = Governor(3)
        assert set(ticks(governor, lambda _, heat=heat: heat, 600)) == {0}  # type: ignore[misc]
        assert governor.seconds_until_throttling(600.0) is None


def test_a_sensor_that_vanishes_while_it_is_hot_is_forgotten() -> None:
    governor = Governor(3)
    hot = Heat("coretemp", 99.0, 100.0)
    levels = ticks(governor, lambda _: hot, 20)
    assert levels[-1] == 3
    assert governor.seconds_until_throttling(20.0) is not None or governor.heat == hot
    levels = ticks(governor, lambda _: None, 59, start=20)
    assert levels[-1] == 3
    levels = ticks(governor, lambda _: None, 300, start=79)
    assert levels[-1] == 0
    assert governor.heat is None
    assert governor.seconds_until_throttling(380.0) is None
    assert LOST_S == 60


def test_a_sensor_that_jumps_lowers_nothing() -> None:
    draw = random.Random(3)

    def heat(second: int) -> Heat:
        jumps = second % 7 == 0
        return Heat("coretemp", draw.choice([0.0, 100.0, 127.0]) if jumps else 60.0, 100.0)

    assert set(ticks(Governor(3), heat, 900)) == {0}


def test_a_sensor_that_is_stuck_at_hot_is_not_believed() -> None:
    governor = Governor(3)
    lie = Heat("coretemp", 127.0, 100.0)
    levels = ticks(governor, lambda _: lie, round(STUCK_S) + 60)
    assert max(levels) == 3 and levels[-1] == 0
    assert governor.is_stuck
    assert governor.seconds_until_throttling(240.0) is None
    assert set(ticks(governor, lambda _: lie, 3000, start=240)) == {0}
    # Once it moves it is a sensor again.
    levels = ticks(governor, lambda t: Heat("coretemp", 99.0 + t % 2, 100.0), 60, start=3240)
    assert levels[-1] == 3


def test_a_sensor_that_is_hot_for_other_reasons_is_believed() -> None:
    """It moves, if only by its last digit: another program heats, and we do our part."""
    levels = ticks(Governor(3), lambda t: Heat("coretemp", 99.0 + t // 50 % 2, 100.0), 1200)
    assert levels[-1] == 3


def test_a_clock_that_stands_still_is_no_harm() -> None:
    governor = Governor(3)
    for _ in range(100):
        assert governor.step(5.0, Heat("coretemp", 50.0, 100.0), True) == 0


# -- macOS: a level of pressure --------------------------------------------------------------------


def test_pressure_lowers_step_by_step_and_its_end_gives_back() -> None:
    governor = Governor(3)
    levels = ticks(governor, lambda _: Heat("p", pressure=0), 60)
    assert set(levels) == {0} and governor.seconds_until_throttling(60.0) is None
    levels = ticks(governor, lambda _: Heat("p", pressure=1), 45, start=60)
    assert levels[0] == 1 and levels[-1] == 2
    assert governor.seconds_until_throttling(105.0) == 0.0
    levels = ticks(governor, lambda _: Heat("p", pressure=3), 600, start=105)
    assert levels[-1] == 3
    levels = ticks(governor, lambda _: Heat("p", pressure=0), 600, start=705)
    assert levels[-1] == 0


def test_pressure_that_returns_is_let_go_ever_more_seldom() -> None:
    governor, raised, was = Governor(1), [], 0
    for second in range(4 * 3600):
        level = governor.step(float(second), Heat("p", pressure=int(was == 0)), True)
        if level < was:
            raised.append(second)
        was = level
    gaps = [b - a for a, b in itertools.pairwise(raised)]
    assert gaps == sorted(gaps) and gaps[-1] >= LONGEST_HOLD_S
