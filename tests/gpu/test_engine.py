"""The engine on a CUDA device against the CPU's; `forced` says what is compared."""

import gc
import warnings

import pytest
import torch

from backend.core import Quantization, SamplingParams
from backend.engine.engine import Engine
from backend.engine.prompt import Prompt
from backend.engine.runner import Runner
from backend.engine.sequence import Sequence
from tests.gpu.forced import (
    FRAMES,
    GPU,
    GREEDY,
    TEXTS,
    agreement,
    drawn,
    prompts,
    said,
    voice,
)

pytestmark = GPU

ALLOWED = {"fp32": (1e-3, 0.999), "fp16": (0.05, 0.97), "bf16": (0.3, 0.9)}
"""Of each precision, the largest difference of a logit in standard deviations, and the least share
of greedy codes that stay the same. The voice is trained: few of its choices are close."""


@pytest.mark.parametrize("precision", ALLOWED)
def test_each_step_is_that_of_the_cpu(precision: str) -> None:
    most_error, least_same = ALLOWED[precision]
    for rows in ([0], [0, 1, 2]):
        wanted = drawn(voice("cpu", "fp32").model, rows)
        result = agreement(wanted, drawn(voice("cuda", precision).model, rows))
        print(precision, len(rows), "rows:", result)
        assert result.worst_error <= most_error
        assert result.same_codes >= least_same


@pytest.mark.parametrize("quantization", ["int8", "int4"])
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_quantized_weights_compute_what_they_do_on_the_cpu(
    precision: str, quantization: Quantization
) -> None:
    wanted = drawn(voice("cpu", "fp32", quantization).model, [0, 1])
    result = agreement(wanted, drawn(voice("cuda", precision, quantization).model, [0, 1]))
    print(precision, quantization, result)
    assert result.worst_error <= 0.4
    assert result.same_codes >= 0.9


@pytest.mark.parametrize("precision", ALLOWED)
def test_a_row_is_the_same_alone_and_in_company(precision: str) -> None:
    model = voice("cuda", precision).model
    alone, company = drawn(model, [1]), drawn(model, [0, 1, 2])
    result = agreement(alone, company, slice(1, 2))
    assert result.worst_error <= ALLOWED[precision][0]
    assert result.same_codes >= ALLOWED[precision][1]


@pytest.mark.parametrize("precision", ALLOWED)
@torch.inference_mode()
def test_a_prompt_read_whole_is_one_read_frame_by_frame(precision: str) -> None:
    model = voice("cuda", precision).model
    prompt, spoken = prompts()[0], said()[0]
    runner, hidden = Runner(model, 1), []
    runner.prefill(prompt, GREEDY, len(prompt) + FRAMES)
    for frame in spoken:
        runner._rows.codes[0] = frame.to("cuda")
        runner._cache.advance()
        state = runner._rows.codes[:1], runner._rows.positions[:1]
        hidden.append(runner._eager.hidden(*state, runner._cache))
        runner._rows.record(slice(0, 1), frame[None].to("cuda"))
    whole = Prompt(
        torch.cat((prompt.tokens, spoken[:, 0] + model.semantic_begin_id)),
        torch.cat((prompt.codes, spoken)),
    )
    tokens, codes = whole.tokens.to("cuda"), whole.codes.to("cuda")
    cache = Runner(model, 1)._cache
    cache.add_row(len(whole))
    last = model.prefill(tokens, codes, cache, 0)
    error = (model.slow_logits(last) - model.slow_logits(hidden[-1])).abs().max()
    assert float(error) <= ALLOWED[precision][0] * float(model.slow_logits(last).float().std())


def test_greedy_speech_is_that_of_the_cpu() -> None:
    engine = Engine(voice("cuda", "fp32").model, 4)
    asked = [Sequence(p, GREEDY, FRAMES, 2048) for p in prompts()]
    for each in asked:
        engine.add(each)
    made: dict[Sequence, list[torch.Tensor]] = {each: [] for each in asked}
    while not engine.is_idle:
        for progress in engine.step().progress:
            assert progress.error is None
            if progress.frame is not None:
                assert progress.frame.device.type == "cpu"
                made[progress.sequence].append(progress.frame)
    same = [
        bool(torch.equal(a, b))
        for each, wanted in zip(asked, said(), strict=True)
        for a, b in zip(made[each], wanted, strict=False)
    ]
    assert sum(same) / len(same) >= 0.9  # after a choice that was close all is different


def test_a_step_waits_for_the_device_once() -> None:
    runner = Runner(voice("cuda", "bf16").model, 4)
    for index, prompt in enumerate(prompts()):
        runner.prefill(prompt, SamplingParams(0.7, 0.7, 1.1, index), len(prompt) + FRAMES)
    for _ in range(3):
        runner.step()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            runner.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [str(each.message) for each in caught if "called a synchronizing" in str(each.message)]
    assert len(waits) == 1, waits


def test_a_want_of_memory_costs_some_sequences_and_is_answered() -> None:
    checkpoint = voice("cuda", "fp32")
    prompt = Prompt.build(
        checkpoint.tokenizer, checkpoint.config.num_codebooks, " ".join(TEXTS * 3)
    )
    engine = Engine(checkpoint.model, 8)
    asked = [Sequence(prompt, SamplingParams(1.0, 1.0, 1.1, seed), 700, 2048) for seed in range(8)]
    for each in asked:
        engine.add(each)
    errors = []
    while engine.waiting:
        engine.step()
    # From here on the cache cannot grow for all of them.
    gc.collect()  # what other tests left would lie between the blocks
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    spare = 24 * 1024 * 1024  # with 8 not even one row can grow: torch takes memory in blocks
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + spare) / total)
    try:
        while not engine.is_idle:
            errors += [p.error for p in engine.step().progress if p.error is not None]
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    print(f"{len(errors)} of {len(asked)} went; frames:", [each.frames for each in asked])
    assert 0 < len(errors) < len(asked)
    assert all("memory" in str(error) for error in errors)
    assert sum(each.finish is not None for each in asked) == len(asked) - len(errors)


def test_what_it_takes_is_reported() -> None:
    torch.cuda.reset_peak_memory_stats()
    model = voice("cuda", "bf16").model
    engine = Engine(model, 4)
    for prompt in prompts():
        engine.add(Sequence(prompt, GREEDY, FRAMES, 2048))
    held = 0
    while not engine.is_idle:
        engine.step()
        held = max(held, engine.cache_bytes)
    peak = torch.cuda.max_memory_allocated()
    print(f"keys and values {held / 1e6:.1f} MB, peak {peak / 1e6:.1f} MB")
    assert 0 < held < peak
    assert engine.cache_bytes == 0
