"""The span of one request that a worker, or a replica, is asked: a child of the server's."""

import os
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import msgspec

from backend.spans import Spans, ns, put, put_error
from backend.worker.messages import (
    Asked,
    DecodeCodes,
    Decoded,
    Done,
    Encoded,
    EncodeVoice,
    Failed,
    FromWorker,
    Pcm,
    Speak,
)

if TYPE_CHECKING:
    from opentelemetry.trace import Span

_WORKS: dict[type[Asked], str] = {Speak: "speak", EncodeVoice: "encode", DecodeCodes: "decode"}


class AskedSpan:
    """It, from the message that asks to the last that answers."""

    def __init__(self, span: "Span") -> None:
        self._span = span
        self._is_heard = False

    def tell(self, message: FromWorker) -> bool:
        """Know what is answered; whether that is the last of it."""
        match message:
            case Pcm():
                if not self._is_heard:
                    self._span.add_event("first audio", timestamp=ns(time.time()))
                self._is_heard = True
                return False
            case Done(stats=stats):
                put(self._span, asdict(stats))
            case Failed(code=code, message=problem):
                put_error(self._span, code, problem)
            case Encoded(codes=codes):
                put(self._span, {"frames": codes.frames})
            case Decoded():
                pass
            case _:
                return False
        self._span.end(ns(time.time()))
        return True


def begin(spans: Spans, asked: Asked, where: str, name: str = "") -> tuple[Asked, AskedSpan]:
    """`asked` with its span as the parent of what it leads to, and that span; `where` is worker or
    replica, `name` the replica's."""
    work = _WORKS[type(asked)]
    span = spans.begin(f"{work} in {where}", "CONSUMER", asked.trace_parent, time.time())
    put(span, {"request_id": asked.request_id, "replica": name})
    span.set_attribute("process.pid", os.getpid())
    if isinstance(asked, Speak):
        put(span, {"text_length": len(asked.text)})
    told = msgspec.structs.replace(asked, trace_parent=spans.parent(span))
    return told, AskedSpan(span)


class WorkerSpans:
    """Those of a worker process: messages pass through on their way in and out, in two threads."""

    def __init__(self, spans: Spans) -> None:
        self._spans = spans
        self._open: dict[str, AskedSpan] = {}

    def hear(self, asked: Asked) -> None:
        """It is asked; of what belongs to no span, no trace is begun."""
        if asked.trace_parent:
            _, self._open[asked.request_id] = begin(self._spans, asked, "worker")

    def say(self, *messages: FromWorker) -> None:
        """It is answered."""
        for message in messages:
            request_id = getattr(message, "request_id", "")
            if (span := self._open.get(request_id)) is not None and span.tell(message):
                del self._open[request_id]
