"""Spans: one a request, from its arrival to its end, and none where nobody asks."""

import threading
import time
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from backend import spans as spans_module
from backend.monitoring.tracing import arrive
from backend.spans import Spans
from tests.collector import collector
from tests.monitored import monitored, run, start, stats

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT_ID = "00f067aa0ba902b7"


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


def traced(spans: InMemorySpanExporter) -> Spans:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return Spans(provider)


def seconds(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


def test_one_span_with_attributes_and_events(spans: InMemorySpanExporter) -> None:
    async def work() -> None:
        async with monitored(None, spans=traced(spans)) as it:
            span = it.arrive("")
            synthesis = it.begin(start("a", queue_s=0.001, span=span))
            synthesis.finish(stats(), total_s=0.15, first_audio_s=0.1, audio_s=4.0)
            synthesis.fail("aborted", "too late")

    run(work())
    (span,) = spans.get_finished_spans()
    assert (span.name, span.kind) == ("synthesize", SpanKind.SERVER)
    assert span.status.status_code is StatusCode.UNSET
    told = dict(span.attributes or {})
    assert told["shoal.request_id"] == "a"
    assert told["shoal.outcome"] == "success"
    assert told["shoal.text_length"] == 1200
    assert told["shoal.generated_tokens"] == 1155
    assert told["shoal.rtf"] == pytest.approx(0.15 / 4.0)
    assert told["shoal.tier"] == "gpu_high"
    assert "shoal.error_code" not in told
    assert 0 <= seconds(span) < 10
    at_s = {event.name: event.timestamp / 1e9 for event in span.events}
    assert at_s["admitted"] - at_s["queued"] == pytest.approx(0.001, abs=1e-4)
    assert at_s["first audio"] - at_s["admitted"] == pytest.approx(0.1, abs=1e-4)


def test_failures_and_refusals(spans: InMemorySpanExporter) -> None:
    async def work() -> None:
        async with monitored(None, spans=traced(spans)) as it:
            it.begin(start("f", span=it.arrive(""))).fail("engine_failed", "out of memory", 500)
            it.refuse(start("r", span=it.arrive("")), "over_capacity", "try later")

    run(work())
    failed, refused = spans.get_finished_spans()
    for span, code, message in (
        (failed, "engine_failed", "out of memory"),
        (refused, "over_capacity", "try later"),
    ):
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, message)
        assert (span.attributes or {})["error.type"] == code
        assert [event.name for event in span.events] == []


def test_a_client_that_traces_finds_us_in_its_trace(spans: InMemorySpanExporter) -> None:
    async def work() -> None:
        async with monitored(None, spans=traced(spans)) as it:
            for parent in (f"00-{TRACE_ID}-{PARENT_ID}-01", "nonsense", ""):
                it.refuse(start(span=it.arrive(parent)), "over_capacity", "")

    run(work())
    child, *orphans = spans.get_finished_spans()
    assert child.parent is not None
    assert child.context is not None
    assert f"{child.context.trace_id:032x}" == TRACE_ID
    assert f"{child.parent.span_id:016x}" == PARENT_ID
    assert [span.parent for span in orphans] == [None, None]


def test_other_processes_find_it_in_its_trace(spans: InMemorySpanExporter) -> None:
    span = arrive(traced(spans), f"00-{TRACE_ID}-{PARENT_ID}-01")
    version, trace_id, span_id, flags = span.trace_parent.split("-")
    assert (version, trace_id, flags) == ("00", TRACE_ID, "01")
    assert span_id != PARENT_ID


def test_open_spans_end_when_the_server_does(spans: InMemorySpanExporter) -> None:
    async def work() -> None:
        async with monitored(None, spans=traced(spans)) as it:
            it.begin(start("a", span=it.arrive("")))

    run(work())
    (span,) = spans.get_finished_spans()
    assert (span.attributes or {})["shoal.outcome"] == "aborted"


def test_spans_reach_a_collector() -> None:
    with collector() as received:

        async def work() -> None:
            async with monitored(None) as it:
                start_ = start("over-the-wire", span=it.arrive(""))
                it.begin(start_).fail("engine_failed", "out of memory")

        run(work())
    (span,) = received.spans()
    assert received.paths == ["/v1/traces"]
    assert span.attributes["shoal.request_id"] == "over-the-wire"
    assert span.service == "shoal"


def test_a_dead_collector_does_not_hold_the_server_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans_module, "CLOSE_S", 0.3)
    released = threading.Event()

    class Stuck:
        def get_tracer(self, name: str) -> Any:
            return TracerProvider(shutdown_on_exit=False).get_tracer(name)

        def shutdown(self) -> None:
            released.wait(30)

    provider: Any = Stuck()

    async def work() -> None:
        began_s = time.monotonic()
        async with monitored(None, spans=Spans(provider)) as it:
            it.refuse(start(span=it.arrive("")), "over_capacity", "")
        assert time.monotonic() - began_s < 10

    try:
        run(work())
    finally:
        released.set()
