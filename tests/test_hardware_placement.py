"""On which device a checkpoint goes, and what is said where it goes on none."""

from dataclasses import replace
from typing import Any

import pytest

from backend.core import MIB
from backend.errors import NotEnoughMemory
from backend.hardware.deployment import Deployment
from backend.hardware.machine import GIB, Hardware
from backend.hardware.need import CUDA_FAST_BYTES
from tests.computers import (
    A100,
    I7,
    RTX_3060,
    S1,
    SIZED,
    V100,
    computer,
    gpu_of,
    mac,
    plan_for,
)

CPU_BUILD = "2.13.0+cpu"
T4 = gpu_of("Tesla T4", 15, capability=(7, 5))
RTX_4090 = gpu_of("NVIDIA GeForce RTX 4090", 24, capability=(8, 9))


def test_a_gpu_before_the_cpu() -> None:
    made = plan_for(computer(I7, 32, V100))
    assert (made.device.value, made.device_uuid, made.tier) == ("cuda:0", "GPU-0", "gpu_high")
    assert "V100" in made.device.reason and "15.5 of 16.0 GiB" in made.device.reason


def test_the_gpu_with_most_free_memory() -> None:
    busy = gpu_of("NVIDIA A100-SXM4-40GB", 40, 6, capability=(8, 0))
    made = plan_for(computer(I7, 64, busy, replace(V100, index=1, uuid="GPU-1")))
    assert (made.device.value, made.device_uuid) == ("cuda:1", "GPU-1")
    assert "the most of 2 GPUs" in made.device.reason


def test_the_named_gpu() -> None:
    machine = computer(I7, 64, A100, replace(V100, index=1, uuid="GPU-1"))
    made = plan_for(machine, device="cuda:1")
    assert (made.device.value, made.device.source, made.device_uuid) == ("cuda:1", "user", "GPU-1")
    assert made.precision.value == "fp16"
    made = plan_for(machine, device="cuda")
    assert (made.device.value, made.device.source) == ("cuda:0", "user")
    made = plan_for(machine, device="cpu")
    assert (made.device.value, made.tier) == ("cpu", "intel_high_end")


def test_a_full_gpu_is_passed_over_with_the_reason() -> None:
    full = replace(RTX_3060, free_bytes=int(3.4 * GIB))  # 3500 MiB are needed as int8
    made = plan_for(computer(I7, 32, full), SIZED)
    assert made.device.value == "cpu"
    assert "cuda:0 has 3481 MB free, int8 needs 3500 MB" in made.device.reason
    assert any("3481 MB free" in text for level, text in made.log_lines if level == "WARNING")
    assert any("The GPU is not used" in note for note in made.notes)
    just_enough = replace(RTX_3060, free_bytes=3500 * 2**20)
    assert plan_for(computer(I7, 32, just_enough), SIZED).device.value == "cuda:0"


def test_a_gpu_with_no_room_for_the_fast_ways_speaks_without_them() -> None:
    least_mb = 3000 + 500 + CUDA_FAST_BYTES // MIB  # as int8
    for free_mb, fast_mb in ((least_mb, CUDA_FAST_BYTES // MIB), (least_mb - 1, 0)):
        gpu = replace(RTX_3060, free_bytes=free_mb * MIB)
        made = plan_for(computer(I7, 32, gpu), SIZED)
        assert (made.device.value, made.quantization.value) == ("cuda:0", "int8")
        assert made.fast_mb == fast_mb
    others = (plan_for(computer(I7, 32), SIZED), plan_for(mac(memory_gib=16), SIZED))
    package = plan_for(computer(I7, 32, V100), SIZED, engine="fish-speech")
    assert package.device.value == "cuda:0"
    assert [each.fast_mb for each in (*others, package)] == [0, 0, 0]


def test_a_small_gpu_has_fewer_rows_rather_than_slower_frames() -> None:
    machine = computer(I7, 32, replace(RTX_3060, free_bytes=29 * GIB // 8))
    made = plan_for(machine, S1)
    assert (made.device.value, made.quantization.value) == ("cuda:0", "int8")
    assert made.fast_mb == CUDA_FAST_BYTES // MIB
    assert 1 < made.max_batch.value < 16
    assert "no room for what the codec takes" in made.max_batch.reason
    asked = plan_for(machine, S1, max_batch=16)
    assert (asked.max_batch.value, asked.fast_mb) == (16, 0)


def test_a_worker_with_the_fast_ways_is_expected_to_take_them() -> None:
    machine = computer(I7, 32, V100)
    made = plan_for(machine, SIZED)
    assert Deployment(machine, SIZED, made).resident_bytes == (4000 + made.fast_mb) * MIB
    without = replace(made, fast_mb=0)
    assert Deployment(machine, SIZED, without).resident_bytes == 4000 * MIB


def test_the_next_gpu_before_the_cpu() -> None:
    roomier = replace(V100, free_bytes=4 * GIB)  # none: 4500 needed
    smaller = replace(RTX_3060, index=1, free_bytes=int(3.6 * GIB))  # int8: 3500 needed
    made = plan_for(computer(I7, 32, roomier, smaller), SIZED)
    assert (made.device.value, made.quantization.value) == ("cuda:1", "int8")
    assert "passed over: cuda:0 has 4096 MB free, none needs 4500 MB" in made.device.reason


def test_apple_silicon_computes_on_its_gpu() -> None:
    made = plan_for(mac())
    assert (made.device.value, made.tier, made.precision.value) == ("mps", "m1_pro", "fp32")
    assert made.cpu_affinity.value == ()
    assert any("macOS does not let" in text for _, text in made.log_lines)


def test_a_cpu_only_torch_leads_to_the_cpu_and_the_fix() -> None:
    made = plan_for(computer(I7, 32, RTX_4090, torch_version=CPU_BUILD))
    assert made.device.value == "cpu" and "CPU-only build" in made.device.reason
    assert any("pip install" in text for level, text in made.log_lines if level == "WARNING")


def test_a_gpu_that_torch_has_no_kernels_for_is_left_out() -> None:
    machine = computer(I7, 32, V100, replace(RTX_4090, index=1), torch_version="2.13.0+cu130")
    assert plan_for(machine).device.value == "cuda:1"
    made = plan_for(replace(machine, gpus=(replace(V100, free_bytes=16 * GIB), machine.gpus[1])))
    assert made.device.value == "cuda:1"
    assert any("cuda:0 is not used" in text and "7.0" in text for _, text in made.log_lines)


def test_a_broken_driver_is_told() -> None:
    made = plan_for(computer(I7, gpu_problem="⚠️ NVML initialization failed: reboot"))
    assert made.device.value == "cpu"
    assert ("WARNING", "⚠️ NVML initialization failed: reboot") in made.log_lines


def test_the_cpu_does_not_step_in_where_no_gpu_can_have_what_is_asked_for() -> None:
    turing_and_ampere = computer(I7, 32, T4, replace(RTX_4090, index=1, free_bytes=8 * GIB))
    assert plan_for(turing_and_ampere).device.value == "cuda:0"
    assert plan_for(turing_and_ampere, precision="bf16").device.value == "cuda:1"


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
        plan_for(machine, SIZED, **settings)
    for part in parts:
        assert part in str(caught.value)


def test_a_refusal_promises_only_what_works() -> None:
    machine = computer(I7, 3)
    with pytest.raises(NotEnoughMemory, match="DEVICE=cpu with QUANTIZATION=int4"):
        plan_for(machine, SIZED, quantization="none")
    assert plan_for(machine, SIZED, device="cpu", quantization="int4").device.value == "cpu"
    for shape, least_mb in ((SIZED, 2858), (replace(SIZED, resident_mb=(9000,) * 3), 11548)):
        with pytest.raises(NotEnoughMemory, match=f"a limit of {least_mb} MB"):
            plan_for(computer(I7, 32, limit_gib=(least_mb - 2) / 1024), shape)
        assert plan_for(computer(I7, 32, limit_gib=(least_mb + 1) / 1024), shape)
