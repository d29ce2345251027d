"""What is said and done under pressure, and how it is undone."""

from dataclasses import replace
from itertools import product

import pytest

from backend.hardware.pressure import (
    LEAST_CACHE_MB,
    LEAST_CHUNK_LENGTH,
    LEAST_TEXT_LENGTH,
    RunningConfig,
    ThrottlingRisk,
    adjusted,
    recommended_action,
    throttling_risk,
)

PLANNED = RunningConfig(chunk_length=150, num_threads=6, cache_limit_mb=1536, max_text_length=300)
CALM = ThrottlingRisk(False, False, False)
MEMORY = ThrottlingRisk(True, False, False)
CPU = ThrottlingRisk(False, True, False)
HOT = ThrottlingRisk(False, False, True)


@pytest.mark.parametrize(
    ("memory_pct", "cpu_pct", "throttle_pct", "temperatures_c", "expected"),
    [
        (85.0, 90.0, None, {}, (False, False, False)),
        (85.1, 0.0, None, {}, (True, False, False)),
        (0.0, 90.1, None, {}, (False, True, False)),
        (0.0, 70.0, 70.0, {}, (False, False, False)),
        (0.0, 70.1, 70.0, {}, (False, False, True)),
        (0.0, 99.0, 70.0, {}, (False, True, True)),
        (0.0, 0.0, None, {"coretemp": 84.9, "acpitz": 20.0}, (False, False, False)),
        (0.0, 0.0, None, {"coretemp": 85.0, "acpitz": 20.0}, (False, False, True)),
        (99.0, 99.0, None, {"gpu 0": 90.0}, (True, True, True)),
    ],
)
def test_the_changelogs_thresholds(
    memory_pct: float,
    cpu_pct: float,
    throttle_pct: float | None,
    temperatures_c: dict[str, float],
    expected: tuple[bool, bool, bool],
) -> None:
    risk = throttling_risk(memory_pct, cpu_pct, throttle_pct, temperatures_c)
    assert (risk.memory_critical, risk.cpu_maxed, risk.thermal_likely) == expected
    assert risk.is_any == any(expected) == bool(risk.reasons)


def test_reasons_name_the_sensor() -> None:
    risk = throttling_risk(10.0, 10.0, None, {"cpu_thermal": 91.2, "nvme": 40.0})
    assert risk.reasons == ("cpu_thermal is at 91 °C.",)


@pytest.mark.parametrize(
    ("risk", "action"),
    [
        (CALM, "OK"),
        (CPU, "Reduce CPU load"),
        (HOT, "Wait for system to cool"),
        (MEMORY, "Reduce text length or clear cache"),
        (ThrottlingRisk(False, True, True), "Wait for system to cool"),
        (ThrottlingRisk(True, True, True), "Reduce text length or clear cache"),
    ],
)
def test_one_action_memory_first(risk: ThrottlingRisk, action: str) -> None:
    assert recommended_action(risk) == action


def test_halved_and_given_back_step_by_step() -> None:
    now = adjusted(PLANNED, PLANNED, MEMORY)
    assert now == RunningConfig(75, 6, 768, 150)
    now = adjusted(now, PLANNED, ThrottlingRisk(True, True, False))
    assert now == RunningConfig(40, 3, 384, 75)
    now = adjusted(now, PLANNED, CPU)  # memory is back, the CPU is not
    assert now == RunningConfig(80, 1, 768, 150)
    now = adjusted(now, PLANNED, HOT)  # nothing is given back to threads while it is hot
    assert now == RunningConfig(150, 1, 1536, 300)
    now = adjusted(now, PLANNED, CALM)
    assert now == RunningConfig(150, 2, 1536, 300)
    now = adjusted(adjusted(now, PLANNED, CALM), PLANNED, CALM)
    assert now == PLANNED
    assert adjusted(now, PLANNED, CALM) == PLANNED


def test_there_is_a_floor() -> None:
    now = PLANNED
    for _ in range(20):
        now = adjusted(now, PLANNED, ThrottlingRisk(True, True, True))
    assert now == RunningConfig(LEAST_CHUNK_LENGTH, 1, LEAST_CACHE_MB, LEAST_TEXT_LENGTH)


def test_the_floor_raises_nothing() -> None:
    small = RunningConfig(chunk_length=20, num_threads=1, cache_limit_mb=10, max_text_length=30)
    assert adjusted(small, small, ThrottlingRisk(True, True, False)) == small


def test_every_sequence_stays_within_the_plan_and_ends_there() -> None:
    risks = (CALM, MEMORY, CPU, HOT)
    for sequence in product(risks, repeat=4):
        now = PLANNED
        for risk in sequence:
            now = adjusted(now, PLANNED, risk)
            assert now.chunk_length <= PLANNED.chunk_length and now.num_threads >= 1
            assert now.cache_limit_mb <= PLANNED.cache_limit_mb
        for _ in range(5):
            now = adjusted(now, PLANNED, CALM)
        assert now == PLANNED


def test_a_plan_that_changed_is_followed_upwards_only_by_steps() -> None:
    now = adjusted(PLANNED, replace(PLANNED, max_text_length=2000, num_threads=32), CALM)
    assert (now.max_text_length, now.num_threads) == (600, 12)
