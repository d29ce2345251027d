"""How long rows of keys and values are: properties that hold of every prompt and every length."""

import itertools
import random

import pytest

from backend.model.config import (
    KV_BUCKET,
    CacheGeometry,
    TransformerConfig,
    capacities,
    first_capacity,
    grown_capacity,
    last_capacity,
)

CHANCE = random.Random(11)
EDGES = [1, 2, KV_BUCKET - 1, KV_BUCKET, KV_BUCKET + 1, 2 * KV_BUCKET, 500, 8192]
ROWS = [(prompt, prompt + more) for prompt in EDGES for more in (0, 1, *EDGES)]
ROWS += [(CHANCE.randint(1, 3000), CHANCE.randint(1, 9000)) for _ in range(300)]
"""Prompts, and the most that their rows can come to hold; some prompts are longer than that."""
SHAPE = TransformerConfig(
    dim=32, n_layer=3, n_head=4, n_local_heads=2, head_dim=8, intermediate_size=64
)


def rows_that_grow() -> list[tuple[int, int]]:
    return [(prompt, most) for prompt, most in ROWS if prompt <= most]


def test_a_capacity_is_the_whole_buckets_that_hold_the_row() -> None:
    for prompt, most in ROWS:
        grown = capacities(prompt, most, most)
        assert all(capacity % KV_BUCKET == 0 for capacity in grown)
        assert grown[0] == first_capacity(prompt, most) >= prompt
        assert grown[-1] >= most
        assert 0 <= last_capacity(most) - most < KV_BUCKET


def test_a_row_ends_with_what_it_can_come_to_hold_whatever_its_prompt_was() -> None:
    for prompt, most in rows_that_grow():
        assert capacities(prompt, most, most)[-1] == last_capacity(most)


def test_a_row_begins_with_a_bucket_to_spare() -> None:
    for prompt, most in rows_that_grow():
        first = first_capacity(prompt, most)
        assert first >= min(prompt + KV_BUCKET, most)
        assert first - prompt < 2 * KV_BUCKET


def test_it_grows_by_half_but_for_the_last_time() -> None:
    for prompt, most in rows_that_grow():
        grown = capacities(prompt, most, most)
        for before, after in itertools.pairwise(grown[:-1]):
            assert 3 * before <= 2 * after < 3 * before + 2 * KV_BUCKET
        assert all(before < after for before, after in itertools.pairwise(grown))


def test_copying_stays_in_proportion_to_what_is_written() -> None:
    for prompt, most in rows_that_grow():
        *copied, last = capacities(prompt, most, most)
        assert sum(copied) <= 3 * last


def test_a_row_on_its_way_has_no_more_than_half_again_and_a_bucket_or_two() -> None:
    for prompt, most in rows_that_grow():
        for length in (prompt, (prompt + most) // 2, most):
            room = capacities(prompt, length, most)[-1]
            assert length <= room <= last_capacity(most)
            assert room < max(prompt + 2 * KV_BUCKET, length * 3 // 2 + KV_BUCKET)


def test_a_longer_row_never_has_less() -> None:
    for prompt, most in rows_that_grow():
        lengths = range(prompt, most + 1, max(1, (most - prompt) // 9))
        rooms = [capacities(prompt, length, most)[-1] for length in lengths]
        assert rooms == sorted(rooms)


def test_a_row_that_holds_more_than_it_said_is_held_all_the_same() -> None:
    assert grown_capacity(last_capacity(100), 100) == last_capacity(100) + KV_BUCKET
    assert first_capacity(200, 100) == last_capacity(200)


# --- bytes


def test_bytes_are_those_of_the_tensor() -> None:
    geometry = CacheGeometry.of(SHAPE, 2)
    layers, pair, heads, width = 3, 2, 2, 8
    assert geometry.row_bytes(128) == layers * pair * heads * 128 * width * 2


def test_while_a_row_grows_the_old_and_the_new_stand_side_by_side() -> None:
    geometry = CacheGeometry(10)
    for prompt, most in rows_that_grow():
        room = first_capacity(prompt, most)
        beside = 0
        for length in range(prompt, most + 1):
            if length > room:  # the runner's step by step, against the sum
                beside, room = max(beside, 10 * room), grown_capacity(room, most)
        assert geometry.growing_bytes(prompt, most, most) == beside


# --- who fits


@pytest.mark.parametrize("seed", range(20))
def test_rows_that_were_let_in_never_hold_more_than_the_limit(seed: int) -> None:
    """Rows join, grow each at its own pace and leave; what all have room for is added up."""
    chance = random.Random(seed)
    geometry, limit_bytes = CacheGeometry(7), 7 * 20 * KV_BUCKET
    running: list[tuple[int, int, int]] = []  # prompt, length, most
    together = refused = 0
    for _ in range(400):
        prompt = chance.randint(1, 300)
        newcomer = prompt + chance.randint(0, 500)
        if geometry.fits([most for *_, most in running], newcomer, limit_bytes):
            running.append((prompt, prompt, newcomer))
        else:
            refused += 1
        running = [(p, min(n + chance.randint(0, 90), most), most) for p, n, most in running]
        held = sum(geometry.row_bytes(capacities(*row)[-1]) for row in running)
        assert held <= geometry.held_bytes(most for *_, most in running) <= limit_bytes
        together = max(together, len(running))
        if len(running) > chance.randint(0, 9):
            running.pop(chance.randrange(len(running)))
    assert together > 2 and refused > 10


def test_the_last_byte_is_given_out_and_no_more() -> None:
    geometry = CacheGeometry(3)
    running = [100, 200]
    held_bytes = 3 * (128 + 256)
    for newcomer in (1, KV_BUCKET):
        enough = held_bytes + 3 * KV_BUCKET
        assert geometry.fits(running, newcomer, enough)
        assert not geometry.fits(running, newcomer, enough - 1)
    assert not geometry.fits(running, KV_BUCKET + 1, enough)


def test_what_is_alone_always_fits_and_without_a_limit_all_do() -> None:
    geometry = CacheGeometry(1000)
    assert geometry.fits([], 8192, 1)
    assert not geometry.fits([1], 1, 1)
    assert geometry.fits([8192] * 1000, 8192, None)
