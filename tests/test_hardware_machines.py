"""Every recorded machine of tests/machines leads to the facts that its file states."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backend.hardware.detect import detect
from backend.hardware.machine import Gpu, Hardware
from backend.hardware.readings import Readings
from backend.hardware.torch_build import torch_mismatch
from backend.nvml import GpuReading

FILES = sorted((Path(__file__).parent / "machines").glob("*.json"))
MACHINES: dict[str, dict[str, Any]] = {
    file.stem: json.loads(file.read_text(encoding="utf-8")) for file in FILES
}


def facts(hardware: Hardware) -> dict[str, Any]:
    """All that was detected, as the files write it."""
    cpu, memory = hardware.cpu, hardware.memory
    return {
        "system": hardware.system,
        "machine": hardware.machine,
        "board": hardware.board,
        "is_wsl": hardware.is_wsl,
        "vendor": cpu.vendor,
        "model": cpu.model,
        "generation": cpu.generation,
        "physical_cores": cpu.physical_cores,
        "logical_cores": cpu.logical_cores,
        "efficiency_cores": cpu.efficiency_cores,
        "performance_cores": cpu.performance_cores,
        "topology": [list(core.logical) for core in cpu.topology],
        "allowed": list(cpu.allowed),
        "quota_cpus": cpu.quota_cpus,
        "features": sorted(cpu.features),
        "total_bytes": memory.total_bytes,
        "limit_bytes": memory.limit_bytes,
        "available_bytes": memory.available_bytes,
        "limit_source": memory.limit_source,
        "gpus": [card_facts(gpu) for gpu in hardware.gpus],
        "gpu_problem": hardware.gpu_problem,
        "has_mps": hardware.has_mps,
        "torch_version": hardware.torch_version,
        "torch_mismatch": torch_mismatch(hardware),
        "thermal_sensors": list(hardware.thermal_sensors),
    }


def card_facts(gpu: Gpu) -> dict[str, Any]:
    return {
        "index": gpu.index,
        "name": gpu.name,
        "vram_gib": gpu.vram_gib,
        "free_bytes": gpu.free_bytes,
        "capability": None if gpu.capability is None else list(gpu.capability),
    }


def readings_of(machine: dict[str, Any]) -> Readings:
    return msgspec.convert(machine["readings"], Readings, strict=True)


def test_there_are_enough_machines() -> None:
    assert len(MACHINES) >= 35


@pytest.mark.parametrize("name", MACHINES)
def test_machine_is_detected_as_its_file_says(name: str) -> None:
    machine = MACHINES[name]
    assert facts(detect(readings_of(machine))) == machine["hardware"]


@pytest.mark.parametrize("name", MACHINES)
def test_machine_says_what_it_stands_for(name: str) -> None:
    assert len(MACHINES[name]["about"]) > 40


@pytest.mark.parametrize("name", MACHINES)
def test_a_file_holds_readings_only(name: str) -> None:
    """A misspelt key would be dropped unseen, and the machine would be another than it seems."""
    readings = MACHINES[name]["readings"]
    assert readings.keys() <= {field.name for field in dataclasses.fields(Readings)}
    told = dataclasses.fields(GpuReading)
    needed = {field.name for field in told if field.default is dataclasses.MISSING}
    for card in readings.get("gpus", ()):
        assert needed <= card.keys() <= {field.name for field in told}


@pytest.mark.parametrize("name", MACHINES)
def test_readings_go_through_json_and_back(name: str) -> None:
    readings = readings_of(MACHINES[name])
    assert msgspec.json.decode(msgspec.json.encode(readings), type=Readings) == readings
