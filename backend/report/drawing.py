"""Draws the request log: each function answers one question with one picture.

matplotlib is an extra: it is imported when the first picture is drawn, and only its figures, so no
window system and no global state are touched.
"""

import importlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Literal

import numpy as np

from backend.errors import BadSetting
from backend.monitoring.synthesis import OUTCOMES
from backend.report.history import (
    CPU_MAXED_PCT,
    HOT_C,
    MEMORY_CRITICAL_PCT,
    Load,
    Series,
    TierHistory,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Told apart by people who see colours differently (Okabe and Ito)."""
OUTCOME_COLOURS = dict(zip(OUTCOMES, ("#009E73", "#D55E00", "#E69F00", "#999999"), strict=True))
ALARM = "#D55E00"
WIDTH_IN = 9.0
DPI = 110
PAUSE_S = 2.0
"""Between two samples further apart nothing was synthesised; that time is left out."""
POINTS = 900
"""A line of more samples is drawn as the mean and the range of groups of them."""


def new_figure(rows: int, columns: int, height_in: float) -> "tuple[Figure, list[Axes]]":
    """An empty figure and its axes, row by row; `BadSetting` where matplotlib is missing."""
    try:
        module = importlib.import_module("matplotlib.figure")
    except ImportError:
        raise BadSetting(
            "Drawing needs matplotlib. Install with: pip install 'shoal-tts[report]'"
        ) from None
    figure: Figure = module.Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, layout="constrained")
    axes = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for ax in axes:
        ax.grid(True, color="#dddddd", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def rtf_by_text_length(tiers: Sequence[TierHistory]) -> "Figure | None":
    """How much longer than its audio does a text of a given length take?"""
    figure, (ax,) = new_figure(1, 1, 4.4)
    drawn: list[float] = []
    for tier, colour in zip(tiers, _cycle(), strict=False):
        points = [
            (request.text_length, request.rtf)
            for request in tier.requests
            if request.is_success and request.rtf and request.text_length
        ]
        if not points:
            continue
        length, rtf = (np.array(values) for values in zip(*sorted(points), strict=True))
        drawn += [float(value) for value in rtf]
        ax.scatter(length, rtf, s=16, color=colour, alpha=0.35, linewidths=0)
        middles = [(np.median(x), np.median(y)) for x, y in _groups(length, rtf)]
        ax.plot(*zip(*middles, strict=True), "o-", color=colour, markersize=4, label=tier.tier)
    if not drawn:
        return None
    ax.axhline(1.0, color="#555555", linewidth=1, linestyle="--")
    ax.annotate("real time", (1, 1), xycoords=("axes fraction", "data"), ha="right", va="bottom")
    _logarithmic(ax, "x")
    if max(drawn) > 4 * min(drawn):
        _logarithmic(ax, "y")
    else:
        ax.set_ylim(0, 1.08 * max(*drawn, 1.0))
    ax.set(xlabel="characters spoken", ylabel="RTF (seconds per second of audio)")
    ax.legend(title="tier, medians joined", frameon=False)
    return figure


def waiting_times(tiers: Sequence[TierHistory]) -> "Figure | None":
    """What share of the requests was answered within how many seconds?"""
    figure, axes = new_figure(1, 2, 4.0)
    has_any = False
    names = ("last sample (latency)", "first audio")
    for ax, name, column in zip(axes, names, ("total_s", "first_audio_s"), strict=True):
        for tier, colour in zip(tiers, _cycle(), strict=False):
            told = (getattr(r, column) for r in tier.requests if r.is_success)
            values = np.sort([value for value in told if value])
            if not values.size:
                continue
            has_any = True
            label = f"{tier.tier}: median {_short(float(np.median(values)))} s"
            share = 100 * np.arange(values.size + 1) / values.size
            steps = np.append(values[:1], values)
            ax.step(steps, share, where="post", color=colour, linewidth=1.8, label=label)
        _logarithmic(ax, "x")
        ax.axhline(95, color="#555555", linewidth=0.8, linestyle="--")
        ax.annotate("95 %", (0, 95), xycoords=("axes fraction", "data"), va="bottom")
        ax.set(xlabel=f"seconds to the {name}", ylabel="% of requests", ylim=(0, 104))
        if ax.get_legend_handles_labels()[0]:
            ax.legend(frameon=False, loc="lower right", fontsize="small")
    return figure if has_any else None


def outcomes(tiers: Sequence[TierHistory]) -> "Figure | None":
    """How did requests end, and why did those that failed?"""
    tiers = [tier for tier in tiers if tier.requests]
    if not tiers:
        return None
    codes = Counter(
        request.error_code for tier in tiers for request in tier.requests if request.error_code
    ).most_common(8)
    height_in = 1.6 + 0.4 * max(len(tiers), len(codes))
    figure, (ends, reasons) = new_figure(1, 2, height_in)
    names = [tier.tier for tier in tiers]
    left, most = np.zeros(len(tiers)), max(len(tier.requests) for tier in tiers)
    for outcome in OUTCOMES:
        counts = np.array([sum(r.outcome == outcome for r in tier.requests) for tier in tiers])
        bars = ends.barh(names, counts, left=left, color=OUTCOME_COLOURS[outcome], label=outcome)
        told = [str(n) if n > 0.04 * most else "" for n in counts]  # it must fit its bar
        ends.bar_label(bars, told, label_type="center")
        left += counts
    for ax in (ends, reasons):
        ax.xaxis.set_major_locator(_ticker().MaxNLocator(integer=True))
    ends.set(xlabel="requests")
    ends.invert_yaxis()
    figure.legend(
        *ends.get_legend_handles_labels(), ncols=4, frameon=False, loc="outside upper left"
    )
    if codes:
        bars = reasons.barh([code for code, _ in codes], [n for _, n in codes], color="#999999")
        reasons.bar_label(bars, padding=3)
        reasons.invert_yaxis()
        reasons.set(xlabel="requests that were not spoken, by reason")
    else:
        reasons.set_axis_off()
        reasons.annotate("every request was spoken", (0.5, 0.5), ha="center", va="center")
    return figure


def memory_and_gpu(tier: TierHistory) -> "Figure | None":
    """How full were the memories, and how busy was the GPU?"""
    panels = [
        _Panel("memory_pct", "memory (%)", COLOURS[0], MEMORY_CRITICAL_PCT, top=100),
        _Panel("gpu_memory_mb", "GPU memory (MiB)", COLOURS[2]),
        _Panel("gpu_util_pct", "GPU utilisation (%)", COLOURS[3], top=100),
    ]
    return _over_time(tier, panels, with_rtf=False)


def heat_and_throttling(tier: TierHistory) -> "Figure | None":
    """Did requests take longer while the machine was hot or its CPU maxed?"""
    panels = [
        _Panel("cpu_pct", "CPU (%)", COLOURS[0], CPU_MAXED_PCT, top=100),
        _Panel("temperature_c", "temperature (°C)", COLOURS[4], HOT_C),
    ]
    return _over_time(tier, panels, with_rtf=True)


@dataclass(frozen=True, slots=True)
class _Panel:
    column: str
    label: str
    colour: str
    limit: float | None = None
    top: float | None = None


def _over_time(tier: TierHistory, panels: list[_Panel], with_rtf: bool) -> "Figure | None":
    known = [panel for panel in panels if not np.isnan(tier.load.columns[panel.column]).all()]
    if not tier.load.at_s.size or not known:
        return None
    count = len(known) + with_rtf
    figure, axes = new_figure(count, 1, 0.7 + 1.75 * count)
    busy_s, pauses_s = _without_pauses(tier.load)
    unit_s, unit = (60.0, "minutes") if busy_s[-1] > 300 else (1.0, "seconds")

    def place(moments_s: list[float]) -> Series:
        return np.interp(moments_s, tier.load.at_s, busy_s) / unit_s

    for ax, panel in zip(axes, known, strict=False):
        values = tier.load.columns[panel.column]
        _draw_line(ax, busy_s / unit_s, values, panel)
    if with_rtf:
        rtfs = [(r.ended_s, r.rtf) for r in tier.requests if r.is_success and r.rtf]
        dots = [(at_s, rtf) for at_s, rtf in rtfs if not np.isnan(at_s)]
        moments = place([at_s for at_s, _ in dots])
        axes[-1].plot(moments, [rtf for _, rtf in dots], "o", color="#000000", markersize=3)
        axes[-1].set(ylabel="RTF", ylim=(0, 1.1 * max((rtf for _, rtf in dots), default=1.0)))
        slow = [r for r in tier.slowed_down() if not np.isnan(r.ended_s)]
        spans = zip(place([r.began_s for r in slow]), place([r.ended_s for r in slow]), strict=True)
        _shade(axes, _merged(spans, busy_s[-1] / unit_s / 200))
    for ax in axes:
        ax.sharex(axes[0])
        ax.set_xlim(0, max(busy_s[-1] / unit_s, 1e-3))
        if len(pauses_s) <= 40:
            for pause_s in pauses_s:
                ax.axvline(pause_s / unit_s, color="#bbbbbb", linewidth=0.8, linestyle=":")
        ax.tick_params(labelbottom=ax is axes[-1])
    axes[-1].set_xlabel(f"{unit} of synthesis (idle time left out, dotted)")
    figure.align_ylabels(axes)
    return figure


def _shade(axes: "list[Axes]", spans: list[tuple[float, float]]) -> None:
    for ax in axes:
        for began, ended in spans:
            ax.axvspan(began, ended, color=ALARM, alpha=0.22, linewidth=0)
    if spans:
        text = "shaded: slower than usual under heat or load"
        axes[0].set_title(text, loc="right", fontsize="small", color=ALARM)


def _draw_line(ax: "Axes", x: Series, values: Series, panel: _Panel) -> None:
    """The values, or the mean and range of groups of them; what is over the limit is filled."""
    groups = list(_groups(x, values, POINTS)) if x.size > POINTS else None
    if groups is None:
        ax.plot(x, values, color=panel.colour, linewidth=1.2)
        middle, highest, at = values, values, x
    else:
        at = np.array([np.mean(where) for where, _ in groups])
        some = [group[~np.isnan(group)] for _, group in groups]
        lowest, middle, highest = (
            np.array([count(group) if group.size else np.nan for group in some])
            for count in (np.min, np.mean, np.max)
        )
        ax.fill_between(at, lowest, highest, color=panel.colour, alpha=0.25, linewidth=0)
        ax.plot(at, middle, color=panel.colour, linewidth=1.2)
    ax.set(ylabel=panel.label)
    top = panel.top or max(float(np.nanmax(highest)), panel.limit or 0.0, 1.0)
    ax.set_ylim(0, 1.04 * top)
    if panel.limit is not None:
        ax.axhline(panel.limit, color=ALARM, linewidth=0.9, linestyle="--")
        is_over = np.nan_to_num(highest) > panel.limit
        ax.fill_between(at, panel.limit, highest, where=is_over, color=ALARM, alpha=0.5)


def _without_pauses(load: Load) -> tuple[Series, list[float]]:
    """For each sample the seconds of synthesis before it, and where pauses were left out."""
    steps_s = np.diff(load.at_s, prepend=load.at_s[0])
    is_pause = steps_s > PAUSE_S
    busy_s = np.cumsum(np.where(is_pause, 0.0, steps_s))
    return busy_s, [float(pause_s) for pause_s in busy_s[is_pause]]


def _merged(
    spans: "Iterator[tuple[float, float]]", smallest_gap: float
) -> list[tuple[float, float]]:
    """The same spans, those that meet made one: shading twice would look darker."""
    merged: list[tuple[float, float]] = []
    for began, ended in sorted(spans):
        if merged and began <= merged[-1][1] + smallest_gap:
            merged[-1] = (merged[-1][0], max(merged[-1][1], ended))
        else:
            merged.append((began, ended))
    return merged


def _groups(x: Series, y: Series, most: int = 8) -> Iterator[tuple[Series, Series]]:
    """`x` and `y`, in order, in at most `most` groups of about as many values each."""
    count = max(1, min(most, x.size if most > 8 else x.size // 5))
    yield from zip(np.array_split(x, count), np.array_split(y, count), strict=True)


def _cycle() -> Iterator[str]:
    while True:
        yield from COLOURS


def _short(value: float) -> str:
    return f"{value:.3g}"


def _logarithmic(ax: "Axes", name: Literal["x", "y"]) -> None:
    """Ticks at 1, 2 and 5 of each power of ten, written out."""
    ticker, axis = _ticker(), ax.xaxis if name == "x" else ax.yaxis
    ax.set(**{f"{name}scale": "log"})
    axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(lambda value, position: f"{value:g}")
    axis.set_minor_locator(ticker.NullLocator())


def _ticker() -> ModuleType:
    return importlib.import_module("matplotlib.ticker")


PICTURES: "dict[str, tuple[str, Callable[[Sequence[TierHistory]], Figure | None]]]" = {
    "rtf_by_text_length": ("RTF by length of text", rtf_by_text_length),
    "waiting_times": ("Latency and first audio", waiting_times),
    "outcomes": ("How requests ended", outcomes),
}
"""Pictures of all tiers together: file name, title and what draws it."""
TIER_PICTURES: "dict[str, tuple[str, Callable[[TierHistory], Figure | None]]]" = {
    "memory_and_gpu": ("Memory and GPU over time", memory_and_gpu),
    "heat_and_throttling": ("CPU, temperature and throttling over time", heat_and_throttling),
}
"""Pictures of one tier each."""
