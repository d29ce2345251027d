"""Spans: one a request, from its arrival to its end, and none where nobody asks."""

import http.server
import importlib
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from backend.monitoring import tracing as tracing_module
from backend.monitoring.tracing import Tracing, exporter_name, open_tracing
from tests.monitored import logged, monitored, run, start, stats

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT_ID = "00f067aa0ba902b7"


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


def traced(spans: InMemorySpanExporter) -> Tracing:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return Tracing(provider)


def seconds(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


def test_one_span_with_attributes_and_events(spans: InMemorySpanExporter) -> None:
    async def work() -> None:
        async with monitored(None, tracing=traced(spans)) as it:
            synthesis = it.begin(start("a", queue_s=1.5))
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
    assert 1.5 <= seconds(span) < 10
    assert span.start_time is not None
    events = {event.name: (event.timestamp - span.start_time) / 1e9 for event in span.events}
    assert events == {
        "queued": 0.0,
        "admitted": pytest.approx(1.5, abs=1e-4),
        "first audio": pytest.approx(1.6, abs=1e-4),
    }


def test_failures_and_refusals(spans: InMemorySpanExporter) -> None:
    async def work() -> None:
        async with monitored(None, tracing=traced(spans)) as it:
            it.begin(start("f")).fail("engine_failed", "out of memory", 500)
            it.refuse(start("r"), "over_capacity", "try later")

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
        async with monitored(None, tracing=traced(spans)) as it:
            for parent in (f"00-{TRACE_ID}-{PARENT_ID}-01", "nonsense", ""):
                it.refuse(start(trace_parent=parent), "over_capacity", "")

    run(work())
    child, *orphans = spans.get_finished_spans()
    assert child.parent is not None
    assert child.context is not None
    assert f"{child.context.trace_id:032x}" == TRACE_ID
    assert f"{child.parent.span_id:016x}" == PARENT_ID
    assert [span.parent for span in orphans] == [None, None]


def test_open_spans_end_when_the_server_does(spans: InMemorySpanExporter) -> None:
    async def work() -> None:
        async with monitored(None, tracing=traced(spans)) as it:
            it.begin(start("a"))

    run(work())
    (span,) = spans.get_finished_spans()
    assert (span.attributes or {})["shoal.outcome"] == "aborted"


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, "otlp"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "console"),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, ""),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, ""),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "zipkin"),
    ],
)
def test_what_the_environment_asks_for(environment: dict[str, str], name: str) -> None:
    assert exporter_name(environment) == name


def test_an_unknown_exporter_is_a_warning() -> None:
    with logged() as lines:
        assert open_tracing({"OTEL_TRACES_EXPORTER": "zipkin"}) is None
    assert lines == [
        "WARNING OTEL_TRACES_EXPORTER=zipkin: use otlp or console. No spans are sent.\n"
    ]


def test_a_missing_package_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    load = importlib.import_module

    def without_otel(name: str, package: str | None = None) -> Any:
        if name.startswith("opentelemetry"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return load(name, package)

    monkeypatch.setattr(importlib, "import_module", without_otel)
    with logged() as lines:
        assert open_tracing({"OTEL_TRACES_EXPORTER": "otlp"}) is None
    assert lines[0].startswith("WARNING OTEL_* asks for spans, but opentelemetry")
    assert lines[0].endswith("Install with: pip install 'shoal-tts[otel]'\n")


def test_nothing_is_imported_unless_asked_for() -> None:
    code = (
        "import sys, asyncio\n"
        "from backend.monitoring.tracing import open_tracing\n"
        "assert open_tracing({}) is None\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    root = Path(__file__).parent.parent
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes spans over HTTP, as an OpenTelemetry collector does."""

    received: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append((self.path, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


def test_spans_reach_a_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[tuple[str, bytes]] = []
    handler = type("Handler", (Collector,), {"received": received})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)

        async def work() -> None:
            async with monitored(None) as it:
                it.begin(start("over-the-wire")).fail("engine_failed", "out of memory")

        run(work())
        server.shutdown()
    ((path, body),) = received
    assert path == "/v1/traces"
    assert b"over-the-wire" in body
    assert b"service.name" in body
    assert b"shoal" in body


def test_a_dead_collector_does_not_hold_the_server_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing_module, "CLOSE_S", 0.3)
    released = threading.Event()

    class Stuck:
        def get_tracer(self, name: str) -> Any:
            return TracerProvider(shutdown_on_exit=False).get_tracer(name)

        def shutdown(self) -> None:
            released.wait(30)

    provider: Any = Stuck()

    async def work() -> None:
        began_s = time.monotonic()
        async with monitored(None, tracing=Tracing(provider)) as it:
            it.refuse(start(), "over_capacity", "")
        assert time.monotonic() - began_s < 10

    try:
        run(work())
    finally:
        released.set()
