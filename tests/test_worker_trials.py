"""Verdicts of trials that the next start need not repeat."""

from pathlib import Path

import msgspec
import pytest

import backend
from backend.engine import agreement, ways
from backend.engine.agreement import Agreement
from backend.engine.frame import State, Way
from backend.worker import loaded
from backend.worker.messages import WorkerConfig
from backend.worker.trials import Trials
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
