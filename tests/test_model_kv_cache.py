"""Rows of keys and values: growth, leaving, and company that changes nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from backend.model.checkpoint import load_checkpoint
from backend.model.config import KV_BUCKET, TransformerConfig
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


def _cache(config: TransformerConfig = SHAPE) -> KVCache:
    return KVCache(config, torch.float32, CPU)


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


def test_an_empty_cache_takes_no_memory() -> None:
    assert _cache().allocated_bytes == 0


def test_capacity_is_what_is_needed_in_whole_buckets() -> None:
    cache = _cache()
    cache.add_row(KV_BUCKET + 1)
    assert cache.capacity == 2 * KV_BUCKET
    assert cache.allocated_bytes == SHAPE.kv_bytes_per_position(4) * 2 * KV_BUCKET


def test_it_does_not_grow_past_what_its_rows_can_need() -> None:
    cache = _cache()
    cache.add_row(4 * KV_BUCKET, most=4 * KV_BUCKET + 1)
    cache.advance()
    assert cache.capacity == 5 * KV_BUCKET
    cache.advance()  # more than it said: it is held all the same
    cache.add_row(6 * KV_BUCKET, most=7 * KV_BUCKET)
    assert cache.capacity == 7 * KV_BUCKET
    cache.remove_row(0)
    for _ in range(KV_BUCKET):
        cache.advance()
    assert (cache.lengths, cache.capacity) == ([7 * KV_BUCKET], 7 * KV_BUCKET)


def test_it_grows_by_half_and_not_at_every_step() -> None:
    cache = _cache()
    cache.add_row(4 * KV_BUCKET)
    seen = []
    for _ in range(16 * KV_BUCKET):
        cache.advance()
        seen.append(cache.capacity)
    assert cache.lengths == [20 * KV_BUCKET]
    assert seen[0] == 6 * KV_BUCKET
    assert len(set(seen)) <= 5
    assert all(capacity % KV_BUCKET == 0 for capacity in seen)
    assert seen[-1] <= 20 * KV_BUCKET * 3 // 2


def test_growing_keeps_what_was_written() -> None:
    cache = _cache()
    row = cache.add_row(5)
    k, v = torch.randn(2, 1, 2, 5, 8)
    for layer in range(2):
        cache.write_row(layer, row, k + layer, v - layer)
    cache.add_row(KV_BUCKET * 3)
    for layer in range(2):
        assert torch.equal(cache._keys[layer][row, :, :5], k[0] + layer)
        assert torch.equal(cache._values[layer][row, :, :5], v[0] - layer)


def test_the_last_row_takes_the_place_of_one_that_leaves() -> None:
    cache = _cache()
    written = []
    for length in (4, 9, 6):
        k, v = torch.randn(2, 1, 2, length, 8)
        row = cache.add_row(length)
        for layer in range(2):
            cache.write_row(layer, row, k, v)
        written.append((k, v))
    cache.remove_row(0)
    assert cache.lengths == [6, 9]
    for row, (k, v) in ((0, written[2]), (1, written[1])):
        assert torch.equal(cache._keys[1][row, :, : k.shape[2]], k[0])
        assert torch.equal(cache._values[1][row, :, : v.shape[2]], v[0])
    cache.remove_row(1)
    assert cache.lengths == [6]
    cache.remove_row(0)
    assert (cache.lengths, cache.allocated_bytes, cache.capacity) == ([], 0, 0)


@pytest.mark.parametrize("lengths", [(7, 7, 7), (3, 12, 8)])
def test_grouped_queries_see_their_own_head_and_row(lengths: tuple[int, ...]) -> None:
    cache = _cache()
    past = [torch.randn(2, 1, 2, length, 8) for length in lengths]
    for length, (k, v) in zip(lengths, past, strict=True):
        cache.write_row(0, cache.add_row(length), k, v)
    q, k, v = torch.randn(3, 6, 1, 8), torch.randn(3, 2, 1, 8), torch.randn(3, 2, 1, 8)
    positions = torch.tensor(lengths)
    cache.advance()
    y = cache.attend_one(0, q, k, v, positions, cache.mask(positions))
    for row, (old_k, old_v) in enumerate(past):
        keys = torch.cat((old_k[0], k[row]), dim=1).repeat_interleave(3, dim=0)
        values = torch.cat((old_v[0], v[row]), dim=1).repeat_interleave(3, dim=0)
        weights = (q[row] @ keys.mT / 8**0.5).softmax(-1)
        torch.testing.assert_close(y[row], weights @ values, rtol=0, atol=1e-6)


def test_rows_of_one_length_need_no_mask() -> None:
    cache = _cache()
    cache.add_row(5)
    cache.add_row(5)
    assert cache.mask(torch.tensor([4, 4])) is None
    cache.add_row(6)
    mask = cache.mask(torch.tensor([4, 4, 5]))
    assert mask is not None
    assert mask.sum(-1).flatten().tolist() == [5, 5, 6]


def test_ragged_rows_that_join_and_leave_equal_each_row_alone(model: DualAR) -> None:
    """Prompts of 5, 70 and 23; the third joins after 40 frames, the first leaves after 60."""
    total = 90
    lengths, joins, leaves = (5, 70, 23), (0, 0, 40), (60, total, total)
    wanted = [_alone(model, n, seed, total) for seed, n in enumerate(lengths)]
    frames = [_frames(model, total, seed) for seed in range(3)]
    cache = _cache(model.config.slow)
    rows: list[int] = []  # which sequence each row of the cache holds
    made = [0, 0, 0]
    worst = 0.0

    for step in range(total):
        for who in [who for who in range(3) if joins[who] == step]:
            rows.append(who)
            row = cache.add_row(lengths[who])
            hidden = model.prefill(*_prompt(model, lengths[who], who), cache, row)
            worst = max(worst, (hidden[0] - wanted[who][0]).abs().max().item())
        for who in [who for who in rows if leaves[who] == step]:
            row = rows.index(who)
            cache.remove_row(row)
            rows[row] = rows[-1]
            rows.pop()
        cache.advance()
        positions = torch.tensor(cache.lengths) - 1
        new = torch.stack([frames[who][made[who]] for who in rows])
        for who, hidden in zip(rows, model.decode(new, positions, cache), strict=True):
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


def test_rows_that_left_take_no_memory_once_it_grows() -> None:
    cache = _cache()
    for _ in range(4):
        cache.add_row(KV_BUCKET)
    for _ in range(3):
        cache.remove_row(0)
    before = cache.allocated_bytes
    cache.advance()
    assert cache.allocated_bytes == SHAPE.kv_bytes_per_position(4) * cache.capacity < before


@pytest.mark.parametrize("room", range(1, 8))
def test_a_want_of_memory_midway_is_over_when_the_newcomer_has_left(
    monkeypatch: pytest.MonkeyPatch, model: DualAR, room: int
) -> None:
    count = 70
    expected = _alone(model, 40, 1, count)
    frames = _frames(model, count, 1)
    cache = KVCache(model.config.slow, torch.float32, CPU)
    cache.add_row(40)
    found = [model.prefill(*_prompt(model, 40, 1), cache, 0)[0]]
    zeros, made = torch.zeros, 0

    def scarce(*arguments: Any, **options: Any) -> Tensor:
        nonlocal made
        made += 1
        if made > room % (2 * model.config.slow.n_layer):
            raise MemoryError
        return zeros(*arguments, **options)

    for step, frame in enumerate(frames):
        if step == 5:  # a long one wants to join, and some layers have grown for it in vain
            with monkeypatch.context() as patch:
                patch.setattr(torch, "zeros", scarce)
                with pytest.raises(MemoryError):
                    cache.add_row(10 * KV_BUCKET)
        cache.advance()
        position = torch.tensor([40 + step])
        found.append(model.decode(frame[None], position, cache)[0])
    assert torch.allclose(torch.stack(found), expected, atol=1e-4)
