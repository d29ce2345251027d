"""What was measured, for people (`shoal tune`) and for programs (`--json`, `GET /hardware`)."""

from typing import Any

from rich.table import Table
from rich.text import Text

from backend.hardware.measured import Figures, Measurement, Setup, Verdict
from backend.tuning.tuning import Tuning

_FIGURES = ("frames/s", "RTF", "prefill", "codec", "first", "MiB", "kept")
_ABSENT = {"too_large": "does not fit", "failed": "failed", "skipped": "not measured"}


def tuning_table(tuning: Tuning) -> Table:
    """One row a setup: its figures, times in ms; the chosen one is marked."""
    verdict = tuning.verdict()
    caption = (
        "prefill, codec of a frame, first audio in ms; kept: codes that quantization left alone"
    )
    title = f"{tuning.shape.name}: one sentence, each in a worker of its own"
    table = Table(title=Text(title), caption=caption, box=None, collapse_padding=True)
    table.add_column("  setup ×threads", no_wrap=True)
    table.add_column("way", no_wrap=True)
    for name in _FIGURES:
        table.add_column(name, justify="right", no_wrap=True)
    for row in tuning.rows:
        is_chosen = verdict is not None and row.setup == verdict.setup
        cells = [_ABSENT[row.outcome]] if row.figures is None else _cells(row.figures)
        name = f"{'*' if is_chosen else ' '} {row.setup.weights} ×{row.setup.num_threads}"
        table.add_row(Text(name), *map(Text, cells), style="bold green" if is_chosen else None)
    return table


def sentences(tuning: Tuning) -> list[str]:
    """The winner and why first; what has no figures, what was not reached."""
    verdict = tuning.verdict()
    nothing = "Nothing was measured that could be chosen." if tuning.rows else ""
    told = [_won(verdict, tuning) if verdict else nothing]
    told += [
        f"{row.setup}: {_ABSENT[row.outcome]}, {row.reason}." for row in tuning.rows if row.reason
    ]
    if ahead := tuning.ahead:
        named = "; ".join(map(str, ahead))
        told.append(
            f"Not reached in {tuning.seconds:.0f} s: {named}. --seconds {2 * tuning.seconds:.0f} "
            "measures more."
        )
    return told


def tuning_json(tuning: Tuning) -> dict[str, Any]:
    """The same as flat values."""
    verdict = tuning.verdict()
    return {
        "checkpoint": tuning.shape.name,
        "seconds": round(tuning.seconds, 1),
        "spent_s": round(tuning.spent_s, 1),
        "chosen": None if verdict is None else _setup_json(verdict.setup),
        "reason": sentences(tuning)[0],
        "measured": [_row_json(row) for row in tuning.rows],
        "not_reached": [_setup_json(setup) for setup in tuning.ahead],
    }


def _won(verdict: Verdict, tuning: Tuning) -> str:
    expected = f"the tier expected RTF {tuning.expected_rtf:g}"
    words = f"Chosen: {verdict.setup}, {verdict.figures}; {expected}"
    if verdict.about_quantization:
        words += f"; {verdict.about_quantization}"
    return f"{words}."


def _cells(figures: Figures) -> list[str]:
    kept = "" if figures.kept_codes is None else f"{figures.kept_codes:.1%}"
    return [
        figures.way,
        f"{figures.frames_per_s:.1f}",
        figures.rtf_told,
        f"{1000 * figures.prefill_s:.0f}",
        f"{figures.codec_ms:.1f} {figures.codec_precision}",
        f"{1000 * figures.first_audio_s:.0f}",
        f"{figures.peak_mb:.0f}",
        kept,
    ]


def _setup_json(setup: Setup) -> dict[str, Any]:
    return {
        "device": setup.device,
        "precision": setup.precision,
        "quantization": setup.quantization,
        "num_threads": setup.num_threads,
    }


def _row_json(row: Measurement) -> dict[str, Any]:
    figures = row.figures
    told = (
        {}
        if figures is None
        else {
            "way": figures.way,
            "way_detail": figures.way_detail,
            "codec_precision": figures.codec_precision,
            "frames_per_s": figures.frames_per_s,
            "rtf": figures.rtf,
            "prefill_s": figures.prefill_s,
            "codec_ms_per_frame": figures.codec_ms,
            "first_audio_s": figures.first_audio_s,
            "peak_mb": figures.peak_mb,
            "load_s": figures.load_s,
            "kept_codes": figures.kept_codes,
        }
    )
    return _setup_json(row.setup) | {"outcome": row.outcome, "reason": row.reason} | told
