"""Other ways of making frames against the eager one: kernels in C, and the pieces of the graph way,
run without graphs.
"""

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import backend
from backend.core import Quantization, SamplingParams
from backend.engine.agreement import compare
from backend.engine.engine import Engine
from backend.engine.frame import EagerWay, State, Way
from backend.engine.graph import GraphWay, row_buckets
from backend.engine.native import GROUP_ROWS, NativeWay
from backend.engine.prompt import Prompt
from backend.engine.sequence import Sequence
from backend.engine.ways import settle
from backend.model.checkpoint import Checkpoint, load_checkpoint
from tests.engines import GREEDY, run, sequence
from tests.kernels_in_c import native_pool, packed
from tests.spoken import drain, frames_of
from tests.tiny import tiny_checkpoint

DEMO = Path(backend.__file__).parent / "checkpoints" / "demo"
SAMPLINGS = (
    GREEDY,
    SamplingParams(0.7, 0.7, 1.1, 1),
    SamplingParams(1.0, 1.0, 1.5, 2),
    SamplingParams(0.3, 0.9, 1.0, 3),
)


class Kind(NamedTuple):
    """A way, and how the weights are held that it takes."""

    checkpoint: Callable[..., Checkpoint]
    way: Callable[[State], Way]


def plain(**overrides: Any) -> Checkpoint:
    with tempfile.TemporaryDirectory() as folder:
        return load_checkpoint(tiny_checkpoint(Path(folder), end_scale=0.0, **overrides))


NATIVE = Kind(packed, lambda state: NativeWay(state, native_pool()))
GRAPH = Kind(plain, GraphWay)


@pytest.fixture(params=[NATIVE, GRAPH], ids=["native", "graph"])
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def engine(checkpoint: Checkpoint, way: Callable[[State], Way] = EagerWay) -> Engine:
    one = Engine(checkpoint.model, 6)
    one.runner.way = way(one.runner.state)
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


def side_by_side(kind: Kind, lengths: list[int], **shape: Any) -> list[tuple[Way, State]]:
    """The eager way and the other one, which have read the same prompts."""
    model = kind.checkpoint(**shape).model
    made = []
    for way in (EagerWay, kind.way):
        state = State.of(model, len(lengths))
        made.append((way(state), state))
        open_rows(*made[-1], lengths)
    return made


def assert_same(wanted: tuple[Tensor, list[Tensor]], found: tuple[Tensor, list[Tensor]]) -> None:
    assert torch.equal(wanted[0], found[0])
    for book, its_book in zip(wanted[1], found[1], strict=True):
        torch.testing.assert_close(its_book, book, rtol=0, atol=2e-5)


SHAPES: list[dict[str, Any]] = [
    {},
    {"attention_qk_norm": False, "fast_attention_qk_norm": True},
    {"attention_qkv_bias": True, "attention_o_bias": True, "fast_attention_qkv_bias": True},
    {"fast_dim": 64, "scale_codebook_embeddings": False},
    {"tie_word_embeddings": False, "n_local_heads": 4, "head_dim": 32},
    {"n_head": 8, "n_local_heads": 1, "fast_head_dim": 80},
]


@pytest.mark.parametrize(
    ("rows", "shape"),
    [(1, {}), (3, {}), *((5, shape) for shape in SHAPES)],
    ids=lambda told: str(told) if isinstance(told, int) else ",".join(told) or "tiny",
)
def test_logits_and_codes_of_every_shape(kind: Kind, rows: int, shape: dict[str, Any]) -> None:
    lengths = [9, 200, 33, 5, 64]  # longer than what is read at once, too
    ways = side_by_side(kind, lengths, **shape)
    for _ in range(20):
        assert_same(*(make(way, state, list(range(rows))) for way, state in ways))


def test_rows_that_join_and_leave_at_random_say_what_they_say_eagerly(kind: Kind) -> None:
    checkpoint = kind.checkpoint()

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

    wanted, eager = speak(engine(checkpoint))  # with three or five, a bucket is not full
    found, other = speak(engine(checkpoint, kind.way))
    for before, after in zip(wanted, found, strict=True):
        if before is not wanted[7]:
            assert torch.equal(eager[before], other[after])


def test_rows_of_any_slots_in_any_order(kind: Kind) -> None:
    ways = side_by_side(kind, [4, 30, 12, 50, 8, 20])
    for slots in ([5, 0, 3], [1], [4, 2, 1, 0, 5, 3], [2, 4]):
        wanted, found = (make(way, state, slots)[0] for way, state in ways)
        assert torch.equal(wanted, found)
    states = [state for _, state in ways]
    for name in ("tokens", "codes", "positions", "frames", "history"):
        kept = [getattr(state.slots, name)[:6] for state in states]
        assert torch.equal(*kept), name
    assert states[1].slots.positions[6] == 0  # nobody's slot goes nowhere


def test_what_is_no_number_stays_in_its_row(kind: Kind) -> None:
    model = kind.checkpoint().model
    states = [State.of(model, 4) for _ in range(2)]
    sick, well = (kind.way(state) for state in states)
    for way, state in zip((sick, well), states, strict=True):
        open_rows(way, state, [20, 9, 40])
    states[0].cache.past(0, 1)[0].fill_(torch.nan)
    for _ in range(3):
        found, wanted = make(sick, states[0], [0, 1, 2])[0], make(well, states[1], [0, 1, 2])[0]
        assert (found[1] == -1).all()
        assert torch.equal(found[[0, 2]], wanted[[0, 2]])
    states[0].cache.close(1)
    # Whoever gets a row beside it later is none the worse: nor are those that fill a bucket.
    assert torch.equal(make(sick, states[0], [0, 2])[0], make(well, states[1], [0, 2])[0])


def test_it_agrees_and_can_be_gone_to_between_two_frames(kind: Kind) -> None:
    checkpoint = kind.checkpoint()
    state = State.of(checkpoint.model, 3)
    agreement = compare(kind.way(state), state)
    assert agreement.is_close, agreement
    assert agreement.same_codes == 1

    wanted, asked = sequence("abc", SAMPLINGS[1], 20), sequence("abc", SAMPLINGS[1], 20)
    expected = run(engine(checkpoint), wanted)[wanted]
    one = engine(checkpoint)
    other, eager = kind.way(one.runner.state), one.runner.way
    one.add(asked)
    progress = []
    while not one.is_idle:
        one.runner.way = eager if one.runner.way is other else other
        progress += one.step()
    assert torch.equal(frames_of(progress)[asked], expected)


# -- the graph way ---------------------------------------------------------------------------------


def test_there_is_a_bucket_for_any_number_of_rows_and_none_is_half_empty() -> None:
    for most in range(1, 70):
        buckets = row_buckets(most)
        assert buckets == sorted(set(buckets))
        assert buckets[-1] == most
        for rows in range(1, most + 1):
            assert rows <= next(b for b in buckets if b >= rows) < 2 * rows


# -- kernels in C ----------------------------------------------------------------------------------


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


def test_more_rows_than_the_kernels_take_at_once() -> None:
    count = 2 * GROUP_ROWS + 3
    ways = side_by_side(NATIVE, [4 + slot % 7 for slot in range(count)])
    everyone = list(range(count))
    for slots in (everyone, everyone[::-2], everyone):
        assert_same(*(make(way, state, slots) for way, state in ways))


def test_the_shipped_voice_says_the_same_as_eagerly() -> None:
    held_in_full = load_checkpoint(DEMO)
    native = load_checkpoint(DEMO, pool=native_pool())

    def say(checkpoint: Checkpoint, way: Callable[[State], Way]) -> Tensor:
        prompt = Prompt.build(checkpoint.tokenizer, checkpoint.config.num_codebooks, "Good day.")
        asked = Sequence(prompt, SAMPLINGS[1], 60, checkpoint.config.max_seq_len)
        return run(engine(checkpoint, way), asked)[asked]

    assert torch.equal(say(held_in_full, EagerWay), say(native, NATIVE.way))


def test_settling_takes_it_and_tells() -> None:
    one = engine(packed())
    settled = settle(one, pool=native_pool())
    assert settled.name == "native"
    assert "by kernels in C" in settled.detail
    assert one.runner.way.name == "native"


def test_what_it_is_not_made_for_is_left_to_others() -> None:
    odd = packed(intermediate_size=120)  # no multiple of 16: not even packed
    assert type(odd.model.layers[0].feed_forward.w1) is torch.nn.Linear  # type: ignore[union-attr]
    assert settle(engine(odd), pool=native_pool()).name == "eager"


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
