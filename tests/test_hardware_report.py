"""Plans and machines as people and programs read them."""

import io

from rich.console import Console

from backend.core import MIB
from backend.hardware.report import hardware_json, plan_json, plan_table
from tests.computers import (
    I5,
    I7,
    S1,
    V100,
    computer,
    plan_for,
)


def test_the_table_shows_each_choice_with_who_and_why() -> None:
    machine = computer(I7, 32, V100)
    made = plan_for(machine, max_text_length=1234)
    console = Console(width=160, file=io.StringIO(), record=True)
    console.print(plan_table(made, machine, S1))
    lines = console.export_text().splitlines()
    row = next(line for line in lines if "max_text_length" in line)
    assert "1234" in row and "user" in row and "MAX_TEXT_LENGTH asks for it" in row
    for name in plan_json(made)["choices"]:
        assert any(name in line for line in lines), name
    assert any(made.notes[0] in line for line in lines)
    resident_mb = S1.resident_bytes("fp16", "none", "cuda:0", 16) // MIB
    loaded = next(line for line in lines if "memory, loaded" in line)
    assert f"{resident_mb + made.fast_mb} MB" in loaded
    assert f"{made.fast_mb} MB to make frames fast" in loaded


def test_json_of_a_plan() -> None:
    made = plan_for(computer(I5, 16))
    told = plan_json(made)
    flat = {name: told[name] for name in told["choices"]}
    assert flat == {
        "device": "cpu",
        "precision": "fp32",
        "quantization": "int8",
        "torch_compile": True,
        "num_threads": 2,
        "cpu_affinity": [0, 2],
        "max_text_length": 300,
        "chunk_length": 150,
        "max_batch": 16,
        "cache_limit": 1536,
    }
    for name, choice in told["choices"].items():
        assert choice["value"] == told[name] and choice["reason"]
        assert choice["source"] in ("tier", "machine", "checkpoint", "user")
    assert told["notes"] == list(made.notes)
    assert (told["tier"], told["expected_rtf"], told["expected_memory_gb"]) == (
        "intel_i5",
        3.0,
        3.5,
    )


def test_json_of_a_machine() -> None:
    told = hardware_json(computer(I5, 16, V100, limit_gib=8))
    assert told["memory"] == {
        "total_gib": 16.0,
        "limit_gib": 8.0,
        "limit_source": "cgroup v2",
        "available_gib": 4.0,
    }
    assert told["gpus"][0]["name"] == "Tesla V100-SXM2-16GB"
    assert told["gpus"][0]["capability"] == "7.0"
    assert (told["cpu"]["performance_cores"], told["cpu"]["allowed"]) == (2, "0-11")
    assert hardware_json(computer(I5))["gpus"] == []
