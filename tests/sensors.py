"""Thermometers that are files, as Linux has them below /sys."""

from pathlib import Path


def hwmon(sys: Path, number: int, name: str, millidegrees: str, critical: str = "") -> Path:
    """A sensor of a driver; its file."""
    folder = sys / "class" / "hwmon" / f"hwmon{number}"
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    if critical:
        (folder / "temp1_crit").write_text(f"{critical}\n")
    file = folder / "temp1_input"
    file.write_text(f"{millidegrees}\n")
    return file


def zone(sys: Path, number: int, kind: str, millidegrees: str, **trips: str) -> Path:
    """A thermal zone, with a trip point of each type; its file."""
    folder = sys / "class" / "thermal" / f"thermal_zone{number}"
    folder.mkdir(parents=True)
    (folder / "type").write_text(f"{kind}\n")
    for index, (trip, at) in enumerate(trips.items()):
        (folder / f"trip_point_{index}_type").write_text(f"{trip}\n")
        (folder / f"trip_point_{index}_temp").write_text(f"{at}\n")
    file = folder / "temp"
    file.write_text(f"{millidegrees}\n")
    return file
