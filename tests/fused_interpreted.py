"""The fused way's kernels, run by Triton's interpreter; `tests/test_engine_fused.py` starts this.

Whether Triton compiles or interprets is settled when it is imported: hence a process of its own.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from backend.core import SamplingParams
from backend.engine.frame import EagerWay, State, Way
from backend.engine.fused import FusedWay
from backend.model.checkpoint import load_checkpoint
from backend.model.dual_ar import DualAR
from tests.draws import random_draws
from tests.tiny import tiny_checkpoint

# Lanes that are masked off are computed all the same, and thrown away.
pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")

assert os.environ["TRITON_INTERPRET"] == "1"

GREEDY = SamplingParams(0.0, 1.0, 1.0)
SAMPLINGS = (GREEDY, SamplingParams(0.7, 0.7, 1.1, 1), SamplingParams(1.0, 1.0, 1.5, 2))
PIECE = 6
"""Tokens of a prompt that are read at once."""


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def tiny_model(folder: Path, **overrides: Any) -> DualAR:
    return load_checkpoint(tiny_checkpoint(folder, end_scale=0.0, **overrides)).model


def read(way: Way, state: State, lengths: list[int]) -> None:
    """Read a random prompt of each length, in pieces."""
    generator = torch.Generator().manual_seed(0)
    for slot, length in enumerate(lengths):
        codes = torch.randint(64, (length, state.model.config.num_codebooks), generator=generator)
        tokens = codes[:, 0] + state.model.semantic_begin_id
        state.cache.open(slot, length)
        state.slots.open(slot, SAMPLINGS[slot])
        for begin in range(0, length - 1, PIECE):
            end = min(begin + PIECE, length - 1)
            state.cache.extend([slot], end - begin)
            way.read(slot, tokens[begin:end], codes[begin:end])
        state.slots.begin(slot, tokens[-1], codes[-1], length - 1)


def agree(model: DualAR, lengths: list[int], frames: list[list[int]]) -> None:
    """Let both ways read prompts and make a frame of each of the lists of slots."""
    states = [State.of(model, len(lengths)) for _ in range(2)]
    # The eager one first: the other lays the weights out anew, to the same numbers.
    ways: tuple[Way, Way] = (EagerWay(states[0]), FusedWay(states[1]))
    for way, state in zip(ways, states, strict=True):
        read(way, state, lengths)
    for slots in frames:
        codes, logits = [], []
        for way, state in zip(ways, states, strict=True):
            state.cache.extend(slots)
            codes.append(way.frame(slots).clone())
            logits.append(way.logits(slots))
        assert torch.equal(*codes)
        for wanted, found in zip(*logits, strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
    for name in ("tokens", "codes", "positions", "frames", "history"):
        wanted, found = (getattr(state.slots, name)[: len(lengths)] for state in states)
        assert torch.equal(found, wanted), name
    for slot in range(len(lengths)):
        for layer in range(model.config.slow.n_layer):
            wanted, found = (torch.stack(state.cache.past(layer, slot)) for state in states)
            torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


def test_three_rows_and_one(tmp_path: Path) -> None:
    agree(tiny_model(tmp_path), [7, 2, 9], [[0, 1, 2], [1], [2, 0]])


@pytest.mark.parametrize("book", [0, 2])
def test_codes_are_drawn_as_the_sampler_draws_them(tmp_path: Path, book: int) -> None:
    model = tiny_model(tmp_path)
    state = State.of(model, 90)
    way, (logits, wanted) = FusedWay(state), random_draws(state, book)
    way._put(list(range(90)))
    way._logits_of(90)[book, :, : logits.shape[1]] = logits
    way._sample(book, 90)
    assert torch.equal(way._made[:, book], wanted)
    assert wanted[7] == -1
    assert len(set(wanted.tolist())) > 20
