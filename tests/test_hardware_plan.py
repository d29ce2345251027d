"""The plan: which device, what fits, who decides, and what is refused with what would work."""

import io
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest
from rich.console import Console

from backend.core import Choice, Plan
from backend.errors import BadSetting, NotEnoughMemory
from backend.hardware.machine import GIB, Hardware
from backend.hardware.need import CheckpointShape
from backend.hardware.plan import make_plan
from backend.hardware.pressure import RunningConfig
from backend.hardware.report import hardware_json, plan_json, plan_table
from backend.settings import PREFIX, Settings
from tests.computers import (
    A100,
    DEMO,
    I5,
    I7,
    RTX_3060,
    S1,
    SIZED,
    V100,
    computer,
    cpu_of,
    gpu_of,
    mac,
)

CPU_BUILD = "2.13.0+cpu"
T4 = gpu_of("Tesla T4", 15, capability=(7, 5))
RTX_4090 = gpu_of("NVIDIA GeForce RTX 4090", 24, capability=(8, 9))


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields:
        monkeypatch.delenv(PREFIX + field.upper(), raising=False)
        monkeypatch.delenv(field.upper(), raising=False)


def plan(hardware: Hardware, shape: CheckpointShape = S1, **settings: Any) -> Plan:
    return make_plan(hardware, Settings(_env_file=None, **settings), shape)


def choices(made: Plan) -> Iterator[tuple[str, Choice[Any]]]:
    for field in fields(made):
        if isinstance(value := getattr(made, field.name), Choice):
            yield field.name, value


def test_the_same_machine_leads_to_the_same_frozen_plan() -> None:
    machine = computer(I7, 32, V100)
    assert plan(machine) == plan(machine)
    with pytest.raises(FrozenInstanceError):
        plan(machine).tier = "m1_air"  # type: ignore[misc]


@pytest.mark.parametrize("machine", [computer(I5), computer(I7, 32, V100), mac()])
def test_every_choice_has_its_reason(machine: Hardware) -> None:
    assert all(choice.reason for _, choice in choices(plan(machine)))


# --- where


def test_a_gpu_before_the_cpu() -> None:
    made = plan(computer(I7, 32, V100))
    assert (made.device.value, made.device_uuid, made.tier) == ("cuda:0", "GPU-0", "gpu_high")
    assert "V100" in made.device.reason and "15.5 of 16.0 GiB" in made.device.reason


def test_the_gpu_with_most_free_memory() -> None:
    busy = gpu_of("NVIDIA A100-SXM4-40GB", 40, 6, capability=(8, 0))
    made = plan(computer(I7, 64, busy, replace(V100, index=1, uuid="GPU-1")))
    assert (made.device.value, made.device_uuid) == ("cuda:1", "GPU-1")
    assert "the most of 2 GPUs" in made.device.reason


def test_the_named_gpu() -> None:
    machine = computer(I7, 64, A100, replace(V100, index=1, uuid="GPU-1"))
    made = plan(machine, device="cuda:1")
    assert (made.device.value, made.device.source, made.device_uuid) == ("cuda:1", "user", "GPU-1")
    assert made.precision.value == "fp16"
    made = plan(machine, device="cuda")
    assert (made.device.value, made.device.source) == ("cuda:0", "user")
    made = plan(machine, device="cpu")
    assert (made.device.value, made.tier) == ("cpu", "intel_high_end")


def test_a_full_gpu_is_passed_over_with_the_reason() -> None:
    full = replace(RTX_3060, free_bytes=int(3.4 * GIB))  # 3500 MiB are needed as int8
    made = plan(computer(I7, 32, full), SIZED)
    assert made.device.value == "cpu"
    assert "cuda:0 has 3481 MB free, int8 needs 3500 MB" in made.device.reason
    assert any("3481 MB free" in text for level, text in made.log_lines if level == "WARNING")
    assert any("The GPU is not used" in note for note in made.notes)
    just_enough = replace(RTX_3060, free_bytes=3500 * 2**20)
    assert plan(computer(I7, 32, just_enough), SIZED).device.value == "cuda:0"


def test_the_next_gpu_before_the_cpu() -> None:
    roomier = replace(V100, free_bytes=4 * GIB)  # none: 4500 needed
    smaller = replace(RTX_3060, index=1, free_bytes=int(3.6 * GIB))  # int8: 3500 needed
    made = plan(computer(I7, 32, roomier, smaller), SIZED)
    assert (made.device.value, made.quantization.value) == ("cuda:1", "int8")
    assert "passed over: cuda:0 has 4096 MB free, none needs 4500 MB" in made.device.reason


def test_apple_silicon_computes_on_its_gpu() -> None:
    made = plan(mac())
    assert (made.device.value, made.tier, made.precision.value) == ("mps", "m1_pro", "fp32")
    assert made.cpu_affinity.value == ()
    assert any("macOS does not let" in text for _, text in made.log_lines)


def test_a_cpu_only_torch_leads_to_the_cpu_and_the_fix() -> None:
    made = plan(computer(I7, 32, RTX_4090, torch_version=CPU_BUILD))
    assert made.device.value == "cpu" and "CPU-only build" in made.device.reason
    assert any("pip install" in text for level, text in made.log_lines if level == "WARNING")


def test_a_gpu_that_torch_has_no_kernels_for_is_left_out() -> None:
    machine = computer(I7, 32, V100, replace(RTX_4090, index=1), torch_version="2.13.0+cu130")
    assert plan(machine).device.value == "cuda:1"
    made = plan(replace(machine, gpus=(replace(V100, free_bytes=16 * GIB), machine.gpus[1])))
    assert made.device.value == "cuda:1"
    assert any("cuda:0 is not used" in text and "7.0" in text for _, text in made.log_lines)


def test_a_broken_driver_is_told() -> None:
    made = plan(computer(I7, gpu_problem="⚠️ NVML initialization failed: reboot"))
    assert made.device.value == "cpu"
    assert ("WARNING", "⚠️ NVML initialization failed: reboot") in made.log_lines


# --- how


@pytest.mark.parametrize(
    ("machine", "precision", "quantization"),
    [
        (computer(I7, 32, V100), "fp16", "none"),
        (computer(I7, 32, A100), "fp16", "none"),
        (computer(I7, 32, RTX_4090), "bf16", "none"),
        (computer(I7, 32, T4), "fp16", "none"),
        (computer(I7, 32, gpu_of("NVIDIA A30", 24, capability=(8, 0))), "bf16", "none"),
        (computer(I7, 32, RTX_3060), "fp16", "int8"),
        (computer(I7, 32, gpu_of("NVIDIA GeForce RTX 3060", 12)), "bf16", "none"),
        (computer(I7, 32, gpu_of("NVIDIA GeForce RTX 4060", 8)), "bf16", "int8"),
        (computer(I7, 32, gpu_of("RTX 2080 Ti", 11, capability=(7, 5))), "fp16", "int8"),
        (computer(I7, 32, gpu_of("A card", 8, capability=None)), "fp16", "int8"),
        (computer(I7), "fp32", "int8"),
        (computer(cpu_of("Xeon", 8, features=frozenset({"bf16"}))), "bf16", "int8"),
        (mac(), "fp32", "int8"),
    ],
)
def test_precision_and_quantization(machine: Hardware, precision: str, quantization: str) -> None:
    made = plan(machine)
    assert (made.precision.value, made.quantization.value) == (precision, quantization)


def test_a_small_checkpoint_stays_as_it_is() -> None:
    for machine in (computer(I5, 8), computer(I5, 32, limit_gib=2), computer(I7, 32, RTX_3060)):
        made = plan(machine, DEMO)
        assert (made.quantization.value, made.quantization.source) == ("none", "checkpoint")
        assert "would save" in made.quantization.reason
    cpu = cpu_of("Xeon", 8, features=frozenset({"bf16"}))
    assert plan(computer(cpu), DEMO).precision == Choice(
        "fp32", "shoal-demo is small: bf16 would save too little", "checkpoint"
    )


def test_int4_below_6_gib_of_limit_with_a_warning() -> None:
    made = plan(computer(I5, 32, limit_gib=5.9), SIZED)
    assert (made.quantization.value, made.quantization.source) == ("int4", "machine")
    assert any("INT4" in text for level, text in made.log_lines if level == "WARNING")
    assert any("INT4" in note for note in made.notes[1:])
    made = plan(computer(I5, 32, limit_gib=6), SIZED)
    assert (made.quantization.value, made.quantization.source) == ("int8", "tier")
    assert not any("INT4" in text for _, text in made.log_lines)


def test_what_is_free_just_now_does_not_matter_for_int4() -> None:
    machine = computer(I5, 16)
    busy = replace(machine, memory=replace(machine.memory, available_bytes=GIB))
    assert plan(busy).quantization.value == "int8"


def test_gpus_keep_the_tiers_choice_whatever_the_memory() -> None:
    made = plan(computer(I5, 32, V100, limit_gib=4))
    assert (made.device.value, made.quantization.value) == ("cuda:0", "none")


def test_a_stronger_quantization_where_only_that_fits() -> None:
    large = replace(SIZED, resident_mb=(40_000, 31_000, 9_000))
    made = plan(computer(I7, 16), large)
    assert (made.quantization.value, made.quantization.source) == ("int4", "machine")
    assert "int8 needs 31500 MB" in made.quantization.reason
    on_gpu = plan(computer(I7, 8, V100), large)
    assert (on_gpu.device.value, on_gpu.quantization.value) == ("cuda:0", "int4")
    assert "passed over" not in on_gpu.device.reason


# --- how much


def test_threads() -> None:
    assert plan(computer(I5)).num_threads.value == 2
    assert plan(computer(I7)).num_threads.value == 8
    assert plan(computer(cpu_of("Core(TM) i9", 24))).num_threads.value == 16
    made = plan(computer(cpu_of("Core(TM) i7", 8, quota=1.5)))
    assert (made.num_threads.value, made.num_threads.source) == (2, "machine")
    assert "1.5 CPUs" in made.num_threads.reason
    assert plan(computer(cpu_of("Core(TM) i7", 8, quota=0.5))).num_threads.value == 1
    assert plan(computer(cpu_of("Core(TM) i7", 8, allowed=(0, 1, 2)))).num_threads.value == 2
    only_efficient = cpu_of("Core(TM) i5-1235U", 10, efficiency=8, allowed=(4, 5, 6))
    assert plan(computer(only_efficient)).num_threads.value == 3
    assert plan(computer(I7, 32, V100)).num_threads.value == 4


def test_text_limit_and_ceiling() -> None:
    made = plan(computer(I5))
    assert (made.max_text_length.value, made.max_text_length_ceiling) == (300, 600)
    fixed = plan(computer(I5), dynamic_text_limit=False)
    assert (fixed.max_text_length.value, fixed.max_text_length_ceiling) == (300, 300)
    asked = plan(computer(I5), max_text_length=5000)
    assert (asked.max_text_length.value, asked.max_text_length_ceiling) == (5000, 5000)
    assert asked.max_text_length.source == "user"
    air = plan(mac(memory_gib=8, board="MacBookAir10,1"))
    assert (air.max_text_length.value, air.max_text_length_ceiling) == (150, 150)


def test_chunks_are_no_longer_than_the_checkpoint_speaks() -> None:
    assert plan(computer(I7, 32, V100)).chunk_length.value == 400
    made = plan(computer(I7, 32, V100), DEMO)
    assert (made.chunk_length.value, made.chunk_length.source) == (200, "checkpoint")
    made = plan(computer(I5))
    assert (made.chunk_length.value, made.chunk_length.source) == (150, "tier")
    made = plan(computer(I5), DEMO)  # so small that its longest pieces take no memory to speak of
    assert (made.chunk_length.value, made.chunk_length.source) == (200, "checkpoint")


def test_cache_limit() -> None:
    assert plan(computer(I5, 16)).cache_limit_mb.value == 1536
    share = plan(computer(I5, 32, limit_gib=4), DEMO).cache_limit_mb
    assert (share.value, share.source) == (1024, "machine")
    # 1024 MiB of limit, 128 of margin, 700 loaded: half of the 196 that are left
    tight = plan(
        computer(I5, 32, limit_gib=1), replace(SIZED, resident_mb=(700,) * 3, request_mb=9)
    )
    assert (tight.cache_limit_mb.value, tight.cache_limit_mb.source) == (98, "machine")
    half_used = replace(V100, free_bytes=7 * GIB)
    made = plan(computer(I7, 32, half_used), SIZED)
    assert made.cache_limit_mb.value == (7 * 1024 - 4000) // 2


def test_margins() -> None:
    assert plan(computer(I5, 8)).safety_margin_mb == 2048
    assert plan(computer(I5, 32, limit_gib=4), DEMO).safety_margin_mb == 512
    assert plan(computer(I7, 32, V100)).safety_margin_mb == 1024
    tight = replace(V100, free_bytes=4600 * 2**20)
    assert plan(computer(I7, 32, tight), SIZED).safety_margin_mb == 100


def test_the_tiers_figures_come_along() -> None:
    made = plan(computer(I5, 16))
    assert (made.estimate_base_mb, made.estimate_per_100_tokens_mb) == (2500, 60)
    assert (made.calibration_samples, made.expected_rtf) == (64, 3.0)
    assert made.thermal_throttle_cpu_pct is None
    assert plan(mac(memory_gib=8)).thermal_throttle_cpu_pct == 70
    assert RunningConfig.of(made) == RunningConfig(150, 2, 1536, 300)


# --- notes


@pytest.mark.parametrize(
    ("machine", "note"),
    [
        (
            computer(I7, 32, V100),
            "GPU-accelerated with FP16 precision, no quantization + torch.compile (Triton)",
        ),
        (
            computer(I7, 32, V100, is_wsl=True),
            "GPU-accelerated with FP16 precision, no quantization + torch.compile (Triton)",
        ),
        (
            computer(I7, 32, V100, system="Windows"),
            "GPU-accelerated with FP16 precision, no quantization (torch.compile disabled - use "
            "WSL2 for 20-30% speedup)",
        ),
        (
            computer(I7, 32, RTX_4090),
            "GPU-accelerated with BF16 precision, no quantization + torch.compile (Triton)",
        ),
        (
            computer(I7, 32, RTX_3060),
            "GPU-accelerated with FP16 precision, INT8 quantization + torch.compile (Triton)",
        ),
        (computer(I7), "CPU-only with FP32 precision, INT8 quantization + torch.compile (C++)"),
    ],
)
def test_the_changelogs_notes(machine: Hardware, note: str) -> None:
    assert plan(machine).notes == (note,)


def test_notes_of_what_the_user_turned_off() -> None:
    made = plan(computer(I7, 32, V100), torch_compile="off")
    assert made.notes[0].endswith("no quantization (torch.compile disabled)")


def test_the_airs_note_tells_of_its_heat() -> None:
    assert any("above 70 % CPU" in note for note in plan(mac(board="MacBookAir10,1")).notes)


# --- the user wins, or is told why not


@pytest.mark.parametrize(
    ("setting", "value", "choice", "planned"),
    [
        ("device", "cpu", "device", "cpu"),
        ("precision", "fp32", "precision", "fp32"),
        ("quantization", "int4", "quantization", "int4"),
        ("num_threads", 3, "num_threads", 3),
        ("cpu_affinity", "0-7", "cpu_affinity", tuple(range(8))),
        ("max_text_length", 77, "max_text_length", 77),
        ("chunk_length", 55, "chunk_length", 55),
        ("cache_limit_mb", 300, "cache_limit_mb", 300),
        ("torch_compile", "off", "compile", False),
        ("force_torch_compile", True, "compile", True),
    ],
)
def test_the_user_wins(setting: str, value: Any, choice: str, planned: object) -> None:
    machine = computer(I7, 32, V100, system="Windows")
    made = plan(machine, S1, **{setting: value})
    found = getattr(made, choice)
    assert (found.value, found.source) == (planned, "user")
    assert setting.upper() in found.reason
    others = [name for name, other in choices(made) if name != choice]
    assert all(getattr(made, name).source != "user" for name in others)


@pytest.mark.parametrize(
    ("machine", "settings", "message"),
    [
        (computer(I7), {"device": "cuda"}, "no NVIDIA GPU is seen here. Use cpu."),
        (
            computer(I7, 32, A100, replace(V100, index=1)),
            {"device": "cuda:7"},
            r"the GPUs here are cuda:0, cuda:1\. Use cuda:0, cuda:1, cpu\.",
        ),
        (computer(I7, 32, V100, torch_version=CPU_BUILD), {"device": "cuda"}, "pip install"),
        (computer(I7, gpu_problem="reboot"), {"device": "cuda:0"}, "reboot. Use cpu."),
        (computer(I7), {"device": "mps"}, "Apple silicon. Use cpu."),
        (mac(), {"device": "cuda"}, "Use mps, cpu."),
        (computer(I7, 32, V100), {"precision": "bf16"}, "V100.*7.0 has no bf16.*use fp16, fp32"),
        (computer(I7, 32, T4), {"precision": "bf16", "device": "cuda:0"}, "7.5 has no bf16"),
        (computer(I7), {"precision": "fp16"}, "on a CPU: use fp32, bf16 or auto"),
        (computer(I7), {"num_threads": 17}, "NUM_THREADS=17.*16 CPUs only"),
        (computer(cpu_of("i7", allowed=(0, 1))), {"num_threads": 3}, "2 CPUs only"),
        (computer(I7), {"cpu_affinity": "14-16"}, "CPU_AFFINITY names 16"),
        (computer(I7), {"cpu_affinity": "0-2"}, "3 CPUs for 8 threads"),
        (mac(), {"cpu_affinity": "0-7"}, "does not let a process choose"),
        (computer(I7), {"chunk_length": 500}, "openaudio-s1-mini speaks at most 400"),
        (computer(I7, 16), {"cache_limit_mb": 16_000}, "beside the checkpoint there are"),
        (computer(I7), {"quantization": "int8", "engine": "fish-speech"}, "ENGINE=shoal"),
    ],
)
def test_what_cannot_be_had_is_refused(
    machine: Hardware, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadSetting, match=message):
        plan(machine, **settings)


def test_the_cpu_does_not_step_in_where_no_gpu_can_have_what_is_asked_for() -> None:
    turing_and_ampere = computer(I7, 32, T4, replace(RTX_4090, index=1, free_bytes=8 * GIB))
    assert plan(turing_and_ampere).device.value == "cuda:0"
    assert plan(turing_and_ampere, precision="bf16").device.value == "cuda:1"


def test_the_published_package_is_left_as_it_is() -> None:
    made = plan(computer(I7), engine="fish-speech")
    assert made.quantization.value == "none" and not made.compile.value


@pytest.mark.parametrize(
    ("machine", "settings", "parts"),
    [
        (
            computer(I7, 32, limit_gib=2),
            {},
            ["2048 MB, cgroup v2", "int4 needs 2500 MB", "a limit of 2858 MB", "MODEL_DIR"],
        ),
        (
            computer(I7, 3),
            {"quantization": "int8"},
            ["int8 needs 3500 MB", "DEVICE=cpu with QUANTIZATION=int4", "a limit of 4000 MB"],
        ),
        (
            computer(I7, 16, replace(V100, free_bytes=GIB)),
            {"device": "cuda:0"},
            ["cuda:0 has 1024 MB free", "free VRAM of 2500 MB", "DEVICE=cpu with"],
        ),
        (
            computer(I7, 2, replace(V100, free_bytes=GIB), replace(A100, index=1)),
            {"device": "cuda:0"},
            ["DEVICE=cuda:1 with QUANTIZATION=none"],
        ),
        (
            computer(I7, 2.2, replace(V100, free_bytes=GIB)),
            {},
            ["a memory limit of 2252 MB: cpu has"],
        ),
        (
            computer(I7, 1, replace(V100, free_bytes=2 * GIB)),
            {},
            ["does not fit cuda:0", "2048 MB free", "int4 needs 2500 MB"],
        ),
    ],
)
def test_what_never_fits_is_refused_with_what_would_work(
    machine: Hardware, settings: dict[str, Any], parts: list[str]
) -> None:
    with pytest.raises(NotEnoughMemory) as caught:
        plan(machine, SIZED, **settings)
    for part in parts:
        assert part in str(caught.value)


def test_a_refusal_promises_only_what_works() -> None:
    machine = computer(I7, 3)
    with pytest.raises(NotEnoughMemory, match="DEVICE=cpu with QUANTIZATION=int4"):
        plan(machine, SIZED, quantization="none")
    assert plan(machine, SIZED, device="cpu", quantization="int4").device.value == "cpu"
    for shape, least_mb in ((SIZED, 2858), (replace(SIZED, resident_mb=(9000,) * 3), 11548)):
        with pytest.raises(NotEnoughMemory, match=f"a limit of {least_mb} MB"):
            plan(computer(I7, 32, limit_gib=(least_mb - 2) / 1024), shape)
        assert plan(computer(I7, 32, limit_gib=(least_mb + 1) / 1024), shape)


# --- report


def test_the_table_shows_each_choice_with_who_and_why() -> None:
    machine = computer(I7, 32, V100)
    made = plan(machine, max_text_length=1234)
    console = Console(width=160, file=io.StringIO(), record=True)
    console.print(plan_table(made, machine, S1))
    lines = console.export_text().splitlines()
    row = next(line for line in lines if "max_text_length" in line)
    assert "1234" in row and "user" in row and "MAX_TEXT_LENGTH asks for it" in row
    for name in plan_json(made)["choices"]:
        assert any(name in line for line in lines), name
    assert any(made.notes[0] in line for line in lines)


def test_json_of_a_plan() -> None:
    made = plan(computer(I5, 16))
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
