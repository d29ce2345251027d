"""The plan: which device, what fits, who decides, and what is refused with what would work."""

from collections.abc import Iterator
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest

from backend.core import MIB, Choice, Plan
from backend.errors import BadSetting
from backend.hardware.machine import GIB, Hardware
from backend.hardware.measured import LEAST_KEPT_AT_LOAD
from backend.hardware.pressure import RunningConfig
from backend.serving.launch import worker_config
from tests.computers import (
    A100,
    DEMO,
    I5,
    I7,
    RTX_3060,
    S1,
    SIZED,
    V100,
    Given,
    computer,
    cpu_of,
    gpu_of,
    mac,
    plan_for,
)

CPU_BUILD = "2.13.0+cpu"
T4 = gpu_of("Tesla T4", 15, capability=(7, 5))
RTX_4090 = gpu_of("NVIDIA GeForce RTX 4090", 24, capability=(8, 9))


def choices(made: Plan) -> Iterator[tuple[str, Choice[Any]]]:
    for field in fields(made):
        if isinstance(value := getattr(made, field.name), Choice):
            yield field.name, value


def test_the_same_machine_leads_to_the_same_frozen_plan() -> None:
    machine = computer(I7, 32, V100)
    assert plan_for(machine) == plan_for(machine)
    with pytest.raises(FrozenInstanceError):
        plan_for(machine).tier = "m1_air"  # type: ignore[misc]


@pytest.mark.parametrize("machine", [computer(I5), computer(I7, 32, V100), mac()])
def test_every_choice_has_its_reason(machine: Hardware) -> None:
    assert all(choice.reason for _, choice in choices(plan_for(machine)))


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
    made = plan_for(machine)
    assert (made.precision.value, made.quantization.value) == (precision, quantization)


def test_a_small_checkpoint_stays_as_it_is_where_int8_is_no_faster() -> None:
    for machine in (computer(I5, 8), computer(I5, 32, limit_gib=2), computer(I7, 32, RTX_3060)):
        made = plan_for(machine, DEMO)
        assert (made.quantization.value, made.quantization.source) == ("none", "checkpoint")
        assert "would save" in made.quantization.reason
    cpu = cpu_of("Xeon", 8, features=frozenset({"bf16"}))
    assert plan_for(computer(cpu), DEMO).precision == Choice(
        "fp32", "shoal-demo is small: bf16 would save too little", "checkpoint"
    )


def test_a_small_checkpoint_is_held_in_int8_for_speed_alone() -> None:
    cpu = cpu_of("Xeon", 8, features=frozenset({"avx2", "avx512", "vnni"}))
    for limit_gib in (None, 2):  # never int4, nor a warning that it can be heard
        made = plan_for(computer(cpu, 16, limit_gib=limit_gib), replace(DEMO, decoder_bytes=2))
        assert (made.quantization.value, made.quantization.source) == ("int8", "checkpoint")
        assert made.notes == ("CPU-only with FP32 precision, INT8 quantization + kernels in C",)
    told = worker_config(Given(), made)
    assert (told.quantization, told.least_kept) == ("int8", LEAST_KEPT_AT_LOAD)
    by_tier = worker_config(Given(), plan_for(computer(cpu, 16), SIZED))
    assert (by_tier.quantization, by_tier.least_kept) == ("int8", 0)


def test_int4_below_6_gib_of_limit_with_a_warning() -> None:
    made = plan_for(computer(I5, 32, limit_gib=5.9), SIZED)
    assert (made.quantization.value, made.quantization.source) == ("int4", "machine")
    assert any("INT4" in text for level, text in made.log_lines if level == "WARNING")
    assert any("INT4" in note for note in made.notes[1:])
    made = plan_for(computer(I5, 32, limit_gib=6), SIZED)
    assert (made.quantization.value, made.quantization.source) == ("int8", "tier")
    assert not any("INT4" in text for _, text in made.log_lines)


def test_what_is_free_just_now_does_not_matter_for_int4() -> None:
    machine = computer(I5, 16)
    busy = replace(machine, memory=replace(machine.memory, available_bytes=GIB))
    assert plan_for(busy).quantization.value == "int8"


def test_gpus_keep_the_tiers_choice_whatever_the_memory() -> None:
    made = plan_for(computer(I5, 32, V100, limit_gib=4))
    assert (made.device.value, made.quantization.value) == ("cuda:0", "none")


def test_a_stronger_quantization_where_only_that_fits() -> None:
    large = replace(SIZED, resident_mb=(40_000, 31_000, 9_000))
    made = plan_for(computer(I7, 16), large)
    assert (made.quantization.value, made.quantization.source) == ("int4", "machine")
    assert "int8 needs 31500 MB" in made.quantization.reason
    on_gpu = plan_for(computer(I7, 8, V100), large)
    assert (on_gpu.device.value, on_gpu.quantization.value) == ("cuda:0", "int4")
    assert "passed over" not in on_gpu.device.reason


# --- how much


def test_threads() -> None:
    assert plan_for(computer(I5)).num_threads.value == 2
    assert plan_for(computer(I7)).num_threads.value == 8
    assert plan_for(computer(cpu_of("Core(TM) i9", 24))).num_threads.value == 16
    made = plan_for(computer(cpu_of("Core(TM) i7", 8, quota=1.5)))
    assert (made.num_threads.value, made.num_threads.source) == (2, "machine")
    assert "1.5 CPUs" in made.num_threads.reason
    assert plan_for(computer(cpu_of("Core(TM) i7", 8, quota=0.5))).num_threads.value == 1
    assert plan_for(computer(cpu_of("Core(TM) i7", 8, allowed=(0, 1, 2)))).num_threads.value == 2
    only_efficient = cpu_of("Core(TM) i5-1235U", 10, efficiency=8, allowed=(4, 5, 6))
    assert plan_for(computer(only_efficient)).num_threads.value == 3
    assert plan_for(computer(I7, 32, V100)).num_threads.value == 4


@pytest.mark.parametrize(
    ("machine", "rows"),
    [
        (computer(I7), 16),
        (computer(I7, 32, V100), 16),
        (computer(I7, 32, replace(V100, total_bytes=24_000 * MIB)), 128),
        (computer(I7, 32, A100), 128),
    ],
    ids=["cpu", "16 GB", "24 GB", "A100"],
)
def test_rows(machine: Hardware, rows: int) -> None:
    made = plan_for(machine)
    assert (made.max_batch.value, made.max_batch.source) == (rows, "machine")
    assert plan_for(machine, max_batch=3).max_batch == Choice(
        3, "SHOAL_MAX_BATCH asks for it", "user"
    )


def test_text_limit_and_ceiling() -> None:
    made = plan_for(computer(I5))
    assert (made.max_text_length.value, made.max_text_length_ceiling) == (300, 600)
    fixed = plan_for(computer(I5), dynamic_text_limit=False)
    assert (fixed.max_text_length.value, fixed.max_text_length_ceiling) == (300, 300)
    asked = plan_for(computer(I5), max_text_length=5000)
    assert (asked.max_text_length.value, asked.max_text_length_ceiling) == (5000, 5000)
    assert asked.max_text_length.source == "user"
    air = plan_for(mac(memory_gib=8, board="MacBookAir10,1"))
    assert (air.max_text_length.value, air.max_text_length_ceiling) == (150, 150)


def test_chunks_are_no_longer_than_the_checkpoint_speaks() -> None:
    assert plan_for(computer(I7, 32, V100)).chunk_length.value == 400
    made = plan_for(computer(I7, 32, V100), DEMO)
    assert (made.chunk_length.value, made.chunk_length.source) == (200, "checkpoint")
    made = plan_for(computer(I5))
    assert (made.chunk_length.value, made.chunk_length.source) == (150, "tier")
    made = plan_for(
        computer(I5), DEMO
    )  # so small that its longest pieces take no memory to speak of
    assert (made.chunk_length.value, made.chunk_length.source) == (200, "checkpoint")


def test_cache_limit() -> None:
    assert plan_for(computer(I5, 16)).cache_limit_mb.value == 1536
    share = plan_for(computer(I5, 32, limit_gib=4), DEMO).cache_limit_mb
    assert (share.value, share.source) == (1024, "machine")
    # 1024 MiB of limit, 128 of margin, 700 loaded: half of the 196 that are left
    tight = plan_for(
        computer(I5, 32, limit_gib=1), replace(SIZED, resident_mb=(700,) * 3, request_mb=9)
    )
    assert (tight.cache_limit_mb.value, tight.cache_limit_mb.source) == (98, "machine")
    half_used = replace(V100, free_bytes=7 * GIB)
    made = plan_for(computer(I7, 32, half_used), SIZED)
    assert made.cache_limit_mb.value == (7 * 1024 - 4000 - made.fast_mb) // 2 and made.fast_mb


def test_margins() -> None:
    assert plan_for(computer(I5, 8)).safety_margin_mb == 2048
    assert plan_for(computer(I5, 32, limit_gib=4), DEMO).safety_margin_mb == 512
    assert plan_for(computer(I7, 32, V100)).safety_margin_mb == 1024
    tight = replace(V100, free_bytes=4600 * 2**20)
    assert plan_for(computer(I7, 32, tight), SIZED).safety_margin_mb == 100


def test_the_tiers_figures_come_along() -> None:
    made = plan_for(computer(I5, 16))
    assert (made.estimate_base_mb, made.estimate_per_100_tokens_mb) == (2500, 60)
    assert (made.calibration_samples, made.expected_rtf) == (64, 3.0)
    assert made.thermal_throttle_cpu_pct is None
    assert plan_for(mac(memory_gib=8)).thermal_throttle_cpu_pct == 70
    assert RunningConfig.of(made) == RunningConfig(150, 2, 1536, 300)


def test_a_small_checkpoint_is_fitted_where_there_is_room_for_it() -> None:
    machine = computer(I5, 8)
    assert plan_for(machine, DEMO).calibration_samples == 16
    tight = replace(machine, memory=replace(machine.memory, available_bytes=500_000_000))
    assert plan_for(tight, DEMO).calibration_samples == 0


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
        (computer(I7), "CPU-only with FP32 precision, INT8 quantization + kernels in C"),
    ],
)
def test_the_changelogs_notes(machine: Hardware, note: str) -> None:
    assert plan_for(machine).notes == (note,)


def test_notes_of_what_the_user_turned_off() -> None:
    made = plan_for(computer(I7, 32, V100), torch_compile="off")
    assert made.notes[0].endswith("no quantization (torch.compile disabled)")


def test_the_airs_note_tells_of_its_heat() -> None:
    assert any("above 70 % CPU" in note for note in plan_for(mac(board="MacBookAir10,1")).notes)


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
        ("max_batch", 5, "max_batch", 5),
        ("cache_limit_mb", 300, "cache_limit_mb", 300),
        ("torch_compile", "off", "compile", False),
        ("force_torch_compile", True, "compile", True),
    ],
)
def test_the_user_wins(setting: str, value: Any, choice: str, planned: object) -> None:
    machine = computer(I7, 32, V100, system="Windows")
    made = plan_for(machine, S1, **{setting: value})
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
        plan_for(machine, **settings)


def test_the_published_package_is_left_as_it_is() -> None:
    made = plan_for(computer(I7), engine="fish-speech")
    assert made.quantization.value == "none" and not made.compile.value


def test_a_small_checkpoint_computes_on_one_thread_where_it_is_on_the_cpu() -> None:
    threads = plan_for(computer(I5), DEMO).num_threads
    assert (threads.value, threads.source) == (1, "checkpoint")
    assert plan_for(computer(I5), S1).num_threads.value > 1
    assert plan_for(computer(I5), DEMO, num_threads=2).num_threads.value == 2
    assert plan_for(computer(I7, 32, V100), DEMO).num_threads.source != "checkpoint"
