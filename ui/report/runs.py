"""CSV logs of several runs and machines as tables: of whatever version, torn lines left out."""

from collections.abc import Mapping, Sequence

import pandas as pd

from ui.report.log import cells_of

RUN = "run"
"""Column that names the file a row is from."""
COMPARED = {
    "rtf": "RTF",
    "compute_rtf": "RTF of the engine alone",
    "total_duration_s": "Latency, s",
    "first_audio_s": "First sound after, s",
    "queue_s": "Waited, s",
    "tokens_per_second": "Tokens/s",
    "worker_peak_memory_mb": "Worker's memory, MB",
    "peak_vram_mb": "GPU memory, MB",
    "mean_cpu_pct": "CPU, %",
    "peak_temperature_c": "Temperature, °C",
}
"""Columns in which two runs are compared, and what they are called."""
SHOWN = (
    *("timestamp", RUN, "tier", "outcome", "text_length", "rtf", "total_duration_s"),
    *("first_audio_s", "queue_s", "tokens_per_second", "worker_peak_memory_mb", "peak_vram_mb"),
    *("device", "precision", "quantization", "engine", "error_code", "request_id"),
)
"""Columns of the table of requests, as far as there are."""
_WORDS = {
    *("timestamp", "request_id", "tier", "outcome", "success", "error_code", "error_message"),
    *("vq_features_shape", "finish_reasons", "warnings", "engine", "strategy", "device"),
    *("gpu_util_source", "precision", "quantization", "compile", "language", RUN),
}
"""Columns that are not numbers."""


def table(files: Mapping[str, bytes]) -> pd.DataFrame:
    """Every whole row of `files`, with the name of its file as `run`; numbers where they are."""
    parts = [
        pd.DataFrame(cells).assign(**{RUN: name})
        for name, data in files.items()
        if (cells := list(cells_of(data)))
    ]
    if not parts:
        return pd.DataFrame({RUN: []})
    rows = pd.concat(parts, ignore_index=True)
    for name in rows.columns:
        if name not in _WORDS:
            rows[name] = pd.to_numeric(rows[name], errors="coerce")
    if "timestamp" in rows:
        rows["timestamp"] = pd.to_datetime(rows["timestamp"], errors="coerce", utc=True)
    return rows


def is_requests(data: bytes) -> bool:
    """The file has a row for each request."""
    names = _header(data)
    return "rtf" in names or "outcome" in names


def is_samples(data: bytes) -> bool:
    """The file has a row for each moment."""
    return "cpu_pct" in _header(data)


def characters(rows: pd.DataFrame) -> pd.Series:
    """What was spoken of each text, or what was sent where its version did not log that."""
    empty = pd.Series(float("nan"), index=rows.index)
    return rows.get("spoken_length", empty).fillna(rows.get("text_length", empty))


def spoken(rows: pd.DataFrame) -> pd.DataFrame:
    """The requests with a real-time factor, and `characters` for each; `tier` is never missing."""
    if "rtf" not in rows:
        return pd.DataFrame({"rtf": [], "characters": [], "tier": [], RUN: []})
    found = rows.assign(characters=characters(rows))
    found["tier"] = found.get("tier", pd.Series("", index=rows.index)).fillna("").replace("", "?")
    return found[found["rtf"].notna() & found["characters"].notna()]


def by_tier(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each tier: requests, medians and p95."""
    groups = spoken(rows).groupby("tier")["rtf"]
    found = groups.agg(
        Requests="count", Median="median", p95=lambda each: each.quantile(0.95)
    ).reset_index()
    return found.rename(columns={"tier": "Tier", "Median": "RTF, median", "p95": "RTF, p95"})


def compare(rows: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """A line for each figure that both runs have: medians, p95, and second through first."""
    lines = []
    for name, label in COMPARED.items():
        if name not in rows:
            continue
        a, b = (rows.loc[rows[RUN] == run, name].dropna() for run in (first, second))
        if a.empty or b.empty:
            continue
        line = {"": label}
        for what, share in (("median", 0.5), ("p95", 0.95)):
            old, new = float(a.quantile(share)), float(b.quantile(share))
            ratio = f"{new / old:.2f} ×" if old else "–"
            line |= {f"First, {what}": _shown(old), f"Second, {what}": _shown(new)}
            line[f"Ratio, {what}"] = ratio
        lines.append(line)
    return pd.DataFrame(lines)


def thinned(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most so many rows, evenly taken: a plot shows no more."""
    return rows.iloc[:: max(1, -(-len(rows) // most))]


def only(rows: pd.DataFrame, chosen: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """The rows whose columns have one of the chosen values; nothing chosen is everything."""
    for name, values in chosen.items():
        if values and name in rows:
            rows = rows[rows[name].isin(values)]
    return rows


def _header(data: bytes) -> set[str]:
    line = data.split(b"\n", 1)[0].decode("utf-8", "replace")
    return {name.strip() for name in line.split(",")}


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
