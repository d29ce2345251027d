"""What the request log teaches: of each request that was spoken whole, what it was and took."""

import csv
import io
import math
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from backend.learning.case import Case, Formula, Target
from backend.monitoring.files import list_files, open_file

MAX_LESSONS = 2000
"""The newest that are learned from: what a machine was a long time ago says little."""
PEAKS_BEGIN_ANEW = sys.platform == "linux"
"""Elsewhere a process tells the most it ever took, which says nothing of one request."""
_LEAST_S = 1e-4
"""The least that the log can say of seconds."""
_LAST_BYTES = 4 << 20
"""Of each file of the log, what is read."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """One request that was spoken."""

    at: str
    """When it was over, as the log writes it."""
    case: Case
    formula: Formula
    took: dict[Target, float]
    """What it came to; of a request that shared the machine only the frames."""


def read_lessons(directory: Path, engine: str, device_kind: str, since: str) -> list[Lesson]:
    """The last lessons since then of the log in `directory`, the oldest first.

    `engine` is that of the column, `device_kind` cpu or cuda: of several GPUs the column names the
    one whose worker stood for all. Blocks. Raises `BadSetting` for a folder that
    cannot be read.
    """
    found: list[Lesson] = []
    for file in list_files(directory).files:
        if file.kind != "synthesis" or file.modified_at < since:
            continue
        rows = list(_rows(directory, file.name))
        mine = [row for row in rows if _of(row) == (engine, device_kind)]
        lessons = (_lesson(row) for row in mine if row.get("timestamp", "") >= since)
        found += [lesson for lesson in lessons if lesson is not None]
        if len(found) >= MAX_LESSONS:
            break
    return sorted(found, key=lambda lesson: lesson.at)[-MAX_LESSONS:]


def _of(row: dict[str, str]) -> tuple[str, str]:
    """Its engine and kind of device."""
    kind, _, _ = row.get("device", "").partition(":")
    return row.get("engine", ""), kind


def _rows(directory: Path, name: str) -> Iterator[dict[str, str]]:
    excerpt = open_file(directory, name, _LAST_BYTES)
    try:
        text = b"".join(iter(excerpt.read, b"")).decode("utf-8", errors="replace")
    finally:
        excerpt.close()
    reader = csv.reader(io.StringIO(text, newline=""))
    with suppress(csv.Error):  # a cell that is longer than any of ours: what follows is not read
        names = next(reader, [])
        for row in reader:
            if len(row) == len(names):
                yield dict(zip(names, row, strict=True))


def _lesson(row: dict[str, str]) -> Lesson | None:
    """None of a row that says nothing: it failed, was cut short, or is of an older version."""
    if row.get("outcome") != "success" or row.get("retries") != "0":
        return None
    try:
        case = Case(
            characters=int(row["spoken_length"]),
            wide_share=_within(row["wide_share"], 0, 1),
            digit_share=_within(row["digit_share"], 0, 1),
            language=row["read_language"],
            script=row["script"],
            reference_s=_within(row["reference_s"] or "0", 0, 3600),
            chunk_length=int(row["chunk_length"]),
            strategy=row["strategy"],
            num_threads=int(row["num_threads"]),
        )
        formula = Formula(
            seconds=_within(row["formula_s"], _LEAST_S, 1e6),
            frames=_within(row["formula_frames"], 1, 1e7),
            memory_mb=_within(row["formula_memory_mb"], 1, 1e7),
        )
        ends = row["finish_reasons"].split(";").count("end")
        frames = _within(row["generated_tokens"], 0, 1e7) - ends
        took: dict[Target, float] = {"frames": frames}
        if row["beside"] == "0":
            took["seconds"] = _within(row["total_duration_s"], _LEAST_S, 1e6)
            if PEAKS_BEGIN_ANEW or row["device"].startswith("cuda"):
                took["memory"] = _within(row["worker_peak_memory_mb"], 1, 1e7)
    except (KeyError, ValueError):
        return None
    is_whole = case.characters > 0 and set(row["finish_reasons"].split(";")) == {"end"}
    return Lesson(row["timestamp"], case, formula, took) if is_whole and frames > 0 else None


def _within(cell: str, least: float, most: float) -> float:
    """`cell` as a number between these; ValueError for any other."""
    value = float(cell)
    if not (math.isfinite(value) and least <= value <= most):
        raise ValueError(cell)
    return value
