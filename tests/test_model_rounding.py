"""Rounding by use: how far outputs are off, beside rounding each weight by itself."""

import pytest
import torch
from torch import Tensor

from backend.model.quantize import RANGE, Bits, QuantizedMatrix, quantize_matrix
from backend.model.rounding import round_by_use

OUTPUTS, INPUTS, POSITIONS = 48, 96, 600


def used(seed: int = 0, positions: int = POSITIONS) -> Tensor:
    """Inputs [M, in] that go together, as those of a trained layer do, some of them much larger."""
    mixing = torch.randn(INPUTS // 4, INPUTS, generator=torch.Generator().manual_seed(1))
    chance = torch.Generator().manual_seed(seed)
    shared = torch.randn(positions, INPUTS // 4, generator=chance) @ mixing
    own = torch.randn(positions, INPUTS, generator=chance)
    return (shared + 0.5 * own) * torch.linspace(0.2, 5, INPUTS)


def matrix() -> Tensor:
    return torch.randn(OUTPUTS, INPUTS, generator=torch.Generator().manual_seed(2))


def off(weight: Tensor, rounded: QuantizedMatrix, inputs: Tensor, exact: Tensor) -> float:
    wanted, found = exact @ weight.t(), inputs @ rounded.dequantized().t()
    return float((found - wanted).square().mean())


@pytest.mark.parametrize("bits", [8, 6])
def test_outputs_of_other_inputs_are_less_off(bits: Bits) -> None:
    weight, seen, others = matrix(), used(), used(seed=3)
    by_use, plain = round_by_use(weight, bits, seen, seen), quantize_matrix(weight, bits)
    assert off(weight, by_use, others, others) < 0.5 * off(weight, plain, others, others)


@pytest.mark.parametrize("bits", [8, 6])
def test_it_is_held_as_any_other_of_so_many_bits(bits: Bits) -> None:
    found, plain = round_by_use(matrix(), bits, used(), used()), quantize_matrix(matrix(), bits)
    assert (found.bits, found.group_size) == (bits, INPUTS)
    assert found.values.dtype == torch.int8 and found.values.is_contiguous()
    assert RANGE[bits][0] <= found.values.min() < found.values.max() <= RANGE[bits][1]
    assert torch.equal(found.scales, plain.scales)
    assert not torch.equal(found.values, plain.values)


def test_it_makes_up_for_what_was_rounded_before() -> None:
    weight, exact, others = matrix(), used(), used(seed=3)
    lose = torch.linspace(0.7, 1.3, INPUTS)  # of each input, always alike
    follows = round_by_use(weight, 8, exact * lose, exact)
    ignores = round_by_use(weight, 8, exact * lose, exact * lose)
    wanted = off(weight, ignores, others * lose, others)
    assert off(weight, follows, others * lose, others) < 0.5 * wanted


@pytest.mark.parametrize("value", [0.0, torch.inf, torch.nan])
def test_of_inputs_that_say_nothing_each_weight_is_rounded_by_itself(value: float) -> None:
    inputs = torch.full((POSITIONS, INPUTS), value)
    found, plain = round_by_use(matrix(), 8, inputs, inputs), quantize_matrix(matrix(), 8)
    assert torch.equal(found.values, plain.values)


def test_of_fewer_positions_than_inputs_outputs_are_less_off_too() -> None:
    weight, seen, others = matrix(), used(positions=20), used(seed=3)
    by_use, plain = round_by_use(weight, 6, seen, seen), quantize_matrix(weight, 6)
    assert off(weight, by_use, others, others) < off(weight, plain, others, others)
