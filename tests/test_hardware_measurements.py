"""The file that keeps what was measured."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backend.errors import StorageFull
from backend.hardware import measurements as module
from backend.hardware.deployment import Deployment
from backend.hardware.measured import Figures, Measurement, Setup
from backend.hardware.measurements import MAX_ENTRIES, MAX_FILE_BYTES, MAX_ROWS, Measurements
from backend.settings import SHIPPED_VOICE_DIR
from tests.computers import DEMO, I5, Given, computer, plan_for
from tests.monitored import logged
from tests.tiny import tiny_checkpoint

MACHINE = computer(I5, 16)
SETUP = Setup("cpu", "fp32", "none", 1)
FIGURES = Figures("eager", "", "fp32", 1.0, 0.1, 0.2, 40.0, 9.0, 0.5, 900.0)
ROW = Measurement(SETUP, "measured", FIGURES)


@pytest.fixture
def kept(tmp_path: Path) -> Measurements:
    return Measurements(tmp_path / "data")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_checkpoint(tmp_path / "voice")


def test_what_is_kept_is_found_again(kept: Measurements, folder: Path) -> None:
    failed = Measurement(replace(SETUP, num_threads=2), "failed", reason="it died")
    skipped = Measurement(replace(SETUP, num_threads=3), "skipped", reason="no time")
    assert kept.find(MACHINE, folder) == ()
    kept.keep(MACHINE, folder, "voice", (ROW, failed, skipped))
    assert kept.find(MACHINE, folder) == (ROW, failed)
    assert [file.name for file in kept.data_dir.iterdir()] == ["measured.json"]


def test_later_measurements_take_the_place_of_earlier_ones(
    kept: Measurements, folder: Path
) -> None:
    other = replace(ROW, setup=replace(SETUP, num_threads=2))
    kept.keep(MACHINE, folder, "voice", (ROW, other))
    again = replace(ROW, figures=replace(FIGURES, rtf=0.4))
    kept.keep(MACHINE, folder, "voice", (again,))
    assert kept.find(MACHINE, folder) == (other, again)


def test_another_machine_checkpoint_or_version_has_nothing(
    kept: Measurements, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.keep(MACHINE, folder, "voice", (ROW,))
    copy = Path(shutil.copytree(folder, folder.parent / "copy"))
    assert kept.find(MACHINE, copy) == (ROW,)
    memory = replace(MACHINE.memory, available_bytes=1)
    assert kept.find(replace(MACHINE, memory=memory), folder) == (ROW,), "it is only busy"
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert kept.find(MACHINE, copy) == ()
    assert kept.find(MACHINE, SHIPPED_VOICE_DIR) == ()
    for other in (
        replace(MACHINE, torch_version="2.14.0+cpu"),
        replace(MACHINE, cpu=replace(I5, quota_cpus=1.5)),
        computer(I5, 8),
    ):
        assert kept.find(other, folder) == ()
    monkeypatch.setattr(module, "shoal_version", lambda: "99")
    assert kept.find(MACHINE, folder) == ()


def test_a_folder_without_weights_has_nothing(kept: Measurements, folder: Path) -> None:
    kept.keep(MACHINE, folder, "voice", (ROW,))
    (folder / "model.safetensors").unlink()
    assert kept.find(MACHINE, folder) == ()


def _changed(change: Callable[[Any], object]) -> Callable[[str], str]:
    def apply(text: str) -> str:
        told = json.loads(text)
        change(told)
        return json.dumps(told)

    return apply


def _row(name: str, value: Any) -> Callable[[str], str]:
    return _changed(lambda told: told["entries"][0]["rows"][0].update({name: value}))


def _figure(name: str, value: Any) -> Callable[[str], str]:
    return _changed(lambda told: told["entries"][0]["rows"][0]["figures"].update({name: value}))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-9],
        lambda text: "",
        lambda text: "[" * 100_000,
        lambda text: text + " " * MAX_FILE_BYTES,
        _changed(lambda told: told.update({"format": 2})),
        _changed(lambda told: told.update({"more": 1})),
        _changed(lambda told: told.update({"entries": told["entries"] * (MAX_ENTRIES + 1)})),
        _changed(lambda told: told["entries"][0].update({"rows": [{}] * (MAX_ROWS + 1)})),
        _row("outcome", "splendid"),
        _row("setup", {"device": "cpu"}),
        _figure("rtf", 0),
        _figure("rtf", "fast"),
        _figure("frames_per_s", -1),
        _figure("kept_codes", 1.5),
        _figure("peak_mb", 1e99),
    ],
)
def test_a_file_that_is_none_is_told_and_ignored(
    kept: Measurements, folder: Path, change: Callable[[str], str]
) -> None:
    kept.keep(MACHINE, folder, "voice", (ROW,))
    kept.file.write_text(change(kept.file.read_text("utf-8")), "utf-8")
    with logged("WARNING") as lines:
        assert kept.find(MACHINE, folder) == ()
    (line,) = lines
    assert "What was measured is not used" in line and str(kept.file) in line
    kept.keep(MACHINE, folder, "voice", (ROW,))
    assert kept.find(MACHINE, folder) == (ROW,)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_of_that_name_keeps_nobody_waiting(kept: Measurements, folder: Path) -> None:
    kept.data_dir.mkdir()
    os.mkfifo(kept.file)
    assert kept.find(MACHINE, folder) == ()


def test_it_stays_small(kept: Measurements, folder: Path) -> None:
    rows = [replace(ROW, setup=replace(SETUP, num_threads=count)) for count in range(1, 99)]
    for gib in range(1, MAX_ENTRIES + 3):
        kept.keep(computer(I5, gib), folder, "voice", rows)
    assert kept.find(computer(I5, 2), folder) == ()
    found = kept.find(computer(I5, MAX_ENTRIES + 2), folder)
    assert [row.setup.num_threads for row in found] == list(range(99 - MAX_ROWS, 99))
    assert kept.file.stat().st_size < MAX_FILE_BYTES


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageFull, match="SHOAL_DATA_DIR"):
        Measurements(tmp_path / "file").keep(MACHINE, folder, "voice", (ROW,))


def test_a_deployment_goes_by_it(tmp_path: Path) -> None:
    planned = Setup.of(plan_for(MACHINE, DEMO))
    faster = replace(planned, num_threads=planned.num_threads + 1)
    rows = (replace(ROW, setup=planned), Measurement(faster, "measured", replace(FIGURES, rtf=0.3)))
    Measurements(tmp_path).keep(MACHINE, SHIPPED_VOICE_DIR, "shoal-demo", rows)
    plan = Deployment.look(Given(data_dir=tmp_path), MACHINE).plan
    assert (plan.num_threads.value, plan.num_threads.source) == (faster.num_threads, "measured")
    assert plan.num_threads.reason == "measured 40 frames/s (RTF 0.30), the tier expected RTF 3"
    elsewhere = Deployment.look(Given(data_dir=tmp_path / "other"), MACHINE).plan
    assert elsewhere.num_threads.value == planned.num_threads
