"""The tier table holds the changelog's figures, and each machine gets its row."""

from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_args

import pytest

from backend.hardware.classify import TIERS, gpu_tier, tier_of
from backend.hardware.gpu_models import GPU_MODEL_TIERS, SMALL_GPU
from backend.hardware.machine import Cpu, Gpu, Hardware
from backend.hardware.tiers import (
    CPU_TIERS,
    GPU_TIERS,
    Budget,
    CpuUse,
    Estimate,
    Expected,
    Text,
    Tier,
    TierName,
    Weights,
)
from tests.computers import A100, RTX_3060, V100, computer, cpu_of, gpu_of, mac

ROWS = (*CPU_TIERS, *GPU_TIERS, *GPU_MODEL_TIERS)


def columns(row: Any, path: str = "") -> dict[str, Any]:
    """Every figure of a row by its path, "text.limit" say."""
    found: dict[str, Any] = {}
    for field in fields(row):
        value = getattr(row, field.name)
        if is_dataclass(value):
            found |= columns(value, f"{path}{field.name}.")
        else:
            found[path + field.name] = value
    return found


def test_every_tier_has_its_row() -> None:
    named = [row.name for row in (*CPU_TIERS, *GPU_TIERS)]
    assert sorted(named) == sorted(get_args(TierName))
    assert {name: row.name for name, row in TIERS.items()} == {name: name for name in named}


def test_no_column_can_be_left_out() -> None:
    for part in (Tier, Text, Expected, Weights, CpuUse, Budget, Estimate):
        for column in fields(part):
            assert column.default is MISSING and column.default_factory is MISSING, column.name


def test_no_row_borrows_another() -> None:
    seen: dict[tuple[Any, ...], str] = {}
    for row in ROWS:
        words = ("name", "card", "reason")
        figures = tuple(v for path, v in columns(row).items() if path not in words)
        assert figures not in seen, f"{row.name} {row.card} is {seen[figures]} again"
        seen[figures] = f"{row.name} {row.card}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.card or row.name)
def test_rows_make_sense(row: Tier) -> None:
    assert row.text.chunk <= row.text.limit <= row.text.ceiling <= 2 * row.text.limit
    assert row.budget.safety_margin_mb > 0 and row.budget.cache_limit_mb > 0
    assert row.weights.calibration_samples in (16, 32, 64)
    assert len(row.reason) > 30
    estimate, tokens = row.estimate, row.text.limit / 4
    formula_mb = estimate.base_mb + tokens / 100 * estimate.per_100_tokens_mb
    assert formula_mb + estimate.cache_overhead_mb <= row.expected.memory_gb * 1024


def test_text_is_never_raised_where_heat_decides() -> None:
    fixed = [row.name for row in ROWS if row.text.ceiling == row.text.limit]
    assert fixed == ["raspberry_pi", "m1_air"]


CHANGELOG: list[tuple[str, str, object, int]] = [
    # tier or card, column, figure, line of changelog_thesis.md
    ("raspberry_pi", "text.limit", 100, 484),
    ("m1_air", "text.limit", 150, 485),
    ("m1_pro", "text.limit", 400, 486),
    ("intel_i5", "text.limit", 300, 487),
    ("amd_ryzen5", "text.limit", 350, 488),
    ("intel_high_end", "text.limit", 500, 489),
    ("RTX 3060", "text.limit", 1000, 490),
    ("RTX 4090", "text.limit", 2000, 491),
    ("m1_air", "budget.safety_margin_mb", 1536, 320),
    ("m1_air", "budget.cache_limit_mb", 1024, 320),
    ("intel_i5", "budget.safety_margin_mb", 2048, 321),
    ("intel_i5", "budget.cache_limit_mb", 1536, 321),
    ("m1_air", "weights.quantization", "int8", 340),
    ("m1_air", "weights.calibration_samples", 32, 340),
    ("intel_i5", "weights.quantization", "int8", 341),
    ("intel_i5", "weights.calibration_samples", 64, 341),
    ("m1_air", "estimate.base_mb", 2000, 385),
    ("m1_air", "estimate.per_100_tokens_mb", 50, 385),
    ("intel_i5", "estimate.base_mb", 2500, 386),
    ("intel_i5", "estimate.per_100_tokens_mb", 60, 386),
    ("m1_air", "cpu.thermal_throttle_pct", 70, 407),
    ("m1_pro", "weights.quantization", "int8", 54),
    ("intel_i5", "cpu.affinity", "performance_cores", 360),
    ("amd_ryzen5", "cpu.affinity", "even_cores", 361),
    ("m1_air", "cpu.affinity", "log_intent", 362),
    ("gpu_high", "weights.quantization", "none", 18),
    ("gpu_high", "expected.rtf", 0.8, 19),
    ("gpu_high", "expected.memory_gb", 6.0, 20),
    ("gpu_mid", "weights.quantization", "int8", 22),
    ("gpu_mid", "expected.rtf", 1.2, 23),
    ("gpu_mid", "expected.memory_gb", 4.0, 24),
    ("gpu_entry", "weights.quantization", "int8", 26),
    ("gpu_entry", "expected.rtf", 2.0, 27),
    ("gpu_entry", "expected.memory_gb", 3.0, 28),
]
CARDS = [
    # card, VRAM, precision, quantization, text limit, RTF, memory, line
    ("V100", 16, "fp16", "none", 2000, 0.8, 6.0, 38),
    ("A100", 40, "fp16", "none", 2000, 0.8, 6.0, 39),
    ("RTX 4090", 24, "bf16", "none", 2000, 0.8, 6.0, 40),
    ("RTX 3090", 24, "fp16", "none", 2000, 0.8, 6.0, 41),
    ("RTX 3060", 8, "fp16", "int8", 1000, 1.2, 4.0, 42),
    ("GTX 1660", 6, "fp16", "int8", 600, 2.0, 3.0, 43),
]


@pytest.mark.parametrize(("row", "column", "figure", "line"), CHANGELOG)
def test_the_changelogs_figures(row: str, column: str, figure: object, line: int) -> None:
    found = {each.card: each for each in GPU_MODEL_TIERS}.get(row) or TIERS[row]
    assert columns(found)[column] == figure, f"changelog line {line}"


@pytest.mark.parametrize(
    ("card", "gib", "precision", "quantization", "limit", "rtf", "memory_gb", "line"), CARDS
)
def test_the_changelogs_cards(
    card: str,
    gib: int,
    precision: str,
    quantization: str,
    limit: int,
    rtf: float,
    memory_gb: float,
    line: int,
) -> None:
    row, reason = gpu_tier(gpu_of(f"NVIDIA GeForce {card}", gib))
    assert row.card == card and card in reason
    assert (row.weights.precision, row.weights.quantization) == (precision, quantization), line
    assert (row.text.limit, row.expected.rtf, row.expected.memory_gb) == (limit, rtf, memory_gb)


def test_cpus_are_always_quantized() -> None:
    assert {row.weights.quantization for row in CPU_TIERS} == {"int8"}  # line 52


@pytest.mark.parametrize(
    ("gpu", "tier", "card"),
    [
        (V100, "gpu_high", "V100"),
        (gpu_of("Tesla V100-PCIE-32GB", 32), "gpu_high", "V100"),
        (A100, "gpu_high", "A100"),
        (gpu_of("NVIDIA A100 80GB PCIe", 80), "gpu_high", "A100"),
        (gpu_of("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 4.75), "gpu_entry", ""),
        (RTX_3060, "gpu_mid", "RTX 3060"),
        (gpu_of("NVIDIA GeForce RTX 3060", 12), "gpu_high", ""),
        (gpu_of("NVIDIA GeForce RTX 3060 Ti", 8), "gpu_mid", ""),
        (gpu_of("NVIDIA GeForce RTX 3060 Laptop GPU", 6), "gpu_entry", ""),
        (gpu_of("NVIDIA GeForce RTX 4060", 7.996), "gpu_mid", ""),
        (gpu_of("NVIDIA GeForce RTX 2080 Ti", 11), "gpu_mid", ""),
        (gpu_of("NVIDIA GeForce RTX 4070", 11.99), "gpu_high", ""),
        (gpu_of("NVIDIA GeForce RTX 4090 D", 24), "gpu_high", ""),
        (gpu_of("NVIDIA GeForce RTX 4090 Laptop GPU", 16), "gpu_high", ""),
        (gpu_of("NVIDIA GeForce GTX 1660", 6), "gpu_entry", "GTX 1660"),
        (gpu_of("NVIDIA GeForce GTX 1660 SUPER", 6), "gpu_entry", ""),
        (gpu_of("NVIDIA GeForce GTX 1660 with Max-Q Design", 6), "gpu_entry", ""),
        (gpu_of("NVIDIA GeForce GTX 1650", 4), "gpu_entry", SMALL_GPU),
        (gpu_of("NVIDIA GeForce GTX 1050 Ti", 3.95), "gpu_entry", SMALL_GPU),
        (gpu_of("Tesla T4", 15), "gpu_high", "T4"),
        (gpu_of("NVIDIA L4", 22.5), "gpu_high", "L4"),
        (gpu_of("NVIDIA L40S", 45), "gpu_high", "L40S"),
        (gpu_of("NVIDIA H100 80GB HBM3", 79.6), "gpu_high", "H100"),
        (gpu_of("NVIDIA H200", 140.4), "gpu_high", "H200"),
        (gpu_of("NVIDIA B200", 179), "gpu_high", "B200"),
    ],
    ids=lambda value: value.name if isinstance(value, Gpu) else None,
)
def test_gpus(gpu: Gpu, tier: str, card: str) -> None:
    row, reason = gpu_tier(gpu)
    assert (row.name, row.card) == (tier, card)
    assert gpu.name in reason


def intel(model: str, cores: int = 4, **more: Any) -> Cpu:
    return cpu_of(model, cores, **more)


def amd(model: str, cores: int = 6, **more: Any) -> Cpu:
    return cpu_of(model, cores, vendor="amd", **more)


@pytest.mark.parametrize(
    ("cpu", "tier"),
    [
        (intel("Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz"), "intel_i5"),
        (intel("13th Gen Intel(R) Core(TM) i5-13600K", 14, efficiency=8), "intel_i5"),
        (intel("Intel(R) Core(TM) i3-N305", 8, smt=False), "intel_i5"),
        (intel("Intel(R) Core(TM) Ultra 5 125U", 12, efficiency=10), "intel_i5"),
        (intel("Intel(R) Core(TM) i7-8565U CPU @ 1.80GHz"), "intel_i5"),
        (intel("Intel(R) Core(TM) i7-8700 CPU @ 3.20GHz", 6), "intel_high_end"),
        (intel("13th Gen Intel(R) Core(TM) i9-13900K", 24, efficiency=16), "intel_high_end"),
        (intel("Intel(R) Core(TM) Ultra 7 155H", 16, efficiency=10), "intel_high_end"),
        (intel("Intel(R) Core(TM) 7 150U", 10, efficiency=8), "intel_high_end"),
        (intel("Intel(R) Xeon(R) Platinum 8480+", 56), "intel_high_end"),
        (intel("Intel(R) Xeon(R) Platinum 8480+", 56, quota=2.0), "generic_cpu"),
        (intel("Intel(R) Xeon(R) CPU @ 2.20GHz", 1), "generic_cpu"),
        (intel("Intel(R) N100", 4, smt=False), "generic_cpu"),
        (intel("Intel(R) Celeron(R) N5105 @ 2.00GHz", 4, smt=False), "generic_cpu"),
        (amd("AMD Ryzen 5 5600X 6-Core Processor"), "amd_ryzen5"),
        (amd("AMD Ryzen 5 PRO 4650U with Radeon Graphics"), "amd_ryzen5"),
        (amd("AMD Ryzen 3 3200G with Radeon Vega Graphics", 4), "amd_ryzen5"),
        (amd("AMD Ryzen 7 5800X 8-Core Processor", 8), "amd_high_end"),
        (amd("AMD Ryzen 7 3750H with Radeon Vega Mobile Gfx", 4), "amd_ryzen5"),
        (amd("AMD Ryzen 9 7950X 16-Core Processor", 16), "amd_high_end"),
        (amd("AMD Ryzen AI 9 HX 370 w/ Radeon 890M", 12), "amd_high_end"),
        (amd("AMD RYZEN AI MAX+ 395 w/ Radeon 8060S", 16), "amd_high_end"),
        (amd("AMD Ryzen Threadripper 3970X 32-Core Processor", 32), "amd_high_end"),
        (amd("AMD EPYC 7763 64-Core Processor", 64), "amd_high_end"),
        (amd("AMD EPYC 7763 64-Core Processor", 64, allowed=(0, 1, 2, 3)), "generic_cpu"),
        (amd("AMD EPYC", 2, smt=False), "generic_cpu"),
        (amd("AMD Athlon Silver 3050U with Radeon Graphics", 2, smt=False), "generic_cpu"),
        (cpu_of("Neoverse-N1", 64, vendor="arm", smt=False), "generic_cpu"),
        (cpu_of("", 2, vendor="unknown", smt=False), "generic_cpu"),
    ],
    ids=lambda value: value.model if isinstance(value, Cpu) else None,
)
def test_cpus(cpu: Cpu, tier: str) -> None:
    row, reason = tier_of(computer(cpu), "cpu")
    assert row.name == tier, reason
    assert reason


def apple(model: str) -> Cpu:
    return cpu_of(model, 8, vendor="apple", efficiency=4, smt=False, topology=False, allowed=())


@pytest.mark.parametrize(
    ("machine", "tier"),
    [
        (mac(apple("Apple M1"), 8, "MacBook Air (MacBookAir10,1)"), "m1_air"),
        (mac(apple("Apple M1"), 16, "MacBookAir10,1"), "m1_air"),
        (mac(apple("Apple M2"), 24, "Mac14,2"), "m1_air"),
        (mac(apple("Apple M3"), 16, "MacBook Air (Mac15,12)"), "m1_air"),
        (mac(apple("Apple M1"), 8, "Mac mini (Macmini9,1)"), "m1_air"),
        (mac(apple("Apple M1"), 16, "Mac mini (Macmini9,1)"), "m1_pro"),
        (mac(apple("Apple M4"), 16, ""), "m1_air"),
        (mac(apple("Apple M1 Pro"), 16, "MacBook Pro (MacBookPro18,3)"), "m1_pro"),
        (mac(apple("Apple M2 Max"), 32, "Mac14,6"), "m1_pro"),
        (mac(apple("Apple M4 Ultra"), 128, ""), "m1_pro"),
    ],
    ids=lambda value: f"{value.cpu.model} {value.board}" if isinstance(value, Hardware) else None,
)
def test_macs(machine: Hardware, tier: str) -> None:
    assert tier_of(machine, "mps")[0].name == tier
    assert tier_of(machine, "cpu")[0].name == tier


def test_a_raspberry_pi_is_known_by_its_board() -> None:
    pi = cpu_of("Cortex-A76", 4, vendor="broadcom", smt=False)
    row, reason = tier_of(computer(pi, 8, board="Raspberry Pi 5 Model B Rev 1.0"), "cpu")
    assert row.name == "raspberry_pi"
    assert "Raspberry Pi 5 Model B" in reason


def test_the_device_decides_whether_the_gpus_row_counts() -> None:
    machine = computer(cpu_of("Intel(R) Core(TM) i5-8400", 6), 16, V100)
    assert tier_of(machine, "cuda:0")[0].card == "V100"
    assert tier_of(machine, "cpu")[0].name == "intel_i5"
