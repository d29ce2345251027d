"""One look at the real machine, and at thermometers that are files."""

import time
from pathlib import Path

import pytest

from backend.monitoring import reader as reader_module
from backend.monitoring.gpu import GpuMeter, WorkerMemory
from backend.monitoring.reader import MachineReader
from backend.nvml import Card
from tests.sensors import hwmon


def machine(sys: Path) -> MachineReader:
    return MachineReader(GpuMeter("cpu", Card(""), WorkerMemory(), is_gpu_expected=False), sys=sys)


def test_this_machine(tmp_path: Path) -> None:
    reader = machine(tmp_path)
    reader.open()
    reader.start()
    first = reader.read()
    assert first.cpu_pct is None  # no time has passed that could be shared out
    assert 0 < first.memory_pct < 100
    assert abs(first.at_s - time.time()) < 5
    assert (first.gpu_memory_mb, first.gpu_util_pct, first.temperature_c) == (None, None, None)
    began_s = time.monotonic()
    while time.monotonic() - began_s < 0.15:
        pass
    busy = reader.read().cpu_pct
    assert busy is not None
    assert 0 < busy <= 100
    reader.close()


def test_memory_may_be_that_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shares_pct = iter((87.5, 90.0))
    gpu = GpuMeter("cpu", Card(""), WorkerMemory(), is_gpu_expected=False)
    reader = MachineReader(gpu, lambda: next(shares_pct), tmp_path)
    reader.open()
    reader.start()
    assert [reader.read().memory_pct for _ in range(3)] == [87.5] * 3  # it takes many files
    monkeypatch.setattr(reader_module, "MEMORY_INTERVAL_S", 0.0)
    assert reader.read().memory_pct == 90.0
    reader.close()


def test_the_hottest_cpu_package_counts(tmp_path: Path) -> None:
    hwmon(tmp_path, 0, "nvme", "99000")
    hwmon(tmp_path, 1, "coretemp", "61000")
    hwmon(tmp_path, 2, "coretemp", "67500")
    reader = machine(tmp_path)
    reader.open()
    reader.start()
    assert reader.read().temperature_c == 67.5
    reader.close()


def test_thermometers_are_asked_once_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = hwmon(tmp_path, 0, "k10temp", "50000")
    reader = machine(tmp_path)
    reader.open()
    reader.start()
    assert reader.read().temperature_c == 50.0
    file.write_text("60000\n")
    assert reader.read().temperature_c == 50.0
    monkeypatch.setattr(reader_module, "TEMPERATURE_INTERVAL_S", 0.0)
    assert reader.read().temperature_c == 60.0
    file.unlink()
    assert reader.read().temperature_c is None
    reader.close()


def test_damaged_sensors_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "class" / "hwmon" / "hwmon0").mkdir(parents=True)
    nameless = tmp_path / "class" / "hwmon" / "hwmon1"
    nameless.mkdir()
    (nameless / "name").write_text("coretemp\n")
    hwmon(tmp_path, 2, "coretemp", "")  # it sleeps
    reader = machine(tmp_path)
    reader.open()
    reader.start()
    assert reader.read().temperature_c is None
    reader.close()
