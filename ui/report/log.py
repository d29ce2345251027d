"""The server's request log as its CSV files say it, of whatever version of Shoal."""

import csv
import io
import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One request; None is what its version did not log."""

    characters: float | None
    rtf: float | None
    outcome: str


def read_rows(data: bytes) -> list[Row]:
    """The requests in a `synthesis_*.csv`."""
    return [
        Row(
            characters=_number(cells, "spoken_length") or _number(cells, "text_length"),
            rtf=_number(cells, "rtf"),
            outcome=cells.get("outcome", ""),
        )
        for cells in cells_of(data)
    ]


def cells_of(data: bytes) -> Iterator[dict[str, str]]:
    """The whole rows of a CSV file; a line that is being written is left out."""
    text = data.decode("utf-8", "replace")
    whole, _, _ = text.rpartition("\n")
    reader = csv.reader(io.StringIO(whole, newline=""))
    names = next(reader, [])
    for row in reader:
        if len(row) == len(names):
            yield dict(zip(names, row, strict=True))


def _number(cells: dict[str, str], name: str) -> float | None:
    try:
        value = float(cells[name])
    except (KeyError, ValueError):
        return None
    return value if math.isfinite(value) else None
