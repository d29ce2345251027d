"""What is said of pinned and free processes: from figures that are known, and from real ones."""

import random
from typing import Any

import psutil
import pytest

from benchmarks.affinity import (
    ON_THEM,
    Samples,
    advice,
    compared,
    conditions,
    measured,
    neighbours,
    pinned_cpus,
    siblings_of,
    verdict,
)
from tests.computers import I5, M1, cpu_of


def samples(pinned_ms: float, free_ms: float, noise: float, turns: int = 200) -> Samples:
    draw = random.Random(1)
    return {
        "pinned": [[draw.gauss(pinned_ms, noise * pinned_ms)] * 2 for _ in range(turns)],
        "free": [[draw.gauss(free_ms, noise * free_ms)] * 2 for _ in range(turns)],
    }


def row(told: dict[str, Any], neighbour: str = "idle") -> dict[str, Any]:
    return {"neighbour": neighbour} | told


def test_what_is_alike_has_no_effect() -> None:
    told = compared(samples(10, 10, 0.05))
    assert [verdict(told[name]) for name in ("p50", "p95", "sd")] == ["no effect here"] * 3
    assert advice([row(told)]) == "no effect here: do not pin"


def test_a_tenth_less_is_found_and_a_hundredth_is_none() -> None:
    tenth = compared(samples(9, 10, 0.05))
    assert verdict(tenth["p50"]) == verdict(tenth["p95"]) == "lower"
    assert tenth["p50"]["from"] < 0.9 < tenth["p50"]["to"]
    assert advice([row(tenth), row(compared(samples(10, 10, 0.05)))]) == "pin"
    assert verdict(compared(samples(9.9, 10, 0.05))["p50"]) == "no effect here"


def test_a_loss_anywhere_is_a_reason_not_to_pin() -> None:
    gains, loses = compared(samples(9, 10, 0.05)), compared(samples(12, 10, 0.05))
    assert advice([row(loses)]) == "do not pin"
    assert advice([row(gains), row(loses, ON_THEM)]) == "pin"
    assert advice([row(gains), row(loses)]) == "do not pin: it gains in one, loses in one"


def test_steadiness_is_a_figure_of_its_own() -> None:
    told = compared({**samples(10, 10, 0.2), "pinned": samples(10, 10, 0.05)["pinned"]})
    assert verdict(told["sd"]) == "lower"
    assert verdict(told["p50"]) == "no effect here"


def test_few_turns_say_nothing() -> None:
    few = row(compared(samples(9.5, 10, 0.3, turns=4)))
    assert verdict(few["p50"]) == advice([few]) == "too little to tell"
    steady = compared({"pinned": [[1.0]] * 30, "free": [[1.0]] * 30})
    assert [verdict(steady[name]) for name in ("p50", "sd")] == [
        *("no effect here", "too little to tell"),
    ]


def test_who_is_pinned_where_and_who_sits_beside() -> None:
    assert pinned_cpus(I5, 2) == (0, 2)
    assert siblings_of(I5, (0, 2)) == (1, 3)
    assert list(conditions(I5, (0, 2))) == [
        *("idle", "on the siblings", "anywhere", ON_THEM),
    ]
    alone = cpu_of("EPYC", 2, smt=False)
    assert pinned_cpus(alone, 1) == (0,)
    assert "on the siblings" not in conditions(alone, (0,))
    assert pinned_cpus(cpu_of("ARM", 4, topology=False), 2) == (0, 1)
    assert pinned_cpus(M1, 4) == ()


def test_neighbours_compute_where_they_are_told_and_leave() -> None:
    allowed = psutil.Process().cpu_affinity()
    before = set(psutil.Process().children())
    with neighbours([(allowed[0],), ()]):
        started = sorted(set(psutil.Process().children()) - before, key=lambda each: each.pid)
        assert len(started) == 2
        assert started[0].cpu_affinity() == [allowed[0]]
        assert started[1].cpu_affinity() == allowed
        began = [sum(each.cpu_times()[:2]) for each in started]
        while any(
            sum(each.cpu_times()[:2]) <= was for each, was in zip(started, began, strict=True)
        ):
            pass  # both go on computing, or this does not end
    assert set(psutil.Process().children()) == before


@pytest.mark.slow
def test_a_real_run() -> None:
    told = measured(None, 1, 0.0)
    assert told["threads"] == 1
    assert next(iter(told["rows"]))["neighbour"] == "idle"
    assert all(row["p50"]["free"] > 0 for row in told["rows"])
