"""Reads the request log back: every CSV file of a folder, of whatever version of ours."""

import contextlib
import csv
import io
import itertools
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend.errors import BadSetting
from backend.monitoring.csv_log import FILE_NAME

Series = NDArray[np.float64]
"""One column of floats; NaN is what was not told."""

HOT_C = 80.0
CPU_MAXED_PCT = 90.0
MEMORY_CRITICAL_PCT = 85.0
SLOWER = 1.2
"""Times the usual RTF from which a request counts as slowed down."""
_SIMILAR_LENGTHS = 4
"""Texts are compared with those of similar length: as many groups, if there are enough texts."""
_FEWEST_SIMILAR = 8
_LOAD_COLUMNS = ("cpu_pct", "memory_pct", "gpu_memory_mb", "gpu_util_pct", "temperature_c")


@dataclass(frozen=True, slots=True)
class Request:
    """One row of a synthesis file; None or "" is what its version did not log."""

    ended_s: float
    """Seconds since 1970; NaN where the row does not say."""
    outcome: str
    error_code: str
    text_length: float | None
    total_s: float | None
    first_audio_s: float | None
    audio_s: float | None
    rtf: float | None
    compute_rtf: float | None
    tokens_per_second: float | None
    peak_gpu_util_pct: float | None
    peak_vram_mb: float | None
    peak_cpu_pct: float | None
    peak_memory_pct: float | None
    peak_temperature_c: float | None

    @property
    def is_success(self) -> bool:
        """It was spoken whole."""
        return self.outcome == "success"

    @property
    def began_s(self) -> float:
        """When it was admitted, seconds since 1970."""
        return self.ended_s - (self.total_s or 0.0)

    @property
    def is_under_pressure(self) -> bool:
        """Heat, load or memory was past its mark while it was spoken."""
        return (
            (self.peak_temperature_c or 0.0) >= HOT_C
            or (self.peak_cpu_pct or 0.0) > CPU_MAXED_PCT
            or (self.peak_memory_pct or 0.0) > MEMORY_CRITICAL_PCT
        )


@dataclass(frozen=True, slots=True)
class Load:
    """The samples of a tier in the order of time."""

    at_s: Series
    """Seconds since 1970, ascending."""
    columns: dict[str, Series]

    def share_over(self, column: str, limit: float) -> float | None:
        """Share of the samples above `limit`, 0 to 1; None where nobody told."""
        known = self.columns[column][~np.isnan(self.columns[column])]
        return float(np.mean(known > limit)) if known.size else None


@dataclass(frozen=True, slots=True)
class TierHistory:
    """Everything logged under one tier."""

    tier: str
    requests: tuple[Request, ...]
    """In the order of time."""
    load: Load
    hardware_specs: dict[str, Any] = field(default_factory=dict)

    def slowed_down(self) -> list[Request]:
        """Requests that took `SLOWER` times longer than texts of their length usually do, while
        the machine was hot, its CPU maxed or its memory critical: what throttling looks like.

        Requests that share the machine look the same.
        """
        found: list[Request] = []
        for group in _of_similar_length(self.requests):
            usual = float(np.quantile([rtf for _, rtf in group], 0.25))
            found += [
                request
                for request, rtf in group
                if rtf > SLOWER * usual and request.is_under_pressure
            ]
        return sorted(found, key=lambda request: request.ended_s)


def _of_similar_length(requests: tuple[Request, ...]) -> list[list[tuple[Request, float]]]:
    """Spoken requests and their RTF, in groups of about the same length of text."""
    spoken = [(request, request.rtf) for request in requests if request.is_success and request.rtf]
    spoken.sort(key=lambda item: item[0].text_length or 0.0)
    groups = min(_SIMILAR_LENGTHS, len(spoken) // _FEWEST_SIMILAR)
    bounds = np.linspace(0, len(spoken), max(1, groups) + 1).astype(int)
    return [spoken[first:last] for first, last in itertools.pairwise(bounds) if last > first]


@dataclass(frozen=True, slots=True)
class History:
    """Every tier, and what was read."""

    tiers: tuple[TierHistory, ...]
    files: tuple[Path, ...]
    torn_lines: int
    """Lines that a killed server left unfinished."""


def read_history(directory: Path) -> History:
    """Everything logged in `directory`; `BadSetting` if there is nothing."""
    files = sorted(file for file in directory.glob("*.csv") if FILE_NAME.fullmatch(file.name))
    requests: defaultdict[str, list[Request]] = defaultdict(list)
    samples: defaultdict[str, list[list[float]]] = defaultdict(list)
    torn = 0
    for file in files:
        match = FILE_NAME.fullmatch(file.name)
        assert match is not None
        kind, tier = match.groups()
        rows, torn_here = _rows(file)
        torn += torn_here
        for row in rows:
            if kind == "synthesis":  # its row knows better, where the plan changed meanwhile
                requests[row.get("tier") or tier].append(_request(row))
            else:
                samples[tier].append(_sample(row))
    if not any(requests.values()) and not any(samples.values()):
        raise BadSetting(
            f"{directory} holds no request log: speak something first, or name the folder "
            "that SHOAL_METRICS_DIR was set to."
        )
    tiers = (
        _tier(directory, tier, requests[tier], samples[tier])
        for tier in sorted({*requests, *samples})
    )
    return History(tuple(tiers), tuple(files), torn)


def _tier(
    directory: Path, tier: str, requests: list[Request], samples: list[list[float]]
) -> TierHistory:
    table = np.array([row for row in samples if not np.isnan(row[0])], dtype=np.float64)
    table = table.reshape(-1, 1 + len(_LOAD_COLUMNS))
    table = table[np.argsort(table[:, 0], kind="stable")]
    specs: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        specs = dict(json.loads((directory / f"hardware_specs_{tier}.json").read_bytes()))
    return TierHistory(
        tier,
        tuple(sorted(requests, key=lambda request: request.ended_s)),
        Load(table[:, 0], {name: table[:, 1 + i] for i, name in enumerate(_LOAD_COLUMNS)}),
        specs,
    )


def _rows(file: Path) -> tuple[list[dict[str, str]], int]:
    """The whole rows of `file` by column, and how many lines of it are torn."""
    try:
        text = file.read_bytes().decode("utf-8", errors="replace")
    except OSError as error:
        raise BadSetting(f"{file} cannot be read: {error.strerror}.") from None
    # What follows the last line end was being written when the process was killed.
    whole, _, torn = text.rpartition("\n")
    reader: Iterator[list[str]] = csv.reader(io.StringIO(whole, newline=""))
    names = next(reader, [])
    rows = [row for row in reader if row]
    kept = [dict(zip(names, row, strict=True)) for row in rows if len(row) == len(names)]
    return kept, len(rows) - len(kept) + bool(torn)


def _request(row: dict[str, str]) -> Request:
    total_s, audio_s = _number(row, "total_duration_s"), _number(row, "audio_duration_s")
    rtf = _number(row, "rtf")
    if rtf is None and total_s and audio_s:
        rtf = total_s / audio_s
    is_success = row.get("success", "").strip().lower() in ("true", "1", "yes")
    return Request(
        ended_s=_moment(row),
        outcome=row.get("outcome") or ("success" if is_success else "failed"),
        error_code=row.get("error_code", ""),
        text_length=_number(row, "spoken_length") or _number(row, "text_length"),
        total_s=total_s,
        first_audio_s=_number(row, "first_audio_s"),
        audio_s=audio_s,
        rtf=rtf,
        compute_rtf=_number(row, "compute_rtf"),
        tokens_per_second=_number(row, "tokens_per_second"),
        peak_gpu_util_pct=_number(row, "peak_gpu_util_pct"),
        peak_vram_mb=_number(row, "peak_vram_mb"),
        peak_cpu_pct=_number(row, "peak_cpu_pct"),
        peak_memory_pct=_number(row, "peak_memory_pct"),
        peak_temperature_c=_number(row, "peak_temperature_c"),
    )


def _sample(row: dict[str, str]) -> list[float]:
    """The moment and each of `_LOAD_COLUMNS`, NaN where it is missing."""
    told = (_number(row, name) for name in _LOAD_COLUMNS)
    return [_moment(row), *(np.nan if value is None else value for value in told)]


def _number(row: dict[str, str], column: str) -> float | None:
    try:
        value = float(row[column])
    except (KeyError, ValueError):
        return None
    return value if np.isfinite(value) else None


def _moment(row: dict[str, str]) -> float:
    """Seconds since 1970, from those or from ISO 8601; NaN where it is neither."""
    if (at_s := _number(row, "timestamp")) is not None:
        return at_s
    try:
        return datetime.fromisoformat(row["timestamp"]).timestamp()
    except (KeyError, ValueError):
        return float("nan")
