"""Each way on a CUDA device: what it says, who shares its rows, what goes wrong in them."""

import gc
import random
import warnings
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from backend.core import SamplingParams
from backend.engine.agreement import compare
from backend.engine.engine import Engine
from backend.engine.frame import State
from backend.engine.sampler import draw, probabilities, uniforms
from backend.engine.sequence import Sequence
from backend.errors import EngineFailed
from backend.model.config import CacheGeometry, capacities
from tests.draws import random_draws
from tests.gpu.forced import (
    GPU,
    GREEDY,
    WAYS,
    asked,
    engine_of,
    random_model,
    read,
    voice,
    way_of,
)
from tests.spoken import drain, frames_of

pytestmark = GPU

SAMPLED = SamplingParams(0.7, 0.7, 1.1, 1)
FAST_WAYS = WAYS[1:]
needs_fused = pytest.mark.skipif("fused" not in WAYS, reason="there is no Triton")


@pytest.mark.parametrize("reference_frames", [0, 170])
@pytest.mark.parametrize("way", WAYS)
def test_greedy_frames_are_those_of_the_eager_way_on_the_cpu(
    way: str, reference_frames: int
) -> None:
    def spoken(engine: Engine) -> list[Tensor]:
        lengths = (40, 9, 70)
        rows = [
            asked(engine.model, length, 96, reference_frames=reference_frames) for length in lengths
        ]
        made = frames_of(drain(engine, *rows))
        return [made[row] for row in rows]

    wanted = spoken(Engine(random_model("cpu", "fp32"), 3))
    found = spoken(engine_of(random_model("cuda", "fp32"), 3, way))
    for before, after in zip(wanted, found, strict=True):
        assert len(after) == 96
        assert torch.equal(before, after)


@pytest.mark.parametrize("way", WAYS)
def test_a_row_is_the_same_alone_and_in_company_that_comes_and_goes(way: str) -> None:
    # cuBLAS adds up one row in another order than eleven. In fp32 that moves one of these twelve
    # thousand codes now and then, where two are as probable; in fp64 none.
    chance = random.Random(16)
    model = random_model("cuda", "fp32" if way == "fused" else "fp64")
    plan = [
        (chance.randrange(3, 60), chance.randrange(1, 120), chance.choice([0, 0, 90]))
        for _ in range(24)
    ]

    def rows() -> list[Sequence]:
        return [
            asked(model, length, frames, (GREEDY, SAMPLED)[index % 2], reference)
            for index, (length, frames, reference) in enumerate(plan)
        ]

    lone, alone = engine_of(model, 1, way), []
    for row in rows():
        alone.append(frames_of(drain(lone, row))[row])
    crowd, together, progress = engine_of(model, 11, way), rows(), []
    aborted = set()
    for index, row in enumerate(together):
        crowd.add(row)
        for _ in range(chance.randrange(6)):
            progress += crowd.step()
        if index % 6 == 5:
            gone = chance.choice(together[: index + 1])
            crowd.abort(gone)
            aborted.add(gone)
    made = frames_of(progress + drain(crowd))
    for row, expected in zip(together, alone, strict=True):
        if row not in aborted:
            assert torch.equal(made[row], expected)
    assert crowd.cache_bytes <= CacheGeometry.of(model.config.slow, 8).row_bytes(64)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("way", FAST_WAYS)
def test_it_may_speak(way: str, precision: str) -> None:
    for model in (random_model("cuda", precision), voice("cuda", precision).model):
        state = State.of(model, 3)
        agreement = compare(way_of(way, state), state)
        print(way, precision, agreement)
        assert agreement.is_close, agreement


@pytest.mark.parametrize("way", WAYS)
@torch.inference_mode()
def test_a_prompt_read_in_pieces_is_one_read_whole(way: str) -> None:
    model = random_model("cuda", "fp32")
    states = [State.of(model, 2) for _ in range(2)]
    prompt = asked(model, 300, 1, reference_frames=400).prompt
    for state, pieces in zip(states, ([], [1, 70, 256, 3, 129]), strict=True):
        read(way_of(way, state), state, 1, prompt, pieces)
    for layer in range(model.config.slow.n_layer):
        whole, apart = (torch.stack(state.cache.past(layer, 1)) for state in states)
        torch.testing.assert_close(apart, whole, rtol=0, atol=1e-4)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_no_number_fails_its_row_alone(way: str) -> None:
    model = random_model("cuda", "fp32")

    def rows() -> list[Sequence]:
        return [asked(model, length, 40) for length in (30, 12, 50)]

    well = rows()
    expected = frames_of(drain(engine_of(model, 3, way), *well))
    engine, sick, progress = engine_of(model, 3, way), rows(), []
    for row in sick:
        engine.add(row)
    while min(row.frames for row in sick) < 5:
        progress += engine.step()
    with torch.inference_mode():
        engine.runner.state.cache.past(0, 1)[0].fill_(torch.nan)
    progress += drain(engine)
    failed = [each for each in progress if each.error is not None]
    assert [each.sequence for each in failed] == [sick[1]]
    assert isinstance(failed[0].error, EngineFailed)
    made = frames_of(progress)
    for index in (0, 2):
        assert torch.equal(made[sick[index]], expected[well[index]])
    again = rows()  # one in the same slot, and none the worse for who had it
    made = frames_of(drain(engine, *again))
    for before, after in zip(well, again, strict=True):
        assert torch.equal(made[after], expected[before])


@pytest.mark.parametrize("way", WAYS)
def test_a_want_of_memory_while_rows_grow_costs_some_and_the_others_nothing(way: str) -> None:
    model = random_model(
        "cuda", "fp32", n_layer=8, n_head=8, n_local_heads=8, head_dim=128, max_seq_len=1024
    )
    engine, length, frames, count = engine_of(model, 8, way), 60, 700, 8
    for rows in (1, 2, 3, 4, 5, 6, 7, 8):  # whatever a number of rows needs once is there
        drain(engine, *(asked(model, 20, 4) for _ in range(rows)))
    lone = asked(model, length, frames, SAMPLED)
    expected = frames_of(drain(engine, lone))[lone]
    many = [asked(model, length, frames, SAMPLED) for _ in range(count)]
    for row in many:
        engine.add(row)
    while min(row.frames for row in many) < 3:
        engine.step()
    geometry = CacheGeometry.of(model.config.slow, 4)
    at_last = geometry.row_bytes(capacities(length, length + frames, length + frames)[-1])
    # From here on there is room for about half of what they want.
    gc.collect()  # what other tests left would lie between the blocks
    torch.cuda.empty_cache()
    spare = (count * at_last - engine.cache_bytes) // 2
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + spare) / total)
    try:
        progress = drain(engine)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    errors = [each.error for each in progress if each.error is not None]
    print(f"{way}: {len(errors)} of {count} went; frames:", [row.frames for row in many])
    assert 0 < len(errors) < count
    assert all("memory" in str(error) for error in errors)
    finished = [row for row in many if row.finish is not None]
    assert len(finished) == count - len(errors)
    made = frames_of(progress)
    for row in finished:
        assert torch.equal(made[row], expected[-len(made[row]) :])
    again = asked(model, length, frames, SAMPLED)
    assert torch.equal(frames_of(drain(engine, again))[again], expected)


@pytest.mark.parametrize("way", WAYS)
def test_nothing_in_a_step_waits_for_the_device_but_the_flight(way: str) -> None:
    model = random_model("cuda", "bf16")
    engine = engine_of(model, 5, way)
    for rows in range(1, 6):  # whatever a number of rows needs once is there
        drain(engine, *(asked(model, 40, 4) for _ in range(rows)))
    for index, length in enumerate((20, 50, 9, 30)):
        engine.add(asked(model, length, 200, SamplingParams(0.7, 0.7, 1.1, index)))
    for _ in range(8):
        engine.step()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            for _ in range(100):  # some rows grow meanwhile
                engine.step()
            engine.add(asked(model, 40, 200, SAMPLED))
            for _ in range(10):
                engine.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert engine.running == 5
    # The wait for the flight is one for an event, of which this mode does not tell.
    waits = [str(each.message) for each in caught if "called a synchronizing" in str(each.message)]
    assert not waits, waits


def kernels_of(state: State) -> Callable[[int, Tensor], Tensor]:
    """What draws a book's codes [S] from logits [S, V] of all slots in the fused way."""
    way: Any = way_of("fused", state)
    count = state.slots.count

    def drawn(book: int, logits: Tensor) -> Tensor:
        way._put(list(range(count)))
        way._logits_of(count)[book, :, : logits.shape[1]] = logits
        way._sample(book, count)
        return cast(Tensor, way._made[:count, book])

    return drawn


@needs_fused
@pytest.mark.parametrize("book", [0, 2])
@torch.inference_mode()
def test_kernels_draw_what_the_sampler_draws(book: int) -> None:
    state = State.of(random_model("cuda", "fp32"), 256)
    logits, wanted = random_draws(state, book, rounding=0.5)
    found = kernels_of(state)(book, logits)
    assert wanted[7] == found[7] == -1
    # Another order of adding up may move a border past the noise, once in a million.
    assert int((found != wanted).sum()) <= 1


@pytest.mark.parametrize("by", ["sampler", pytest.param("kernels", marks=needs_fused)])
@torch.inference_mode()
def test_what_is_sampled_has_its_distribution(by: str) -> None:
    model, count, rounds, book = random_model("cuda", "fp32"), 256, 400, 1
    state, size = State.of(model, count), model.config.residual_codebook_size
    rows = torch.arange(count, device="cuda")
    for slot in range(count):
        state.slots.open(slot, SamplingParams(0.8, 0.9, 1.0, 1000 + slot))
    one = 2 * torch.randn(size, generator=torch.Generator().manual_seed(4)).to("cuda")
    logits, counts = one.expand(count, size).contiguous(), torch.zeros(size, device="cuda")
    sampling = state.slots.unknown_sampling(rows)
    drawn = kernels_of(state) if by == "kernels" else None
    for frame in range(rounds):
        state.slots.frames[:count] = frame
        if drawn is None:
            noise = uniforms(state.slots.keys[rows], state.slots.frames[rows], book + 1)
            codes = draw(logits, sampling, noise[:, book], None)
        else:
            codes = drawn(book, logits)
        counts += codes.bincount(minlength=size)
    expected = probabilities(logits, sampling)[0] * count * rounds
    assert (counts[expected == 0] == 0).all()
    often = expected >= 20
    wanted, found = (
        torch.cat((each[often], each[~often].sum()[None])) for each in (expected, counts)
    )
    chi_square = float(((found - wanted).square() / wanted.clamp(min=1)).sum())
    degrees = len(wanted) - 1
    print(f"{by}: chi-square {chi_square:.0f}, {degrees} degrees of freedom")
    assert degrees > 20
    assert chi_square < degrees + 5 * (2 * degrees) ** 0.5  # five standard deviations
