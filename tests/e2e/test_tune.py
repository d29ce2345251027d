"""`shoal tune` with the shipped voice, in a process and with workers as its users have them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.computers import DEMO
from tests.documents import ROOT

pytestmark = pytest.mark.timeout(300)

SET = {"PRECISION": "fp32", "QUANTIZATION": "none", "DEVICE": "cpu"}
"""What is left are the threads."""


def shoal(*arguments: str, data_dir: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "backend.cli", *arguments, "--json"]
    environment = {**os.environ, **SET, "SHOAL_DATA_DIR": str(data_dir)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def children() -> set[psutil.Process]:
    """Processes below this one: other tests may keep a server."""
    return set(psutil.Process().children(recursive=True))


def test_threads_are_measured_and_the_plan_goes_by_them(tmp_path: Path) -> None:
    others = children()
    before = shoal("plan", data_dir=tmp_path)["selected_configuration"]["choices"]["num_threads"]
    told = shoal("tune", data_dir=tmp_path)
    rows = {row["num_threads"]: row for row in told["measured"]}
    assert {1, before["value"]} <= rows.keys()
    for row in rows.values():
        assert (row["outcome"], row["codec_precision"] != "") == ("measured", True), row
        assert row["peak_mb"] > 100
        assert 0 < row["prefill_s"] < row["first_audio_s"]
        # Text to samples takes what frames and the codec take, and the prompt.
        assert row["rtf"] * row["frames_per_s"] > DEMO.codec.frame_rate_hz, row
    chosen = told["chosen"]["num_threads"]
    after = shoal("plan", data_dir=tmp_path)["selected_configuration"]
    threads = after["choices"]["num_threads"]
    assert (threads["value"], threads["source"]) == (chosen, "measured")
    assert threads["reason"].startswith("measured ")
    assert "frames/s (RTF " in threads["reason"] and "the tier expected RTF" in threads["reason"]
    assert {row["way"] for row in rows.values()} == {"native"}
    assert len(list((tmp_path / "compiled").glob("native-*"))) == 1, "compiled once for all"
    assert after["expected_rtf"] == pytest.approx(rows[chosen]["rtf"], abs=0.001)
    assert [after["choices"][name]["source"] for name in ("device", "precision")] == ["user"] * 2
    assert children() <= others
