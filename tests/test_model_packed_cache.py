"""Keys and values in few bits: what is kept of them, and that kernels and torch write the same."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from backend.core import Quantization
from backend.engine.frame import EagerWay, State, Way
from backend.engine.native import NativeWay
from backend.model.config import KV_BUCKET, TransformerConfig, packed_bits, transformer
from backend.model.kv_cache import KVCache
from backend.model.packed_cache import PackedCache, cache_of
from tests.engines import GREEDY
from tests.kernels_in_c import native_pool, packed

SHAPE = TransformerConfig(
    dim=32, n_layer=2, n_head=6, n_local_heads=2, head_dim=48, intermediate_size=64
)


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def written(*lengths: int, is_fine: bool = False) -> tuple[PackedCache, list[Tensor]]:
    """Rows that were written in pieces of those lengths, and keys and values [2, KV, T, D]."""
    cache, wrote = PackedCache(SHAPE, 2, is_fine=is_fine), []
    for slot in range(2):
        cache.open(slot, 1)
        x = torch.randn(2, 2, sum(lengths), SHAPE.head_dim) * torch.rand(2, 2, sum(lengths), 1)
        for piece in torch.split(x, list(lengths), dim=2):
            cache.extend([slot], piece.shape[2])
            cache.write(1, slot, *piece)
        wrote.append(x)
    return cache, wrote


@pytest.mark.parametrize("is_fine", [False, True])
@pytest.mark.parametrize("lengths", [(5, 1, 1, 60, 1, 100, 3), (1,), (16, 16), (200, 1)])
def test_each_element_is_at_most_half_a_step_off(lengths: tuple[int, ...], is_fine: bool) -> None:
    cache, wrote = written(*lengths, is_fine=is_fine)
    for slot in range(2):
        for x, found, bits in zip(
            wrote[slot], cache.past(1, slot), packed_bits(is_fine), strict=True
        ):
            assert found.shape == x.shape
            count = {16: 127 * 254, 8: 127, 6: 32}[bits]  # 16 bits are steps of half a step of 8
            steps = x.abs().amax(-1, keepdim=True) / count
            # Of six bits the one that lacks a step is a whole one off at most.
            assert ((found - x).abs() <= steps * (1.01 if bits == 6 else 0.51)).all()
            assert (found - x).abs().mean() < 0.3 * steps.mean()


@pytest.mark.parametrize(("is_fine", "share"), [(False, 0.6), (True, 0.9)])
def test_it_holds_what_the_geometry_says_and_less_than_16_bits_do(
    is_fine: bool, share: float
) -> None:
    cache = PackedCache(SHAPE, 2, is_fine=is_fine)
    cache.open(0, 100)
    assert cache.allocated_bytes == cache.geometry.row_bytes(cache.capacity(0))
    plain = KVCache(SHAPE, torch.bfloat16, torch.device("cpu"))
    assert cache.geometry.position_bytes < share * plain.geometry.position_bytes


@pytest.mark.parametrize("is_fine", [False, True])
def test_what_was_kept_of_a_row_begins_another_and_growing_keeps_it(is_fine: bool) -> None:
    cache, _ = written(40, is_fine=is_fine)
    wanted = [x[:, :21].clone() for x in cache.past(1, 0)]
    kept = cache.snapshot(0, 21)
    assert kept.nbytes == cache.geometry.row_bytes(32)
    cache.close(1)
    cache.open(1, 30)
    cache.restore(1, kept, 21)
    assert cache.length(1) == 21
    new = torch.randn(2, 2, KV_BUCKET * 3, SHAPE.head_dim)
    cache.extend([1], new.shape[2])
    cache.write(1, 1, *new)
    for found, its in zip(cache.past(1, 1), wanted, strict=True):
        assert torch.equal(found[:, :21], its)


@pytest.mark.parametrize("is_fine", [False, True])
def test_what_is_no_number_makes_none_of_its_own_position_only(is_fine: bool) -> None:
    cache, _ = written(20, is_fine=is_fine)
    cache.extend([0])
    sick = torch.ones(2, 1, SHAPE.head_dim)
    sick[0, 0, 3] = torch.nan
    cache.write(1, 0, sick, sick)
    for found in cache.past(1, 0):
        assert found[0, -1].isnan().all()
        assert not found[:, :-1].isnan().any()
        assert not found[1].isnan().any()


@pytest.mark.parametrize("quantization", ["none", "int8", "int4"])
def test_keys_and_values_are_packed_where_the_layers_are(quantization: Quantization) -> None:
    cache = cache_of(packed(quantization).model, 1)
    assert isinstance(cache, PackedCache) == (quantization != "none")


def test_those_of_a_small_model_are_finer(monkeypatch: pytest.MonkeyPatch) -> None:
    model = packed("int8").model
    small = cache_of(model, 1)
    monkeypatch.setattr(transformer, "SMALL_PARAMETERS", 0)
    large = cache_of(model, 1)
    assert isinstance(small, PackedCache) and isinstance(large, PackedCache)
    assert (small.is_fine, large.is_fine) == (True, False)


@pytest.mark.parametrize("is_fine", [False, True])
@pytest.mark.parametrize("quantization", ["int8", "int4"])
@pytest.mark.parametrize("shape", [{}, {"n_head": 8, "n_local_heads": 1}, {"head_dim": 48}])
def test_kernels_and_torch_write_and_read_the_same(
    quantization: Quantization,
    shape: dict[str, Any],
    is_fine: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each goes on in a row that the other began."""
    if not is_fine:
        monkeypatch.setattr(transformer, "SMALL_PARAMETERS", 0)
    model = packed(quantization, **shape).model
    states = [State.of(model, 2) for _ in range(2)]
    ways: list[Way] = [EagerWay(states[0]), NativeWay(states[1], native_pool())]
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(64, (150, model.config.num_codebooks), generator=generator)
    tokens = codes[:, 0] + model.semantic_begin_id
    for way, state in zip(ways, states, strict=True):
        state.cache.open(0, 150)
        state.slots.open(0, GREEDY)
        state.cache.extend([0], 149)
        way.read(0, tokens[:-1], codes[:-1])
        state.slots.begin(0, tokens[-1], codes[-1], 149)
    for wanted, found in zip(*(state.cache.past(0, 0) for state in states), strict=True):
        # What lies between two steps may fall to either.
        assert ((wanted - found).abs() < 1e-4).float().mean() > 0.99
    # The kernels read what torch wrote, and the other way round.
    for before, after in ((0, 1), (1, 0)):
        states[after].cache.close(1)
        states[after].cache.open(1, 150)
        states[after].cache.restore(1, states[before].cache.snapshot(0, 149), 149)
        states[after].slots.open(1, GREEDY)
        states[after].slots.begin(1, tokens[-1], codes[-1], 149)
    logits = []
    for way, state in zip(ways, states, strict=True):
        for slots in ([0], [1]):
            state.cache.extend(slots)
            way.frame(slots)
            logits.append(way.logits(slots)[0].clone())
    spread = logits[0].std()
    for its in logits[1:]:
        assert (its - logits[0]).abs().max() < 0.02 * spread
