"""What became of requests under each memory limit, as an SVG: a bar for each run."""

from collections.abc import Sequence
from html import escape
from typing import Any

OUTCOMES: dict[str, str] = {
    "spoken": "#2f7d4f",
    "spoken and says so": "#8cc6a0",
    "refused": "#d9b44a",
    "left": "#c9c9c9",
    "failed": "#c0392b",
    "unanswered": "#5b1a13",
}
"""What becomes of a request, and its colour."""
_NOT_STARTED = "#e8dcdc"

_LEFT, _TOP, _BAR, _GAP, _HEIGHT, _FOOT = 44, 34, 16, 14, 180, 56


def picture(rows: Sequence[dict[str, Any]]) -> str:
    """Bars of shares: for each checkpoint and limit one with memory control, one without."""
    keys = list(dict.fromkeys((row["checkpoint"], row["limit_mb"]) for row in rows))
    parts, x = [], _LEFT
    for checkpoint, limit_mb in keys:
        start = x
        for control in ("on", "off"):
            found = [
                row
                for row in rows
                if (row["checkpoint"], row["limit_mb"], row["control"])
                == (checkpoint, limit_mb, control)
            ]
            if found:
                parts += _bar(x, found[-1])
                parts.append(_text(x + _BAR / 2, _TOP + _HEIGHT + 12, control, 8))
                x += _BAR + 2
        middle = (start + x - 2) / 2
        parts.append(_text(middle, _TOP + _HEIGHT + 26, f"{limit_mb / 1024:g} GB", 10))
        parts.append(_text(middle, _TOP + _HEIGHT + 40, checkpoint, 9))
        x += _GAP
    parts += [
        _text(_LEFT - 6, _TOP + _HEIGHT * (1 - share) + 3, f"{share:.0%}", 9, "end")
        for share in (0.0, 0.5, 1.0)
    ]
    width, at = max(x, 560), 6.0
    for name, colour in (*OUTCOMES.items(), ("not started", _NOT_STARTED)):
        parts.append(f'<rect x="{at}" y="8" width="10" height="10" fill="{colour}"/>')
        parts.append(_text(at + 14, 17, name, 10, "start"))
        at += 26 + 6.0 * len(name)
    height = _TOP + _HEIGHT + _FOOT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif">'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _bar(x: float, row: dict[str, Any]) -> list[str]:
    if "at_start" in row:
        return [_rect(x, _TOP, _HEIGHT, _NOT_STARTED, row["at_start"])]
    total, y, parts = sum(row[name] for name in OUTCOMES), float(_TOP + _HEIGHT), []
    for name, colour in OUTCOMES.items():
        if height := _HEIGHT * row[name] / total:
            y -= height
            parts.append(_rect(x, y, height, colour, f"{name}: {row[name]}"))
    return parts


def _rect(x: float, y: float, height: float, colour: str, says: str) -> str:
    return (
        f'<rect x="{x}" y="{y:.1f}" width="{_BAR}" height="{height:.1f}" fill="{colour}">'
        f"<title>{escape(says)}</title></rect>"
    )


def _text(x: float, y: float, text: str, size: int, anchor: str = "middle") -> str:
    return f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'
