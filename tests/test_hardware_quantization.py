"""How many bits the weights get."""

from dataclasses import replace

import pytest

from backend.core import Quantization
from backend.errors import BadSetting
from backend.hardware.classify import TIERS
from backend.hardware.machine import GIB, Cpu, CpuFeature, Memory
from backend.hardware.need import CheckpointShape
from backend.hardware.quantization import MB, SMALL_CHECKPOINT_BYTES, QuantizationStrategy
from backend.model.config import CheckpointInfo
from tests.computers import DEMO, I5, S1, Given, cpu_of

STRATEGY = QuantizationStrategy()
AUTO = Given()
SMALL = replace(DEMO, decoder_bytes=2)
"""Where there is a compiler."""
VNNI = cpu_of("Xeon", 8, features=frozenset({"avx2", "avx512", "vnni"}))
PLENTY = Memory(32 * GIB, 32 * GIB, 16 * GIB)


def limited(gib: float) -> Memory:
    return Memory(32 * GIB, int(gib * GIB), GIB, "cgroup v2")


@pytest.mark.parametrize(
    ("tier", "memory", "device", "value", "source"),
    [
        ("intel_i5", PLENTY, "cpu", "int8", "tier"),
        ("intel_high_end", limited(6), "cpu", "int8", "tier"),
        ("intel_high_end", limited(5.99), "cpu", "int4", "machine"),
        ("raspberry_pi", limited(3.7), "cpu", "int4", "machine"),
        ("m1_air", PLENTY, "mps", "int8", "tier"),
        ("gpu_entry", limited(4), "cuda:0", "int8", "tier"),
        ("gpu_mid", PLENTY, "cuda:1", "int8", "tier"),
        ("gpu_high", limited(4), "cuda:0", "none", "tier"),
    ],
)
def test_tier_and_memory_limit_decide(
    tier: str, memory: Memory, device: str, value: Quantization, source: str
) -> None:
    choice = STRATEGY.choose(TIERS[tier], I5, memory, device, AUTO, S1)
    assert (choice.value, choice.source) == (value, source)


@pytest.mark.parametrize("feature", ["avx2", "avx512", "vnni", "dotprod"])
@pytest.mark.parametrize("memory", [PLENTY, limited(2)])
def test_a_small_checkpoint_is_held_in_int8_where_that_is_faster(
    feature: CpuFeature, memory: Memory
) -> None:
    cpu = cpu_of("A CPU", features=frozenset({feature}))
    choice = STRATEGY.choose(TIERS["generic_cpu"], cpu, memory, "cpu", AUTO, SMALL)
    assert (choice.value, choice.source) == ("int8", "checkpoint")
    assert choice.reason == (
        "shoal-demo is small: int8 is for speed, kernels in C multiply bytes faster"
    )


@pytest.mark.parametrize(
    ("cpu", "device", "shape", "asked", "why"),
    [
        (VNNI, "cuda:0", SMALL, AUTO, "kernels for bytes are a CPU's"),
        (VNNI, "mps", SMALL, AUTO, "kernels for bytes are a CPU's"),
        (VNNI, "cpu", replace(DEMO, decoder_bytes=4), AUTO, "there is no C compiler"),
        (VNNI, "cpu", SMALL, Given(torch_compile="off"), "SHOAL_TORCH_COMPILE=off leaves kernels"),
        (I5, "cpu", SMALL, AUTO, "this CPU multiplies bytes no faster than floats"),
    ],
)
def test_a_small_checkpoint_gains_nothing_elsewhere_and_it_is_said_why(
    cpu: Cpu, device: str, shape: CheckpointShape, asked: Given, why: str
) -> None:
    choice = STRATEGY.choose(TIERS["gpu_mid"], cpu, PLENTY, device, asked, shape)
    saved = shape.weight_bytes("fp32", "none") - shape.weight_bytes("fp32", "int8")
    assert choice.value == "none" and choice.source == "checkpoint"
    saves = f"gpu_mid wants int8, which would save {saved / MB:.0f} MB here and no time: "
    assert choice.reason.startswith(saves + why)
    assert shape.weight_bytes("fp32", "none") < SMALL_CHECKPOINT_BYTES


def test_small_means_up_to_256_mb_in_fp32() -> None:
    spare = SMALL_CHECKPOINT_BYTES - DEMO.weight_bytes("fp32", "none")
    rows = spare // (4 * DEMO.model.slow.dim)  # of the vocabulary, in fp32
    model = replace(DEMO.model, vocab_size=DEMO.model.vocab_size + rows)
    just = replace(DEMO, model=model, info=CheckpointInfo("just"))
    over = replace(just, model=replace(model, vocab_size=model.vocab_size + 1))
    assert STRATEGY.choose(TIERS["intel_i5"], I5, PLENTY, "cpu", AUTO, just).value == "none"
    assert STRATEGY.choose(TIERS["intel_i5"], I5, PLENTY, "cpu", AUTO, over).value == "int8"


@pytest.mark.parametrize("wanted", ["none", "int8", "int4"])
def test_the_user_wins_even_with_a_small_checkpoint(wanted: Quantization) -> None:
    asked = Given(quantization=wanted)
    choice = STRATEGY.choose(TIERS["raspberry_pi"], VNNI, limited(4), "cpu", asked, DEMO)
    assert (choice.value, choice.source) == (wanted, "user")


def test_the_published_package_is_not_quantized() -> None:
    engine = Given(engine="fish-speech")
    for shape in (S1, SMALL):
        choice = STRATEGY.choose(TIERS["intel_i5"], VNNI, limited(4), "cpu", engine, shape)
        assert (choice.value, choice.source) == ("none", "machine")
    asked = Given(engine="fish-speech", quantization="int4")
    with pytest.raises(BadSetting, match="QUANTIZATION=int4 needs ENGINE=shoal"):
        STRATEGY.choose(TIERS["m1_air"], I5, PLENTY, "mps", asked, S1)
