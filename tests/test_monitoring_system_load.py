"""CPU and memory, from files where there are any and from psutil where not."""

import sys
import time
from pathlib import Path

import psutil
import pytest

from backend.monitoring import system_load as load_module
from backend.monitoring.system_load import SystemLoad

MEMINFO = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    4000000 kB\n"


def cpu_line(*ticks: int) -> str:
    return "cpu  " + " ".join(map(str, ticks)) + "\ncpu0 1 2 3 4 5 6 7 8 9 10\n"


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if sys.platform == "win32":
        pytest.skip("Windows reads no files at a position, and has none of these")
    monkeypatch.setattr(load_module, "MIN_CPU_INTERVAL_S", 0.0)
    (tmp_path / "stat").write_text(cpu_line(100, 0, 100, 1000, 0, 0, 0, 0, 0, 0))
    (tmp_path / "meminfo").write_text(MEMINFO)
    return tmp_path


@pytest.fixture
def load(proc: Path) -> SystemLoad:
    load = SystemLoad(proc)
    load.open()
    load.start()
    return load


@pytest.mark.parametrize(
    ("ticks", "pct"),
    [
        ((160, 0, 100, 1040, 0, 0, 0, 0, 0, 0), 60.0),  # 60 user of 100
        ((100, 10, 110, 1060, 10, 5, 5, 0, 0, 0), 30.0),  # idle and iowait are idle
        ((150, 0, 100, 1025, 0, 0, 0, 25, 40, 0), 75.0),  # guests are users, stolen is busy
        ((200, 0, 100, 1000, 0, 0, 0, 0, 0, 0), 100.0),
        ((100, 0, 100, 1100, 0, 0, 0, 0, 0, 0), 0.0),
        ((90, 0, 100, 1100, 0, 0, 0, 0, 0, 0), 0.0),  # counted back
    ],
)
def test_share_of_cpu_time(
    load: SystemLoad, proc: Path, ticks: tuple[int, ...], pct: float
) -> None:
    (proc / "stat").write_text(cpu_line(*ticks))
    assert load.cpu_pct() == pytest.approx(pct)
    load.close()


def test_no_time_has_passed(load: SystemLoad) -> None:
    assert load.cpu_pct() is None
    load.close()


def test_each_reading_counts_from_the_last(load: SystemLoad, proc: Path) -> None:
    (proc / "stat").write_text(cpu_line(200, 0, 100, 1000, 0, 0, 0, 0, 0, 0))
    assert load.cpu_pct() == 100.0
    (proc / "stat").write_text(cpu_line(200, 0, 100, 1100, 0, 0, 0, 0, 0, 0))
    assert load.cpu_pct() == 0.0
    load.close()


def test_too_soon_is_not_counted(
    load: SystemLoad, proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_module, "MIN_CPU_INTERVAL_S", 60.0)
    (proc / "stat").write_text(cpu_line(150, 0, 100, 1050, 0, 0, 0, 0, 0, 0))
    assert load.cpu_pct() is None
    monkeypatch.setattr(load_module, "MIN_CPU_INTERVAL_S", 0.0)
    assert load.cpu_pct() == 50.0  # nothing was lost
    load.close()


def test_memory_that_is_taken(load: SystemLoad, proc: Path) -> None:
    assert load.memory_pct() == 75.0
    (proc / "meminfo").write_text(MEMINFO.replace(" 4000000", " 8000000"))
    assert load.memory_pct() == 50.0
    load.close()


def test_a_meminfo_of_another_kind_is_left_to_psutil(load: SystemLoad, proc: Path) -> None:
    (proc / "meminfo").write_text("MemTotal: 1 kB\nMemFree: 1 kB\n")
    assert load.memory_pct() == pytest.approx(psutil.virtual_memory().percent, abs=15)
    load.close()


def test_files_and_psutil_agree(tmp_path: Path) -> None:
    by_files, by_psutil = SystemLoad(), SystemLoad(tmp_path)
    for load in (by_files, by_psutil):
        load.open()
        load.start()
    began_s = time.monotonic()
    while time.monotonic() - began_s < 0.4:
        pass  # one core is busy
    one, other = by_files.cpu_pct(), by_psutil.cpu_pct()
    assert one is not None
    assert other is not None
    assert one > 5
    assert one == pytest.approx(other, abs=15)
    assert by_files.memory_pct() == pytest.approx(by_psutil.memory_pct(), abs=5)
    by_files.close()
    by_psutil.close()
