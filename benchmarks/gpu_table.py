"""What `benchmarks.gpu` reports: its rows, the floor they are measured against, and the table.

Nothing here touches a device: `tests/test_benchmarks_gpu.py` holds the arithmetic.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from backend.model.config import DualARConfig

BAR: dict[str, str] = {
    "decode_1": "0.42 of the floor, 3 x compiled upstream",
    "decode_long": "0.80 of the short context",
    "decode_few": "6,000",
    "decode_many": "20,000, 0.48 of the floor",
    "pcm_1": "RTF 0.045",
    "pcm_many": "8,000",
    "first_audio": "30 ms",
    "first_audio_http": "40 ms",
    "first_audio_many": "p95 250 ms",
    "start": "10 s",
    "memory": "600 MB, plan within 10 %",
    "demo_1": "900",
    "demo_many": "9,000",
    "load": "0.8 of the engine's",
}
"""What each row must reach on an H100 or H200: the issue's table, in its order."""


@dataclass(slots=True)
class Row:
    """One line of the table."""

    name: str
    """A key of `BAR`."""
    work: str
    """What was done, in words."""
    ours: str = ""
    """The figure with its unit; why there is none, if it failed."""
    value: float | None = None
    """The same as a number; None if it failed."""
    floor_frames_s: float | None = None
    share: float | None = None
    """Of the floor: 1 is as fast as the memory delivers the bytes."""
    eager: str = ""
    """The published package, the same work."""
    compiled: str = ""
    detail: dict[str, Any] = field(default_factory=dict)
    """What else was measured, for the JSON line."""

    def against(self, floor_frames_s: float, frames_s: float) -> None:
        """Tell the floor, and what part of it `frames_s` is."""
        self.floor_frames_s, self.share = floor_frames_s, frames_s / floor_frames_s


@dataclass(frozen=True, slots=True)
class Floor:
    """What no frame can be faster than: the bytes that it must read, at the speed of a copy."""

    weight_bytes: int
    """Of all weights that a step reads, once for all its rows."""
    position_bytes: int
    """Keys and values of one position."""
    copy_bytes_s: float
    """What a copy moved in this run, bytes read and bytes written."""

    @classmethod
    def of(cls, config: DualARConfig, element_bytes: int, copy_bytes_s: float) -> "Floor":
        """Of a checkpoint whose weights, keys and values take so many bytes each."""
        legal = config.codebook_size + 1
        return cls(
            config.weights_read_per_frame(legal) * element_bytes,
            config.kv_bytes_per_frame(element_bytes),
            copy_bytes_s,
        )

    def frames_s(self, rows: int, positions: float) -> float:
        """Frames a second of `rows` in all, whose contexts are `positions` together."""
        step_bytes = self.weight_bytes + positions * self.position_bytes
        return rows * self.copy_bytes_s / step_bytes


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of `values` that `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(rows: int, least: int, most: int) -> list[int]:
    """Contexts of `rows`, evenly from `most` down to `least`: their mean lies in the middle.

    The longest first: rows that join earlier have said more by the time the last one has joined.
    """
    if rows == 1:
        return [(least + most) // 2]
    return [round(most - (most - least) * row / (rows - 1)) for row in range(rows)]


def arrivals_s(rate_hz: float, count: int, most_s: float, seed: int) -> list[float]:
    """Moments of at most `count` random arrivals in `most_s`: exponential gaps of 1 / `rate_hz`."""
    chance, now_s, moments = random.Random(seed), 0.0, list[float]()
    while len(moments) < count:
        now_s += chance.expovariate(rate_hz)
        if now_s > most_s:
            break
        moments.append(now_s)
    return moments


def markdown(rows: Sequence[Row]) -> str:
    """The table, as it stands in MDs/BENCHMARKS.md."""
    head = (
        "work",
        "here",
        "floor, frames/s",
        "of the floor",
        "must",
        "upstream eager",
        "upstream compiled",
    )
    lines = [_line(head), _line(["---"] * len(head))]
    for row in rows:
        floor = "" if row.floor_frames_s is None else f"{row.floor_frames_s:,.0f}"
        share = "" if row.share is None else f"{row.share:.2f}"
        must = BAR.get(row.name, "")
        lines.append(_line((row.work, row.ours, floor, share, must, row.eager, row.compiled)))
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |"


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows for the JSON line."""
    return [asdict(row) for row in rows]


def put_upstream(rows: Sequence[Row], upstream: dict[str, Any], frame_rate_hz: float) -> None:
    """Fill in what `benchmarks.upstream_gpu` printed. It speaks one text at a time.

    Its real-time factor leaves its codec out: it is at least that.
    """
    for way in ("eager", "compiled"):
        found = {
            key.removeprefix("frames_s_"): value
            for key, value in upstream.get(way, {}).items()
            if key.startswith("frames_s_")
        }
        contexts = sorted(map(int, found))
        if not contexts:
            continue
        short, long = found[str(contexts[0])], found[str(contexts[-1])]
        said = {"decode_1": f"{short:,.1f}", "pcm_1": f"at least RTF {frame_rate_hz / short:.3f}"}
        if len(contexts) > 1:
            said["decode_long"] = f"{long:,.1f} ({long / short:.2f})"
        for row in rows:
            if row.name in said:
                setattr(row, way, said[row.name])
        start = next((row for row in rows if row.name == "start"), None)
        if way == "compiled" and start is not None:
            start.compiled = f"{upstream[way]['compile_s']:.0f} s of compiling"
