"""Verdicts of trials that the next start need not repeat."""

import sys
from pathlib import Path

import msgspec
import pytest

import backend
from backend.engine import agreement, ways
from backend.engine.agreement import Agreement
from backend.engine.frame import State, Way
from backend.model import checkpoint
from backend.worker import loaded
from backend.worker.messages import WorkerConfig
from backend.worker.trials import Trials
from tests.monitored import logged
from tests.tiny import tiny_checkpoint

DEMO = Path(backend.__file__).parent / "checkpoints" / "demo"


def test_what_was_noted_is_found_and_the_oldest_goes(tmp_path: Path) -> None:
    trials = Trials(tmp_path)
    assert trials.find("one") is None
    for index in range(20):
        trials.note(f"{index}", index)
    trials.note("5", 50.5)
    assert Trials(tmp_path).find("5") == 50.5
    assert trials.find("3") is None
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("text", ["", "[]", "{", '{"one": "two"}', "\x00", "9" * 5000])
def test_a_broken_file_knows_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "trials.json").write_text(text)
    trials = Trials(tmp_path)
    assert trials.find("one") is None
    trials.note("one", 1)
    assert trials.find("one") == 1


def test_a_folder_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    Trials(tmp_path / "missing").note("one", 1)


@pytest.mark.parametrize("folder", ["tiny", "demo"])
def test_a_worker_tries_once_a_checkpoint(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = DEMO if folder == "demo" else tiny_checkpoint(tmp_path / "tiny")
    config = WorkerConfig(
        str(place),
        device="cpu",
        precision="fp32",
        num_threads=1,
        try_compile=True,
        compile_dir=str(tmp_path / "compiled"),
    )
    first = loaded.load(config).info
    compared: list[object] = []
    compare = agreement.compare

    def counted(way: Way, state: State) -> Agreement:
        compared.append(way)
        return compare(way, state)

    monkeypatch.setattr(ways, "compare", counted)
    second = loaded.load(config).info
    assert not compared
    assert (first.way, second.way) == ("native", "native")
    assert "which agreed before" in second.way_detail
    assert second.codec_precision == first.codec_precision
    other = tiny_checkpoint(tmp_path / "other", seed=2)
    loaded.load(msgspec.structs.replace(config, model_dir=str(other)))
    assert len(compared) == 1


def quantized(folder: Path, compiled: Path, least_kept: float) -> WorkerConfig:
    return WorkerConfig(
        str(folder),
        device="cpu",
        precision="fp32",
        num_threads=1,
        quantization="int8",
        calibration_samples=4,
        least_kept=least_kept,
        try_compile=True,
        compile_dir=str(compiled),
    )


def test_what_a_quantization_for_speed_keeps_is_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = quantized(tiny_checkpoint(tmp_path / "tiny"), tmp_path / "compiled", 0.01)
    first = loaded.load(config).info
    assert first.quantization == "int8" and first.quality_cost is not None

    def again(*_: object, **__: object) -> None:
        raise AssertionError("it is measured once more")

    monkeypatch.setattr(checkpoint, "calibrate_", again)
    assert loaded.load(config).info.quality_cost == first.quality_cost
    assert list((tmp_path / "compiled").glob("*.safetensors")), "what was fitted is kept"


def test_weights_are_held_in_full_where_quantization_keeps_too_few_codes(tmp_path: Path) -> None:
    folder, compiled = tiny_checkpoint(tmp_path / "tiny"), tmp_path / "compiled"
    with logged("WARNING") as lines:
        info = loaded.load(quantized(folder, compiled, 1.01)).info
    assert (info.quantization, info.way) == ("none", "native")
    assert any("held in full: int8 keeps only" in line for line in lines)
    assert loaded.load(quantized(folder, compiled, 0)).info.quantization == "int8", (
        "it is asked for"
    )


def test_weights_are_held_in_full_where_no_kernels_make_it_fast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", f"{sys.executable} -c raise(SystemExit(1))")
    folder, compiled = tiny_checkpoint(tmp_path / "tiny"), tmp_path / "compiled"
    info = loaded.load(quantized(folder, compiled, 0.01)).info
    assert (info.quantization, info.way) == ("none", "eager")
    assert loaded.load(quantized(folder, compiled, 0)).info.quantization == "int8", (
        "it is asked for"
    )
