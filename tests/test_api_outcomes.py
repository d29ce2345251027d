"""What the log, Prometheus and `GET /metrics` say of a request that ends early, on every route."""

import asyncio
import contextlib
import csv
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.fish_requests import pack
from tests.scripted import children, server
from tests.test_api_answer import THREE, idle
from tests.test_api_events import STREAMS, stream_of

SOCKETS = ("/v1/audio/stream", "/v1/tts/live")
WHOLE = ("/tts whole", "/tts timestamps", "/v1/tts whole")
ROUTES = (*STREAMS, *SOCKETS, *WHOLE)
CRASH = f"{THREE['text']} Now crash, please."
SLOW = "This is slow."
"""Two seconds of audio pieces."""


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)
    assert not children()


def request_of(route: str, text: str) -> tuple[str, dict[str, Any]]:
    """Path and body of one of ROUTES that is no socket."""
    path, _, kind = route.partition(" ")
    if kind == "whole":
        return path, {"text": text}
    if kind == "timestamps":
        return path, {"text": text, "timestamps": True}
    return stream_of(route, text)


@asynccontextmanager
async def speaking(
    http: httpx.AsyncClient, route: str, text: str, timeout_s: float
) -> AsyncIterator[AsyncIterator[Any]]:
    """What comes back, frame by frame or piece by piece; leaving the block hangs up."""
    headers = {"X-Timeout-S": str(timeout_s)}
    if route not in SOCKETS:
        path, body = request_of(route, text)
        async with http.stream("POST", path, json=body, headers=headers) as answer:
            yield answer.aiter_raw()
        return
    url = str(http.base_url).replace("http", "ws").rstrip("/") + route
    async with connect(url, additional_headers=headers) as socket:
        if route == "/v1/tts/live":
            await socket.send(pack({"event": "start", "request": {"text": text, "format": "pcm"}}))
            await socket.send(pack({"event": "stop"}))
        else:
            await socket.send(json.dumps({"type": "text", "text": text}))
            await socket.send(json.dumps({"type": "end"}))
        yield aiter(socket)


async def ended(http: httpx.AsyncClient, folder: Path) -> tuple[str, str, str]:
    """Outcome, code and status of the only request, once it is over; held against the counters."""
    await idle(http)
    await http.get("/metrics/files")  # waits until the rows are written
    (log,) = folder.glob("synthesis_*.csv")
    with log.open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    outcome = row["outcome"]
    counted = (await http.get("/metrics")).json()["since_start"]["outcomes"]
    assert counted == {name: int(name == outcome) for name in counted}
    told = (await http.get("/metrics/prometheus")).text
    assert f'shoal_requests_total{{outcome="{outcome}"}} 1.0' in told
    return outcome, row["error_code"], row["status"]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("text", "timeout_s", "expected"),
    [
        (CRASH, 60.0, ("failed", "engine_down", "503")),
        (SLOW, 0.7, ("failed", "timed_out", "504")),
        (THREE["text"], 60.0, ("success", "", "200")),
    ],
)
def test_how_a_request_ended(
    route: str, text: str, timeout_s: float, expected: tuple[str, str, str], tmp_path: Path
) -> None:
    async def work() -> None:
        async with server(metrics=True, metrics_dir=tmp_path) as http:
            with contextlib.suppress(httpx.RemoteProtocolError, ConnectionClosed):  # it is cut off
                async with speaking(http, route, text, timeout_s) as pieces:
                    async for _ in pieces:
                        pass
            assert await ended(http, tmp_path) == expected

    run(work())


@pytest.mark.parametrize("route", [*STREAMS, *SOCKETS])
def test_a_client_that_leaves_in_the_middle_is_no_failure(route: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with server(metrics=True, metrics_dir=tmp_path) as http:
            async with speaking(http, route, SLOW, 60.0) as pieces:
                heard = 0
                while heard < 3:
                    heard += len(await anext(pieces)) > 0
                while not (await http.get("/health")).json()["queue"]["speaking"]:
                    await asyncio.sleep(0)
            assert await ended(http, tmp_path) == ("aborted", "aborted", "")

    run(work())


@pytest.mark.parametrize("route", WHOLE)
def test_a_client_that_does_not_wait_for_the_answer_is_no_failure(
    route: str, tmp_path: Path
) -> None:
    async def work() -> None:
        async with server(metrics=True, metrics_dir=tmp_path) as http:
            path, body = request_of(route, "wait")
            posting = asyncio.create_task(http.post(path, json=body))
            while not (await http.get("/health")).json()["queue"]["speaking"]:
                await asyncio.sleep(0.01)
            posting.cancel()
            assert await ended(http, tmp_path) == ("aborted", "aborted", "")

    run(work())
