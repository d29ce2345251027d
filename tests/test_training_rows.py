import json

import numpy as np
import pytest
import torch

from backend.settings import SHIPPED_VOICE_DIR
from training.demo_voice.recipe import Recipe, demo_tokenizer
from training.demo_voice.rows import Batch, Rows
from training.demo_voice.shards import Utterance

FRAME_RATE_HZ = 21.5
WIDTH = 640


def batch(speaker_id: int, frames: int = 60) -> Batch:
    """Rows over forty sentences of one speaker; the semantic code of frame n is n modulo 1,000."""
    utterances = [Utterance(f"Sentence {n}.", speaker_id, n * frames, frames) for n in range(40)]
    semantic = (np.arange(40 * frames) % 1000).astype(np.int16)
    rows = Rows(utterances, semantic, WIDTH, FRAME_RATE_HZ, seed=0)
    return next(rows.batches(4))


@pytest.mark.parametrize("speaker_id", [0, 7])
def test_a_row_is_what_the_server_prompts_with(speaker_id: int) -> None:
    made, tokenizer = batch(speaker_id), demo_tokenizer()
    begin = tokenizer.semantic_begin_id
    spoken = made.frames >= 0
    assert made.tokens.shape == made.frames.shape == (4, WIDTH + 1)
    assert (made.tokens[:, 0] == tokenizer.control("<|interleave|>")[0]).all()
    assert (made.tokens[:, 1] == tokenizer.control("<|speaker:0|>")[0]).all()
    assert torch.equal(made.tokens >= begin, spoken)
    assert torch.equal(made.tokens[spoken].int() - begin, made.frames[spoken] % 1000)


def test_only_frames_and_ends_are_learnt() -> None:
    made, tokenizer = batch(0), demo_tokenizer()
    following = made.tokens[:, 1:]
    legal = (following >= tokenizer.semantic_begin_id) | (following == tokenizer.im_end_id)
    assert made.learnt.any(dim=1).all()
    assert not (made.learnt & ~legal).any()


def test_others_are_learnt_behind_a_reference_only() -> None:
    default, other = batch(0), batch(7)
    first = (default.frames[:, 1:] >= 0).int().argmax(dim=1)
    assert default.learnt.gather(1, first[:, None]).all(), "the default voice needs no reference"
    for frames, learnt in zip(other.frames[:, 1:], other.learnt, strict=True):
        unlearnt = (frames >= 0) & ~learnt
        before = int(learnt.int().argmax())
        assert not unlearnt[before:].any()
        assert 3 * FRAME_RATE_HZ <= int(unlearnt.sum()) <= 15 * FRAME_RATE_HZ + 60


def test_made_up_languages_are_followed_and_never_learnt() -> None:
    utterances = [Utterance(f"Line {n}.", 7, 60 * n, 60, foreign=n < 4) for n in range(40)]
    rows = Rows(utterances, np.zeros(40 * 60, np.int16), WIDTH, FRAME_RATE_HZ, seed=0)
    batches = rows.batches(4)
    followed = 0
    for made in (next(batches) for _ in range(20)):
        foreign = (made.frames[:, 1:] >= 0) & (made.frames[:, 1:] < 4 * 60)
        assert not (foreign & made.learnt).any()
        followed += int(foreign.any(1).sum())
    assert 4 <= followed <= 28, "about 15 % of 80 rows"


def test_the_recipe_is_what_ships() -> None:
    recipe = Recipe()
    for name, part in (("config", recipe.transformer), ("codec", recipe.codec)):
        shipped = json.loads((SHIPPED_VOICE_DIR / f"{name}.json").read_text("utf-8"))
        assert shipped == json.loads(json.dumps(part.to_json()))
    weights = sum(file.stat().st_size for file in SHIPPED_VOICE_DIR.iterdir())
    assert weights < 36e6
