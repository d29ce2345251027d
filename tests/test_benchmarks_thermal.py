"""Curves that were recorded, judged: what was foretold of each degree against what came."""

import json
import math
import random
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.thermal import judged
from tests.documents import ROOT


def rise(noise_c: float = 0.0, digit_c: float = 0.0) -> list[float]:
    """A body that warms from 40 °C towards 90, and goes on at 85."""
    draw, curve = random.Random(3), []
    for second in range(600):
        degrees = min(85.0, 90 - 50 * math.exp(-second / 150)) + draw.gauss(0, noise_c)
        curve.append(digit_c * round(degrees / digit_c) if digit_c else degrees)
    return curve


def test_a_clean_curve_is_foretold() -> None:
    rows = judged(rise())
    assert [row["point_c"] for row in rows] == list(range(46, 86))
    for row in rows:
        assert row["told"] >= 0.4 * row["asked"]
        assert row["times"] == pytest.approx(1.0, abs=0.25)


def test_one_that_rounds_and_trembles_is_foretold_roughly() -> None:
    rows = [row for row in judged(rise(noise_c=0.4, digit_c=1.0)) if row["point_c"] > 60]
    assert len(rows) > 10
    told = [row for row in rows if row["times"] is not None]
    assert len(told) > 0.8 * len(rows)
    assert sum(0.5 < row["times"] < 2.0 for row in told) > 0.8 * len(told)


def test_a_curve_that_stays_where_it_is_has_nothing_to_judge() -> None:
    assert judged([50.0] * 300) == []
    assert judged([80 - 0.1 * n for n in range(300)]) == []


def test_a_file_that_was_recorded(tmp_path: Path) -> None:
    file = tmp_path / "curve.json"
    file.write_text(json.dumps({"about": "", "interval_s": 1.0, "temperature_c": rise()}))
    command = (sys.executable, "-m", "benchmarks.thermal", "--judge", str(file))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    *_, last = done.stdout.splitlines()
    assert json.loads(last)[0]["point_c"] == 46
