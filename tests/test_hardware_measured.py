"""Which of what was measured is best, and what the plan makes of it."""

from dataclasses import replace
from typing import Any

import pytest

from backend.core import Choice, Plan, Quantization
from backend.hardware.machine import Hardware
from backend.hardware.measured import Figures, Measurement, Outcome, Setup, choose
from backend.hardware.need import CheckpointShape
from backend.hardware.plan import make_plan
from backend.hardware.report import plan_json
from backend.hardware.tuned import tuned_plan
from tests.computers import DEMO, I5, S1, SIZED, V100, Given, computer, cpu_of, plan_for

XEON = cpu_of("Xeon", 2, smt=False, features=frozenset({"bf16"}))
MACHINE = computer(XEON, 16)
PLANNED = Setup("cpu", "bf16", "int8", 2)


def figures(rtf: float, kept: float | None = None, way: str = "eager") -> Figures:
    return Figures(way, "", "fp32", 1.0, 0.1, 0.2, 21.5 / rtf, 9.0, rtf, 900.0, kept)


def spoken(rtf: float, kept: float | None = None, way: str = "eager", **setup: Any) -> Measurement:
    return Measurement(replace(PLANNED, **setup), "measured", figures(rtf, kept, way))


def without(outcome: Outcome, quantization: Quantization) -> Measurement:
    setup = replace(PLANNED, quantization=quantization)
    return Measurement(setup, outcome, reason="why not")


def chosen(*rows: Measurement, planned: Setup = PLANNED) -> Setup | None:
    verdict = choose(rows, planned)
    return None if verdict is None else verdict.setup


# --- which is best


def test_the_fastest_wins() -> None:
    rows = (spoken(2.0), spoken(2.5, quantization="none"), spoken(1.0, num_threads=1))
    assert chosen(*rows) == replace(PLANNED, num_threads=1)


def test_of_equally_fast_ones_the_planned_wins() -> None:
    assert chosen(spoken(1.0), spoken(0.96, num_threads=1)) == PLANNED
    assert chosen(spoken(1.0), spoken(0.94, num_threads=1)) == replace(PLANNED, num_threads=1)


@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_a_quantization_that_is_not_faster_is_never_chosen_for_speed(
    quantization: Quantization,
) -> None:
    planned = replace(PLANNED, quantization=quantization)
    rows = (spoken(0.97, quantization=quantization), spoken(1.0, quantization="none"))
    verdict = choose(rows, planned)
    assert verdict is not None
    assert verdict.setup.quantization == "none"
    assert f"{quantization} is not faster: " in verdict.about_quantization


def test_one_that_is_faster_is() -> None:
    verdict = choose((spoken(0.5), spoken(1.0, quantization="none")), PLANNED)
    assert verdict is not None
    assert verdict.setup.quantization == "int8"
    assert verdict.about_quantization == (
        "2.0 times as fast as none, codes not compared; int4 was not measured"
    )


def test_a_stronger_one_has_to_be_faster_than_a_gentler() -> None:
    rows = (spoken(1.0, quantization="none"), spoken(0.5), spoken(0.49, quantization="int4"))
    assert chosen(*rows) == PLANNED
    rows = (spoken(1.0, quantization="none"), spoken(0.5), spoken(0.4, quantization="int4"))
    assert chosen(*rows) == replace(PLANNED, quantization="int4")


def test_one_that_loses_codes_is_not_chosen_for_speed() -> None:
    rows = (
        spoken(1.0, quantization="none"),
        spoken(0.5, kept=0.97),
        spoken(0.3, kept=0.969, quantization="int4"),
    )
    verdict = choose(rows, PLANNED)
    assert verdict is not None
    assert verdict.setup == PLANNED
    assert "1.7 times as fast as int8 but keeps only 96.9% of the codes" in (
        verdict.about_quantization
    )


def test_of_one_quantization_those_that_keep_the_codes_come_first() -> None:
    rows = (
        spoken(1.0, quantization="none"),
        spoken(0.5, kept=0.98, num_threads=2),
        spoken(0.4, kept=0.9, precision="fp32"),
    )
    assert chosen(*rows) == PLANNED


def test_one_is_chosen_for_memory_and_the_reason_says_so() -> None:
    verdict = choose((without("too_large", "none"), spoken(1.0, kept=0.5)), PLANNED)
    assert verdict is not None
    assert verdict.setup == PLANNED
    assert verdict.about_quantization.startswith("none does not fit: why not")


@pytest.mark.parametrize("outcome", ["failed", "skipped"])
def test_where_none_is_not_known_the_tables_quantization_stays(outcome: Outcome) -> None:
    rows = [spoken(1.0), spoken(0.2, quantization="int4"), without(outcome, "none")]
    assert chosen(*rows) == PLANNED
    assert chosen(*rows[:2]) == PLANNED


def test_what_the_table_planned_has_to_be_among_them() -> None:
    assert choose((spoken(1.0, num_threads=1),), PLANNED) is None
    assert choose((), PLANNED) is None
    assert choose((without("failed", "int8"),), PLANNED) is None
    failed = (without("failed", "int8"), spoken(1.0, quantization="none"))
    assert chosen(*failed) == replace(PLANNED, quantization="none")


# --- the plan


def tuned(
    *rows: Measurement,
    machine: Hardware = MACHINE,
    shape: CheckpointShape = S1,
    **settings: Any,
) -> Plan:
    return tuned_plan(machine, Given(**settings), shape, rows)


ROWS = (
    spoken(2.0),
    spoken(3.0, quantization="none"),
    spoken(0.52, kept=0.98, way="native", quantization="int4"),
    spoken(1.5, num_threads=1),
)


def test_the_plan_goes_by_it_and_says_so() -> None:
    made = tuned(*ROWS)
    assert made.quantization == Choice(
        "int4",
        "measured 41.3 frames/s (RTF 0.52), the tier expected RTF 4; 2.9 times as fast as int8",
        "measured",
    )
    told = plan_json(made)["choices"]
    for name, value in {"device": "cpu", "precision": "bf16", "num_threads": 2}.items():
        assert (told[name]["value"], told[name]["source"]) == (value, "measured")
    assert (told["torch_compile"]["value"], told["torch_compile"]["source"]) == (True, "machine")
    assert (made.expected_rtf, made.expected_memory_gb) == (0.52, 0.94)
    level, line = made.log_lines[-1]
    assert level == "INFO" and line.startswith("Chosen by measurement: cpu bf16 int4, 2 threads")
    assert made.log_lines[:-1] == plan_for(MACHINE).log_lines


def test_without_measurements_the_table_decides() -> None:
    assert tuned() == plan_for(MACHINE)
    assert tuned(*ROWS[1:]) == plan_for(MACHINE), "not what the table would plan"
    assert tuned(*ROWS, engine="fish-speech", quantization="none").quantization.source == "user"


@pytest.mark.parametrize(
    ("settings", "quantization", "threads"),
    [
        ({"quantization": "none"}, "none", 2),
        ({"quantization": "int8"}, "int8", 1),
        ({"num_threads": 2}, "int4", 2),
        ({"precision": "bf16"}, "int4", 2),
        ({"device": "cpu"}, "int4", 2),
        ({"torch_compile": "off"}, "int8", 1),
    ],
)
def test_what_the_user_set_wins(settings: dict[str, Any], quantization: str, threads: int) -> None:
    made = tuned(*ROWS, **settings)
    assert (made.quantization.value, made.num_threads.value) == (quantization, threads)
    (name,) = settings
    choice = {"torch_compile": made.compile}.get(name) or getattr(made, name)
    assert choice.source == "user"
    assert any(
        each.source == "measured" for each in (made.quantization, made.num_threads, made.precision)
    )


def test_a_setting_with_which_nothing_was_measured_is_the_tables() -> None:
    assert tuned(*ROWS, precision="fp32") == plan_for(MACHINE, precision="fp32")


def test_what_a_compilers_code_made_does_not_count_without_one() -> None:
    rows = [replace(row, figures=figures(1.0, way="native")) for row in ROWS]
    assert tuned(*rows, torch_compile="off") == plan_for(MACHINE, torch_compile="off")
    assert tuned(*rows).num_threads.source == "measured"


@pytest.mark.parametrize("way", ["native", "eager"])
def test_a_small_checkpoint_is_held_in_int8_where_that_is_faster_and_keeps_its_codes(
    way: str,
) -> None:
    planned = Setup.of(plan_for(MACHINE, DEMO))
    assert planned.quantization == "none"
    in_int8, in_int4 = replace(planned, quantization="int8"), replace(planned, quantization="int4")
    rows = (
        Measurement(planned, "measured", figures(0.13, way=way)),
        Measurement(in_int8, "measured", figures(0.06, 0.992, way)),
        Measurement(in_int4, "measured", figures(0.05, 0.957, way)),
    )
    made = tuned(*rows, shape=DEMO)
    assert (made.quantization.value, made.quantization.source) == ("int8", "measured")
    assert made.quantization.reason == (
        "measured 358 frames/s (RTF 0.060), the tier expected RTF 4; 2.2 times as fast as none; "
        "int4 is 1.2 times as fast as int8 but keeps only 95.7% of the codes"
    )
    assert made.calibration_samples == 16, "weights are fitted, where they are not kept"


def test_what_does_not_fit_any_more_is_passed_over() -> None:
    small = computer(I5, 16, limit_gib=3.5)  # SIZED takes 4000 MiB without quantization
    table = make_plan(small, Given(), SIZED)
    planned = Setup.of(table)
    rows = (
        Measurement(planned, "measured", figures(2.0)),
        Measurement(replace(planned, quantization="none"), "measured", figures(1.0)),
    )
    made = tuned(*rows, machine=small, shape=SIZED)
    assert made.quantization.value == table.quantization.value != "none"
    assert "none does not fit: sized does not fit a memory limit of 3584 MB" in (
        made.quantization.reason
    )
    assert "Would work" not in made.quantization.reason


def test_what_a_setting_forbids_by_now_is_passed_over() -> None:
    planned = Setup.of(plan_for(MACHINE, S1, cpu_affinity="0-1"))
    more = replace(planned, num_threads=3)
    rows = (
        Measurement(planned, "measured", figures(2.0)),
        Measurement(more, "measured", figures(1.0)),
    )
    made = tuned(*rows, cpu_affinity="0-1")
    assert (made.num_threads.value, made.num_threads.source) == (2, "measured")


def test_a_device_can_be_chosen() -> None:
    machine = computer(I5, 32, V100)
    planned = Setup.of(plan_for(machine))
    on_cpu = Setup("cpu", "fp32", "none", 2)
    rows = (
        Measurement(planned, "measured", figures(2.0)),
        Measurement(on_cpu, "measured", figures(1.0)),
    )
    made = tuned(*rows, machine=machine)
    assert (made.device.value, made.device.source, made.device_uuid) == ("cpu", "measured", "")
    assert tuned(*rows, machine=machine, device="cuda").device.value == "cuda:0"
