"""What Prometheus reads, by its own parser."""

from typing import Any

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from backend.monitoring.metrics import Metrics
from backend.monitoring.sample import Observed, WorkerNow
from backend.monitoring.synthesis import Ending, synthesis_row
from tests.monitored import monitored, run, start, stats


def scraped(metrics: Metrics) -> dict[tuple[str, str], float]:
    """Each value by its name and its label values."""
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }


def add(metrics: Metrics, ending: Ending, text_length: int = 1200, queue_s: float = 0.0) -> None:
    of = start(text_length=text_length, queue_s=queue_s)
    metrics.add(synthesis_row(of, ending, Observed(), 0.0))


def test_requests_are_counted() -> None:
    metrics = Metrics()
    spoken = Ending("success", 2.0, 200, first_audio_s=0.4, audio_s=4.0, stats=stats())
    add(metrics, spoken, queue_s=3.0)
    add(metrics, spoken, text_length=5000)
    add(metrics, Ending("failed", 9.0, 504, "timed_out", first_audio_s=0.4, audio_s=1.5))
    add(metrics, Ending("aborted", 1.0, None, "aborted"))
    add(metrics, Ending("refused", 0.0, 503, "over_capacity"), text_length=5000)
    add(metrics, Ending("refused", 0.0, 413, "text_too_long"))
    told = scraped(metrics)
    for outcome, count in {"success": 2, "failed": 1, "aborted": 1, "refused": 2}.items():
        assert told["shoal_requests_total", outcome] == count
    assert told["shoal_refusals_total", "over_capacity"] == 1
    assert told["shoal_refusals_total", "text_too_long"] == 1
    assert told["shoal_generated_tokens_total", ""] == 2310
    assert told["shoal_audio_seconds_total", ""] == 9.5
    assert told["shoal_truncated_texts_total", ""] == 1
    assert told["shoal_request_duration_seconds_count", ""] == 2
    assert told["shoal_request_duration_seconds_sum", ""] == 4.0
    assert told["shoal_request_duration_seconds_bucket", "2.5"] == 2
    assert told["shoal_request_duration_seconds_bucket", "1.0"] == 0
    assert told["shoal_first_audio_seconds_count", ""] == 3
    assert told["shoal_queue_seconds_sum", ""] == 3.0
    assert told["shoal_rtf_ratio_sum", ""] == 1.0


def test_every_outcome_has_a_rate_from_the_start_on() -> None:
    told = scraped(Metrics())
    assert [told["shoal_requests_total", name] for name in ("success", "refused")] == [0, 0]


def test_a_request_without_audio_has_no_rtf() -> None:
    metrics = Metrics()
    add(metrics, Ending("success", 2.0, 200, first_audio_s=2.0, audio_s=0.0, stats=stats()))
    assert scraped(metrics)["shoal_rtf_ratio_count", ""] == 0


def test_gauges() -> None:
    metrics = Metrics()
    metrics.set_worker(is_ready=True, restarts=0, memory_mb=1.0)
    metrics.set_worker(is_ready=False, restarts=2, memory_mb=0.5)
    metrics.set_worker(is_ready=False, restarts=2, memory_mb=0.5)
    metrics.queue_depth.set(4)
    told = scraped(metrics)
    assert told["shoal_worker_up", ""] == 0
    assert told["shoal_worker_memory_bytes", ""] == 512 * 1024
    assert told["shoal_worker_restarts_total", ""] == 2
    assert told["shoal_queue_depth", ""] == 4
    resident = psutil.Process().memory_info().rss
    assert told["shoal_server_resident_memory_bytes", ""] == pytest.approx(resident, rel=0.2)


def now(**values: Any) -> WorkerNow:
    told: dict[str, Any] = {
        **{"worker": 0, "device": "cpu", "ready": True, "restarts": 0, "memory_mb": 1.0},
        **{"speaking": 0, "rows": 16, "cache_mb": 2.0, "leased_mb": 3.0},
        **{"thermal_level": 0, "memory_level": 1},
    }
    return WorkerNow(**told | values)


def test_each_worker_is_told_as_long_as_it_is_there() -> None:
    metrics = Metrics()
    metrics.set_workers([now(replica="a", node="n"), now(worker=1, replica="b", node="m")])
    told = scraped(metrics)
    assert told["shoal_each_worker_rows", "cpu,m,b,1"] == 16
    assert told["shoal_each_worker_leased_bytes", "cpu,n,a,0"] == 3 * 1024**2
    assert told["shoal_each_worker_memory_level", "cpu,n,a,0"] == 1
    metrics.set_workers([now(worker=1, replica="b", node="m", restarts=2)])
    told = scraped(metrics)
    assert told["shoal_each_worker_restarts_total", "cpu,m,b,1"] == 2
    assert not any("a" in labels.split(",") for _, labels in told)
    metrics.set_workers([now()])
    assert scraped(metrics)["shoal_each_worker_up", "cpu,0"] == 1


def test_restarts_go_on_being_counted_once_a_replica_has_left() -> None:
    metrics = Metrics()
    for restarts in (3, 1, 2):
        metrics.set_worker(is_ready=True, restarts=restarts, memory_mb=1.0)
    assert scraped(metrics)["shoal_worker_restarts_total", ""] == 4


def test_in_flight_through_monitoring() -> None:
    async def work() -> None:
        async with monitored(None) as it:
            one, two = it.begin(start("1")), it.begin(start("2"))
            it.set_queue_depth(7)
            text, content_type = it.prometheus()
            assert content_type.startswith("text/plain; version=0.0.4")
            assert b"shoal_requests_in_flight 2.0" in text
            assert b"shoal_queue_depth 7.0" in text
            one.fail("aborted", "")
            one.fail("aborted", "")
            assert b"shoal_requests_in_flight 1.0" in it.prometheus()[0]
            two.fail("aborted", "")
            assert b"shoal_requests_in_flight 0.0" in it.prometheus()[0]

    run(work())
