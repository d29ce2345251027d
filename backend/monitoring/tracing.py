"""One span a request, from its arrival to its end, with all that its row knows."""

import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from backend.monitoring.rows import SynthesisRow
from backend.spans import Spans, ns, put, put_error

if TYPE_CHECKING:
    from opentelemetry.trace import Span

SPAN_NAME = "synthesize"
_UNSEEN_BY_SPANS = frozenset({"timestamp", "success"})
"""Columns that a span tells in its own way."""


class RequestSpan:
    """The span of one request; `trace_parent` makes other processes' spans its children."""

    def __init__(self, span: "Span", trace_parent: str) -> None:
        self._span, self.trace_parent = span, trace_parent
        self._admitted_s: float | None = None

    def admit(self, at_s: float, queue_s: float) -> None:
        """It has waited so long for its turn, which has come at `at_s`, seconds since 1970."""
        self._admitted_s = at_s
        if queue_s > 0:
            self._span.add_event("queued", timestamp=ns(at_s - queue_s))
            self._span.add_event("admitted", timestamp=ns(at_s))

    def end(self, row: SynthesisRow, at_s: float) -> None:
        """End it with everything the row knows; `at_s` is seconds since 1970."""
        told = asdict(row).items()
        put(self._span, {name: value for name, value in told if name not in _UNSEEN_BY_SPANS})
        if row.first_audio_s is not None and self._admitted_s is not None:
            moment_s = self._admitted_s + row.first_audio_s
            self._span.add_event("first audio", timestamp=ns(moment_s))
        if not row.success:
            put_error(self._span, row.error_code, row.error_message)
        self._span.end(ns(at_s))


def arrive(spans: Spans, trace_parent: str) -> RequestSpan:
    """The span of a request that is there now, of whose client that is the header."""
    span = spans.begin(SPAN_NAME, "SERVER", trace_parent, time.time())
    return RequestSpan(span, spans.parent(span))
