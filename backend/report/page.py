"""`shoal report`: the request log as one page that needs nothing else, and as pictures."""

import base64
import html
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from backend.errors import BadSetting
from backend.monitoring.aggregates import Spread
from backend.monitoring.synthesis import OUTCOMES
from backend.report.drawing import PICTURES, TIER_PICTURES
from backend.report.history import (
    CPU_MAXED_PCT,
    MEMORY_CRITICAL_PCT,
    History,
    Request,
    TierHistory,
    read_history,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE_NAME = "report.html"
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff;
       max-width: 1020px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
img { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; font-weight: normal; }
thead th { font-weight: 600; } small, figcaption { color: #666; }
figure { margin: 0; } pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; }
"""


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """What was written."""

    page: Path
    pictures: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class _Picture:
    name: str
    title: str
    png: bytes


def write_report(directory: Path, out: Path | None = None) -> ReportFiles:
    """Draw the request log in `directory` into `out`, or into its own folder `report`.

    Raises `BadSetting` where there is nothing to draw, where matplotlib is missing, and where `out`
    cannot be written.
    """
    history = read_history(directory)
    out = out or directory / "report"
    page = out / PAGE_NAME
    try:
        out.mkdir(parents=True, exist_ok=True)
        pictures = list(_pictures(history))
        files = [out / f"{picture.name}.png" for picture in pictures]
        for file, picture in zip(files, pictures, strict=True):
            file.write_bytes(picture.png)
        page.write_text(_page(directory, history, pictures), encoding="utf-8")
    except OSError as error:
        raise BadSetting(f"{out} cannot be written: {error.strerror}.") from None
    return ReportFiles(page, tuple(files))


def _pictures(history: History) -> Iterator[_Picture]:
    for name, (title, draw) in PICTURES.items():
        yield from _picture(name, title, draw(history.tiers))
    for tier in history.tiers:
        for name, (title, draw_tier) in TIER_PICTURES.items():
            yield from _picture(f"{name}_{tier.tier}", f"{title}: {tier.tier}", draw_tier(tier))


def _picture(name: str, title: str, figure: "Figure | None") -> Iterator[_Picture]:
    if figure is not None:
        png = io.BytesIO()
        figure.savefig(png, format="png")
        yield _Picture(name, title, png.getvalue())


def _page(directory: Path, history: History, pictures: list[_Picture]) -> str:
    figures = "".join(
        f"<h2>{html.escape(picture.title)}</h2>\n<figure><img alt='{html.escape(picture.title)}' "
        f"src='data:image/png;base64,{base64.b64encode(picture.png).decode()}'></figure>\n"
        for picture in pictures
    )
    specs = "".join(
        f"<details><summary>Hardware of {html.escape(tier.tier)}</summary><pre>"
        f"{html.escape(json.dumps(tier.hardware_specs, indent=2, ensure_ascii=False))}"
        "</pre></details>\n"
        for tier in history.tiers
        if tier.hardware_specs
    )
    torn = f", {history.torn_lines} unfinished lines left out" if history.torn_lines else ""
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width'><title>Shoal: request log</title>"
        f"<style>{_STYLE}</style></head><body>\n<h1>What the server did</h1>\n"
        f"<p>{html.escape(_period(history))} <small>{len(history.files)} files of "
        f"{html.escape(str(directory))}{torn}.</small></p>\n"
        f"<div class='scroll'>{_table(history.tiers)}</div>\n"
        "<p><small>Latency counts from a request's admission to its last sample, RTF is latency "
        "per second of audio. A request counts as slowed down when its RTF is 1.2 times the usual "
        "of texts of its length while the machine was hot, its CPU maxed or its memory critical; "
        "requests that share the machine look the same.</small></p>\n"
        f"{figures}<h2>Machines</h2>\n{specs or '<p>No hardware profile was logged.</p>'}"
        "</body></html>\n"
    )


def _period(history: History) -> str:
    moments = [
        moment
        for tier in history.tiers
        for moment in (*(request.ended_s for request in tier.requests), *tier.load.at_s)
        if not np.isnan(moment)
    ]
    requests = sum(len(tier.requests) for tier in history.tiers)
    if not moments:
        return f"{requests} requests."
    first, last = (
        datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M")
        for at_s in (min(moments), max(moments))
    )
    return f"{requests} requests from {first} to {last} UTC."


def _table(tiers: tuple[TierHistory, ...]) -> str:
    head = "".join(f"<th>{html.escape(tier.tier)}</th>" for tier in tiers)
    body = "".join(
        f"<tr><th>{html.escape(label)}</th>"
        + "".join(f"<td>{html.escape(tell(tier))}</td>" for tier in tiers)
        + "</tr>\n"
        for label, tell in _ROWS.items()
    )
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>\n{body}</tbody></table>"


def _outcomes(tier: TierHistory) -> str:
    counts = Counter(request.outcome for request in tier.requests)
    return ", ".join(f"{counts[name]} {name}" for name in OUTCOMES if counts[name]) or "none"


def _spread(column: str, unit: str = "") -> Callable[[TierHistory], str]:
    def tell(tier: TierHistory) -> str:
        spread = Spread.over(getattr(r, column) for r in tier.requests if r.is_success)
        if spread is None:
            return "-"
        return f"{spread.p50:.3g} / {spread.p95:.3g}{unit}"

    return tell


def _highest(column: str, unit: str) -> Callable[[TierHistory], str]:
    def tell(tier: TierHistory) -> str:
        told = [getattr(request, column) for request in tier.requests]
        highest = max((value for value in told if value), default=None)  # 0 is no GPU
        return "-" if highest is None else f"{highest:,.0f}{unit}"

    return tell


def _share_over(column: str, limit: float) -> Callable[[TierHistory], str]:
    def tell(tier: TierHistory) -> str:
        share = tier.load.share_over(column, limit)
        return "-" if share is None else f"{share:.0%} of the time"

    return tell


def _slowed(tier: TierHistory) -> str:
    spoken = sum(request.is_success for request in tier.requests)
    return f"{len(tier.slowed_down())} of {spoken}" if spoken else "-"


def _audio(requests: tuple[Request, ...]) -> str:
    return f"{sum(request.audio_s or 0.0 for request in requests):.0f} s"


_ROWS: dict[str, Callable[[TierHistory], str]] = {
    "requests": lambda tier: str(len(tier.requests)),
    "how they ended": _outcomes,
    "speech delivered": lambda tier: _audio(tier.requests),
    "latency, median / p95": _spread("total_s", " s"),
    "first audio, median / p95": _spread("first_audio_s", " s"),
    "RTF, median / p95": _spread("rtf"),
    "compute RTF, median / p95": _spread("compute_rtf"),
    "tokens/s, median / p95": _spread("tokens_per_second"),
    "peak GPU memory": _highest("peak_vram_mb", " MiB"),
    "peak GPU utilisation": _highest("peak_gpu_util_pct", " %"),
    "highest temperature": _highest("peak_temperature_c", " °C"),
    "CPU over 90 %": _share_over("cpu_pct", CPU_MAXED_PCT),
    "memory over 85 %": _share_over("memory_pct", MEMORY_CRITICAL_PCT),
    "slowed down under pressure": _slowed,
}
"""Rows of the summary: what stands in front, and what it says of a tier."""
