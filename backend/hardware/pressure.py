"""When the machine is short of something: what to say, and with which figures to go on. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, Self

from backend.core import Plan

MEMORY_CRITICAL_PCT = 85.0
CPU_MAXED_PCT = 90.0
HOT_C = 85.0
"""Degrees Celsius at which a sensor counts as throttling: a Raspberry Pi's firmware caps its clock
there, GPUs and laptops begin between 83 and 100."""

LEAST_CHUNK_LENGTH = 40
"""Characters: shorter pieces sound chopped."""
LEAST_TEXT_LENGTH = 50
LEAST_CACHE_MB = 64

RecommendedAction = Literal[
    "Reduce text length or clear cache", "Wait for system to cool", "Reduce CPU load", "OK"
]


@dataclass(frozen=True, slots=True)
class ThrottlingRisk:
    """What is short now."""

    memory_critical: bool
    """More than 85 % of memory is used."""
    cpu_maxed: bool
    """More than 90 % of the CPU is used."""
    thermal_likely: bool
    """A tier without a fan is loaded beyond its figure, or a sensor is hot or soon will be."""
    reasons: tuple[str, ...] = ()
    """One sentence for each that is true."""

    @property
    def is_any(self) -> bool:
        """Whether anything is short."""
        return self.memory_critical or self.cpu_maxed or self.thermal_likely


@dataclass(frozen=True, slots=True)
class RunningConfig:
    """What can be changed without loading anything again."""

    chunk_length: int
    num_threads: int
    cache_limit_mb: int
    max_text_length: int

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """As planned."""
        return cls(
            chunk_length=plan.chunk_length.value,
            num_threads=plan.num_threads.value,
            cache_limit_mb=plan.cache_limit_mb.value,
            max_text_length=plan.max_text_length.value,
        )


def throttling_risk(
    memory_pct: float,
    cpu_pct: float,
    thermal_throttle_cpu_pct: float | None,
    temperatures_c: Mapping[str, float],
    heat_warning: str = "",
) -> ThrottlingRisk:
    """What is short at these loads (0 to 100) and temperatures (by sensor).

    `thermal_throttle_cpu_pct` is the plan's: CPU load above which its tier throttles, None never.
    `heat_warning` is what was found of a sensor's trend.
    """
    reasons = []
    if memory_critical := memory_pct > MEMORY_CRITICAL_PCT:
        reasons.append(f"Memory is {memory_pct:.0f} % full.")
    if cpu_maxed := cpu_pct > CPU_MAXED_PCT:
        reasons.append(f"The CPU is {cpu_pct:.0f} % busy.")
    hot = [name for name, degrees in temperatures_c.items() if degrees >= HOT_C]
    reasons += [f"{name} is at {temperatures_c[name]:.0f} °C." for name in hot]
    is_loaded = thermal_throttle_cpu_pct is not None and cpu_pct > thermal_throttle_cpu_pct
    if is_loaded:
        reasons.append(f"Above {thermal_throttle_cpu_pct:.0f} % CPU this machine gets too hot.")
    if heat_warning:
        reasons.append(heat_warning)
    thermal_likely = bool(hot) or is_loaded or bool(heat_warning)
    return ThrottlingRisk(memory_critical, cpu_maxed, thermal_likely, tuple(reasons))


def recommended_action(risk: ThrottlingRisk) -> RecommendedAction:
    """What to do first."""
    if risk.memory_critical:
        return "Reduce text length or clear cache"
    if risk.thermal_likely:
        return "Wait for system to cool"
    if risk.cpu_maxed:
        return "Reduce CPU load"
    return "OK"


def adjusted(config: RunningConfig, planned: RunningConfig, risk: ThrottlingRisk) -> RunningConfig:
    """The figures to go on with: halved where something is short, one step back where it is not.

    Nothing falls below its floor or rises above `planned`; threads are not given back while hot.
    """
    if risk.memory_critical:
        config = replace(
            config,
            chunk_length=_halved(config.chunk_length, LEAST_CHUNK_LENGTH),
            cache_limit_mb=_halved(config.cache_limit_mb, LEAST_CACHE_MB),
            max_text_length=_halved(config.max_text_length, LEAST_TEXT_LENGTH),
        )
    else:
        config = replace(
            config,
            chunk_length=min(2 * config.chunk_length, planned.chunk_length),
            cache_limit_mb=min(2 * config.cache_limit_mb, planned.cache_limit_mb),
            max_text_length=min(2 * config.max_text_length, planned.max_text_length),
        )
    if risk.cpu_maxed:
        return replace(config, num_threads=_halved(config.num_threads, 1))
    if risk.thermal_likely:
        return config
    return replace(config, num_threads=min(2 * config.num_threads, planned.num_threads))


def _halved(value: int, least: int) -> int:
    """Half of `value`, at least `least`, which does not raise what is smaller already."""
    return min(value, max(least, value // 2))
