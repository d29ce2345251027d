"""What is measured, and in which order."""

from dataclasses import replace
from typing import Any

import pytest

from backend.hardware.machine import Hardware
from backend.hardware.measured import Figures, Measurement, Setup
from backend.hardware.need import CheckpointShape
from backend.tuning.candidates import candidates
from tests.computers import DEMO, I5, M1, S1, V100, Given, computer, cpu_of, mac

XEON = cpu_of("Xeon", 8, smt=False, features=frozenset({"bf16"}))
MACHINE = computer(XEON, 16)
FIGURES = Figures("eager", "", "fp32", 1.0, 0.1, 0.2, 40.0, 9.0, 0.5, 900.0)


def names(
    machine: Hardware = MACHINE,
    shape: CheckpointShape = S1,
    rows: tuple[Measurement, ...] = (),
    **settings: Any,
) -> list[str]:
    return [str(setup) for setup in candidates(machine, Given(**settings), shape, rows)]


def measured(**setups: float) -> tuple[Measurement, ...]:
    """Of each quantization its RTF, as the machine would be planned otherwise."""
    base = Setup("cpu", "bf16", "int8", 8)
    return tuple(
        Measurement(
            replace(base, quantization=name),  # type: ignore[arg-type]
            "measured",
            replace(FIGURES, rtf=rtf),
        )
        for name, rtf in setups.items()
    )


def test_the_planned_comes_first_then_its_quantizations_then_threads_and_precision() -> None:
    assert names() == [
        "cpu bf16 int8, 8 threads",
        "cpu bf16, 8 threads",
        "cpu bf16 int4, 8 threads",
        "cpu bf16 int8, 4 threads",
        "cpu bf16 int8, 1 thread",
        "cpu fp32 int8, 8 threads",
    ]


def test_what_comes_later_is_of_the_best_so_far() -> None:
    assert names(rows=measured(int8=2.0, none=3.0, int4=1.0)) == [
        "cpu bf16 int4, 4 threads",
        "cpu bf16 int4, 1 thread",
        "cpu fp32 int4, 8 threads",
    ]


def test_other_quantizations_are_tried_with_the_best_threads_but_not_those_that_lose_codes() -> (
    None
):
    rows = measured(int8=2.0, none=3.0, int4=1.0)
    fewer = replace(rows[0], setup=replace(rows[0].setup, num_threads=4))
    best = replace(fewer, figures=replace(FIGURES, rtf=0.5))
    found = names(rows=(*rows, best))
    assert {"cpu bf16, 4 threads", "cpu bf16 int4, 4 threads"} <= set(found)
    lossy = replace(rows[2], figures=replace(FIGURES, rtf=0.1, kept_codes=0.9))
    found = names(rows=(*rows[:2], lossy, best))
    assert "cpu bf16, 4 threads" in found
    assert not any("int4" in name for name in found)


@pytest.mark.parametrize(
    ("settings", "stays"),
    [
        ({"quantization": "int4"}, "int4"),
        ({"precision": "fp32"}, "fp32"),
        ({"num_threads": 3}, ", 3 threads"),
    ],
)
def test_what_the_user_set_is_the_same_in_all(settings: dict[str, Any], stays: str) -> None:
    found = names(**settings)
    assert len(found) > 2
    assert all(stays in name for name in found)


def test_all_set_leaves_one() -> None:
    found = names(quantization="none", precision="fp32", num_threads=2)
    assert found == ["cpu fp32, 2 threads"]


def test_devices_are_tried_one_of_a_kind() -> None:
    cards = (V100, replace(V100, index=1, uuid="GPU-1"))
    found = names(computer(I5, 32, *cards))
    assert found[:4] == [
        "cuda:0 fp16, 2 threads",
        "cuda:0 fp16 int8, 2 threads",
        "cuda:0 fp16 int4, 2 threads",
        "cpu fp32 int8, 2 threads",
    ]
    assert not any("cuda:1" in name for name in found)
    assert not any("cpu" in name for name in names(computer(I5, 32, V100), device="cuda"))
    on_mac = names(mac(M1))
    assert on_mac[0].startswith("mps fp32 int8") and "cpu fp32 int8, 4 threads" in on_mac


def test_a_small_checkpoint_is_tried_with_more_threads() -> None:
    found = names(shape=DEMO)
    assert found[0] == "cpu fp32, 1 thread"
    assert "cpu fp32, 8 threads" in found


def test_what_was_tried_is_not_tried_again() -> None:
    rows = [Measurement(setup, "failed") for setup in candidates(MACHINE, Given(), S1)]
    assert candidates(MACHINE, Given(), S1, rows) == []
