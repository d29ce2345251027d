"""One trace of a request through every process that has a part in it."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.collector import Received, Told, collector
from tests.replicas import cluster, leave, until
from tests.scripted import client
from tests.test_monitoring_tracing import PARENT_ID, TRACE_ID
from tests.test_worker_loop import recording
from tests.tiny import tiny_checkpoint

HEADER = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01"}
TEXT = {"text": "Hello there. How are you?"}


def parents(log: Path) -> list[str]:
    """Of each sentence that a scripted worker was asked for."""
    return [json.loads(line)["trace_parent"] for line in log.read_text().splitlines()]


def named(received: Received, name: str) -> list[Told]:
    return [span for span in received.spans() if span.name == name]


def test_the_worker_process_has_its_part_in_the_trace(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint(tmp_path)
    values: dict[str, Any] = {"is_commanded": False, "model_dir": checkpoint, "device": "cpu"}

    async def work() -> None:
        async with client(None, **values) as http:
            files = {"speaker_file": ("a.wav", recording(seconds=1.2))}
            answer = await http.post("/tts", data=TEXT, files=files, headers=HEADER)
            assert answer.status_code == 200, answer.text
            await until(lambda: len(received.spans()) >= 4, within_s=30.0)

    with collector() as received:
        asyncio.run(work())
    (request,) = named(received, "synthesize")
    encoded, spoken = named(received, "encode in worker"), named(received, "speak in worker")
    assert (len(encoded), len(spoken)) == (1, 2)
    assert (request.trace_id, request.parent_id) == (TRACE_ID, PARENT_ID)
    for span in (*encoded, *spoken):
        assert (span.trace_id, span.parent_id) == (TRACE_ID, request.span_id)
        assert request.start_ns <= span.start_ns <= span.end_ns
        assert span.attributes["process.pid"] != os.getpid()
    for span in spoken:
        assert span.events == ("first audio",)
        assert span.attributes["shoal.frames"] > 0 and span.attributes["shoal.total_s"] > 0


def test_a_replica_has_its_part_in_the_trace_between_request_and_worker() -> None:
    async def work() -> None:
        async with cluster({}, {}) as (http, _, fleet):
            await until(lambda: len(fleet.lanes) == 2)
            answer = await http.post("/tts", data=TEXT, headers=HEADER)
            assert answer.status_code == 200
            assert (await http.post("/tts", data={"text": "runaway forever"})).status_code == 200
            await until(lambda: len(received.spans()) >= 7)

    with collector() as received:
        asyncio.run(work())
    request, other = named(received, "synthesize")
    assert (request.trace_id, request.parent_id) == (TRACE_ID, PARENT_ID)
    spoken = named(received, "speak in replica")
    ours = [span for span in spoken if span.parent_id == request.span_id]
    assert len(ours) == 2 and {span.trace_id for span in ours} == {TRACE_ID}
    assert {span.attributes["shoal.replica"] for span in ours} <= {"r0", "r1"}
    again = [span for span in spoken if span.parent_id == other.span_id]
    assert len(again) == 3 and other.trace_id != TRACE_ID, "each attempt is seen"


def test_what_a_replica_is_asked_leads_on_to_its_worker(tmp_path: Path) -> None:
    log = tmp_path / "spoken"

    async def work() -> None:
        async with cluster({"spoken_file": str(log)}) as (http, _, fleet):
            await until(lambda: fleet.lead.is_able)
            assert (await http.post("/tts", data={"text": "Hello."})).status_code == 200

    with collector() as received:
        asyncio.run(work())
    (span,) = named(received, "speak in replica")
    (parent,) = parents(log)
    assert parent.startswith(f"00-{span.trace_id}-{span.span_id}-0")


def test_who_leaves_is_seen_in_the_replica() -> None:
    async def work() -> None:
        async with cluster({}) as (http, replicas, fleet):
            await leave(http, replicas, fleet)

    with collector() as received:
        asyncio.run(work())
    (span,) = named(received, "speak in replica")
    assert span.is_error and span.attributes["error.type"] == "aborted"


def test_without_a_collector_no_message_has_a_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    log = tmp_path / "spoken"

    async def work() -> None:
        async with client({"spoken_file": str(log)}) as http:
            assert (await http.post("/tts", data=TEXT, headers=HEADER)).status_code == 200

    asyncio.run(work())
    assert parents(log) == ["", ""]
