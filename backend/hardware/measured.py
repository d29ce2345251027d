"""What was measured on this machine, and which of it is best. Pure.

A setup is one way to speak that may be chosen; a measurement is what became of trying it.
`hardware.measurements` keeps them, `hardware.tuned` makes a plan of the best.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from msgspec import Meta

from backend.core import Plan, Quantization
from backend.hardware.tiers import Precision
from backend.settings import Settings

NOISE = 0.05
"""Two measurements that differ by less than this share are equally fast."""
LEAST_KEPT = 0.97
"""Share of the most probable codes that a quantization has to keep to be chosen for its speed."""
LEAST_KEPT_AT_LOAD = 0.95
"""The same of the few hundred codes that a worker asks: that share strays by 1 %. Of the shipped
voice in int8 97.3 % are kept there, 97.7 % of 1,742 in whole sentences; of an earlier one 98.8 % of
256, 97.9 % of 512, 99.1 % of 1,710."""
GENTLEST_FIRST: tuple[Quantization, ...] = ("none", "int8", "int4")

Outcome = Literal["measured", "too_large", "failed", "skipped"]
"""Of a trial: skipped is what there was no time, or no free memory for just then."""

_COMPILED_WAYS = ("fused", "native")
"""Those that a compiler's code makes frames in; `SHOAL_TORCH_COMPILE=off` leaves the others."""

REASON_CHARACTERS = 1000
"""Characters."""
_Text = Annotated[str, Meta(max_length=REASON_CHARACTERS)]
_Name = Annotated[str, Meta(min_length=1, max_length=40)]
_Number = Annotated[float, Meta(ge=0, le=1e9)]
_Positive = Annotated[float, Meta(gt=0, le=1e9)]


@dataclass(frozen=True, slots=True)
class Setup:
    """What can be chosen: all that changes how fast a checkpoint speaks on this machine."""

    device: _Name
    precision: Precision
    quantization: Quantization
    num_threads: Annotated[int, Meta(ge=1, le=4096)]

    def __str__(self) -> str:
        threads = f"{self.num_threads} thread{'s' * (self.num_threads > 1)}"
        return f"{self.weights}, {threads}"

    @property
    def weights(self) -> str:
        """Where they are, and how they are held."""
        held = "" if self.quantization == "none" else f" {self.quantization}"
        return f"{self.device} {self.precision}{held}"

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """As `plan` chose."""
        return cls(
            device=plan.device.value,
            precision=plan.precision.value,  # type: ignore[arg-type] # one of the three
            quantization=plan.quantization.value,
            num_threads=plan.num_threads.value,
        )

    def suits(self, settings: Settings) -> bool:
        """Nothing in it is against what the user set."""
        return (
            settings.device in ("auto", self.device, self.device.partition(":")[0])
            and settings.precision in ("auto", self.precision)
            and settings.quantization in ("auto", self.quantization)
            and settings.num_threads in (None, self.num_threads)
        )

    def pinned(self, settings: Settings) -> Settings:
        """`settings` with this asked for."""
        asked = {
            "device": self.device,
            "precision": self.precision,
            "quantization": self.quantization,
            "num_threads": self.num_threads,
        }
        return settings.model_copy(update=asked)


@dataclass(frozen=True, slots=True)
class Figures:
    """How a worker spoke one sentence."""

    way: _Name
    """In which frames were computed: the worker lets in a way that agrees with the plain one."""
    way_detail: _Text
    """Why, as the worker says it."""
    codec_precision: _Name
    load_s: _Number
    """From the start of loading until it could speak."""
    prefill_s: _Number
    first_audio_s: _Number
    frames_per_s: _Positive
    """Code frames a second of decoding, the codec's work not counted."""
    codec_ms: _Number
    """Of the whole time what was neither prefill nor decoding, a frame."""
    rtf: _Positive
    """From the request to the last sample, by the seconds of sound: what is compared."""
    peak_mb: _Number
    """MiB: resident memory of the worker, device memory on a GPU."""
    kept_codes: Annotated[float, Meta(ge=0, le=1)] | None = None
    """Share of the most probable codes that the quantization kept; None without one."""

    def __str__(self) -> str:
        frames_per_s = f"{self.frames_per_s:{'.0f' if self.frames_per_s >= 100 else '.3g'}}"
        return f"{frames_per_s} frames/s (RTF {self.rtf_told})"

    @property
    def rtf_told(self) -> str:
        """For people."""
        return f"{self.rtf:.{2 if self.rtf >= 0.1 else 3}f}"

    @property
    def is_faithful(self) -> bool:
        """Quantization left as many codes alone as it has to; also where that was not measured."""
        return self.kept_codes is None or self.kept_codes >= LEAST_KEPT


@dataclass(frozen=True, slots=True)
class Measurement:
    """One setup, and what became of trying it."""

    setup: Setup
    outcome: Outcome
    figures: Figures | None = None
    """Where it was measured."""
    reason: _Text = ""
    """Why there are no figures."""

    def suits(self, settings: Settings) -> bool:
        """Nothing in it is against what the user set; its way neither."""
        needs_compiler = self.figures is not None and self.figures.way in _COMPILED_WAYS
        may_compile = settings.torch_compile != "off"
        return self.setup.suits(settings) and (may_compile or not needs_compiler)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The best of what was measured, and why."""

    setup: Setup
    figures: Figures
    about_quantization: str
    """Why the weights are held so, in words that go on a sentence."""


def choose(rows: Sequence[Measurement], planned: Setup) -> Verdict | None:
    """The best of `rows`; None where nothing was measured, or not what the table had `planned`.

    The fastest wins; among equally fast ones the planned. But a quantization changes what is heard:
    it has to be faster than every gentler one by more than noise, and keep the codes. Else it is
    taken only where the gentler do not fit the memory, or none was tried and the table had it.
    """
    if not any(row.setup == planned for row in rows):
        return None
    best: Measurement | None = None
    told: list[str] = []
    for quantization in GENTLEST_FIRST:
        of_kind = [row for row in rows if row.setup.quantization == quantization]
        if (fastest := _fastest(of_kind, planned)) is None:
            told.append(_absence(quantization, of_kind))
        elif best is None:
            if quantization == planned.quantization or _must_do(rows, quantization):
                best = fastest
        elif _is_plain_known(rows):
            words, is_better = _compared(best, fastest)
            best, told = (fastest, [words]) if is_better else (best, [*told, words])
    best = best or _fastest(rows, planned)  # the planned failed, and nothing else had to do
    if best is None:
        return None
    assert best.figures is not None
    return Verdict(best.setup, best.figures, "; ".join(told))


def _fastest(rows: Sequence[Measurement], planned: Setup) -> Measurement | None:
    """Of those within noise of the lowest RTF the planned, then the fastest.

    One that keeps too few codes only where all do.
    """
    measured = [(row, row.figures) for row in rows if row.figures is not None]
    faithful = [(row, figures) for row, figures in measured if figures.is_faithful] or measured
    least = min((figures.rtf for _, figures in faithful), default=0.0)
    alike = [(row, each.rtf) for row, each in faithful if each.rtf <= least * (1 + NOISE)]

    def preferred(each: tuple[Measurement, float]) -> tuple[bool, float]:
        row, rtf = each
        return row.setup != planned, rtf

    return min(alike, key=preferred)[0] if alike else None


def _compared(gentler: Measurement, stronger: Measurement) -> tuple[str, bool]:
    """What speaks for or against the stronger quantization, and whether it is better."""
    assert gentler.figures is not None and stronger.figures is not None
    name, gain = stronger.setup.quantization, gentler.figures.rtf / stronger.figures.rtf
    times = f"{gain:.1f} times as fast as {gentler.setup.quantization}"
    if gain <= 1 + NOISE:
        return f"{name} is not faster: {stronger.figures}", False
    if not stronger.figures.is_faithful:
        kept = stronger.figures.kept_codes
        return f"{name} is {times} but keeps only {kept:.1%} of the codes", False
    is_known = stronger.figures.kept_codes is not None
    return times if is_known else f"{times}, codes not compared", True


def _must_do(rows: Sequence[Measurement], quantization: Quantization) -> bool:
    """Nothing gentler fits the memory."""
    gentler = GENTLEST_FIRST[: GENTLEST_FIRST.index(quantization)]
    return all(
        any(row.setup.quantization == each and row.outcome == "too_large" for row in rows)
        for each in gentler
    )


def _is_plain_known(rows: Sequence[Measurement]) -> bool:
    """It is known how fast it is without quantization, or that it cannot be had."""
    return any(
        row.setup.quantization == "none" and row.outcome in ("measured", "too_large")
        for row in rows
    )


def _absence(quantization: Quantization, rows: Sequence[Measurement]) -> str:
    """Why nothing of it was measured."""
    for outcome, words in (("too_large", "does not fit"), ("failed", "failed")):
        if (row := next((row for row in rows if row.outcome == outcome), None)) is not None:
            return f"{quantization} {words}: {row.reason}"
    return f"{quantization} was not measured"
