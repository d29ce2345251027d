"""How much `benchmarks.gpu` does for each row, and the rows that it has so far."""

import json
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.gpu_table import Row, as_json, put_upstream

MOST_CHARACTERS = 160
"""Of why a row failed; its traceback is in the output."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done for each row."""

    short: int = 256
    long: int = 4000
    """Contexts of one stream."""
    few: int = 16
    many: int = 128
    half: int = 64
    """Streams."""
    mixed: tuple[int, int] = (100, 900)
    """Contexts of many streams, from the least to the most."""
    reference_frames: int = 300
    steps: int = 100
    repeats: int = 5
    latencies: int = 20
    text_frames: int = 430
    """Of one stream's text; many streams speak half as much each."""
    warm_s: float = 3.0
    counted_s: float = 8.0
    random_s: float = 30.0
    settle_s: float = 15.0
    copy_mib: int = 2048

    def quick(self) -> "Size":
        """Enough to see whether a change helped."""
        return replace(
            self, steps=40, repeats=1, latencies=5, warm_s=1.0, counted_s=3.0, random_s=6.0
        )


TINY = Size(
    short=64, long=200, few=2, many=8, half=4, mixed=(60, 120), reference_frames=40,
    steps=10, repeats=2, latencies=3, text_frames=240, warm_s=0.2, counted_s=0.5, random_s=1.0,
    settle_s=0.5, copy_mib=64,
)  # fmt: skip
"""With a checkpoint of a few thousand weights."""


@dataclass(slots=True)
class Report:
    """The rows so far."""

    about: dict[str, Any]
    upstream: dict[str, Any]
    frame_rate_hz: float
    wanted: Sequence[str]
    out: Path | None
    rows: list[Row] = field(default_factory=list)

    def wants(self, *names: str) -> bool:
        """Whether any of these rows was asked for."""
        return any(name in self.wanted for name in names)

    @contextmanager
    def row(self, name: str, work: str) -> Iterator[Row]:
        """A row to be filled in; what is raised meanwhile is its figure."""
        row = Row(name, work)
        try:
            yield row
        except Exception as error:  # noqa: BLE001 - the row's boundary: it is told, others go on
            traceback.print_exc()
            row.ours = _failed(error)
        self.rows.append(row)
        share = "" if row.share is None else f", {row.share:.2f} of the floor"
        print(f"{row.name:16} {row.work}: {row.ours}{share}", flush=True)
        self.save()

    @contextmanager
    def stage(self, *names: str) -> Iterator[None]:
        """What several rows stand on; where it fails, those that have no figure yet tell it."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - the stage's boundary, as that of a row
            traceback.print_exc()
            for name in names:
                if self.wants(name) and not any(row.name == name for row in self.rows):
                    self.rows.append(Row(name, name, _failed(error)))
            self.save()

    def last(self, name: str) -> float | None:
        """The figure of the last row of that name that did not fail."""
        found = [row.value for row in self.rows if row.name == name and row.value is not None]
        return found[-1] if found else None

    def save(self) -> str:
        """The JSON line, put into the folder for results too."""
        put_upstream(self.rows, self.upstream, self.frame_rate_hz)
        text = json.dumps({**self.about, "upstream": self.upstream, "rows": as_json(self.rows)})
        if self.out is not None:
            (self.out / "gpu.json").write_text(text + "\n", "utf-8")
        return text


def _failed(error: Exception) -> str:
    return f"failed: {type(error).__name__}: {error}"[:MOST_CHARACTERS]
