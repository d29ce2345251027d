"""One OpenTelemetry span a request, where its packages are installed and `OTEL_*` asks for spans.

Nothing of OpenTelemetry is imported before that is known. The provider is ours alone: the global
one, which belongs to the program around us, stays as it is.
"""

import asyncio
import importlib
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from loguru import logger

from backend.monitoring.rows import SynthesisRow
from backend.monitoring.synthesis import SynthesisStart

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

SPAN_NAME = "synthesize"
CLOSE_S = 5.0
"""The last spans get so long to reach the collector; a dead one does not hold the server back."""
_NS = 1_000_000_000
_EXPORTERS = {
    "otlp": ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "OTLPSpanExporter"),
    "console": ("opentelemetry.sdk.trace.export", "ConsoleSpanExporter"),
}
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_UNSEEN_BY_SPANS = frozenset({"timestamp", "success"})
"""Columns that a span tells in its own way."""


class RequestSpan:
    """The span of one request; it begins when the request arrived, before it waited."""

    def __init__(self, span: "Span", arrived_s: float, admitted_s: float) -> None:
        self._span, self._admitted_s = span, admitted_s
        if admitted_s > arrived_s:
            span.add_event("queued", timestamp=_ns(arrived_s))
            span.add_event("admitted", timestamp=_ns(admitted_s))

    def end(self, row: SynthesisRow, at_s: float) -> None:
        """End it with everything the row knows; `at_s` is seconds since 1970."""
        trace = importlib.import_module("opentelemetry.trace")
        for name, value in asdict(row).items():
            if value not in (None, "") and name not in _UNSEEN_BY_SPANS:
                self._span.set_attribute(f"shoal.{name}", value)
        if row.first_audio_s is not None:
            moment_s = self._admitted_s + row.first_audio_s
            self._span.add_event("first audio", timestamp=_ns(moment_s))
        if not row.success:
            self._span.set_attribute("error.type", row.error_code)
            self._span.set_status(trace.StatusCode.ERROR, row.error_message)
        self._span.end(_ns(at_s))


class Tracing:
    """Makes spans of requests and sends them where `provider` says."""

    def __init__(self, provider: "TracerProvider") -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("shoal")
        self._kind = importlib.import_module("opentelemetry.trace").SpanKind.SERVER
        module = importlib.import_module("opentelemetry.trace.propagation.tracecontext")
        self._propagator = module.TraceContextTextMapPropagator()

    def begin(self, start: SynthesisStart, at_s: float) -> RequestSpan:
        """A span for the request admitted at `at_s`, seconds since 1970."""
        arrived_s = at_s - start.queue_s
        span = self._tracer.start_span(
            SPAN_NAME,
            context=self._propagator.extract({"traceparent": start.trace_parent}),
            kind=self._kind,
            start_time=_ns(arrived_s),
        )
        return RequestSpan(span, arrived_s, at_s)

    async def close(self) -> None:
        """Send what is left, for at most `CLOSE_S` seconds."""
        sending = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        sending.start()
        await asyncio.to_thread(sending.join, CLOSE_S)


def exporter_name(environment: Mapping[str, str]) -> str:
    """Which exporter the environment asks for: "otlp", "console" or another; "" for none."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ""
    default = "otlp" if any(environment.get(name) for name in _ENDPOINTS) else ""
    name = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower() or default
    return "" if name == "none" else name


def open_tracing(environment: Mapping[str, str] = os.environ) -> Tracing | None:
    """Tracing as the environment asks for it; None, with a warning, where it cannot be had."""
    name = exporter_name(environment)
    if not name:
        return None
    if name not in _EXPORTERS:
        logger.warning("OTEL_TRACES_EXPORTER={}: use otlp or console. No spans are sent.", name)
        return None
    try:
        exporter = _exporter(name)
        provider = _provider(exporter, environment)
    except ImportError as error:
        logger.warning(
            "OTEL_* asks for spans, but {} is missing. Install with: pip install 'shoal-tts[otel]'",
            error.name,
        )
        return None
    logger.info("Spans of requests are sent through OpenTelemetry ({}).", name)
    return Tracing(provider)


def _exporter(name: str) -> "SpanExporter":
    module, kind = _EXPORTERS[name]
    exporter: SpanExporter = getattr(importlib.import_module(module), kind)()
    return exporter


def _provider(exporter: "SpanExporter", environment: Mapping[str, str]) -> "TracerProvider":
    sdk = importlib.import_module("opentelemetry.sdk.trace")
    export = importlib.import_module("opentelemetry.sdk.trace.export")
    resources = importlib.import_module("opentelemetry.sdk.resources")
    named = {} if environment.get("OTEL_SERVICE_NAME") else {"service.name": "shoal"}
    provider: TracerProvider = sdk.TracerProvider(
        resource=resources.Resource.create(named), shutdown_on_exit=False
    )
    provider.add_span_processor(export.BatchSpanProcessor(exporter))
    return provider


def _ns(at_s: float) -> int:
    """Seconds since 1970 as OpenTelemetry counts."""
    return int(at_s * _NS)
