"""A voice that learns to follow a recording more than it does."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from torch import Tensor

from backend.engine.prompt import Prompt, Reference
from backend.model.checkpoint import Checkpoint, load_checkpoint
from tests.kernels_in_c import native_pool
from tests.recordings import speech_like
from tests.tiny import tiny_checkpoint
from training.demo_voice.follow import follow, read_voices
from training.demo_voice.guidance import Reader, Row, divergence, guided, strengthened
from training.demo_voice.recipe import FollowTraining


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("begin"))


@pytest.fixture
def checkpoint(folder: Path) -> Checkpoint:
    return load_checkpoint(folder)


@pytest.fixture
def reader(checkpoint: Checkpoint) -> Reader:
    return Reader(checkpoint.model, checkpoint.tokenizer)


def _frames(count: int, seed: int) -> Tensor:
    return torch.randint(0, 64, (count, 4), generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def row() -> Row:
    voice = Reference("It rains.", _frames(20, 1).t())
    return Row(voice, voice, ("One two.", "Three."), (_frames(9, 2), _frames(12, 3)))


def _reads(reader: Reader, text: str, said: Tensor, voice: Reference | None) -> Tensor:
    """Logits where each frame and the end are due, of a sentence by itself."""
    model = reader.model
    references = [] if voice is None else [voice]
    prompt = Prompt.build(reader.tokenizer, said.shape[1], text, references)
    tokens = torch.cat((prompt.tokens, said[:, 0] + model.semantic_begin_id))
    hidden = model.slow(tokens[None], torch.cat((prompt.codes, said))[None])[0, len(prompt) - 1 :]
    return torch.nn.functional.linear(model.norm(hidden), model.embeddings.weight)


@torch.no_grad()
def test_each_sentence_is_read_as_if_it_stood_alone_behind_the_recording(
    reader: Reader, row: Row
) -> None:
    shorter = replace(row, texts=row.texts[:1], said=row.said[:1])
    for voice in (row.known, None):
        rows = [replace(each, heard=voice) for each in (row, shorter)]
        slow, fast = reader.logits(rows, lambda row: row.heard)
        pairs = [*zip(row.texts, row.said, strict=True), (row.texts[0], row.said[0])]
        wanted = torch.cat([_reads(reader, text, said, voice) for text, said in pairs])
        torch.testing.assert_close(slow, wanted, rtol=1e-4, atol=1e-4)
        assert fast.shape == (9 + 12 + 9, 3, 64)


def test_what_a_recording_makes_likelier_is_likelier_still() -> None:
    behind, alone = torch.tensor([0.5, 0.3, 0.19, 0.01]), torch.tensor([0.2, 0.3, 0.1, 0.4])
    found = strengthened(behind.log(), alone.log(), 2.0)
    likelier = torch.tensor([0.5**2 / 0.2, 0.3, 0.19**2 / 0.1])
    wanted = torch.cat((0.99 * likelier / likelier.sum(), torch.tensor([0.01])))
    torch.testing.assert_close(found, wanted)


@torch.no_grad()
def test_without_a_recording_there_is_nothing_to_be_learnt(reader: Reader, row: Row) -> None:
    plain = [replace(row, heard=None, known=None)]
    nats = divergence(reader, plain, guided(reader, plain, 2.5))
    torch.testing.assert_close(torch.stack(nats), torch.zeros(2), atol=1e-5, rtol=0.0)
    slow, fast = divergence(reader, [row], guided(reader, [row], 2.5))
    assert slow > 0.05 and fast > 0.05


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
def test_it_is_learnt_from_what_the_voice_says_itself(folder: Path, tmp_path: Path) -> None:
    readings, out = tmp_path / "readings", tmp_path / "learnt"
    readings.mkdir()
    for number in range(2):
        for turn in (1, 2):
            path = readings / f"{number:04}-{turn}.wav"
            soundfile.write(path, speech_like(0.5, 8000, 100.0 + 60 * number), 8000)
            path.with_suffix(".txt").write_text(f"Speaker {number}, line {turn}.\n\nA note.")
    voices = read_voices(load_checkpoint(folder).codec, [readings])
    assert [each.clear[-1].text for each in voices] == [
        f"Speaker {n}, line 1. Speaker {n}, line 2." for n in range(2)
    ]
    assert [each.codes.shape[1] for each in voices[0].clear] == [50, 50, 104]
    plan = FollowTraining(
        steps=40, seconds=np.inf, rows=4, rows_a_round=8, peak_lr=3e-3, warmup_steps=2
    )
    follow(plan, native_pool(), load_checkpoint(folder), voices, ["Aye.", "No.", "Go on."], out)
    told = [json.loads(line) for line in out.with_suffix(".log").read_text().splitlines()]
    rounds = [each["round"] for each in told]  # but those in which nothing came to an end
    assert rounds == sorted(set(rounds)) and len(rounds) > 2
    first, last = (np.sum(told[place]["nats_slow_fast"]) for place in (0, -1))
    assert last < 0.9 * first
    for name, same in (("codec", True), ("model", False)):
        before, after = (load_file(each / f"{name}.safetensors") for each in (folder, out))
        kept = [torch.equal(before[key].bfloat16(), after[key].bfloat16()) for key in before]
        assert all(kept) is same

    still = replace(plan, steps=2, peak_lr=0.0, kept=0.25)
    given = (native_pool(), load_checkpoint(folder), voices, ["Aye.", "No."], tmp_path / "later")
    follow(still, *given, begin_with=load_checkpoint(out).model)
    folders = (folder, out, tmp_path / "later")
    first, begun, after = (load_file(each / "model.safetensors") for each in folders)
    for key, found in after.items():
        wanted = 0.25 * first[key].float() + 0.75 * begun[key].float()
        torch.testing.assert_close(found.float(), wanted, rtol=0.01, atol=1e-3)


def test_recordings_at_another_rate_are_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(800, np.float32), 16_000)
    with pytest.raises(ValueError, match="has 16000 Hz where the codec has 8000"):
        read_voices(checkpoint.codec, [tmp_path])
