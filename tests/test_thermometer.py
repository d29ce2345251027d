"""What is read of heat, from files as Linux has them and from what macOS prints."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backend.pdh import CountersUnavailable
from backend.thermometer import CpuThermometer, Heat, mac_pressure, pressure_told, zone_told
from tests.sensors import hwmon, zone


def opened(sys: Path) -> CpuThermometer:
    thermometer = CpuThermometer(sys)
    assert thermometer.open()
    return thermometer


def test_a_machine_without_sensors_tells_nothing(tmp_path: Path) -> None:
    thermometer = CpuThermometer(tmp_path)
    assert not thermometer.open()
    assert (thermometer.nearest(), thermometer.temperature_c()) == (None, None)
    hwmon(tmp_path, 0, "nvme", "99000", critical="84850")
    hwmon(tmp_path, 1, "iwlwifi_1", "50000")
    zone(tmp_path, 0, "acpitz", "27800", critical="105000")
    assert not thermometer.open()


def test_intel_throttles_where_its_driver_says(tmp_path: Path) -> None:
    hwmon(tmp_path, 3, "coretemp", "71000", critical="100000")
    heat = opened(tmp_path).nearest()
    assert heat == Heat("coretemp", 71.0, 100.0)
    assert heat.headroom_c == 29.0


def test_of_two_packages_the_one_that_is_nearest_to_throttling_counts(tmp_path: Path) -> None:
    hwmon(tmp_path, 0, "coretemp", "80000", critical="105000")
    hwmon(tmp_path, 1, "coretemp", "78000", critical="90000")
    hwmon(tmp_path, 2, "coretemp", "95000")  # it does not tell where it throttles
    thermometer = opened(tmp_path)
    assert thermometer.nearest() == Heat("coretemp", 78.0, 90.0)
    assert thermometer.temperature_c() == 95.0


def test_amd_does_not_tell_and_nothing_is_invented(tmp_path: Path) -> None:
    hwmon(tmp_path, 0, "k10temp", "95000")
    heat = opened(tmp_path).nearest()
    assert heat == Heat("k10temp", 95.0, None)
    assert heat.headroom_c is None


@pytest.mark.parametrize("point", ["0", "65261850", "-273150", "", "what"])
def test_a_throttling_point_that_cannot_be_one_is_none(tmp_path: Path, point: str) -> None:
    hwmon(tmp_path, 0, "coretemp", "40000", critical=point)
    assert opened(tmp_path).nearest() == Heat("coretemp", 40.0, None)


def test_the_kernels_own_throttling_comes_before_the_critical_point(tmp_path: Path) -> None:
    hwmon(tmp_path, 0, "soc_thermal", "60000", critical="115000")
    zone(tmp_path, 0, "gpu-thermal", "50000", passive="60000")
    zone(tmp_path, 1, "soc-thermal", "60000", passive="85000", active="55000", critical="115000")
    assert opened(tmp_path).nearest() == Heat("soc_thermal", 60.0, 85.0)


def test_a_raspberry_pi_has_a_thermal_zone(tmp_path: Path) -> None:
    zone(tmp_path, 0, "gpu-thermal", "90000")
    zone(tmp_path, 1, "cpu-thermal", "48312", critical="110000")
    assert opened(tmp_path).nearest() == Heat("cpu-thermal", 48.312, 110.0)


@pytest.mark.parametrize("text", ["", "\n", "n/a", "-274000", "255000000", "\0\xff"])
def test_a_sensor_that_talks_nonsense_has_not_answered(tmp_path: Path, text: str) -> None:
    file = hwmon(tmp_path, 0, "coretemp", "50000", critical="100000")
    thermometer = opened(tmp_path)
    file.write_bytes(text.encode("latin-1"))
    assert (thermometer.nearest(), thermometer.temperature_c()) == (None, None)
    file.unlink()
    assert thermometer.nearest() is None


@pytest.mark.parametrize(
    ("output", "level"),
    [
        ("com.apple.system.thermalpressurelevel 0\n", 0),
        ("com.apple.system.thermalpressurelevel 1\n", 1),
        ("com.apple.system.thermalpressurelevel 2", 2),
        ("4", 4),
        ("", None),
        ("com.apple.system.thermalpressurelevel -1", None),
        ("usage: notifyutil [-q] [-v] [-z]", None),
    ],
)
def test_what_macos_prints(output: str, level: int | None) -> None:
    expected = None if level is None else Heat("thermal pressure", pressure=level)
    assert pressure_told(output) == expected


def test_a_mac_is_asked_by_a_command_that_may_hang(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[tuple[str, ...]] = []
    answers: list[str | Exception] = [
        "com.apple.system.thermalpressurelevel 1\n",
        subprocess.TimeoutExpired("notifyutil", 5.0),
        FileNotFoundError("notifyutil"),
        subprocess.CalledProcessError(1, "notifyutil"),
    ]

    def run(command: tuple[str, ...], **how: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        assert how["timeout"] == 5.0 and how["check"]
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return subprocess.CompletedProcess(command, 0, answer, "")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sys, "platform", "darwin")
    thermometer = opened(tmp_path)
    assert thermometer.nearest() == Heat("thermal pressure", pressure=1)
    assert [mac_pressure() for _ in range(3)] == [None] * 3
    assert asked[0] == ("/usr/bin/notifyutil", "-g", "com.apple.system.thermalpressurelevel")
    assert thermometer.temperature_c() is None


@pytest.mark.parametrize(
    "name",
    [
        *("bigcore0_thermal", "littlecore-thermal", "soc-thermal", "package_thermal"),
        *("cpu0-thermal", "cpu-0-0-thermal", "cpuss0-thermal", "CPU-therm", "cpu_thermal_zone"),
    ],
)
def test_boards_have_a_sensor_for_each_cluster(tmp_path: Path, name: str) -> None:
    zone(tmp_path, 0, name, "61000", passive="85000", critical="115000")
    assert opened(tmp_path).nearest() == Heat(name, 61.0, 85.0)


@pytest.mark.parametrize("name", ["gpu_thermal", "npu-thermal", "pm8150-thermal", "acpitz", "cpu"])
def test_other_parts_of_a_board_are_not_the_cpu(tmp_path: Path, name: str) -> None:
    zone(tmp_path, 0, name, "99000", passive="85000")
    assert not CpuThermometer(tmp_path).open()


# -- Windows ---------------------------------------------------------------------------------------

KELVIN = r"\Thermal Zone Information(*)\High Precision Temperature"
LIMIT = r"\Thermal Zone Information(*)\% Passive Limit"


@pytest.mark.parametrize(
    ("limit", "pressure"), [(100, 0), (99, 1), (75, 1), (74, 2), (50, 2), (49, 3), (1, 3)]
)
def test_what_a_zone_of_windows_says(limit: float, pressure: int) -> None:
    told = {KELVIN: {r"\_TZ.THM0": 3431.5}, LIMIT: {r"\_TZ.THM0": limit}}
    heat = zone_told(told)
    assert heat is not None and heat.temperature_c == pytest.approx(70.0)
    assert (heat.name, heat.pressure) == (r"thermal zone \_TZ.THM0", pressure)
    assert heat.headroom_c is None


def test_of_many_zones_the_one_that_lowers_the_clock_counts() -> None:
    kelvin = {"a": 3631.5, "b": 3031.5, "c": 0.0, "d": 9999.0}
    heat = zone_told({KELVIN: kelvin, LIMIT: {"a": 100, "b": 60, "c": 100, "d": 100}})
    assert heat == Heat("thermal zone b", 30.0, pressure=2)
    heat = zone_told({KELVIN: kelvin, LIMIT: {"a": 100, "c": 100, "d": 100}})
    assert heat == Heat("thermal zone a", 90.0, pressure=0)


def test_a_zone_that_tells_nothing_is_none() -> None:
    assert zone_told({}) is None
    assert zone_told({LIMIT: {}}) is None
    assert zone_told({KELVIN: {"a": 3000.0}}) is None
    assert zone_told({KELVIN: {"a": 3000.0}, LIMIT: {"a": 0.0}}) is None
    assert zone_told({LIMIT: {"a": 100}}) == Heat("thermal zone a", pressure=0)


def test_zones_that_nobody_tells_any_more_are_none(tmp_path: Path) -> None:
    told = {LIMIT: {"a": 100.0}}

    def zones() -> dict[str, dict[str, float]]:
        if not told:
            raise CountersUnavailable("pdh.dll answers 0x800007D5")
        return told

    thermometer = CpuThermometer(tmp_path, zones)
    assert thermometer.open()
    assert thermometer.nearest() == Heat("thermal zone a", pressure=0)
    assert thermometer.temperature_c() is None
    told.clear()
    assert thermometer.nearest() is None
