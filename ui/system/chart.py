"""Small charts as SVG, in the page's own colours: a line over time, points over length."""

from collections.abc import Sequence
from html import escape
from typing import Any

from ui.system.told import advice, memory_in_use, requests_in_work

_WIDTH, _HEIGHT = 300.0, 64.0


def charts(seen: list[dict[str, float]], status: dict[str, Any], health: dict[str, Any]) -> str:
    """The charts of what was seen, and what to do about it."""
    now = seen[-1]

    def past(name: str) -> list[float]:
        return [each[name] for each in seen]

    parts = [
        gauge("CPU", f"{now['cpu']:.0f} %", past("cpu"), 100),
        gauge("Memory", memory_in_use(status), past("memory"), 100),
    ]
    if now["gpu"] >= 0:
        parts.append(gauge("GPU memory", f"{now['gpu']:.0f} %", past("gpu"), 100))
    if now["heat"] >= 0:
        parts.append(gauge("Temperature", f"{now['heat']:.0f} °C", past("heat"), 110))
    most = max(4.0, *past("queue"))
    parts.append(gauge("Requests", requests_in_work(health), past("queue"), most))
    is_fine, head, reasons = advice(status)
    return (
        f'<div class="card{"" if is_fine else " warn"}"><p class="head">{escape(head)}</p>'
        f"{f'<p>{escape(reasons)}</p>' if reasons else ''}</div>"
        f'<div class="pair" style="margin-top:20px">{"".join(parts)}</div>'
    )


def gauge(label: str, now: str, values: Sequence[float], most: float) -> str:
    """A figure with its last minutes as a line; `most` is the top of the chart."""
    points = _points(values, most)
    line = "M" + " L".join(points) if points else ""
    area = f"{line} L{_WIDTH:.0f},{_HEIGHT:.0f} L0,{_HEIGHT:.0f} Z" if points else ""
    return (
        f'<div class="gauge"><p><span>{escape(label)}</span><b>{escape(now)}</b></p>'
        f'<svg viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" preserveAspectRatio="none" '
        f'aria-hidden="true"><path class="axis" d="M0,{_HEIGHT - 0.5} H{_WIDTH:.0f}"/>'
        f'<path class="area" d="{area}"/><path class="line" d="{line}"/></svg></div>'
    )


def scatter(label: str, pairs: Sequence[tuple[float, float]], x_unit: str, y_unit: str) -> str:
    """Points with both axes told in words under it."""
    if not pairs:
        return ""
    most_x, most_y = max(x for x, _ in pairs) or 1.0, max(y for _, y in pairs) or 1.0
    dots = "".join(
        f'<circle cx="{8 + 584 * x / most_x:.1f}" cy="{152 - 144 * y / most_y:.1f}" r="4"/>'
        for x, y in pairs
    )
    said = f"{label}: {len(pairs)} requests, up to {most_x:.0f} {x_unit} and {most_y:.2f} {y_unit}"
    return (
        f'<figure class="gauge"><svg viewBox="0 0 600 160" role="img" aria-label="{escape(said)}" '
        f'style="height:auto"><path class="axis" d="M0,158 H600 M2,0 V160"/>{dots}</svg>'
        f'<figcaption class="note">{escape(said)}</figcaption></figure>'
    )


def _points(values: Sequence[float], most: float) -> list[str]:
    if len(values) < 2:
        return []
    step = _WIDTH / (len(values) - 1)
    return [
        f"{index * step:.1f},{_HEIGHT - 1 - (_HEIGHT - 3) * min(1.0, value / most):.1f}"
        for index, value in enumerate(values)
    ]
