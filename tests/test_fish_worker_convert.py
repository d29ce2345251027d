import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from backend.errors import BadCheckpoint
from backend.fish_worker.convert import norm_names, official_folder
from backend.model.checkpoint import load_checkpoint
from tests.tiny import tiny_checkpoint


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    return tiny_checkpoint(tmp_path / "ours", dtype=torch.bfloat16)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "checkpoints"


def test_it_is_the_same_checkpoint(ours: Path, kept: Path) -> None:
    before, after = load_checkpoint(ours), load_checkpoint(official_folder(ours, kept))
    assert (after.info, after.config, after.codec_config) == (
        *(before.info, before.config, before.codec_config),
    )
    for key, value in before.model.state_dict().items():
        assert torch.equal(value, after.model.state_dict()[key]), key
    for key, value in before.codec.state_dict().items():
        # Split and folded again: a rounding of float32.
        torch.testing.assert_close(after.codec.state_dict()[key], value, rtol=1e-6, atol=1e-7)
    text = "Round trip, 猫!"
    assert before.tokenizer.encode(text) == after.tokenizer.encode(text)


def test_it_is_in_the_official_layout(ours: Path, kept: Path) -> None:
    folder = official_folder(ours, kept)
    assert not list(folder.glob("*.safetensors"))
    codec = torch.load(folder / "codec.pth", weights_only=True)
    normed = {key for key in load_file(ours / "codec.safetensors") if norm_names(key)}
    assert normed
    assert not normed & codec.keys()
    for key in normed:
        magnitude, direction = norm_names(key) or ("", "")
        assert codec[magnitude].shape[1:] == torch.Size([1] * (codec[direction].ndim - 1))
    model = torch.load(folder / "model.pth", weights_only=True)
    assert {value.dtype for value in model.values()} == {torch.bfloat16}, "not made larger"


def test_it_is_made_once_and_again_when_the_checkpoint_changes(ours: Path, kept: Path) -> None:
    first = official_folder(ours, kept)
    made_ns = (first / "model.pth").stat().st_mtime_ns
    assert official_folder(ours, kept) == first
    assert (first / "model.pth").stat().st_mtime_ns == made_ns
    other = tiny_checkpoint(ours.parent / "other")
    beside = official_folder(other, kept)
    assert first.is_dir()

    config = json.loads((ours / "config.json").read_text("utf-8"))
    (ours / "config.json").write_text(json.dumps({**config, "max_seq_len": 640}), "utf-8")
    second = official_folder(ours, kept)
    assert second != first
    assert load_checkpoint(second).config.max_seq_len == 640
    assert sorted(kept.iterdir()) == sorted((second, beside)), "the outdated one is gone"


def test_an_official_folder_is_taken_as_it_is(ours: Path, kept: Path) -> None:
    official = shutil.copytree(official_folder(ours, kept), ours.parent / "official")
    assert official_folder(official, ours.parent / "untouched") == official
    assert not (ours.parent / "untouched").exists()


def test_half_of_each_is_completed(ours: Path, kept: Path) -> None:
    converted = official_folder(ours, kept)
    shutil.copy(converted / "codec.pth", ours / "codec.pth")
    (ours / "codec.safetensors").unlink()
    folder = official_folder(ours, kept)
    assert (folder / "codec.pth").read_bytes() == (ours / "codec.pth").read_bytes()
    assert (folder / "model.pth").is_file()


def test_what_is_wrong_is_told_and_nothing_half_made_stays(ours: Path, kept: Path) -> None:
    with pytest.raises(BadCheckpoint, match="there is no checkpoint folder"):
        official_folder(ours / "nowhere", kept)
    whole = (ours / "codec.safetensors").read_bytes()
    (ours / "codec.safetensors").write_bytes(whole[:1000])
    with pytest.raises(BadCheckpoint, match="cannot be converted"):
        official_folder(ours, kept)
    assert not list(kept.iterdir())
    (ours / "codec.safetensors").unlink()
    with pytest.raises(BadCheckpoint, match="no weights for codec"):
        official_folder(ours, kept)
    (ours / "codec.safetensors").write_bytes(whole)
    (ours / "tokenizer.tiktoken").unlink()
    with pytest.raises(BadCheckpoint, match=r"tokenizer\.tiktoken"):
        official_folder(ours, kept)
