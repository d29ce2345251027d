"""Frames by kernels in C, against the eager way."""

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import backend
from backend.core import Quantization, SamplingParams
from backend.engine.agreement import compare
from backend.engine.engine import Engine
from backend.engine.frame import EagerWay, State, Way
from backend.engine.native import GROUP_ROWS, NativeWay
from backend.engine.prompt import Prompt
from backend.engine.sequence import Sequence
from backend.engine.ways import settle
from backend.model.checkpoint import Checkpoint, load_checkpoint
from tests.engines import GREEDY, sequence
from tests.kernels_in_c import native_pool, packed
from tests.spoken import drain, frames_of

DEMO = Path(backend.__file__).parent / "checkpoints" / "demo"
SAMPLINGS = (
    GREEDY,
    SamplingParams(0.7, 0.7, 1.1, 1),
    SamplingParams(1.0, 1.0, 1.5, 2),
    SamplingParams(0.3, 0.9, 1.0, 3),
)


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def engine(checkpoint: Checkpoint, *, is_native: bool, max_batch: int = 6) -> Engine:
    one = Engine(checkpoint.model, max_batch)
    if is_native:
        one.runner.way = NativeWay(one.runner.state, native_pool())
    return one


def open_rows(way: Way, state: State, lengths: list[int]) -> None:
    """Read a random prompt of each length."""
    generator, config = torch.Generator().manual_seed(0), state.model.config
    for slot, length in enumerate(lengths):
        shape = (length, config.num_codebooks)
        codes = torch.randint(config.residual_codebook_size, shape, generator=generator)
        tokens = codes[:, 0] + state.model.semantic_begin_id
        tokens[::3] = 70  # text among them
        state.cache.open(slot, length)
        state.slots.open(slot, SAMPLINGS[slot % len(SAMPLINGS)])
        state.cache.extend([slot], length - 1)
        way.read(slot, tokens[:-1], codes[:-1])
        state.slots.begin(slot, tokens[-1], codes[-1], length - 1)


def make(way: Way, state: State, slots: list[int]) -> tuple[Tensor, list[Tensor]]:
    state.cache.extend(slots)
    return way.frame(slots).clone(), [each.clone() for each in way.logits(slots)]


SHAPES: list[dict[str, Any]] = [
    {},
    {"attention_qk_norm": False, "fast_attention_qk_norm": True},
    {"attention_qkv_bias": True, "attention_o_bias": True, "fast_attention_qkv_bias": True},
    {"fast_dim": 64, "scale_codebook_embeddings": False},
    {"tie_word_embeddings": False, "n_local_heads": 4, "head_dim": 32},
    {"n_head": 8, "n_local_heads": 1, "fast_head_dim": 80},
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: ",".join(shape) or "tiny")
def test_logits_and_codes_of_every_shape(shape: dict[str, Any]) -> None:
    model = packed(**shape).model
    lengths = [9, 200, 33, 5, 64]  # longer than what is read at once, too
    made = []
    for is_native in (False, True):
        state = State.of(model, 5)
        way: Way = NativeWay(state, native_pool()) if is_native else EagerWay(state)
        open_rows(way, state, lengths)
        made.append([make(way, state, [0, 1, 2, 3, 4]) for _ in range(20)])
    for (codes, logits), (its_codes, its_logits) in zip(*made, strict=True):
        assert torch.equal(codes, its_codes)
        for book, its_book in zip(logits, its_logits, strict=True):
            torch.testing.assert_close(its_book, book, rtol=0, atol=2e-5)


@pytest.mark.parametrize("quantization", ["none", "int8", "int4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_agrees_however_weights_are_held(quantization: Quantization, dtype: torch.dtype) -> None:
    for checkpoint in (
        packed(quantization, dtype),
        load_checkpoint(DEMO, dtype=dtype, quantization=quantization, pool=native_pool()),
    ):
        state = State.of(checkpoint.model, 3)
        agreement = compare(NativeWay(state, native_pool()), state)
        assert agreement.is_close, agreement


def test_rows_that_join_and_leave_at_random_say_what_they_say_eagerly() -> None:
    checkpoint = packed()

    def speak(one: Engine) -> tuple[list[Sequence], dict[Sequence, Tensor]]:
        chance = random.Random(5)
        asked = [
            sequence("word " * chance.randint(1, 9), sampling, chance.randint(3, 40), 7 * index)
            for index, sampling in enumerate(SAMPLINGS * 3)
        ]
        progress = []
        for each in asked:
            one.add(each)
            for _ in range(chance.randint(0, 5)):
                progress += one.step()
        one.abort(asked[7])
        return asked, frames_of(progress + drain(one))

    wanted, eager = speak(engine(checkpoint, is_native=False))
    found, native = speak(engine(checkpoint, is_native=True))
    for before, after in zip(wanted, found, strict=True):
        if before is not wanted[7]:
            assert torch.equal(eager[before], native[after])


def test_rows_of_any_slots_in_any_order() -> None:
    model = packed().model
    states = [State.of(model, 6) for _ in range(2)]
    ways: tuple[Way, Way] = EagerWay(states[0]), NativeWay(states[1], native_pool())
    for way, state in zip(ways, states, strict=True):
        open_rows(way, state, [4, 30, 12, 50, 8, 20])
    for slots in ([5, 0, 3], [1], [4, 2, 1, 0, 5, 3], [2, 4]):
        wanted, found = (
            make(way, state, slots)[0] for way, state in zip(ways, states, strict=True)
        )
        assert torch.equal(wanted, found)
    for name in ("tokens", "codes", "positions", "frames", "history"):
        kept = [getattr(state.slots, name)[:6] for state in states]
        assert torch.equal(*kept), name


def test_more_rows_than_the_kernels_take_at_once() -> None:
    count = 2 * GROUP_ROWS + 3
    model = packed().model
    states = [State.of(model, count) for _ in range(2)]
    ways: tuple[Way, Way] = EagerWay(states[0]), NativeWay(states[1], native_pool())
    for way, state in zip(ways, states, strict=True):
        open_rows(way, state, [4 + slot % 7 for slot in range(count)])
    everyone = list(range(count))
    for slots in (everyone, everyone[::-2], everyone):
        (wanted, logits), (found, its_logits) = (
            make(way, state, slots) for way, state in zip(ways, states, strict=True)
        )
        assert torch.equal(wanted, found)
        for book, its_book in zip(logits, its_logits, strict=True):
            torch.testing.assert_close(its_book, book, rtol=0, atol=2e-5)


def test_what_is_no_number_stays_in_its_row() -> None:
    model = packed().model
    states = [State.of(model, 4) for _ in range(2)]
    sick, well = (NativeWay(state, native_pool()) for state in states)
    for way, state in zip((sick, well), states, strict=True):
        open_rows(way, state, [20, 9, 40])
    states[0].cache.past(0, 1)[0].fill_(torch.nan)
    for _ in range(3):
        found, wanted = make(sick, states[0], [0, 1, 2])[0], make(well, states[1], [0, 1, 2])[0]
        assert (found[1] == -1).all()
        assert torch.equal(found[[0, 2]], wanted[[0, 2]])


def test_it_can_be_left_and_gone_to_between_two_frames() -> None:
    checkpoint = packed()
    wanted, asked = sequence("abc", SAMPLINGS[1], 20), sequence("abc", SAMPLINGS[1], 20)
    expected = frames_of(drain(engine(checkpoint, is_native=False), wanted))[wanted]
    one = engine(checkpoint, is_native=False)
    native, eager = NativeWay(one.runner.state, native_pool()), one.runner.way
    one.add(asked)
    progress = []
    while not one.is_idle:
        one.runner.way = eager if one.runner.way is native else native
        progress += one.step()
    assert torch.equal(frames_of(progress)[asked], expected)


def test_the_shipped_voice_says_the_same_as_eagerly() -> None:
    plain = load_checkpoint(DEMO)
    native = load_checkpoint(DEMO, pool=native_pool())

    def say(checkpoint: Checkpoint, *, is_native: bool) -> Tensor:
        prompt = Prompt.build(checkpoint.tokenizer, checkpoint.config.num_codebooks, "Good day.")
        asked = Sequence(prompt, SAMPLINGS[1], 60, checkpoint.config.max_seq_len)
        one = engine(checkpoint, is_native=is_native)
        return frames_of(drain(one, asked))[asked]

    assert torch.equal(say(plain, is_native=False), say(native, is_native=True))


def test_settling_takes_it_and_tells() -> None:
    one = engine(packed(), is_native=False)
    settled = settle(one, pool=native_pool())
    assert settled.name == "native"
    assert "by kernels in C" in settled.detail
    assert one.runner.way.name == "native"


def test_what_it_is_not_made_for_is_left_to_others() -> None:
    odd = packed(intermediate_size=120)  # no multiple of 16: not even packed
    assert type(odd.model.layers[0].feed_forward.w1) is torch.nn.Linear  # type: ignore[union-attr]
    assert settle(engine(odd, is_native=False), pool=native_pool()).name == "eager"


def test_a_frame_takes_a_fraction_of_the_eager_ways_time() -> None:
    """Processor time of one thread in one process, in turns: whoever else is there uses his own."""
    model = load_checkpoint(DEMO, quantization="int8", pool=native_pool()).model
    states = [State.of(model, 1) for _ in range(2)]
    ways: tuple[Way, Way] = EagerWay(states[0]), NativeWay(states[1], native_pool())
    took_s: list[list[float]] = [[], []]
    for way, state in zip(ways, states, strict=True):
        open_rows(way, state, [100])
        make(way, state, [0])
    for _ in range(8):
        for way, state, its in zip(ways, states, took_s, strict=True):
            began_s = time.thread_time()
            make(way, state, [0])
            its.append(time.thread_time() - began_s)
    eager_s, native_s = map(min, took_s)
    assert native_s < eager_s / 3  # measured: a tenth
