"""A voice's prompt is read once, and what is kept of it never takes the room of a row."""

import pytest
import torch

from backend.engine.engine import READ_TOKENS, Engine
from backend.engine.sequence import Sequence
from backend.model.config import CacheGeometry
from tests.engines import GREEDY, run, sequence, slow_greedy, tiny
from tests.spoken import drain, frames_of


def in_a_voice(text: str, frames: int = 8, reference_frames: int = 40) -> Sequence:
    return sequence(text, GREEDY, frames, reference_frames)


def read_tokens(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many tokens each call of the way is given to read, from now on."""
    counts: list[int] = []
    read = engine.runner.way.read

    def counted(slot: int, tokens: torch.Tensor, codes: torch.Tensor) -> None:
        counts.append(len(tokens))
        read(slot, tokens, codes)

    monkeypatch.setattr(engine.runner.way, "read", counted)
    return counts


def test_the_second_text_in_a_voice_reads_the_text_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(tiny().model, 2)
    counts = read_tokens(engine, monkeypatch)
    first, second = in_a_voice("One text."), in_a_voice("And another one.")
    for asked in (first, second):
        assert torch.equal(run(engine, asked)[asked], slow_greedy(asked.prompt, 8))
    assert counts == [
        first.prompt_tokens - 1,
        second.prompt_tokens - 1 - second.prompt.voice_tokens,
    ]
    assert engine.runner.voices.held_bytes > 0
    engine.forget_voices()
    assert engine.runner.voices.held_bytes == 0


def test_another_voice_and_no_voice_are_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(tiny().model, 2)
    for asked in (
        in_a_voice("One text."),
        in_a_voice("One text.", reference_frames=41),
        sequence("One text."),
    ):
        wanted = slow_greedy(asked.prompt, 8)
        assert torch.equal(run(engine, asked)[asked][:8], wanted)


def test_rows_have_the_room_first() -> None:
    model = tiny().model
    geometry = CacheGeometry.of(model.config.slow, 4)
    limit = geometry.held_bytes([256, 256])
    engine = Engine(model, 4, limit)
    run(engine, in_a_voice("a"))
    assert 0 < engine.runner.voices.held_bytes <= limit // 4
    both = [in_a_voice(text, frames=190, reference_frames=0) for text in ("b", "c")]
    for asked in both:
        engine.add(asked)
    while engine.running < 2:
        engine.step()
    held = geometry.held_bytes(asked.most_positions for asked in both)
    assert engine.runner.voices.held_bytes <= max(0, limit - held)
    drain(engine)


def test_what_was_used_last_stays() -> None:
    model = tiny().model
    geometry = CacheGeometry.of(model.config.slow, 4)
    engine = Engine(model, 1, 40 * geometry.row_bytes(64))
    voices = engine.runner.voices
    asked = [in_a_voice("a", 2, frames) for frames in (40, 50, 60)]
    for each in asked:
        run(engine, each)
    assert voices.find(asked[0].prompt) is not None
    two = sum(geometry.row_bytes(each.prompt.voice_tokens) for each in (asked[0], asked[2]))
    voices.limit(two)
    kept = [voices.find(each.prompt) is not None for each in asked]
    assert kept == [True, False, True]


def test_a_long_prompt_is_read_in_pieces_beside_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = Engine(tiny().model, 2)
    speaking, long = sequence("ab", frames=30), in_a_voice("a", 4, READ_TOKENS + 60)
    engine.add(speaking)
    progress = engine.step()
    counts = read_tokens(engine, monkeypatch)
    engine.add(long)
    while long.read_tokens < long.prompt_tokens:
        made = speaking.frames
        progress += engine.step()
        assert speaking.frames == made + 1
    assert max(counts) <= READ_TOKENS < sum(counts)
    frames = frames_of(progress + drain(engine))
    assert torch.equal(frames[long], slow_greedy(long.prompt, 4))
    assert torch.equal(frames[speaking], slow_greedy(speaking.prompt, 30))
