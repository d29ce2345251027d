"""Monitoring whole: each request its own row with its own figures, whatever becomes of it."""

import asyncio
import csv
import json
import random
import threading
from pathlib import Path
from typing import Any

import pytest

import backend.nvml
from backend.monitoring.csv_log import CsvLog
from backend.monitoring.monitoring import Monitoring
from backend.monitoring.rows import Row
from backend.monitoring.synthesis import Synthesis
from tests.monitored import FakePynvml, ScriptedReader, logged, monitored, run, start, stats


def rows(directory: Path, kind: str) -> list[dict[str, str]]:
    found = []
    for file in sorted(directory.glob(f"{kind}_*.csv")):
        with file.open(newline="", encoding="utf-8") as text:
            found += list(csv.DictReader(text, strict=True))
    return found


async def spoken(it: Monitoring, request_id: str, samples: int = 1, **values: Any) -> None:
    synthesis = it.begin(start(request_id, **values))
    await sampled(synthesis, samples)
    synthesis.finish(stats(), total_s=2.0, first_audio_s=0.5, audio_s=4.0)


async def sampled(synthesis: Synthesis, samples: int) -> None:
    """Wait until the machine was looked at so often while it was spoken."""
    while synthesis.observed.samples < samples:
        await asyncio.sleep(0.005)


def test_one_request(tmp_path: Path) -> None:
    async def work() -> None:
        async with monitored(tmp_path) as it:
            with logged() as lines:
                synthesis = it.begin(start("a"))
                await sampled(synthesis, 2)
                synthesis.finish(stats(), total_s=2.0, first_audio_s=0.5, audio_s=4.0)
                peak_pct, peak_mb = synthesis.peak_gpu_util_pct, synthesis.peak_vram_mb
            assert peak_pct >= 2
            assert lines == [f"INFO Peak GPU utilization during synthesis: {peak_pct:.1f}%\n"]
            assert await it.written(30)
            (row,) = rows(tmp_path, "synthesis")
            assert row["request_id"] == "a"
            assert (row["outcome"], row["success"], row["status"]) == ("success", "true", "200")
            assert (row["rtf"], row["tokens_per_second"]) == ("0.5", "577.5")
            assert float(row["peak_gpu_util_pct"]) == peak_pct
            assert float(row["peak_vram_mb"]) == peak_mb
            assert row["gpu_util_source"] == "nvml"
            assert int(row["samples"]) >= 2
            samples = rows(tmp_path, "realtime")
            assert {sample["running"] for sample in samples} <= {"1", "0"}
            assert [sample["gpu_util_pct"] for sample in samples][:2] == ["1.0", "2.0"]
        specs = json.loads((tmp_path / "hardware_specs_gpu_high.json").read_text())
        assert specs == {"gpu": "NVIDIA H200"}

    run(work())


def test_twenty_at_once_each_have_their_own_row(tmp_path: Path) -> None:
    async def work() -> None:
        draw = random.Random(1)
        reader = ScriptedReader()
        async with monitored(tmp_path, reader=reader) as it:

            async def one(number: int) -> tuple[float, float]:
                begins_after = draw.randint(0, 3) if number else 0
                while reader.reads < begins_after:
                    await asyncio.sleep(0.005)
                synthesis = it.begin(start(f"r{number}", text_length=100 + number))
                await sampled(synthesis, draw.randint(1, 4) if number else 4)
                own = stats(generated_tokens=1000 + number)
                synthesis.finish(
                    own, total_s=10.0 + number, first_audio_s=0.1 * number, audio_s=10.0
                )
                synthesis.finish(own, total_s=99.0, first_audio_s=9.0, audio_s=9.0)  # counts once
                return synthesis.peak_gpu_util_pct, synthesis.peak_vram_mb

            seen = await asyncio.gather(*(one(number) for number in range(20)))
            assert it.aggregates()["in_flight"] == 0
        logged_rows = {row["request_id"]: row for row in rows(tmp_path, "synthesis")}
        assert len(rows(tmp_path, "synthesis")) == 20
        assert len(logged_rows) == 20
        for number, (peak_pct, peak_mb) in enumerate(seen):
            row = logged_rows[f"r{number}"]
            assert row["text_length"] == str(100 + number)
            assert row["generated_tokens"] == str(1000 + number)
            assert row["rtf"] == str((10.0 + number) / 10.0)
            assert row["first_audio_s"] == str(round(0.1 * number, 4))
            assert float(row["peak_gpu_util_pct"]) == peak_pct
            assert float(row["peak_vram_mb"]) == peak_mb
        most = max(int(sample["running"]) for sample in rows(tmp_path, "realtime"))
        assert most >= 5
        assert len({float(row["peak_gpu_util_pct"]) for row in logged_rows.values()}) > 2

    run(work())


def test_failures_refusals_and_aborts_get_a_row(tmp_path: Path) -> None:
    async def work() -> None:
        async with monitored(tmp_path) as it:
            it.begin(start("f")).fail("engine_failed", "out of memory", 500)
            it.begin(start("a")).fail("aborted", "the client left")
            it.refuse(start("r", spoken_length=0), "text_too_long", "send less")
            it.begin(start("s")).finish(stats(), total_s=1.0, first_audio_s=0.5, audio_s=0.0)
        told = [
            (row["request_id"], row["outcome"], row["status"], row["error_code"], row["rtf"])
            for row in rows(tmp_path, "synthesis")
        ]
        assert told == [
            ("f", "failed", "500", "engine_failed", ""),
            ("a", "aborted", "", "aborted", ""),
            ("r", "refused", "413", "text_too_long", ""),
            ("s", "success", "200", "", ""),
        ]
        assert rows(tmp_path, "synthesis")[0]["error_message"] == "out of memory"

    run(work())


def test_the_text_is_never_logged(tmp_path: Path) -> None:
    async def work() -> None:
        async with monitored(tmp_path) as it:
            await spoken(it, "a", text_length=17)
        assert rows(tmp_path, "synthesis")[0]["text_length"] == "17"

    run(work())
    assert "text" not in rows(tmp_path, "synthesis")[0]


def test_leaving_while_requests_run(tmp_path: Path) -> None:
    async def work() -> None:
        reader = ScriptedReader(delay_s=0.05)
        async with monitored(tmp_path, reader=reader) as it:
            kept = [it.begin(start(f"r{number}")) for number in range(3)]
            await sampled(kept[0], 1)
        assert reader.calls[-1] == "close"
        for synthesis in kept:  # what a late worker says no longer counts
            synthesis.finish(stats(), total_s=1.0, first_audio_s=0.5, audio_s=1.0)
        told = [(row["request_id"], row["outcome"]) for row in rows(tmp_path, "synthesis")]
        assert sorted(told) == [("r0", "aborted"), ("r1", "aborted"), ("r2", "aborted")]

    run(work())


def test_sampling_stops_when_idle(tmp_path: Path) -> None:
    async def work() -> None:
        reader = ScriptedReader()
        async with monitored(tmp_path, reader=reader) as it:
            await spoken(it, "a")
            assert it.aggregates()["sampling"]
            while it.aggregates()["sampling"]:
                await asyncio.sleep(0.01)
            reads = reader.reads
            assert await it.written(30)
            assert len(rows(tmp_path, "realtime")) == reads
            await spoken(it, "b")
            assert reader.reads > reads

    run(work())


def test_without_a_directory_figures_are_kept_all_the_same(tmp_path: Path) -> None:
    async def work() -> None:
        async with monitored(None) as it:
            await spoken(it, "a")
            assert it.aggregates()["recent"]["rtf"]["p50"] == 0.5
            assert it.aggregates()["log"] == {"directory": None, "problem": ""}

    run(work())
    assert list(tmp_path.iterdir()) == []


def test_speech_goes_on_when_nothing_can_be_written(tmp_path: Path) -> None:
    async def work() -> None:
        in_the_way = tmp_path / "metrics"
        in_the_way.write_text("a file")
        with logged("WARNING") as lines:
            async with monitored(in_the_way) as it:
                await asyncio.gather(*(spoken(it, str(number)) for number in range(5)))
                assert await it.written(30)
                assert it.aggregates()["since_start"]["outcomes"]["success"] == 5
                assert it.aggregates()["log"]["problem"]
        assert len(lines) == 1

    run(work())


def test_a_disk_that_hangs_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append, goes_on, threads = CsvLog.append, threading.Event(), set[int]()

    def slowly(log: CsvLog, row: Row) -> None:
        threads.add(threading.get_ident())
        assert goes_on.wait(30)
        append(log, row)

    monkeypatch.setattr(CsvLog, "append", slowly)

    async def work() -> None:
        async with monitored(tmp_path) as it:
            for number in range(3):
                observed = it.begin(start(str(number)))
                while not observed.peak_gpu_util_pct:  # samples are logged, too
                    await asyncio.sleep(0.01)
                observed.finish(stats(), total_s=2.0, first_audio_s=0.5, audio_s=4.0)
            assert it.aggregates()["since_start"]["outcomes"]["success"] == 3
            assert rows(tmp_path, "synthesis") == []
            goes_on.set()
        assert len(rows(tmp_path, "synthesis")) == 3

    run(work())
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_aggregates() -> None:
    async def work() -> None:
        async with monitored(None) as it:
            for number in range(1, 101):
                it.begin(start(str(number), text_length=2400)).finish(
                    stats(generated_tokens=10),
                    total_s=float(number),
                    first_audio_s=0.5,
                    audio_s=100.0,
                )
            it.begin(start()).fail("engine_failed", "")
            it.refuse(start(), "over_capacity", "try later")
            it.refuse(start(), "over_capacity", "try later")
            it.set_queue_depth(3)
            it.set_worker(is_ready=True, restarts=2, memory_mb=812.0)
            it.begin(start())
            told = it.aggregates()
            assert told["in_flight"] == 1
            assert told["queue_depth"] == 3
            assert told["worker"] == {"ready": True, "restarts": 2, "memory_mb": 812.0}
            assert told["since_start"] == {
                "requests": 103,
                "outcomes": {"success": 100, "failed": 1, "refused": 2, "aborted": 0},
                "refusals": {"over_capacity": 2},
                "truncated": 100,
                "generated_tokens": 1000,
                "audio_s": 10_000.0,
            }
            recent = told["recent"]
            assert recent["requests"] == 103
            assert recent["latency_s"] == {"mean": 50.5, "p50": 50.5, "p95": 95.05, "p99": 99.01}
            assert recent["rtf"]["p50"] == 0.505
            assert recent["compute_rtf"]["p50"] == 2.65
            assert recent["first_audio_s"] == {"mean": 0.5, "p50": 0.5, "p95": 0.5, "p99": 0.5}
            json.dumps(told)

    run(work())


def test_aggregates_roll() -> None:
    async def work() -> None:
        async with monitored(None) as it:
            assert it.aggregates()["recent"]["latency_s"] is None
            for number in range(1500):
                it.begin(start()).finish(
                    stats(), total_s=float(number >= 500), first_audio_s=0.5, audio_s=1.0
                )
            for _ in range(10):
                it.begin(start()).fail("engine_failed", "")
            told = it.aggregates()
            assert told["recent"]["requests"] == 1000
            assert told["recent"]["outcomes"] == {
                "success": 990,
                "failed": 10,
                "refused": 0,
                "aborted": 0,
            }
            assert told["recent"]["latency_s"]["mean"] == 1.0
            assert told["since_start"]["requests"] == 1510

    run(work())


def test_utilization_is_estimated_from_the_workers_memory_without_nvml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = FakePynvml()
    library.fails = {"nvmlInit"}
    monkeypatch.setattr(backend.nvml, "pynvml", library)

    async def work() -> None:
        with logged("WARNING") as lines:
            async with monitored(tmp_path, reader=None) as it:
                it.set_worker(is_ready=True, restarts=0, memory_mb=1900.0)
                it.begin(start("first")).finish(
                    stats(peak_memory_mb=3800.0), total_s=1.0, first_audio_s=0.5, audio_s=1.0
                )
                await spoken(it, "second", 2)
        assert len(lines) == 1
        assert "GPU utilization will show 0%" in lines[0]
        _, row = rows(tmp_path, "synthesis")
        assert (row["peak_gpu_util_pct"], row["gpu_util_source"]) == ("50.0", "estimate")
        assert row["peak_vram_mb"] == "1900.0"
        sample = rows(tmp_path, "realtime")[-1]
        assert 0 < float(sample["memory_pct"]) < 100
        assert 0 <= float(sample["cpu_pct"]) <= 100

    run(work())


def test_on_a_machine_without_a_gpu(tmp_path: Path) -> None:
    async def work() -> None:
        with logged() as lines:
            async with monitored(tmp_path, reader=None, device="cpu", device_uuid="") as it:
                await spoken(it, "a", 2)
        assert lines == []
        (row,) = rows(tmp_path, "synthesis")
        assert (row["peak_gpu_util_pct"], row["gpu_util_source"]) == ("0.0", "none")
        assert rows(tmp_path, "realtime")[-1]["gpu_util_pct"] == ""

    run(work())


def test_two_servers_in_one_process(tmp_path: Path) -> None:
    async def work() -> None:
        async with monitored(tmp_path) as one, monitored(tmp_path) as other:
            await asyncio.gather(spoken(one, "a"), spoken(other, "b"), spoken(other, "c"))
            assert b'shoal_requests_total{outcome="success"} 1.0' in one.prometheus()[0]
            assert b'shoal_requests_total{outcome="success"} 2.0' in other.prometheus()[0]
        assert len(list(tmp_path.glob("synthesis_*.csv"))) == 2
        assert sorted(row["request_id"] for row in rows(tmp_path, "synthesis")) == ["a", "b", "c"]

    run(work())
