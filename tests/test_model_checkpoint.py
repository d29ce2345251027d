"""Checkpoint folders: what is read, and what is said of a folder that is not right."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from backend.errors import BadCheckpoint
from backend.model.checkpoint import load_checkpoint, save_checkpoint
from backend.model.config import CodecConfig
from tests.tiny import tiny_checkpoint

Weights = dict[str, Tensor]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_checkpoint(tmp_path / "voice")


def _edit(path: Path, change: Callable[[Weights], object]) -> None:
    weights = load_file(path)
    change(weights)
    path.unlink()
    save_file(weights, path)


def _edit_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **values}), "utf-8")


def _refusal(folder: Path) -> str:
    with pytest.raises(BadCheckpoint) as caught:
        load_checkpoint(folder)
    return str(caught.value)


def _to_official(folder: Path, name: str = "model") -> Path:
    """The same weights as a .pth file."""
    safe, plain = folder / f"{name}.safetensors", folder / f"{name}.pth"
    torch.save(load_file(safe), plain)
    safe.unlink()
    return plain


def test_what_was_saved_is_loaded(folder: Path, tmp_path: Path) -> None:
    first = load_checkpoint(folder)
    save_checkpoint(tmp_path / "copy", first, torch.float32)
    second = load_checkpoint(tmp_path / "copy")
    assert (first.info, first.config, first.codec_config) == (
        second.info,
        second.config,
        second.codec_config,
    )
    for one, other in ((first.model, second.model), (first.codec, second.codec)):
        ours, theirs = one.state_dict(), other.state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert first.tokenizer.encode("Über 猫") == second.tokenizer.encode("Über 猫")
    assert not any(p.requires_grad for p in second.model.parameters())


def test_counted_parameters_are_the_real_ones(folder: Path) -> None:
    checkpoint = load_checkpoint(folder)
    model = sum(p.numel() for p in checkpoint.model.parameters())
    assert checkpoint.config.parameters == model
    assert checkpoint.parameters == model + sum(p.numel() for p in checkpoint.codec.parameters())
    assert checkpoint.weight_bytes == 4 * checkpoint.parameters


def test_each_part_is_loaded_in_its_own_type(folder: Path) -> None:
    checkpoint = load_checkpoint(folder, dtype=torch.bfloat16, codec_dtype=torch.float32)
    assert {p.dtype for p in checkpoint.model.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in checkpoint.codec.parameters()} == {torch.float32}
    assert checkpoint.model.legal_head.dtype == torch.bfloat16


def test_an_absent_folder(tmp_path: Path) -> None:
    assert "there is no checkpoint folder" in _refusal(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.tiktoken", "special_tokens.json", "model", "codec"]
)
def test_an_absent_file_is_named(folder: Path, name: str) -> None:
    (folder / name if "." in name else folder / f"{name}.safetensors").unlink()
    assert name in _refusal(folder)


def test_every_wrong_tensor_is_named_at_once(folder: Path) -> None:
    def spoil(weights: Weights) -> None:
        del weights["norm.weight"]
        del weights["layers.1.attention.wo.weight"]
        weights["surplus.weight"] = torch.zeros(3, 2)
        weights["fast_output.weight"] = torch.zeros(5, 32)

    _edit(folder / "model.safetensors", spoil)
    message = _refusal(folder)
    assert "the model weights do not fit" in message
    for part in (
        "missing norm.weight (64,)",
        "missing layers.1.attention.wo.weight (64, 64)",
        "unexpected surplus.weight (3, 2)",
        "fast_output.weight is (5, 32), not (64, 32)",
    ):
        assert part in message


def test_wrong_codec_tensors_are_named(folder: Path) -> None:
    _edit(folder / "codec.safetensors", lambda weights: weights.pop("decoder.model.0.conv.bias"))
    message = _refusal(folder)
    assert "the codec weights do not fit" in message
    assert "missing decoder.model.0.conv.bias (32,)" in message


def test_half_a_weight_norm_is_named(folder: Path) -> None:
    def spoil(weights: Weights) -> None:
        stem = "quantizer.quantizer.quantizers.0.in_proj"
        weights[f"{stem}.weight_v"] = weights.pop(f"{stem}.weight")

    _edit(folder / "codec.safetensors", spoil)
    message = _refusal(folder)
    assert "missing quantizer.quantizer.quantizers.0.in_proj.weight " in message
    assert "unexpected quantizer.quantizer.quantizers.0.in_proj.weight_v" in message


@pytest.mark.parametrize("letters", ["q", "qk", "kv"])
def test_part_of_a_split_attention_is_named(folder: Path, letters: str) -> None:
    def spoil(weights: Weights) -> None:
        weights.pop("layers.0.attention.wqkv.weight")
        for letter in letters:
            weights[f"layers.0.attention.w{letter}.weight"] = torch.zeros(4, 64)

    _edit(folder / "model.safetensors", spoil)
    assert "missing layers.0.attention.wqkv.weight" in _refusal(folder)


@pytest.mark.parametrize("kind", ["fish_qwen3_omni", "naive", None])
def test_an_unknown_model_type(folder: Path, kind: str | None) -> None:
    _edit_json(folder / "config.json", model_type=kind)
    message = _refusal(folder)
    assert repr(kind) in message
    assert "dual_ar" in message


def test_a_config_that_lacks_a_size(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "dual_ar", "dim": 64}', "utf-8")
    assert "config.json lacks n_head, n_layer, vocab_size" in _refusal(folder)


@pytest.mark.parametrize("text", ["", "[1]", "{", "\ufeff{}"])
def test_a_config_that_is_not_an_object(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text, "utf-8")
    assert "config.json" in _refusal(folder)


@pytest.mark.parametrize("name", ["codec.json", "shoal.json"])
def test_an_unknown_key_of_ours_is_named(folder: Path, name: str) -> None:
    _edit_json(folder / name, colour="blue")
    assert "colour" in _refusal(folder)


def test_rates_that_do_not_match() -> None:
    with pytest.raises(BadCheckpoint, match="differ"):
        CodecConfig(encoder_rates=(2, 2), decoder_rates=(2, 3), encoder_transformer_layers=(0, 0))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"vocab_size": 300}, "328 token ids for a vocabulary of 300"),
        ({"codebook_size": 65}, "64 semantic tokens for a code book of 65"),
        ({"codebook_size": 32}, "a code book of 32 in config.json, of 64 in the codec"),
        ({"num_codebooks": 6}, "6 code books in config.json, 4 in the codec"),
    ],
)
def test_files_that_do_not_fit_together(
    folder: Path, change: dict[str, int], complaint: str
) -> None:
    _edit_json(folder / "config.json", **change)
    assert complaint in _refusal(folder)


@pytest.mark.parametrize("name", ["model", "codec"])
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.99])
@pytest.mark.parametrize("official", [False, True])
def test_a_truncated_file(folder: Path, name: str, kept: float, official: bool) -> None:
    path = _to_official(folder, name) if official else folder / f"{name}.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    assert f"{path} cannot be read as weights" in _refusal(folder)


class _Harm:
    """Pickled, this makes a folder when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_would_run_code_is_refused_and_does_not(
    folder: Path, tmp_path: Path, zipped: bool
) -> None:
    path = _to_official(folder)
    harm = tmp_path / "harm"
    torch.save({"norm.weight": _Harm(harm)}, path, _use_new_zipfile_serialization=zipped)
    assert "cannot be read as weights" in _refusal(folder)
    assert not harm.exists()
    torch.load(path, weights_only=False)
    assert harm.exists(), "the file was harmless: the test proves nothing"


def test_a_file_that_holds_no_state_dict(folder: Path) -> None:
    torch.save([torch.zeros(2)], _to_official(folder))
    assert "does not hold a state dict" in _refusal(folder)


def test_an_official_file_in_the_old_format_loads(folder: Path) -> None:
    """Written by torch before 1.6: no zip, so it cannot be mapped into memory."""
    path = _to_official(folder)
    weights = torch.load(path, weights_only=True)
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    checkpoint = load_checkpoint(folder)
    assert torch.equal(checkpoint.model.norm.weight, weights["norm.weight"])


@pytest.mark.parametrize("official", [False, True])
def test_the_files_may_change_once_they_are_loaded(folder: Path, official: bool) -> None:
    """Nothing that is held is a part of a mapped file."""
    paths = [
        _to_official(folder, name) if official else folder / f"{name}.safetensors"
        for name in ("model", "codec")
    ]
    checkpoint = load_checkpoint(folder)
    parts = (checkpoint.model.state_dict(), checkpoint.codec.state_dict())
    before = [{key: value.clone() for key, value in part.items()} for part in parts]
    for path in paths:
        with path.open("r+b") as file:
            file.write(bytes(path.stat().st_size))
    for part, copy in zip(parts, before, strict=True):
        assert all(torch.equal(part[key], value) for key, value in copy.items())
