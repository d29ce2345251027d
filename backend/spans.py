"""OpenTelemetry's spans, in whichever process: made and sent as `OTEL_*` asks for, else not at all.

Nothing of OpenTelemetry is imported before that is known. The provider is ours alone: the global
one, which belongs to the program around us, stays as it is.
"""

import importlib
import os
import re
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from loguru import logger

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

CLOSE_S = 5.0
"""The last spans get so long to reach the collector; a dead one does not hold the process back."""
_NS = 1_000_000_000
_EXPORTERS = {
    "otlp": ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "OTLPSpanExporter"),
    "console": ("opentelemetry.sdk.trace.export", "ConsoleSpanExporter"),
}
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_TRACE_PARENT = re.compile("[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Spans:
    """Begins spans, and sends them where `provider` says."""

    def __init__(self, provider: "TracerProvider") -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("shoal")
        self._kinds = importlib.import_module("opentelemetry.trace").SpanKind
        module = importlib.import_module("opentelemetry.trace.propagation.tracecontext")
        self._propagator = module.TraceContextTextMapPropagator()
        self._context_of = importlib.import_module("opentelemetry.trace").set_span_in_context

    def begin(
        self, name: str, kind: Literal["SERVER", "CONSUMER"], trace_parent: str, at_s: float
    ) -> "Span":
        """A span that begins at `at_s`, seconds since 1970, a child of `trace_parent`'s, which is
        W3C's header; "" or what is none has it begin a trace."""
        return self._tracer.start_span(
            name,
            context=self._propagator.extract({"traceparent": trace_parent}),
            kind=self._kinds[kind],
            start_time=ns(at_s),
        )

    def parent(self, span: "Span") -> str:
        """`span` as the `trace_parent` of others."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, context=self._context_of(span))
        return carrier.get("traceparent", "")

    def close(self, timeout_s: float | None = None) -> None:
        """Send what is left, for at most `timeout_s` seconds, by default `CLOSE_S`."""
        sending = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        sending.start()
        sending.join(CLOSE_S if timeout_s is None else timeout_s)


def checked(trace_parent: str) -> str:
    """A client's header as it is, "" where it is none."""
    return trace_parent if _TRACE_PARENT.fullmatch(trace_parent) else ""


def put_error(span: "Span", code: str, message: str) -> None:
    """It went wrong."""
    status = importlib.import_module("opentelemetry.trace").StatusCode.ERROR
    span.set_attribute("error.type", code)
    span.set_status(status, message)


def put(span: "Span", values: Mapping[str, Any]) -> None:
    """Attributes `shoal.<name>`; what is None or "" is left out."""
    for name, value in values.items():
        if value not in (None, ""):
            span.set_attribute(f"shoal.{name}", value)


def ns(at_s: float) -> int:
    """Seconds since 1970 as OpenTelemetry counts."""
    return int(at_s * _NS)


def exporter_name(environment: Mapping[str, str]) -> str:
    """Which exporter the environment asks for: "otlp", "console" or another; "" for none."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return ""
    default = "otlp" if any(environment.get(name) for name in _ENDPOINTS) else ""
    name = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower() or default
    return "" if name == "none" else name


def open_spans(environment: Mapping[str, str] = os.environ) -> Spans | None:
    """Spans as the environment asks for them; None, with a warning, where they cannot be had."""
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
    return Spans(provider)


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
