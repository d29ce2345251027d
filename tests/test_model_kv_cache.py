"""Rows of keys and values: growth, leaving, and company that changes nothing."""

import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from backend.model.checkpoint import load_checkpoint
from backend.model.config import KV_BUCKET, CacheGeometry, TransformerConfig, capacities
from backend.model.dual_ar import DualAR
from backend.model.kv_cache import KVCache
from backend.model.layers import causal
from tests.tiny import tiny_checkpoint

CPU = torch.device("cpu")
SHAPE = TransformerConfig(
    dim=32, n_layer=2, n_head=6, n_local_heads=2, head_dim=8, intermediate_size=64
)


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> DualAR:
    folder: Path = tmp_path_factory.mktemp("tiny")
    return load_checkpoint(tiny_checkpoint(folder, n_head=6, n_local_heads=2)).model


def _cache(config: TransformerConfig = SHAPE, rows: int = 4) -> KVCache:
    return KVCache(config, torch.float32, CPU, rows)


def _opened(lengths: Sequence[int], most: int = sys.maxsize) -> KVCache:
    """Rows of so many positions that nothing is written to yet."""
    cache = _cache()
    for slot, length in enumerate(lengths):
        cache.open(slot, length, most)
        cache.extend([slot], length)
    return cache


def _prompt(model: DualAR, length: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 256, (length,), generator=generator)
    return tokens, torch.zeros(length, model.config.num_codebooks, dtype=torch.long)


def _frames(model: DualAR, count: int, seed: int) -> Tensor:
    size, books = model.config.codebook_size, model.config.num_codebooks
    return torch.randint(0, size, (count, books), generator=torch.Generator().manual_seed(seed))


def _alone(model: DualAR, length: int, seed: int, count: int) -> Tensor:
    """Hidden states after a prompt and each of `count` frames, from the whole grid at once."""
    (tokens, codes), frames = _prompt(model, length, seed), _frames(model, count, seed)
    tokens = torch.cat((tokens, frames[:, 0] + model.semantic_begin_id))
    return model.slow(tokens[None], torch.cat((codes, frames))[None])[0, length - 1 :]


def _read(model: DualAR, cache: KVCache, slot: int, length: int, seed: int) -> Tensor:
    """Read a prompt into `slot`: the last hidden state [1, dim]."""
    cache.open(slot, length)
    cache.extend([slot], length)
    return model.prefill(*_prompt(model, length, seed), cache, slot)


def _decode(model: DualAR, cache: KVCache, slots: Sequence[int], frames: Tensor) -> Tensor:
    """One step of `slots`, which made `frames` [B, N]: hidden states [B, dim]."""
    cache.extend(slots)
    positions = torch.tensor([cache.length(slot) - 1 for slot in slots])
    tokens = frames[:, 0] + model.semantic_begin_id
    return model.decode(tokens, frames, positions, cache, slots)


def test_an_empty_cache_takes_no_memory() -> None:
    assert _cache().allocated_bytes == 0


def test_it_holds_what_the_geometry_says_after_each_step() -> None:
    """What the plan, the leases and the scheduler count with is what is there."""
    geometry, chance = CacheGeometry.of(SHAPE, 4), random.Random(3)
    cache, rows = _cache(rows=6), dict[int, tuple[int, int, int]]()
    for _ in range(600):
        for slot in range(6):
            if slot not in rows and chance.random() < 0.05:
                prompt = chance.choice([1, 5, KV_BUCKET, 100, 300])
                most = prompt + chance.choice([0, 1, 40, 200, 1000])
                cache.open(slot, prompt, most)
                cache.extend([slot], prompt)
                rows[slot] = prompt, prompt, most
            elif slot in rows and (chance.random() < 0.01 or rows[slot][1] == rows[slot][2]):
                cache.close(slot)
                del rows[slot]
        cache.extend(list(rows))
        rows = {slot: (prompt, length + 1, most) for slot, (prompt, length, most) in rows.items()}
        assert cache.allocated_bytes == sum(
            geometry.row_bytes(capacities(*row)[-1]) for row in rows.values()
        )
        assert {slot: cache.length(slot) for slot in rows} == {s: r[1] for s, r in rows.items()}
    for slot in list(rows):
        cache.close(slot)
    assert cache.allocated_bytes == 0


def test_a_kernel_finds_each_row_where_it_is() -> None:
    cache = _opened([5, 70])
    cache.extend([0], 3 * KV_BUCKET)
    for slot in range(2):
        keys, _ = cache.past(0, slot)
        assert cache.table[slot].tolist() == [keys.data_ptr(), cache.capacity(slot)]


def test_it_grows_by_half_and_not_past_what_it_can_need() -> None:
    cache = _opened([4 * KV_BUCKET], most=20 * KV_BUCKET)
    seen = []
    for _ in range(16 * KV_BUCKET):
        cache.extend([0])
        seen.append(cache.capacity(0))
    assert cache.length(0) == 20 * KV_BUCKET
    assert seen[0] == 5 * KV_BUCKET
    assert len(set(seen)) <= 5
    assert seen[-1] == 20 * KV_BUCKET
    cache.extend([0])  # more than it said: it is held all the same
    assert cache.capacity(0) == 21 * KV_BUCKET


def test_growing_keeps_what_was_written_and_touches_no_other_row() -> None:
    cache = _opened([5, 5])
    written = torch.randn(2, SHAPE.n_layer, 2, 2, 5, 8)
    for slot in range(2):
        for layer in range(SHAPE.n_layer):
            for place, tensor in zip(cache.past(layer, slot), written[slot, layer], strict=True):
                place[:] = tensor
    where = cache.table[1].tolist()
    cache.extend([0], 3 * KV_BUCKET)
    assert cache.table[1].tolist() == where
    for slot in range(2):
        for layer in range(SHAPE.n_layer):
            for place, tensor in zip(cache.past(layer, slot), written[slot, layer], strict=True):
                assert torch.equal(place[:, :5], tensor)


def test_what_was_kept_of_a_row_begins_another() -> None:
    cache = _opened([20])
    for layer in range(SHAPE.n_layer):
        for place in cache.past(layer, 0):
            place.copy_(torch.randn(place.shape))
    kept = cache.snapshot(0, 12)
    cache.open(1, 30)
    cache.restore(1, kept, 12)
    assert cache.length(1) == 12
    for layer in range(SHAPE.n_layer):
        for mine, other in zip(cache.past(layer, 1), cache.past(layer, 0), strict=True):
            assert torch.equal(mine, other[:, :12])
    cache.past(0, 1)[0].fill_(0)  # a copy: who it is from goes on as before
    assert cache.past(0, 0)[0].any()
    assert kept.any()


def test_a_slot_is_free_again_when_its_row_is_closed() -> None:
    cache = _opened([4, 9])
    cache.close(0)
    cache.close(0)
    cache.open(0, 6)
    assert (cache.length(0), cache.length(1)) == (0, 9)
    cache.extend([1], 2)
    cache.shorten([1])
    assert cache.length(1) == 10


@pytest.mark.parametrize("lengths", [(7, 7, 7), (3, 12, 8)])
def test_grouped_queries_see_their_own_head_and_row(lengths: tuple[int, ...]) -> None:
    cache, past = _opened(lengths), [torch.randn(2, 2, length, 8) for length in lengths]
    for slot, written in enumerate(past):
        for place, tensor in zip(cache.past(0, slot), written, strict=True):
            place[:] = tensor
    q, k, v = torch.randn(3, 6, 1, 8), torch.randn(3, 2, 1, 8), torch.randn(3, 2, 1, 8)
    cache.extend(range(3))
    y = cache.attend_one(0, range(3), q, k, v)
    for row, (old_k, old_v) in enumerate(past):
        keys = torch.cat((old_k, k[row]), dim=1).repeat_interleave(3, dim=0)
        values = torch.cat((old_v, v[row]), dim=1).repeat_interleave(3, dim=0)
        weights = (q[row] @ keys.mT / 8**0.5).softmax(-1)
        torch.testing.assert_close(y[row], weights @ values, rtol=0, atol=1e-6)


def test_ragged_rows_that_join_and_leave_equal_each_row_alone(model: DualAR) -> None:
    """Prompts of 5, 70 and 23; the third joins after 40 frames, the first leaves after 60."""
    total = 90
    lengths, joins, leaves = (5, 70, 23), (0, 0, 40), (60, total, total)
    wanted = [_alone(model, n, seed, total) for seed, n in enumerate(lengths)]
    frames = [_frames(model, total, seed) for seed in range(3)]
    cache, made, worst = _cache(model.config.slow), [0, 0, 0], 0.0

    for step in range(total):
        for who in [who for who in range(3) if joins[who] == step]:
            hidden = _read(model, cache, who, lengths[who], who)
            worst = max(worst, (hidden[0] - wanted[who][0]).abs().max().item())
        for who in [who for who in range(3) if leaves[who] == step]:
            cache.close(who)
        rows = [who for who in (2, 0, 1) if joins[who] <= step < leaves[who]]
        new = torch.stack([frames[who][made[who]] for who in rows])
        for who, hidden in zip(rows, _decode(model, cache, rows, new), strict=True):
            made[who] += 1
            worst = max(worst, (hidden - wanted[who][made[who]]).abs().max().item())
    assert made == [60, 90, 50]
    assert worst < 2e-5


def test_causal_attention_groups_queries() -> None:
    q, k, v = torch.randn(1, 6, 9, 8), torch.randn(1, 2, 9, 8), torch.randn(1, 2, 9, 8)
    y = causal(q, k, v)
    keys, values = k.repeat_interleave(3, dim=1), v.repeat_interleave(3, dim=1)
    scores = (q @ keys.mT / 8**0.5).masked_fill(~torch.ones(9, 9).tril().bool(), -torch.inf)
    torch.testing.assert_close(y, scores.softmax(-1) @ values, rtol=0, atol=1e-6)


@pytest.mark.parametrize("rows_that_fit", range(3))
def test_a_want_of_memory_midway_counts_nothing_and_can_be_tried_again(
    monkeypatch: pytest.MonkeyPatch, model: DualAR, rows_that_fit: int
) -> None:
    count, lengths, rows = 70, (40, 50, 45), range(3)
    expected = [_alone(model, length, seed, count) for seed, length in enumerate(lengths)]
    frames = torch.stack([_frames(model, count, seed) for seed in rows], dim=1)
    cache = _cache(model.config.slow)
    for seed, length in enumerate(lengths):
        _read(model, cache, seed, length, seed)
    empty, made = torch.empty, 0

    def scarce(*arguments: Any, **options: Any) -> Tensor:
        nonlocal made
        made += 1
        if made > rows_that_fit:
            raise MemoryError
        return empty(*arguments, **options)

    refused = 0
    for step, frame in enumerate(frames):
        before = [cache.length(slot) for slot in rows]
        made = 0
        with monkeypatch.context() as patch:
            patch.setattr(torch, "empty", scarce)
            try:
                cache.extend(rows, KV_BUCKET * 2)  # all would have to grow
            except MemoryError:
                refused += 1
                assert [cache.length(slot) for slot in rows] == before
            else:
                cache.shorten(rows, KV_BUCKET * 2)
        for slot, hidden in enumerate(_decode(model, cache, rows, frame)):
            torch.testing.assert_close(hidden, expected[slot][step + 1], rtol=0, atol=1e-4)
    assert refused
