"""One request from its admission to its end, and the row that says what became of it."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType, TracebackType
from typing import Literal, Self

from backend.core import Plan, SpeechStats
from backend.errors import Aborted, ShoalError
from backend.learning.case import Foreseen
from backend.monitoring.rows import SynthesisRow, timestamp
from backend.monitoring.sample import Observed
from backend.monitoring.tracing import RequestSpan

Outcome = Literal["success", "failed", "refused", "aborted"]
OUTCOMES: tuple[Outcome, ...] = ("success", "failed", "refused", "aborted")
FAULT_CODE = "fault"
"""Stands in `error_code` where the server made a mistake that no domain error describes."""


@dataclass(frozen=True, slots=True)
class SynthesisStart:
    """What is known of a request when it is admitted, or refused."""

    request_id: str
    plan: Plan
    text_length: int
    """Characters that were sent."""
    spoken_length: int = 0
    """Characters left after the text limit; 0 where it was refused before that."""
    text_limit: int | None = None
    reference_s: float | None = None
    queue_s: float = 0.0
    """Waited before it was admitted."""
    language: str = "auto"
    foreseen: Foreseen | None = None
    """What was known of it; None of text that was still being written."""
    engine: str = ""
    """Engine and checkpoint, as in `X-Engine`."""
    device: str | None = None
    """Where this request is computed, if not where the plan says."""
    span: RequestSpan | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a request ended. Times are seconds since its admission."""

    outcome: Outcome
    total_s: float
    status: int | None = None
    code: str = ""
    message: str = ""
    first_audio_s: float | None = None
    audio_s: float = 0.0
    stats: SpeechStats | None = None


def real_time_factor(total_s: float, audio_s: float) -> float | None:
    """`total_duration_s / audio_duration_s`; None where there is no audio."""
    return total_s / audio_s if audio_s > 0 else None


def tokens_per_second(generated_tokens: int, total_s: float) -> float | None:
    """`generated_tokens / total_duration_s`; None where no time passed."""
    return generated_tokens / total_s if total_s > 0 else None


class Synthesis:
    """A request that is being synthesised. The first call that ends it counts, later ones do not.

    As a context manager it ends the request in every exit path: by the error that leaves the block,
    or as aborted where nobody called `finish`.
    """

    def __init__(
        self,
        start: SynthesisStart,
        observed: Observed,
        ended: Callable[["Synthesis", Ending], None],
        statuses: Mapping[str, int] = MappingProxyType({}),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`statuses` is what each error's code is answered with."""
        self.start, self.observed = start, observed
        self._ended, self._statuses = ended, statuses
        self._clock, self._began_s = clock, clock()
        self._is_over = False

    @property
    def peak_gpu_util_pct(self) -> float:
        """Highest GPU utilisation sampled so far; 0 without a GPU: `X-GPU-Util-Pct`."""
        return self.observed.peak_gpu_util_pct

    @property
    def peak_vram_mb(self) -> float:
        """Most memory in use on the card so far, in MiB; 0 without a GPU: `X-Peak-VRAM-Mb`."""
        return self.observed.peak_vram_mb

    def finish(
        self,
        stats: SpeechStats,
        *,
        total_s: float,
        first_audio_s: float,
        audio_s: float,
    ) -> None:
        """It was spoken whole. Times are seconds since admission, `audio_s` what was delivered."""
        self._end(
            Ending(
                "success",
                total_s,
                HTTPStatus.OK,
                first_audio_s=first_audio_s,
                audio_s=audio_s,
                stats=stats,
            )
        )

    def fail(self, code: str, message: str, status: int | None = None) -> None:
        """It was not; `code` is that of a domain error, and `status` what that is answered with."""
        outcome: Outcome = "aborted" if code == Aborted.code else "failed"
        self._end(Ending(outcome, self._clock() - self._began_s, status, code, message))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, Aborted):
            self.fail(error.code, str(error))
        elif isinstance(error, ShoalError):
            self.fail(error.code, str(error), self._statuses.get(error.code))
        elif error is None or isinstance(error, asyncio.CancelledError | GeneratorExit):
            self.fail(Aborted.code, "given up before it was spoken whole")
        else:
            message = f"{type(error).__name__}: {error}"
            self.fail(FAULT_CODE, message, HTTPStatus.INTERNAL_SERVER_ERROR)

    def _end(self, ending: Ending) -> None:
        if not self._is_over:
            self._is_over = True
            self._ended(self, ending)


def synthesis_row(
    start: SynthesisStart, ending: Ending, observed: Observed, at_s: float
) -> SynthesisRow:
    """The row of a request that was over at `at_s`, seconds since 1970."""
    plan, stats = start.plan, ending.stats
    case = start.foreseen.case if start.foreseen else None
    formula = start.foreseen.formula if start.foreseen else None
    tokens = stats.generated_tokens if stats else 0
    shape = stats.vq_features_shape if stats else None
    return SynthesisRow(
        timestamp=timestamp(at_s),
        request_id=start.request_id,
        tier=plan.tier,
        outcome=ending.outcome,
        success=ending.outcome == "success",
        status=None if ending.status is None else int(ending.status),
        error_code=ending.code,
        error_message=ending.message,
        text_length=start.text_length,
        spoken_length=start.spoken_length,
        text_limit=start.text_limit,
        prompt_tokens=stats.prompt_tokens if stats else None,
        reference_s=case.reference_s if case else start.reference_s,
        segments=stats.segments if stats else 0,
        queue_s=start.queue_s,
        first_audio_s=ending.first_audio_s,
        total_duration_s=ending.total_s,
        rtf=real_time_factor(ending.total_s, ending.audio_s),
        tokens_per_second=tokens_per_second(tokens, ending.total_s) if stats else None,
        peak_gpu_util_pct=observed.peak_gpu_util_pct,
        audio_duration_s=ending.audio_s,
        generated_tokens=tokens,
        compute_rtf=(
            real_time_factor(stats.prefill_s + stats.decode_s, ending.audio_s) if stats else None
        ),
        prefill_s=stats.prefill_s if stats else None,
        decode_s=stats.decode_s if stats else None,
        peak_vram_mb=observed.peak_vram_mb,
        mean_gpu_util_pct=observed.mean_gpu_util_pct,
        gpu_util_source=observed.gpu_util_source,
        worker_peak_memory_mb=stats.peak_memory_mb if stats else None,
        peak_cpu_pct=observed.peak_cpu_pct,
        mean_cpu_pct=observed.mean_cpu_pct,
        peak_memory_pct=observed.peak_memory_pct,
        peak_temperature_c=observed.peak_temperature_c,
        samples=observed.samples,
        fish_tokens_per_sec=stats.fish_tokens_per_s if stats else None,
        fish_bandwidth_gb_s=stats.fish_bandwidth_gb_s if stats else None,
        fish_gpu_memory_gb=stats.fish_gpu_memory_gb if stats else None,
        fish_generation_time_s=stats.fish_generation_time_s if stats else None,
        vq_features_shape=str(list(shape)) if shape is not None else "",
        weight_read_gb_s=stats.weight_read_gb_s if stats else None,
        finish_reasons=";".join(stats.finish_reasons) if stats else "",
        retries=stats.retries if stats else 0,
        warnings="; ".join(stats.warnings) if stats else "",
        engine=start.engine,
        strategy=plan.strategy,
        device=start.device or plan.device.value,
        precision=plan.precision.value,
        quantization=plan.quantization.value,
        compile=plan.compile.value,
        num_threads=plan.num_threads.value,
        chunk_length=plan.chunk_length.value,
        language=start.language,
        memory_step=(stats and stats.memory_step) or plan.memory_step,
        workers=";".join(stats.workers) if stats else "",
        beside=observed.beside,
        read_language=case.language if case else "",
        script=case.script if case else "",
        wide_share=case.wide_share if case else None,
        digit_share=case.digit_share if case else None,
        formula_s=formula.seconds if formula else None,
        formula_frames=formula.frames if formula else None,
        formula_memory_mb=formula.memory_mb if formula else None,
    )
