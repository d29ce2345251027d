"""Small charts as SVG, in the page's own colours: a line over time, speed over length."""

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


def rtf_by_length(pairs: Sequence[tuple[float, float]]) -> str:
    """Points of (characters, real-time factor); what is below 1 was faster than real time."""
    most_x = max(characters for characters, _ in pairs)
    most_y = 1.1 * max(1.0, *(rtf for _, rtf in pairs))

    def place(characters: float, rtf: float) -> tuple[float, float]:
        return 40 + 545 * characters / most_x, 165 - 150 * rtf / most_y

    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in (place(*pair) for pair in pairs)
    )
    _, real_time = place(0, 1)
    _, top = place(0, most_y / 1.1)
    return (
        '<figure class="gauge"><svg class="points" viewBox="0 0 600 190" role="img" '
        f'aria-label="Real-time factor of {len(pairs)} requests by length of text">'
        '<path class="axis" d="M40,165 H590 M40,15 V165"/>'
        f'<path class="axis real-time" d="M40,{real_time:.1f} H590"/>{dots}'
        f'<text x="590" y="{real_time - 5:.1f}" text-anchor="end">real time</text>'
        f'<text x="34" y="{real_time + 4:.1f}" text-anchor="end">1</text>'
        + (
            f'<text x="34" y="{top + 4:.1f}" text-anchor="end">{most_y / 1.1:.1f}</text>'
            if most_y > 1.4
            else ""
        )
        + '<text x="34" y="169" text-anchor="end">0</text><text x="40" y="182">0 characters</text>'
        f'<text x="590" y="182" text-anchor="end">{most_x:,.0f}</text></svg></figure>'
    )


def _points(values: Sequence[float], most: float) -> list[str]:
    if len(values) < 2:
        return []
    step = _WIDTH / (len(values) - 1)
    return [
        f"{index * step:.1f},{_HEIGHT - 1 - (_HEIGHT - 3) * min(1.0, value / most):.1f}"
        for index, value in enumerate(values)
    ]
