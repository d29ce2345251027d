"""Logits and greedy speech of the transformer."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from backend.model.checkpoint import Checkpoint
from backend.model.dual_ar import DualAR, FastFrame
from backend.model.kv_cache import KVCache
from tests.parity.cases import GREEDY_FRAMES, TEACHER_FRAMES
from tests.parity.oracle import Arrays

Record = Callable[[str, object], None]

TOLERANCE = 1e-4
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _no_gradients() -> object:
    with torch.inference_mode():
        yield


def _grid(array: object) -> tuple[Tensor, Tensor]:
    """[1 + N, T] as the package lays it -> tokens [T] and codes [T, N]."""
    grid = torch.from_numpy(np.asarray(array)).long()
    return grid[0], grid[1:].T.contiguous()


def _legal(model: DualAR, logits: object) -> Tensor:
    full = torch.from_numpy(np.asarray(logits))
    begin = model.semantic_begin_id
    semantic = full[:, begin : begin + model.config.codebook_size]
    return torch.cat((semantic, full[:, model.end_id, None]), dim=1)


def _difference(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    assert theirs.std() > 0.1, "nothing to compare"
    return (ours - theirs).abs().max().item()


def _cached_hidden(model: DualAR, tokens: Tensor, codes: Tensor) -> Tensor:
    """Hidden states of the last frames, as generation computes them: prefill, then step by step."""
    cache = KVCache(model.config.slow, torch.float32, CPU)
    prompt = len(tokens) - TEACHER_FRAMES
    cache.open(0, prompt)
    cache.extend([0], prompt)
    hidden = [model.prefill(tokens[:prompt], codes[:prompt], cache, 0)]
    for position in range(prompt, len(tokens)):
        cache.extend([0])
        given = tokens[position, None], codes[position, None]
        hidden.append(model.decode(*given, torch.tensor([position]), cache, [0]))
    return torch.cat(hidden)


@pytest.mark.parametrize("references", [0, 2])
def test_slow_logits(
    loaded: dict[str, Checkpoint],
    answers: Arrays,
    name: str,
    references: int,
    record_property: Record,
) -> None:
    model, key = loaded[name].model, f"{name}/logits{references}"
    tokens, codes = _grid(answers[f"{key}/grid"])
    theirs = _legal(model, answers[f"{key}/slow"])
    whole = model.slow_logits(model.slow(tokens[None], codes[None])[0])
    stepwise = model.slow_logits(_cached_hidden(model, tokens, codes))
    found = _difference(whole, theirs), _difference(stepwise, theirs[-TEACHER_FRAMES - 1 :])
    print(f"{key}: slow logits differ by {found[0]:.1e} whole, {found[1]:.1e} step by step")
    record_property("max_abs_difference", max(found))
    assert max(found) <= TOLERANCE


@pytest.mark.parametrize("references", [0, 2])
def test_fast_logits(
    loaded: dict[str, Checkpoint],
    answers: Arrays,
    name: str,
    references: int,
    record_property: Record,
) -> None:
    model, key = loaded[name].model, f"{name}/logits{references}"
    tokens, codes = _grid(answers[f"{key}/grid"])
    theirs = torch.from_numpy(answers[f"{key}/fast"])
    hidden = model.slow(tokens[None], codes[None])[0, -TEACHER_FRAMES - 1 : -1]
    frames = codes[-TEACHER_FRAMES:]
    whole = model.fast(hidden, frames)[:, 1:]
    frame = FastFrame(model)
    steps = [frame.start(hidden, frames[:, 0])]
    steps += [frame.step(book, frames[:, book]) for book in range(1, frames.shape[1] - 1)]
    found = _difference(whole, theirs), _difference(torch.stack(steps, dim=1), theirs)
    print(f"{key}: fast logits differ by {found[0]:.1e} whole, {found[1]:.1e} step by step")
    record_property("max_abs_difference", max(found))
    assert max(found) <= TOLERANCE


def _best(logits: Tensor) -> tuple[Tensor, float]:
    """The likeliest column of logits [1, V] and by how much it leads."""
    (first, second), order = logits[0].topk(2)
    return order[:1], (first - second).item()


def _speak(
    model: DualAR, tokens: Tensor, codes: Tensor, frames: int
) -> tuple[Tensor, float, float]:
    """Greedy frames [frames, N]; the smallest lead of a semantic and of a residual choice."""
    config = model.config
    cache, frame = KVCache(config.slow, torch.float32, CPU), FastFrame(model)
    cache.open(0, len(tokens))
    cache.extend([0], len(tokens))
    hidden = model.prefill(tokens, codes, cache, 0)
    made: list[Tensor] = []
    slow_leads, fast_leads = [], []
    for position in range(len(tokens), len(tokens) + frames):
        code, lead = _best(model.slow_logits(hidden))
        assert code.item() != model.end_column
        books, logits = [code], frame.start(hidden, code)
        slow_leads.append(lead)
        for book in range(1, config.num_codebooks):
            code, lead = _best(logits[:, : config.residual_codebook_size])
            books.append(code)
            fast_leads.append(lead)
            if book + 1 < config.num_codebooks:
                logits = frame.step(book, code)
        made.append(torch.cat(books))
        cache.extend([0])
        given = made[-1][None, 0] + model.semantic_begin_id, made[-1][None]
        hidden = model.decode(*given, torch.tensor([position]), cache, [0])
    return torch.stack(made), min(slow_leads), min(fast_leads)


@pytest.mark.parametrize("references", [0, 2])
def test_greedy_speech(
    loaded: dict[str, Checkpoint],
    answers: Arrays,
    name: str,
    references: int,
    record_property: Record,
) -> None:
    model, key = loaded[name].model, f"{name}/greedy{references}"
    prompt = int(answers[f"{key}/prompt"])
    tokens, codes = _grid(answers[f"{key}/grid"])
    assert len(tokens) > prompt + GREEDY_FRAMES
    ours, slow_lead, fast_lead = _speak(model, tokens[:prompt], codes[:prompt], GREEDY_FRAMES)
    theirs = slice(prompt, prompt + GREEDY_FRAMES)
    distinct = len({tuple(frame) for frame in ours.tolist()})
    print(f"{key}: smallest lead {slow_lead:.1e} slow, {fast_lead:.1e} fast; {distinct} distinct")
    record_property("smallest_slow_margin", slow_lead)
    record_property("smallest_fast_margin", fast_lead)
    record_property("distinct_frames", distinct)
    assert torch.equal(ours[:, 0] + model.semantic_begin_id, tokens[theirs])
    assert torch.equal(ours, codes[theirs])
    assert distinct > 16, "a sequence that repeats itself proves little"
