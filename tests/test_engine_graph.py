"""The pieces of the graph way, run without graphs, against the eager way."""

import random
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from backend.core import SamplingParams
from backend.engine.agreement import compare
from backend.engine.engine import Engine
from backend.engine.frame import EagerWay, State, Way
from backend.engine.graph import GraphWay, row_buckets
from backend.engine.sequence import Sequence
from tests.engines import GREEDY, run, sequence, tiny
from tests.spoken import drain, frames_of


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


SAMPLINGS = (GREEDY, SamplingParams(0.7, 0.7, 1.1, 1), SamplingParams(1.0, 1.0, 1.5, 2))


def engine(way: type[EagerWay] | type[GraphWay], max_batch: int = 8) -> Engine:
    one = Engine(tiny().model, max_batch)
    one.runner.way = way(one.runner.state)
    return one


def open_rows(way: Way, state: State, lengths: list[int]) -> None:
    """Read a random prompt of each length."""
    generator = torch.Generator().manual_seed(0)
    for slot, length in enumerate(lengths):
        codes = torch.randint(64, (length, state.model.config.num_codebooks), generator=generator)
        tokens = codes[:, 0] + state.model.semantic_begin_id
        state.cache.open(slot, length)
        state.slots.open(slot, SAMPLINGS[slot % len(SAMPLINGS)])
        state.cache.extend([slot], length - 1)
        way.read(slot, tokens[:-1], codes[:-1])
        state.slots.begin(slot, tokens[-1], codes[-1], length - 1)


def make(way: Way, state: State, slots: list[int]) -> tuple[Tensor, list[Tensor]]:
    state.cache.extend(slots)
    return way.frame(slots).clone(), way.logits(slots)


def test_there_is_a_bucket_for_any_number_of_rows_and_none_is_half_empty() -> None:
    for most in range(1, 70):
        buckets = row_buckets(most)
        assert buckets == sorted(set(buckets))
        assert buckets[-1] == most
        for rows in range(1, most + 1):
            assert rows <= next(b for b in buckets if b >= rows) < 2 * rows


def test_rows_that_join_and_leave_at_random_say_what_they_say_eagerly() -> None:
    def speak(one: Engine) -> tuple[list[Sequence], dict[Sequence, Tensor]]:
        chance = random.Random(5)
        asked = [
            sequence("word " * chance.randint(1, 9), sampling, chance.randint(3, 40), 7 * index)
            for index, sampling in enumerate(SAMPLINGS * 4)
        ]
        progress = []
        for each in asked:
            one.add(each)
            for _ in range(chance.randint(0, 5)):
                progress += one.step()
        one.abort(asked[7])
        return asked, frames_of(progress + drain(one))

    wanted, eager = speak(engine(EagerWay, 6))  # with three or five, a bucket is not full
    found, graph = speak(engine(GraphWay, 6))
    for before, after in zip(wanted, found, strict=True):
        if before is not wanted[7]:
            assert torch.equal(eager[before], graph[after])


@pytest.mark.parametrize("rows", [1, 3, 5])
def test_logits_and_codes_are_those_of_the_eager_way(rows: int) -> None:
    lengths, ways = [9, 70, 33, 5, 64][:rows], (EagerWay, GraphWay)
    made = []
    for way in ways:
        state = State.of(tiny().model, 5)
        one = way(state)
        open_rows(one, state, lengths)
        made.append([make(one, state, list(range(rows))) for _ in range(6)])
    for (codes, logits), (its_codes, its_logits) in zip(*made, strict=True):
        assert torch.equal(codes, its_codes)
        for book, its_book in zip(logits, its_logits, strict=True):
            torch.testing.assert_close(its_book, book, rtol=0, atol=1e-5)


def test_rows_of_any_slots_in_any_order() -> None:
    states = [State.of(tiny().model, 6) for _ in range(2)]
    ways: tuple[Way, Way] = EagerWay(states[0]), GraphWay(states[1])
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
    assert states[1].slots.positions[6] == 0  # nobody's slot goes nowhere


def test_what_is_no_number_stays_in_its_row() -> None:
    states = [State.of(tiny().model, 4) for _ in range(2)]
    sick, well = (GraphWay(state) for state in states)
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


def test_it_agrees_and_can_be_gone_to_between_two_frames() -> None:
    state = State.of(tiny().model, 3)
    agreement = compare(GraphWay(state), state)
    assert agreement.is_close, agreement
    assert agreement.same_codes == 1

    wanted, asked = sequence("abc", SAMPLINGS[1], 20), sequence("abc", SAMPLINGS[1], 20)
    expected = run(engine(EagerWay), wanted)[wanted]
    one = engine(EagerWay)
    graph, eager = GraphWay(one.runner.state), one.runner.way
    one.add(asked)
    progress = []
    while not one.is_idle:
        one.runner.way = eager if one.runner.way is graph else graph
        progress += one.step()
    assert torch.equal(frames_of(progress)[asked], expected)
