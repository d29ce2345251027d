import math

import pytest
import torch

from backend.core import SamplingParams
from backend.engine.engine import Engine
from backend.engine.frame import EagerWay
from backend.engine.prompt import Prompt
from backend.engine.runner import Runner
from backend.engine.sequence import Sequence
from backend.errors import EngineFailed
from tests.engines import GREEDY, prompt, run, sequence, slow_greedy, tiny
from tests.spoken import drain, frames_of

NO_MEMORY = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")


def engine(max_batch: int = 8) -> Engine:
    return Engine(tiny().model, max_batch)


@pytest.mark.parametrize("penalty", [1.0, 1.5])
@pytest.mark.parametrize("reference_frames", [0, 30])
def test_greedy_frames_are_those_of_the_plain_computation(
    penalty: float, reference_frames: int
) -> None:
    sampling = SamplingParams(temperature=0.0, repetition_penalty=penalty)
    asked = sequence("Hello.", sampling, frames=40, reference_frames=reference_frames)
    made = run(engine(), asked)[asked]
    assert torch.equal(made, slow_greedy(asked.prompt, 40, penalty))


def test_a_row_is_the_same_alone_and_in_company_that_comes_and_goes() -> None:
    texts = ["a", "Some more text.", "The third.", "4", "And a fifth, the longest of them all."]
    lengths = [30, 7, 70, 15, 44]

    def asked() -> list[Sequence]:
        return [
            sequence(t, GREEDY, n, 5 * i)
            for i, (t, n) in enumerate(zip(texts, lengths, strict=True))
        ]

    alone = [run(engine(), each)[each] for each in asked()]
    crowd = engine(max_batch=3)
    together, progress = asked(), []
    for each in together:  # they join some steps apart, three at most at once
        crowd.add(each)
        for _ in range(4):
            progress += crowd.step()
    frames = frames_of(progress + drain(crowd))
    for each, expected in zip(together, alone, strict=True):
        assert torch.equal(frames[each], expected)


def test_a_seed_reproduces_in_company_and_another_differs() -> None:
    def asked(seed: int) -> Sequence:
        return sequence("Hello.", SamplingParams(1.0, 0.9, 1.2, seed), frames=20)

    first, again, other = asked(3), asked(3), asked(4)
    alone = run(engine(), first)[first]
    company = run(engine(), asked(8), again, sequence("greedy"), other)
    assert torch.equal(company[again], alone)
    assert not torch.equal(company[other], alone)


def test_an_aborted_row_is_free_at_once_and_hurts_nobody() -> None:
    one = engine(max_batch=2)
    gone, stays, next_one = (sequence(text, frames=25) for text in ("abc", "de", "fgh"))
    for each in (gone, stays, next_one):
        one.add(each)
    progress = [p for _ in range(5) for p in one.step()]
    one.abort(gone)
    assert (one.running, one.waiting) == (1, 1)
    later = drain(one)
    assert all(p.sequence is not gone for p in later)
    frames = frames_of(progress + later)
    for each in (stays, next_one):
        assert torch.equal(frames[each], slow_greedy(each.prompt, 25))
    one.abort(gone)
    assert one.is_idle


def test_the_frame_limit_the_context_and_the_end_finish_a_sequence() -> None:
    limited = sequence("a", frames=5)
    assert len(run(engine(), limited)[limited]) == 5
    assert limited.finish == "frame_limit"

    full = Sequence(prompt("abc"), GREEDY, 100, len(prompt("abc")) + 9)
    assert len(run(engine(), full)[full]) == 9
    assert full.finish == "context_full"

    model = tiny(end_scale=1.0).model
    ended = sequence("a", SamplingParams(1.0, 1.0, 1.0, 1), frames=400)
    made = run(Engine(model, 2), ended)[ended]
    assert ended.finish == "end"
    assert ended.frames == len(made) == ended.generated_tokens - 1 < 400
    assert (made[:, 0] < model.end_column).all()


def test_a_prompt_that_cannot_be_read_fails_alone() -> None:
    good, bad = sequence("good", frames=12), sequence("bad", frames=12)
    bad.prompt = Prompt(bad.prompt.tokens + 10_000, bad.prompt.codes)
    one = engine()
    for each in (good, bad):
        one.add(each)
    progress = drain(one)
    failed = [p for p in progress if p.error is not None]
    assert [p.sequence for p in failed] == [bad]
    assert isinstance(failed[0].error, EngineFailed)
    assert torch.equal(frames_of(progress)[good], slow_greedy(good.prompt, 12))


def test_out_of_memory_costs_one_sequence_and_no_frame_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = engine()
    old, young = sequence("old", frames=12), sequence("young", frames=12)
    one.add(old)
    progress = [p for _ in range(3) for p in one.step()]
    one.add(young)
    progress += one.step()
    with monkeypatch.context() as patch:
        patch.setattr(EagerWay, "frame", lambda *_: (_ for _ in ()).throw(NO_MEMORY))
        (failure,) = one.step()
    assert failure.sequence is young
    assert "memory" in str(failure.error)
    assert torch.equal(frames_of(progress + drain(one))[old], slow_greedy(old.prompt, 12))


def test_other_errors_of_a_step_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    one = engine()
    one.add(sequence("a"))
    monkeypatch.setattr(Runner, "launch", lambda *_: (_ for _ in ()).throw(RuntimeError("broken")))
    with pytest.raises(RuntimeError, match="broken"):
        one.step()


def test_the_cost_of_a_step_is_shared_among_its_rows() -> None:
    one = engine()
    step_bytes = one.runner.weight_bytes_per_step
    pair = [sequence("a", frames=10), sequence("b", frames=10)]
    run(one, *pair)
    # 9 decoded frames each, the first row's first step alone
    assert sum(each.weight_bytes for each in pair) == pytest.approx(10 * step_bytes)
    for each in pair:
        assert min(each.decode_s, each.prefill_s) > 0
    assert one.runner.cache_bytes == 0


def test_the_room_for_keys_and_values_can_change_while_speaking() -> None:
    one = Engine(tiny().model, 4, cache_bytes=None)
    first, second = sequence("abc", frames=30), sequence("de", frames=30)
    assert one.cache_bytes == 0
    one.add(first)
    one.step()
    assert one.cache_bytes > 0
    one.set_cache_bytes(1)
    one.add(second)
    one.step()
    assert (one.running, one.waiting) == (1, 1)  # who speaks goes on, nobody joins
    one.set_cache_bytes(1 << 24)
    one.step()
    assert (one.running, one.waiting) == (2, 0)
    drain(one)
    assert one.cache_bytes == 0


@pytest.mark.parametrize("ahead", [1, 2])
def test_frames_asked_for_ahead_are_the_same_and_none_is_told_of_after_the_end(
    ahead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(end_scale=1.0).model
    sampling = SamplingParams(1.0, 1.0, 1.0, 1)

    def asked() -> list[Sequence]:
        texts = ("a", "Some more.", "And the third of them.")
        limits = zip(texts, (400, 9, 60), strict=True)
        return [sequence(text, sampling, frames) for text, frames in limits]

    plain = asked()
    wanted = run(Engine(model, 2), *plain)
    engine = Engine(model, 2)
    monkeypatch.setattr(engine, "_most_in_flight", ahead)
    found = asked()
    made = run(engine, *found)
    for a, b in zip(plain, found, strict=True):
        assert torch.equal(wanted[a], made[b])
        assert (a.finish, a.frames) == (b.finish, b.frames)
    assert {each.finish for each in found} >= {"end", "frame_limit"}
    assert engine.is_idle
    assert engine.cache_bytes == 0


def test_what_is_given_up_in_flight_is_not_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    one = engine(max_batch=2)
    monkeypatch.setattr(one, "_most_in_flight", 1)
    gone, stays = sequence("abc", frames=25), sequence("de", frames=25)
    for each in (gone, stays):
        one.add(each)
    progress = [p for _ in range(5) for p in one.step()]
    one.abort(gone)
    later = drain(one)
    assert all(p.sequence is not gone for p in later)
    assert torch.equal(frames_of(progress + later)[stays], slow_greedy(stays.prompt, 25))


def test_what_is_no_number_fails_its_row_alone() -> None:
    one = engine()
    bad, good = sequence("bad", frames=12), sequence("good", frames=12)
    for each in (bad, good):
        one.add(each)
    progress = [p for _ in range(3) for p in one.step()]
    slot = one._scheduler.slots[bad]
    keys, _ = one.runner.state.cache.past(0, slot)
    with torch.inference_mode():
        keys.fill_(math.nan)
    progress += drain(one)
    (failed,) = [p for p in progress if p.error is not None]
    assert failed.sequence is bad
    assert "no number" in str(failed.error)
    assert torch.equal(frames_of(progress)[good], slow_greedy(good.prompt, 12))
