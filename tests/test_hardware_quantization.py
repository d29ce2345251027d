"""How many bits the weights get."""

from dataclasses import replace

import pytest

from backend.core import Quantization
from backend.errors import BadSetting
from backend.hardware.classify import TIERS
from backend.hardware.machine import GIB, Memory
from backend.hardware.quantization import MB, SMALL_CHECKPOINT_BYTES, QuantizationStrategy
from backend.model.config import CheckpointInfo
from tests.computers import DEMO, S1, Given

STRATEGY = QuantizationStrategy()
AUTO = Given()
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
    choice = STRATEGY.choose(TIERS[tier], memory, device, AUTO, S1)
    assert (choice.value, choice.source) == (value, source)


def test_a_small_checkpoint_gains_nothing_and_it_is_said_what() -> None:
    choice = STRATEGY.choose(TIERS["intel_i5"], PLENTY, "cpu", AUTO, DEMO)
    saved = DEMO.weight_bytes("fp32", "none") - DEMO.weight_bytes("fp32", "int8")
    assert choice.value == "none" and choice.source == "checkpoint"
    assert choice.reason == f"intel_i5 wants int8, which would save {saved / MB:.0f} MB here"
    assert DEMO.weight_bytes("fp32", "none") < SMALL_CHECKPOINT_BYTES


def test_small_means_up_to_256_mb_in_fp32() -> None:
    spare = SMALL_CHECKPOINT_BYTES - DEMO.weight_bytes("fp32", "none")
    rows = spare // (4 * DEMO.model.slow.dim)  # of the vocabulary, in fp32
    model = replace(DEMO.model, vocab_size=DEMO.model.vocab_size + rows)
    just = replace(DEMO, model=model, info=CheckpointInfo("just"))
    over = replace(just, model=replace(model, vocab_size=model.vocab_size + 1))
    assert STRATEGY.choose(TIERS["intel_i5"], PLENTY, "cpu", AUTO, just).value == "none"
    assert STRATEGY.choose(TIERS["intel_i5"], PLENTY, "cpu", AUTO, over).value == "int8"


@pytest.mark.parametrize("wanted", ["none", "int8", "int4"])
def test_the_user_wins_even_with_a_small_checkpoint(wanted: Quantization) -> None:
    asked = Given(quantization=wanted)
    choice = STRATEGY.choose(TIERS["raspberry_pi"], limited(4), "cpu", asked, DEMO)
    assert (choice.value, choice.source) == (wanted, "user")


def test_the_published_package_is_not_quantized() -> None:
    engine = Given(engine="fish-speech")
    choice = STRATEGY.choose(TIERS["intel_i5"], limited(4), "cpu", engine, S1)
    assert (choice.value, choice.source) == ("none", "machine")
    asked = Given(engine="fish-speech", quantization="int4")
    with pytest.raises(BadSetting, match="QUANTIZATION=int4 needs ENGINE=shoal"):
        STRATEGY.choose(TIERS["m1_air"], PLENTY, "mps", asked, S1)
