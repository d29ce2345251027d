"""The formulas, and that a request ends once and by the right name."""

import asyncio
from typing import Any

import pytest

from backend.errors import Aborted, EngineFailed, TimedOut
from backend.monitoring.rows import SynthesisRow, columns, line
from backend.monitoring.sample import Observed, Sample
from backend.monitoring.synthesis import (
    Ending,
    Synthesis,
    real_time_factor,
    synthesis_row,
    tokens_per_second,
)
from tests.monitored import plan, start, stats


def test_the_changelogs_example() -> None:
    observed = Observed()
    for busy_pct in (12.0, 49.0, 30.0):
        sample = Sample(0.0, 50.0, 40.0, gpu_memory_mb=7000.0, gpu_util_pct=busy_pct)
        observed.add(sample)
    ending = Ending("success", 290.0, 200, first_audio_s=4.0, audio_s=23.0, stats=stats())
    row = synthesis_row(start(), ending, observed, 0.0)
    assert row.rtf is not None
    assert row.tokens_per_second is not None
    assert f"{row.rtf:.1f}" == "12.6"
    assert f"{row.tokens_per_second:.2f}" == "3.98"
    cells = dict(zip(columns(SynthesisRow), line(row).decode().split(","), strict=False))
    assert cells["rtf"] == "12.6087"
    assert cells["tokens_per_second"] == "3.9828"
    assert cells["peak_gpu_util_pct"] == "49.0"
    assert cells["audio_duration_s"] == "23.0"
    assert cells["generated_tokens"] == "1155"


def test_compute_rtf_is_what_the_engine_alone_took() -> None:
    ending = Ending("success", 290.0, audio_s=23.0, stats=stats(prefill_s=1.0, decode_s=22.0))
    row = synthesis_row(start(), ending, Observed(), 0.0)
    assert row.compute_rtf == 1.0


def test_the_packages_own_figures_stand_in_their_columns() -> None:
    told = stats(
        fish_tokens_per_s=4.53,
        fish_bandwidth_gb_s=3.89,
        fish_gpu_memory_gb=7.80,
        fish_generation_time_s=268.25,
        vq_features_shape=(10, 1213),
    )
    row = synthesis_row(start(), Ending("success", 290.0, stats=told), Observed(), 0.0)
    assert '4.53,3.89,7.8,268.25,"[10, 1213]"' in line(row).decode()


def test_no_audio_and_no_time_divide_nothing() -> None:
    assert real_time_factor(3.0, 0.0) is None
    assert tokens_per_second(10, 0.0) is None
    row = synthesis_row(start(), Ending("success", 3.0, stats=stats()), Observed(), 0.0)
    assert row.rtf is None
    assert row.compute_rtf is None
    assert row.tokens_per_second == 385.0


def test_configuration_of_the_request() -> None:
    of = start(plan=plan("m1_air", "mps"), device="cpu", text_length=400, spoken_length=150)
    row = synthesis_row(of, Ending("failed", 1.0, 500, "engine_failed", "oom"), Observed(), 0.0)
    assert (row.tier, row.device, row.precision) == ("m1_air", "cpu", "bf16")
    assert row.strategy == "m1_air mps bf16"
    assert row.is_truncated
    assert (row.success, row.status, row.error_code) == (False, 500, "engine_failed")
    assert row.tokens_per_second is None


class Endings(list[Ending]):
    """Takes note of how a synthesis ended."""

    def synthesis(self, **values: Any) -> Synthesis:
        return Synthesis(start(), Observed(), lambda _, ending: self.append(ending), **values)


def test_only_the_first_end_counts() -> None:
    endings = Endings()
    synthesis = endings.synthesis()
    synthesis.fail("timed_out", "too slow", 504)
    synthesis.finish(stats(), total_s=1.0, first_audio_s=0.5, audio_s=2.0)
    synthesis.fail("aborted", "again")
    assert [ending.code for ending in endings] == ["timed_out"]


def test_a_failure_took_the_time_since_admission() -> None:
    times_s = iter([10.0, 13.5])
    endings = Endings()
    endings.synthesis(clock=lambda: next(times_s)).fail("engine_failed", "out of memory")
    assert endings[0].total_s == 3.5


@pytest.mark.parametrize(
    ("error", "outcome", "code"),
    [
        (TimedOut("too slow"), "failed", "timed_out"),
        (EngineFailed("out of memory"), "failed", "engine_failed"),
        (Aborted("stopped"), "aborted", "aborted"),
        (asyncio.CancelledError(), "aborted", "aborted"),
        (GeneratorExit(), "aborted", "aborted"),
        (ZeroDivisionError("a bug"), "failed", "fault"),
    ],
)
def test_every_exit_path_is_an_end(error: BaseException, outcome: str, code: str) -> None:
    endings = Endings()
    with pytest.raises(type(error)), endings.synthesis():
        raise error
    assert [(ending.outcome, ending.code) for ending in endings] == [(outcome, code)]


def test_leaving_without_an_end_is_giving_up() -> None:
    endings = Endings()
    with endings.synthesis():
        pass
    with endings.synthesis() as synthesis:
        synthesis.finish(stats(), total_s=1.0, first_audio_s=0.5, audio_s=2.0)
    assert [ending.outcome for ending in endings] == ["aborted", "success"]
