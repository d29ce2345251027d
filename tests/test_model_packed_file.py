"""A packed transformer that is kept for the next start."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from backend.core import QualityCost, Quantization
from backend.model import checkpoint as checkpoint_module
from backend.model.checkpoint import Checkpoint, load_checkpoint
from backend.model.config import checkpoint_fingerprint, transformer
from backend.model.config import fingerprint as fingerprint_module
from tests.kernels_in_c import native_pool
from tests.monitored import logged
from tests.tiny import tiny_checkpoint


@pytest.fixture(autouse=True)
def _all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformer, "SMALL_PARAMETERS", 0)


def load(
    folder: Path,
    kept: Path,
    quantization: Quantization = "int4",
    dtype: torch.dtype = torch.bfloat16,
    samples: int = 0,
) -> Checkpoint:
    return load_checkpoint(
        folder,
        dtype=dtype,
        quantization=quantization,
        calibration_samples=samples,
        pool=native_pool(),
        packed_dir=kept,
    )


def measured(checkpoint: Checkpoint) -> QualityCost:
    """What its quantization cost, which is told once it was measured."""
    assert checkpoint.quality_cost is None and checkpoint.measuring is not None
    *steps, cost = checkpoint.measuring
    assert cost is not None and steps and not any(steps)
    return cost


def assert_alike(one: Checkpoint, other: Checkpoint) -> None:
    ours, theirs = one.model.state_dict(), other.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert one.quality_cost == other.quality_cost
    assert one.weight_bytes == other.weight_bytes
    x = torch.randn(3, one.config.slow.dim)
    assert torch.equal(one.model.slow_logits(x), other.model.slow_logits(x))


@pytest.mark.parametrize("quantization", ["int8", "int4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_next_start_has_the_same(
    quantization: Quantization, dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_checkpoint(tmp_path / "tiny", attention_qkv_bias=True, fast_dim=32)
    first = load(folder, tmp_path / "kept", quantization, dtype, samples=4)
    cost = measured(first)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it is packed once more")

    monkeypatch.setattr(checkpoint_module, "_filled", never)
    monkeypatch.setattr(checkpoint_module, "calibrating", never)
    again = load(folder, tmp_path / "kept", quantization, dtype, samples=4)
    assert again.quality_cost == cost and again.measuring is None
    assert load(folder, tmp_path / "kept", quantization, dtype).quality_cost == cost
    assert_alike(replace(again, quality_cost=None), first)


def test_the_cost_is_measured_when_it_is_first_asked_for(tmp_path: Path) -> None:
    folder, kept = tiny_checkpoint(tmp_path / "tiny"), tmp_path / "kept"
    assert load(folder, kept).quality_cost is None
    cost = measured(load(folder, kept, samples=4))
    next(kept.glob("*.json")).write_text("{")
    assert load(folder, kept).quality_cost is None
    assert measured(load(folder, kept, samples=4)) == cost
    assert load(folder, kept, samples=4).quality_cost == cost


def test_weights_that_were_written_again_are_packed_anew_though_their_ends_are_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint_module, "_ENDS_BYTES", 64)
    folder, kept = tiny_checkpoint(tmp_path / "tiny"), tmp_path / "kept"
    load(folder, kept)
    stored = folder / "model.safetensors"
    weights = load_file(stored)
    weights["layers.0.feed_forward.w1.weight"] *= 2
    before = checkpoint_fingerprint(folder)
    save_file(weights, folder / "new")
    (folder / "new").replace(stored)
    assert checkpoint_fingerprint(folder) == before
    load(folder, kept)
    assert len(list(kept.glob("*.safetensors"))) == 2


def test_what_differs_is_kept_apart_and_the_oldest_goes(tmp_path: Path) -> None:
    folder, kept = tiny_checkpoint(tmp_path / "tiny"), tmp_path / "kept"
    load(folder, kept, "int8")
    (eight,) = kept.iterdir()
    os.utime(eight, (1, 1))
    load(folder, kept, "int4")
    assert len(list(kept.iterdir())) == 2
    load(folder, kept, "int8")  # now it is the last that was wanted
    load(tiny_checkpoint(tmp_path / "other", seed=1), kept, "int4")
    assert len(list(kept.iterdir())) == 2
    assert eight.exists()


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "another shape"])
def test_a_damaged_file_is_made_anew(damage: str, tmp_path: Path) -> None:
    folder, kept = tiny_checkpoint(tmp_path / "tiny"), tmp_path / "kept"
    first = load(folder, tmp_path / "other")  # it is mapped
    load(folder, kept)
    (file,) = kept.iterdir()
    whole = file.read_bytes()
    if damage == "another shape":
        load(tiny_checkpoint(tmp_path / "wide", dim=32), tmp_path / "kept2")
        file.write_bytes(next((tmp_path / "kept2").iterdir()).read_bytes())
    else:
        cut = {"cut": whole[:-100], "garbage": b"\xff" * 1000, "empty": b""}
        file.write_bytes(cut[damage])
    with logged("WARNING") as lines:
        assert_alike(load(folder, kept), first)
    assert any("cannot be used" in line for line in lines)
    assert file.read_bytes() == whole


def test_a_full_disk_is_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    folder = tiny_checkpoint(tmp_path / "tiny")
    with logged("WARNING") as lines:
        first = load(folder, tmp_path / "kept")
    assert [line for line in lines if "No space left" in line]
    assert list((tmp_path / "kept").iterdir()) == []
    monkeypatch.undo()
    monkeypatch.setattr(transformer, "SMALL_PARAMETERS", 0)
    assert_alike(load(folder, tmp_path / "kept"), first)


@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_what_was_fitted_of_a_small_one_is_kept_with_its_cost(
    quantization: Quantization, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    folder, kept = tiny_checkpoint(tmp_path / "tiny"), tmp_path / "kept"
    first = load(folder, kept, quantization, samples=4)
    assert first.quality_cost is not None and first.measuring is None

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it is fitted once more")

    monkeypatch.setattr(checkpoint_module, "calibrate_", never)
    assert_alike(load(folder, kept, quantization, samples=4), first)
    again = load(folder, kept, quantization)
    assert_alike(again, first)


def test_what_was_not_kept_of_a_small_one_is_fitted_anew_though_its_cost_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    folder, kept = tiny_checkpoint(tmp_path / "tiny"), tmp_path / "kept"
    first = load(folder, kept, samples=4)
    next(kept.glob("*.safetensors")).unlink()
    assert_alike(load(folder, kept, samples=4), first)


def test_nothing_is_kept_that_is_packed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_checkpoint(tmp_path / "tiny")
    load(folder, tmp_path / "kept", "none")
    load(tiny_checkpoint(tmp_path / "untied", tie_word_embeddings=False), tmp_path / "kept")
    monkeypatch.undo()
    load(folder, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
