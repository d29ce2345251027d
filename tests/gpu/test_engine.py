"""The shipped voice on a CUDA device against the CPU's, in each way; `forced` says how."""

import pytest
import torch

from backend.core import Quantization
from backend.engine.sequence import Sequence
from tests.gpu.forced import (
    FRAMES,
    GPU,
    GREEDY,
    WAYS,
    agreement,
    drawn,
    engine_of,
    prompts,
    said,
    voice,
)
from tests.spoken import drain, frames_of

pytestmark = GPU

ALLOWED = {"fp32": (1e-3, 0.999), "fp16": (0.05, 0.97), "bf16": (0.3, 0.9)}
"""Of each precision, the largest difference of a logit in standard deviations, and the least share
of greedy codes that stay the same. The voice is trained: few of its choices are close."""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("precision", ALLOWED)
def test_each_step_is_that_of_the_cpu(precision: str, way: str) -> None:
    most_error, least_same = ALLOWED[precision]
    for rows in ([0], [0, 1, 2]):
        wanted = drawn(voice("cpu", "fp32").model, rows)
        result = agreement(wanted, drawn(voice("cuda", precision).model, rows, way))
        print(way, precision, len(rows), "rows:", result)
        assert result.worst_error <= most_error
        assert result.same_codes >= least_same


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("quantization", ["int8", "int4"])
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_quantized_weights_compute_what_they_do_on_the_cpu(
    precision: str, quantization: Quantization, way: str
) -> None:
    wanted = drawn(voice("cpu", "fp32", quantization).model, [0, 1])
    result = agreement(wanted, drawn(voice("cuda", precision, quantization).model, [0, 1], way))
    print(way, precision, quantization, result)
    assert result.worst_error <= 0.4
    assert result.same_codes >= 0.9


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("precision", ALLOWED)
def test_a_row_is_the_same_alone_and_in_company(precision: str, way: str) -> None:
    model = voice("cuda", precision).model
    alone, company = drawn(model, [1], way), drawn(model, [0, 1, 2], way)
    result = agreement(alone, company, slice(1, 2))
    print(way, precision, result)
    assert result.worst_error <= ALLOWED[precision][0]
    assert result.same_codes >= ALLOWED[precision][1]


@pytest.mark.parametrize("way", WAYS)
def test_greedy_speech_is_that_of_the_cpu(way: str) -> None:
    engine = engine_of(voice("cuda", "fp32").model, 4, way)
    asked = [Sequence(prompt, GREEDY, FRAMES, 2048) for prompt in prompts()]
    progress = drain(engine, *asked)
    assert all(each.error is None for each in progress)
    assert all(each.frame is None or each.frame.device.type == "cpu" for each in progress)
    made = frames_of(progress)
    for each, wanted in zip(asked, said(), strict=True):
        assert torch.equal(made[each], wanted)


def test_what_it_takes_is_reported() -> None:
    torch.cuda.reset_peak_memory_stats()
    engine = engine_of(voice("cuda", "bf16").model, 4, "eager")
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
