"""What `GET /metrics` answers as JSON: counts since the start, and the last requests' figures."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from backend.monitoring.rows import SynthesisRow
from backend.monitoring.synthesis import OUTCOMES

RECENT = 1000
"""Requests that the rolling figures are of."""
_FIGURES = {
    "latency_s": "total_duration_s",
    "first_audio_s": "first_audio_s",
    "queue_s": "queue_s",
    "rtf": "rtf",
    "compute_rtf": "compute_rtf",
    "tokens_per_second": "tokens_per_second",
    "peak_gpu_util_pct": "peak_gpu_util_pct",
    "peak_vram_mb": "peak_vram_mb",
}


@dataclass(frozen=True, slots=True)
class Spread:
    """How a figure is spread over requests; quantiles are interpolated."""

    mean: float
    p50: float
    p95: float
    p99: float

    @classmethod
    def over(cls, values: Iterable[float | None]) -> "Spread | None":
        """Of the values there are; None if there are none."""
        known = np.array([value for value in values if value is not None], dtype=float)
        if not known.size:
            return None
        quantiles = np.quantile(known, (0.5, 0.95, 0.99))
        return cls(*(round(float(figure), 4) for figure in (known.mean(), *quantiles)))


class Aggregates:
    """Counts every request, remembers the last `RECENT`.

    What is remembered lies in two arrays, which are as large at the start as ever after: kept as
    rows, each in some dozen small objects among those of the requests at work, a thousand of them
    held ever more memory that was otherwise free.
    """

    def __init__(self) -> None:
        self._outcomes: Counter[str] = Counter()
        self._refusals: Counter[str] = Counter()
        self._tokens = 0
        self._audio_s = 0.0
        self._truncated = 0
        self._recent_outcomes = np.zeros(RECENT, np.int8)
        """Each as its place among `OUTCOMES`; of request n at n % RECENT."""
        self._recent_figures = np.full((RECENT, len(_FIGURES)), np.nan)
        """In the order of `_FIGURES`; NaN is what a request has not."""

    def add(self, row: SynthesisRow) -> None:
        """Count one request."""
        place = self._outcomes.total() % RECENT
        self._outcomes[row.outcome] += 1
        if row.outcome == "refused":
            self._refusals[row.error_code] += 1
        self._tokens += row.generated_tokens
        self._audio_s += row.audio_duration_s
        self._truncated += row.is_truncated
        self._recent_outcomes[place] = OUTCOMES.index(row.outcome)
        for column, name in enumerate(_FIGURES.values()):
            figure = getattr(row, name)
            self._recent_figures[place, column] = np.nan if figure is None else figure

    def since_start(self) -> dict[str, Any]:
        """Counts of everything so far."""
        return {
            "requests": self._outcomes.total(),
            "outcomes": {outcome: self._outcomes[outcome] for outcome in OUTCOMES},
            "refusals": dict(self._refusals),
            "truncated": self._truncated,
            "generated_tokens": self._tokens,
            "audio_s": round(self._audio_s, 3),
        }

    def recent(self) -> dict[str, Any]:
        """The last requests: outcomes of all, the spread of each figure over the successful."""
        there_are = min(self._outcomes.total(), RECENT)
        outcomes = self._recent_outcomes[:there_are]
        spoken = self._recent_figures[:there_are][outcomes == OUTCOMES.index("success")]
        spreads = {
            name: Spread.over(column[~np.isnan(column)])
            for name, column in zip(_FIGURES, spoken.T, strict=True)
        }
        return {
            "requests": there_are,
            "of_last": RECENT,
            "outcomes": {
                outcome: int(np.count_nonzero(outcomes == place))
                for place, outcome in enumerate(OUTCOMES)
            },
            **{name: asdict(spread) if spread else None for name, spread in spreads.items()},
        }
