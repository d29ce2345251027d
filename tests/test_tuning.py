"""Measuring setups, each in a worker of its own; the workers are scripted."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backend.core import Plan
from backend.engine.prompt import frame_limit
from backend.errors import BadSetting
from backend.hardware.machine import Hardware
from backend.hardware.measured import Measurement, Setup
from backend.hardware.measurements import Measurements
from backend.hardware.need import CheckpointShape
from backend.serving import launch
from backend.settings import SHIPPED_VOICE_DIR
from backend.tuning.told import sentences, tuning_json
from backend.tuning.tuning import Tuning
from tests.computers import DEMO, S1, computer, cpu_of
from tests.scripted import children, command, settings

XEON = cpu_of("Xeon", 2, smt=False)
MACHINE = computer(XEON, 16)
GIB = 1024**3
Script = Callable[[Plan], dict[str, Any]]
PLANNED = Setup("cpu", "fp32", "int8", 2)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)
    assert not children()


class Clock:
    """Counts the seconds that the test says a measurement takes."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.now_s, self.seconds = 0.0, seconds

    def __call__(self) -> float:
        return self.now_s

    def scripted(self, script: Script) -> Callable[..., tuple[str, ...]]:
        """In the place of `worker_command`: time passes with each worker."""

        def worker_command(_: Any, plan: Plan) -> tuple[str, ...]:
            self.now_s += self.seconds
            return command(**script(plan))

        return worker_command


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock()


def tuning(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    script: Script,
    clock: Clock | None = None,
    machine: Hardware = MACHINE,
    shape: CheckpointShape = S1,
    seconds: float = 60.0,
    free_bytes: int = 8 * GIB,
    **values: Any,
) -> Tuning:
    clock = clock or Clock()
    monkeypatch.setattr(launch, "worker_command", clock.scripted(script))
    chosen = settings(**{"data_dir": tmp_path, **values})
    return Tuning(chosen, machine, shape, seconds, lambda _: free_bytes, clock)


async def all_of(tuning: Tuning) -> dict[str, Measurement]:
    while (setup := tuning.next()) is not None:
        await tuning.measure(setup)
    return {str(row.setup): row for row in tuning.rows}


SPEEDS = {"none": 2.0, "int8": 1.0, "int4": 0.4}


def by_weights(plan: Plan) -> dict[str, Any]:
    """Fewer bits are faster, more threads too."""
    threads = plan.num_threads.value
    decode_s = SPEEDS[plan.quantization.value] * (3.0 - threads) * 0.1
    return {"decode_s": decode_s, "peak_memory_mb": 900.0, "greedy_agreement": 0.98}


def test_all_setups_are_measured_and_the_fastest_is_chosen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def work() -> None:
        tried = tuning(monkeypatch, tmp_path, by_weights)
        rows = await all_of(tried)
        assert list(rows) == [
            "cpu fp32 int8, 2 threads",
            "cpu fp32, 2 threads",
            "cpu fp32 int4, 2 threads",
            "cpu fp32 int4, 1 thread",
            "cpu bf16 int4, 2 threads",
        ]
        assert {row.outcome for row in rows.values()} == {"measured"}
        figures = rows["cpu fp32 int8, 2 threads"].figures
        assert figures is not None
        # 10 frames, 0.1 s of sound; the worker says 0.1 s beside decoding, 0.01 of it prefill.
        assert (figures.frames_per_s, figures.rtf) == (100.0, 2.0)
        assert (figures.codec_ms, figures.prefill_s, figures.first_audio_s) == (9.0, 0.01, 0.02)
        assert (figures.peak_mb, figures.kept_codes, figures.way) == (900.0, 0.98, "eager")
        verdict = tried.verdict()
        assert verdict is not None
        assert verdict.setup == replace(PLANNED, quantization="int4")
        assert tried.plan().quantization.source == "measured"

    run(work())


def test_what_is_nearly_as_fast_is_tried_again_in_the_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    starts: list[str] = []

    def script(plan: Plan) -> dict[str, Any]:
        name = str(Setup.of(plan))
        starts.append(name)
        is_slow = name == "cpu fp32 int8, 1 thread" and starts.count(name) == 1
        first = {"cpu fp32 int8, 2 threads": 0.1, "cpu fp32 int8, 1 thread": 0.08}.get(name, 0.9)
        return {"decode_s": 0.13 if is_slow else first}

    async def work() -> None:
        tried = tuning(monkeypatch, tmp_path, script)
        rows = await all_of(tried)
        assert max(map(starts.count, starts)) == 3
        assert starts.count("cpu fp32, 2 threads") == 1, "far from the fastest"
        assert rows["cpu fp32 int8, 1 thread"].figures is not None
        verdict = tried.verdict()
        assert verdict is not None
        assert verdict.setup == replace(PLANNED, num_threads=1), "its first trial was unlucky"
        assert len(tried.rows) == len(rows)

    run(work())


def test_one_that_dies_hangs_or_is_refused_is_a_row(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def script(plan: Plan) -> dict[str, Any]:
        match plan.quantization.value:
            case "none":
                return {"exit_at_start": True}
            case "int4":
                return {"fail_code": "bad_checkpoint"}
        return {"dies": True} if plan.num_threads.value == 1 else {}

    async def work() -> None:
        tried = tuning(monkeypatch, tmp_path, script)
        rows = await all_of(tried)
        told = {name: (row.outcome, row.reason) for name, row in rows.items()}
        assert told["cpu fp32, 2 threads"][0] == "failed"
        assert "No module named 'nothing'" in told["cpu fp32, 2 threads"][1]
        assert told["cpu fp32 int4, 2 threads"] == (
            "failed",
            "The worker is stopped: the folder is empty",
        )
        assert told["cpu fp32 int8, 1 thread"][0] == "failed"
        assert "exit code 3" in told["cpu fp32 int8, 1 thread"][1]
        assert told["cpu fp32 int8, 2 threads"] == ("measured", "")
        verdict = tried.verdict()
        assert verdict is not None and verdict.setup == PLANNED

    run(work())


def test_what_would_not_fit_is_not_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[str] = []

    def script(plan: Plan) -> dict[str, Any]:
        started.append(plan.quantization.value)
        return {}

    async def work() -> None:
        machine = computer(XEON, 16, limit_gib=4)
        tried = tuning(monkeypatch, tmp_path, script, machine=machine)
        rows = await all_of(tried)
        plain = rows["cpu fp32, 2 threads"]
        assert plain.outcome == "too_large"
        assert "needs" in plain.reason and "Would work" not in plain.reason
        assert "none" not in started and "int4" in started

    run(work())


def test_what_does_not_fit_just_now_is_not_started_and_not_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def work() -> None:
        tried = tuning(monkeypatch, tmp_path, lambda _: {}, free_bytes=GIB)
        rows = await all_of(tried)
        assert {row.outcome for row in rows.values()} == {"skipped"}
        assert all("MB are free" in row.reason for row in rows.values())
        assert tried.verdict() is None
        assert sentences(tried)[0] == "Nothing was measured that could be chosen."

    run(work())


def test_one_that_took_more_than_it_may_is_not_chosen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def script(plan: Plan) -> dict[str, Any]:
        is_plain = plan.quantization.value == "none"
        return {"peak_memory_mb": 15_900.0, "decode_s": 0.01} if is_plain else {}

    async def work() -> None:
        tried = tuning(monkeypatch, tmp_path, script)
        plain = (await all_of(tried))["cpu fp32, 2 threads"]
        assert (plain.outcome, plain.figures) == ("too_large", None)
        assert plain.reason == "it took 15900 MB, and 15360 MB may be taken"
        verdict = tried.verdict()
        assert verdict is not None
        assert "none does not fit: it took 15900 MB" in verdict.about_quantization

    run(work())


def test_the_seconds_are_kept_and_what_was_not_reached_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def work() -> None:
        clock = Clock(seconds=25.0)
        tried = tuning(monkeypatch, tmp_path, by_weights, clock)
        rows = await all_of(tried)
        assert list(rows) == ["cpu fp32 int8, 2 threads", "cpu fp32, 2 threads"]
        assert (tried.spent_s, tried.left_s) == (50.0, 10.0)
        assert sentences(tried)[-1] == (
            "Not reached in 60 s: cpu fp32 int4, 2 threads; cpu fp32 int8, 1 thread; "
            "cpu bf16 int8, 2 threads. --seconds 120 measures more."
        )

    run(work())


def test_one_that_does_not_end_in_time_is_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def work() -> None:
        tried = tuning(monkeypatch, tmp_path, lambda _: {"start_s": 60.0}, seconds=1.5)
        row = await tried.measure(PLANNED)
        assert (row.outcome, row.reason) == ("skipped", "not done in the 2 s left")
        assert not children()
        assert tried.verdict() is None

    run(work())


def test_cancelling_ends_the_worker_and_leaves_no_row(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    starts = tmp_path / "starts"

    async def work() -> None:
        script = {"start_s": 60.0, "starts_file": str(starts)}
        tried = tuning(monkeypatch, tmp_path, lambda _: script)
        measuring = asyncio.create_task(tried.measure(PLANNED))
        while not starts.exists():
            await asyncio.sleep(0.01)
        assert tried.current == PLANNED
        measuring.cancel()
        await asyncio.gather(measuring, return_exceptions=True)
        assert not children()
        assert not tried.rows and tried.spent_s == 0.0
        assert tried.next() == PLANNED

    run(work())


def test_codes_are_compared_once_for_the_same_weights_and_not_of_a_large_checkpoint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    samples: list[int] = []

    def script(plan: Plan) -> dict[str, Any]:
        samples.append(plan.calibration_samples)
        return {"greedy_agreement": 0.98} if plan.calibration_samples else {}

    async def work() -> None:
        await tuning(monkeypatch, tmp_path, script).measure(PLANNED)
        small = tuning(monkeypatch, tmp_path, script, shape=DEMO)
        fewer, in_int4 = replace(PLANNED, num_threads=1), replace(PLANNED, quantization="int4")
        for setup in (PLANNED, fewer, in_int4):
            row = await small.measure(setup)
            assert row.figures is not None and row.figures.kept_codes == 0.98
        assert samples == [0, 16, 0, 16]

    run(work())


def test_a_large_checkpoint_says_something_shorter(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = tmp_path / "said"

    async def work() -> None:
        for shape in (DEMO, S1):
            tried = tuning(monkeypatch, tmp_path, lambda _: {"spoken_file": str(said)}, shape=shape)
            await tried.measure(PLANNED)
        texts = [json.loads(line)["text"] for line in said.read_text().splitlines()]
        longer, shorter = dict.fromkeys(texts)
        assert texts == [longer] * 5 + [shorter] * 5
        assert frame_limit(shorter, 21.5) < 80 < frame_limit(longer, 21.5)

    run(work())


def test_what_is_saved_is_found_and_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def work() -> None:
        tried = tuning(monkeypatch, tmp_path, by_weights, shape=DEMO)
        await all_of(tried)
        assert not list(tmp_path.iterdir())
        tried.save()
        kept = Measurements(tmp_path).find(MACHINE, SHIPPED_VOICE_DIR)
        assert kept == tuple(tried.rows)
        told = tuning_json(tried)
        assert told["checkpoint"] == "shoal-demo" and told["not_reached"] == []
        assert told["chosen"]["quantization"] == "int4"
        assert len(told["measured"]) == len(tried.rows)
        first = told["measured"][0]
        assert (first["outcome"], first["rtf"]) == ("measured", pytest.approx(5.0, abs=0.01))

    run(work())


def test_the_published_package_has_nothing_to_choose() -> None:
    with pytest.raises(BadSetting, match="ENGINE=fish-speech"):
        Tuning(settings(engine="fish-speech"), MACHINE, DEMO)
