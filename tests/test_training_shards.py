"""Shards of speech read into one tensor: what is said when, and stretches of it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from training.demo_voice.recipe import SAMPLE_RATE_HZ
from training.demo_voice.shards import Shards, Utterance, speech_folders

FRAME = 64
CPU = torch.device("cpu")


def write(folder: Path, index: int, speaker_id: int, frames: list[int]) -> None:
    """A shard whose samples say which frame of it they belong to, and whose phonemes follow."""
    count = sum(frames)
    place = 100 * index + np.arange(count)
    name = folder / f"{index:05d}"
    np.save(name.with_suffix(".npy"), np.repeat(place, FRAME).astype(np.int16))
    np.save(name.with_suffix(".phones.npy"), (place % 200 + 1).astype(np.uint8))
    np.save(name.with_suffix(".pitches.npy"), (place % 60).astype(np.uint8))
    foreign = [speaker_id > 9 and n == 0 for n in range(len(frames))]
    items = [[f"Line {index}.{n}", each, foreign[n]] for n, each in enumerate(frames)]
    name.with_suffix(".json").write_text(json.dumps({"speaker_id": speaker_id, "items": items}))


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    write(tmp_path, 0, 0, [5, 7])
    write(tmp_path, 1, 11, [30, 3])
    return Shards([tmp_path], 0.001, FRAME, CPU)


def test_sentences_and_phonemes_lie_where_they_are_heard(shards: Shards, tmp_path: Path) -> None:
    assert not shards.read_new(), "more may come"
    assert shards.utterances == [
        Utterance("Line 0.0", 0, 0, 5),
        Utterance("Line 0.1", 0, 5, 7),
        Utterance("Line 1.0", 11, 12, 30, foreign=True),
        Utterance("Line 1.1", 11, 42, 3),
    ]
    assert shards.samples == 45 * FRAME
    place = torch.cat((torch.arange(12), 100 + torch.arange(33)))
    assert torch.equal(shards.audio[: shards.samples : FRAME].long(), place)
    assert torch.equal(shards.phones[:45].long(), place % 200 + 1)
    assert torch.equal(shards.pitches[:45].long(), place % 60)
    write(tmp_path, 2, 0, [4])
    (tmp_path / "DONE").touch()
    assert shards.read_new()
    assert shards.utterances[-1] == Utterance("Line 2.0", 0, 45, 4)
    assert shards.read_new(), "nothing is read twice"
    assert shards.samples == 49 * FRAME


def test_crops_come_with_the_phonemes_spoken_in_them(shards: Shards) -> None:
    shards.read_new()
    torch.manual_seed(0)
    waves, phones, pitches = shards.crops(200, 6 * FRAME)
    assert waves.shape == (200, 6 * FRAME)
    assert phones.shape == pitches.shape == (200, 6)
    assert float(waves.abs().max()) <= 1
    waves, phones, pitches = shards.crops(200, 6 * FRAME, default_share=1.0)
    place = (waves.view(200, 6, FRAME)[:, :, FRAME // 2] * 32_768).round().long()
    assert torch.equal(place % 200 + 1, phones)
    assert torch.equal(place % 60, pitches)
    assert int(place[:, 0].max()) <= 100, "the default speaker's frames, or the one behind them"


def test_levels_differ_where_nobody_is_asked_for(shards: Shards) -> None:
    shards.read_new()
    torch.manual_seed(0)
    waves, phones, _ = shards.crops(100, FRAME)
    said = (phones[:, 0] - 1).float() / 32_768
    gains = waves[:, FRAME // 2][said > 0.0005] / said[said > 0.0005]
    assert 0.5 <= float(gains.min()) < 0.7
    assert 1.0 < float(gains.max()) <= 1.2


def test_what_has_no_room_is_left_out(tmp_path: Path) -> None:
    for index in range(3):
        write(tmp_path, index, 0, [30])
    shards = Shards([tmp_path], -1 + 70 * FRAME / SAMPLE_RATE_HZ / 3600, FRAME, CPU)
    assert shards.read_new(), "full"
    assert len(shards.utterances) == 2


def test_a_shard_that_was_deleted_again_is_passed_over(shards: Shards, tmp_path: Path) -> None:
    (tmp_path / "00000.npy").unlink()
    shards.read_new()
    assert [u.speaker_id for u in shards.utterances] == [11, 11]


def test_parts_made_side_by_side_are_one_speech(tmp_path: Path) -> None:
    for part in range(2):
        (tmp_path / "speech" / str(part)).mkdir(parents=True)
        for index in (part, part + 2):
            write(tmp_path / "speech" / str(part), index, 0, [4 + index])
    folders = speech_folders(tmp_path)
    (folders[0] / "DONE").touch()
    shards = Shards(folders, 0.001, FRAME, CPU)
    assert not shards.read_new(), "one still speaks"
    assert [u.frames for u in shards.utterances] == [4, 5, 6, 7]
    (folders[1] / "DONE").touch()
    assert shards.read_new()
