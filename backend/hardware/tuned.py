"""A plan that goes by what was measured here, where anything was. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from backend.core import MIB, Choice, Plan
from backend.errors import BadSetting, NotEnoughMemory
from backend.hardware.machine import Hardware
from backend.hardware.measured import (
    REASON_CHARACTERS,
    Measurement,
    Outcome,
    Setup,
    Verdict,
    choose,
)
from backend.hardware.need import CheckpointShape
from backend.hardware.plan import make_plan
from backend.hardware.quantization import is_small
from backend.settings import Settings

T = TypeVar("T")


def tuned_plan(
    hardware: Hardware, settings: Settings, shape: CheckpointShape, rows: Sequence[Measurement]
) -> Plan:
    """The plan of the table, or of the best of `rows` that the user's settings leave and that fits
    now. Raises what `make_plan` raises.
    """
    table = make_plan(hardware, settings, shape)
    chosen = verdict_on(hardware, settings, shape, rows)
    return table if chosen is None else _told(*chosen, table, is_fitted=is_small(shape))


def verdict_on(
    hardware: Hardware, settings: Settings, shape: CheckpointShape, rows: Sequence[Measurement]
) -> tuple[Verdict, Plan] | None:
    """The best of `rows` and the plan for it; None where the table has to decide."""
    if settings.engine != "shoal":
        return None
    planned = Setup.of(make_plan(hardware, settings, shape))
    left = [row for row in rows if row.suits(settings)]
    while (verdict := choose(left, planned)) is not None:
        try:
            return verdict, make_plan(hardware, verdict.setup.pinned(settings), shape)
        except (BadSetting, NotEnoughMemory) as error:
            outcome: Outcome = "failed" if isinstance(error, BadSetting) else "too_large"
            refused = Measurement(verdict.setup, outcome, reason=refusal(error))
            left = [refused if row.setup == verdict.setup else row for row in left]
    return None


def refusal(error: Exception) -> str:
    """Why a plan was refused, without what would work."""
    return str(error).partition(" Would work:")[0].rstrip(".")[:REASON_CHARACTERS]


def _told(verdict: Verdict, plan: Plan, table: Plan, *, is_fitted: bool) -> Plan:
    """`plan` with what decided its choices; what the user set stays the user's.

    `is_fitted` where calibration changes what the native way multiplies by.
    """
    figures = verdict.figures
    outcome = f"{figures}, the tier expected RTF {table.expected_rtf:g}"

    def told(was: Choice[T], now: Choice[T], more: str = "") -> Choice[T]:
        if was.source == "user":
            return was
        return Choice(now.value, "; ".join(filter(None, [f"measured {outcome}", more])), "measured")

    # Else calibrating would only tell what is known by now.
    is_known = figures.way == "native" and figures.kept_codes is not None and not is_fitted
    line = f"Chosen by measurement: {verdict.setup}, which made {outcome}."
    return replace(
        plan,
        device=told(table.device, plan.device),
        precision=told(table.precision, plan.precision),
        quantization=told(table.quantization, plan.quantization, verdict.about_quantization),
        num_threads=told(table.num_threads, plan.num_threads),
        calibration_samples=0 if is_known else plan.calibration_samples,
        expected_rtf=round(figures.rtf, 3),
        expected_memory_gb=round(figures.peak_mb * MIB / 1e9, 2),
        log_lines=(*plan.log_lines, ("INFO", line)),
    )
