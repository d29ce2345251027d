"""What of the request log is deleted, and above all what is not."""

import os
from pathlib import Path

import pytest

from backend.monitoring.retention import Retention, sweep

DAY_S = 24 * 3600.0
NOW_S = 1_800_000_000.0


def file(folder: Path, name: str, age_days: float, size: int = 10) -> Path:
    path = folder / name
    path.write_bytes(b"x" * size)
    os.utime(path, (NOW_S - age_days * DAY_S,) * 2)
    return path


def rows(folder: Path, number: int, age_days: float, size: int = 10, tier: str = "t") -> Path:
    kind = ("synthesis", "realtime")[number % 2]
    return file(folder, f"{kind}_{tier}_20260101_{number:06d}.csv", age_days, size)


def test_what_is_older_than_so_many_days_goes(tmp_path: Path) -> None:
    old = [rows(tmp_path, number, 31 + number) for number in range(3)]
    young = rows(tmp_path, 9, 29)
    assert set(sweep(tmp_path, Retention(keep_days=30), (), NOW_S)) == set(old)
    assert list(tmp_path.iterdir()) == [young]


def test_the_oldest_go_where_all_are_too_large(tmp_path: Path) -> None:
    files = [rows(tmp_path, number, age_days=10 - number, size=100) for number in range(6)]
    assert sweep(tmp_path, Retention(limit_bytes=350), (), NOW_S) == files[:3]
    assert set(tmp_path.iterdir()) == set(files[3:])
    assert sweep(tmp_path, Retention(limit_bytes=350), (), NOW_S) == []


def test_nothing_goes_where_all_is_kept(tmp_path: Path) -> None:
    rows(tmp_path, 1, 10_000, 10_000)
    assert sweep(tmp_path, Retention(), (), NOW_S) == []


@pytest.mark.parametrize("retention", [Retention(keep_days=1), Retention(limit_bytes=1)])
def test_what_is_being_written_stays(tmp_path: Path, retention: Retention) -> None:
    written, other = rows(tmp_path, 1, 100), rows(tmp_path, 2, 99)
    assert sweep(tmp_path, retention, {written}, NOW_S) == [other]
    assert written.exists()


@pytest.mark.parametrize("retention", [Retention(keep_days=1), Retention(limit_bytes=1)])
def test_what_is_not_ours_stays(tmp_path: Path, retention: Retention) -> None:
    folder, outside = tmp_path / "metrics", file(tmp_path, "thesis.csv", 500)
    folder.mkdir()
    names = ("results.csv", "synthesis_t.csv", "synthesis_t_20260101_000000.csv.bak", "notes.txt")
    kept = [file(folder, name, 500) for name in names]
    kept.append(folder / "synthesis_dir_20260101_000001.csv")
    kept[-1].mkdir()
    link = folder / "synthesis_link_20260101_000002.csv"
    link.symlink_to(outside)
    assert sweep(folder, retention, (), NOW_S) == []
    assert set(folder.iterdir()) == {*kept, link}
    assert outside.exists()


def test_what_machine_it_was_stays_as_long_as_its_rows(tmp_path: Path) -> None:
    alone = file(tmp_path, "hardware_specs_cpu.json", 40)
    beside = file(tmp_path, "hardware_specs_gpu.json", 40)
    rows(tmp_path, 1, 3, tier="gpu")
    assert sweep(tmp_path, Retention(keep_days=30), (), NOW_S) == [alone]
    assert beside.exists()


def test_a_folder_that_is_not_there_is_no_fault(tmp_path: Path) -> None:
    assert sweep(tmp_path / "metrics", Retention(keep_days=1), (), NOW_S) == []
