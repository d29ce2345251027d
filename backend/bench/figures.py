"""What was measured, and how busy the machine was meanwhile."""

import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import psutil

from backend.bench.messages import Hello


@dataclass(slots=True)
class Figure:
    """One thing, measured several times in turn with others."""

    values: list[float] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    """The load average of the machine at each of them: what waits for a processor, we included."""

    def add(self, value: float) -> None:
        """Note `value`, which was measured just now."""
        self.values.append(value)
        self.loads.append(psutil.getloadavg()[0])

    @property
    def median(self) -> float:
        """The value in the middle."""
        return statistics.median(self.values)

    @property
    def load(self) -> float:
        """The load in the middle."""
        return statistics.median(self.loads)


@dataclass(slots=True)
class Findings:
    """Everything that one run measured. A figure that could not be had is not there."""

    about: dict[str, Any]
    """Machine, checkpoint and versions."""
    figures: dict[str, Figure] = field(default_factory=lambda: defaultdict(Figure))
    loaded: dict[str, Hello] = field(default_factory=dict)
    """What each process that computed had loaded, by its name."""
    troubles: dict[str, str] = field(default_factory=dict)
    """What could not be measured, and why."""
    best: str = ""
    """The way of holding weights that the whole worker was measured with."""

    def median(self, name: str) -> float | None:
        """The figure's median; None where there is none."""
        figure = self.figures.get(name)
        return figure.median if figure is not None and figure.values else None
