"""How hot what computes is, and where it begins to throttle, as the system tells.

Linux tells temperatures in files; asking psutil would read every sensor of the machine, disks and
radios included. macOS tells a level of thermal pressure only. Windows tells of the zones of its
firmware (ACPI): a temperature, mostly of nothing in particular, and how far the zone lowers the
clock. What the chip itself reads it tells to administrators alone.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from backend.pdh import Counters, CountersUnavailable

SYS = Path("/sys")
CPU_SENSORS = frozenset(
    {
        *("coretemp", "k10temp", "k8temp", "zenpower", "cpu_thermal", "cpu-thermal"),
        *("soc_thermal", "soc-thermal", "x86_pkg_temp"),
    }
)
"""Names that drivers give to the sensor of a whole CPU."""
_BOARD_SENSORS = re.compile(
    r"(cpu|cpuss|soc|package|center|(big|little|mid)(core|cpu)?)[-_]?[\d-]*[-_](thermal|therm)([-_]zone)?",
    re.IGNORECASE,
)
"""Those of boards, which have one for each cluster of cores: Rockchip, Qualcomm, NVIDIA Jetson."""
_POINTS_C = (50.0, 120.0)
"""A throttling point outside of these is a driver's invention."""
_PLAUSIBLE_C = (-40.0, 150.0)
_PRESSURE = "com.apple.system.thermalpressurelevel"
_COMMAND_TIMEOUT_S = 5.0
_ZONE = r"\Thermal Zone Information(*)"
_ZONE_KELVIN, _ZONE_LIMIT = rf"{_ZONE}\High Precision Temperature", rf"{_ZONE}\% Passive Limit"
"""Tenths of a kelvin; the share of its clock that a zone leaves its CPU."""
_LIMITS_PCT = (100.0, 75.0, 50.0)
"""Below these the pressure is moderate, heavy, trapping."""
Zones = Callable[[], Mapping[str, Mapping[str, float]]]
"""Reads counters of zones, by counter and zone; raises `CountersUnavailable`."""


@dataclass(frozen=True, slots=True)
class Heat:
    """One sensor at one moment; None is what it does not tell."""

    name: str
    temperature_c: float | None = None
    throttles_at_c: float | None = None
    """Where its chip begins to lower its clock."""
    pressure: int | None = None
    """What the system tells where it tells of no throttling point: 0 nominal, 1 moderate, 2 heavy,
    3 trapping, 4 sleeping."""

    @property
    def headroom_c(self) -> float | None:
        """Degrees that are left until it throttles; below 0 past that."""
        if self.temperature_c is None or self.throttles_at_c is None:
            return None
        return self.throttles_at_c - self.temperature_c


@dataclass(frozen=True, slots=True)
class _Sensor:
    name: str
    file: Path
    """Thousandths of °C."""
    throttles_at_c: float | None


class CpuThermometer:
    """Reads the sensors of the CPU's packages; a few small files, so its calls block briefly."""

    def __init__(self, root: Path | None = None, zones: Zones | None = None) -> None:
        """`root` stands in for `/sys`, `zones` for those of Windows."""
        self._zones = zones
        self._root = root
        self._sensors: tuple[_Sensor, ...] = ()
        self._tells_pressure = False

    def open(self) -> bool:
        """Find out what can be read; whether that is anything."""
        root = self._root or SYS
        hwmon = tuple(_sensors(root, "hwmon/hwmon*", "name", "temp1_input"))
        self._sensors = hwmon or tuple(_sensors(root, "thermal/thermal_zone*", "type", "temp"))
        self._tells_pressure = not self._sensors and sys.platform == "darwin"
        if self._zones is None and sys.platform == "win32":
            with suppress(CountersUnavailable):
                self._zones = Counters(_ZONE_KELVIN, _ZONE_LIMIT).read
        return bool(self._sensors) or self._tells_pressure or self._zones is not None

    def temperature_c(self) -> float | None:
        """Of the hottest package; None without any that answers. Windows' zones count for none."""
        read = (_celsius(sensor.file) for sensor in self._sensors)
        return max((c for c in read if c is not None), default=None)

    def nearest(self) -> Heat | None:
        """The sensor that is nearest to its throttling point; None where nobody answers."""
        if self._tells_pressure:
            return mac_pressure()
        if self._zones is not None:
            with suppress(CountersUnavailable):
                return zone_told(self._zones())
            return None
        read = [Heat(each.name, _celsius(each.file), each.throttles_at_c) for each in self._sensors]
        answered = [heat for heat in read if heat.temperature_c is not None]
        return min(answered, key=_distance, default=None)


def mac_pressure() -> Heat | None:
    """What macOS says of its thermal pressure, to anybody; None where it does not."""
    command = ("/usr/bin/notifyutil", "-g", _PRESSURE)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return pressure_told(done.stdout)


def pressure_told(output: str) -> Heat | None:
    """The level in what notifyutil prints; None where it holds none."""
    _, _, level = output.strip().rpartition(" ")
    return Heat("thermal pressure", pressure=int(level)) if level.isdecimal() else None


def zone_told(told: Mapping[str, Mapping[str, float]]) -> Heat | None:
    """The zone that lowers the clock most, of those that lower it alike the hottest; None where
    there is none. `told` is what each counter says, by zone."""
    kelvin, limits = told.get(_ZONE_KELVIN, {}), told.get(_ZONE_LIMIT, {})
    heats = [
        Heat(
            f"thermal zone {name}",
            _plausible(round(tenths / 10 - 273.15, 1)) if (tenths := kelvin.get(name)) else None,
            pressure=sum(limit < step for step in _LIMITS_PCT),
        )
        for name, limit in limits.items()
        if limit > 0  # none at all is what a zone says that knows of no limit
    ]
    return max(heats, key=lambda heat: (heat.pressure, heat.temperature_c or 0.0), default=None)


def _distance(heat: Heat) -> float:
    """Sorts what has no throttling point behind what has one, the hottest first."""
    assert heat.temperature_c is not None
    headroom = heat.headroom_c
    return 1000.0 - heat.temperature_c if headroom is None else headroom


def _sensors(root: Path, pattern: str, label: str, value: str) -> Iterator[_Sensor]:
    for folder in sorted((root / "class").glob(pattern)):
        name = _text(folder / label)
        is_cpu = name in CPU_SENSORS or _BOARD_SENSORS.fullmatch(name)
        if is_cpu and (folder / value).is_file():
            yield _Sensor(name, folder / value, _throttles_at_c(root, folder, name))


def _throttles_at_c(root: Path, folder: Path, name: str) -> float | None:
    """The lowest of what the driver calls critical, where Intel's and AMD's chips throttle, and of
    the points at which the kernel lowers the clock of the zone of that name."""
    points = [_celsius(folder / "temp1_crit")]
    for zone in (root / "class").glob("thermal/thermal_zone*"):
        if _text(zone / "type").replace("-", "_") != name.replace("-", "_"):
            continue
        for kind in zone.glob("trip_point_*_type"):
            if _text(kind) in ("passive", "hot", "critical"):
                points.append(_celsius(kind.with_name(kind.name.removesuffix("type") + "temp")))
    least, most = _POINTS_C
    return min((c for c in points if c is not None and least <= c <= most), default=None)


def _text(file: Path) -> str:
    """ "" of a file that is not there."""
    try:
        return file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _celsius(file: Path) -> float | None:
    """None from a sensor that sleeps, is gone or talks nonsense."""
    try:
        return _plausible(int(_text(file)) / 1000)
    except ValueError:
        return None


def _plausible(celsius: float) -> float | None:
    least, most = _PLAUSIBLE_C
    return celsius if least <= celsius <= most else None
