"""Every recorded machine of tests/machines leads to the plan that its file states.

The plan is for a checkpoint of openaudio-s1-mini's size, with default settings. `refused` names the
error of a machine on which that cannot be loaded. The shipped voice speaks on every machine.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backend.core import Choice, Plan
from backend.errors import NotEnoughMemory
from backend.hardware.detect import detect
from backend.hardware.machine import Hardware
from backend.hardware.readings import Readings
from backend.hardware.report import hardware_json, plan_json
from tests.computers import DEMO, plan_for

FILES = sorted((Path(__file__).parent / "machines").glob("*.json"))
MACHINES: dict[str, dict[str, Any]] = {
    file.stem: json.loads(file.read_text(encoding="utf-8")) for file in FILES
}
HARDWARE = {
    name: detect(msgspec.convert(machine["readings"], Readings, strict=True))
    for name, machine in MACHINES.items()
}


def facts(plan: Plan, expected: dict[str, Any]) -> dict[str, Any]:
    """Of the plan, what the file states."""
    found: dict[str, Any] = {}
    for name, stated in expected.items():
        if name == "note":
            found[name] = plan.notes[0]
        elif name == "warns":
            told = "\n".join(text for level, text in plan.log_lines if level == "WARNING")
            found[name] = [words for words in stated if words in told]
        else:
            value = getattr(plan, name)
            value = value.value if isinstance(value, Choice) else value
            found[name] = list(value) if isinstance(value, tuple) else value
    return found


@pytest.mark.parametrize("name", MACHINES)
def test_machine_leads_to_the_plan_of_its_file(name: str) -> None:
    expected = MACHINES[name]["plan"]
    if "refused" in expected:
        with pytest.raises(NotEnoughMemory) as caught:
            plan_for(HARDWARE[name])
        assert caught.value.code == expected["refused"]
        assert expected["because"] in str(caught.value)
    else:
        assert facts(plan_for(HARDWARE[name]), expected) == expected


@pytest.mark.parametrize("name", MACHINES)
def test_a_file_states_the_whole_plan(name: str) -> None:
    stated = MACHINES[name]["plan"].keys()
    choices = {"tier", "device", "precision", "quantization", "compile", "num_threads"}
    choices |= {"cpu_affinity", "max_text_length", "chunk_length"}
    assert stated == {"refused", "because"} or choices <= stated


@pytest.mark.parametrize("hardware", HARDWARE.values(), ids=HARDWARE.keys())
def test_the_shipped_voice_speaks_everywhere(hardware: Hardware) -> None:
    plan = plan_for(hardware, replace(DEMO, decoder_bytes=2))
    multiplies_bytes = hardware.cpu.features & {"avx2", "avx512", "vnni", "dotprod"}
    is_fast = plan.device.value == "cpu" and multiplies_bytes
    assert plan.quantization.value == ("int8" if is_fast else "none")
    for document in (plan_json(plan), hardware_json(hardware)):
        assert json.loads(json.dumps(document)) == document
    assert len(plan.cpu_affinity.value) == 0 or (
        len(plan.cpu_affinity.value) >= plan.num_threads.value
        and set(plan.cpu_affinity.value) <= set(hardware.cpu.allowed)
    )


def test_the_machines_reach_every_tier() -> None:
    planned = {machine["plan"].get("tier") for machine in MACHINES.values()} - {None}
    assert len(planned) == 11
