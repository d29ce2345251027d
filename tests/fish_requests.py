"""What the tests of Fish's routes send, and what they make of the answers."""

import asyncio
import io
import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import httpx
import msgspec
import soundfile

from tests.scripted import children

HELLO = {"text": "Hello from the test."}
HOSTED = {"model": "s1"}
"""What clients of the hosted service send with every request."""
JSON = {"Accept": "application/json"}
MSGPACK = {"Content-Type": "application/msgpack"}

pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)
    assert not children()


async def speak(
    http: httpx.AsyncClient, headers: dict[str, str] | None = None, **fields: Any
) -> httpx.Response:
    body = pack(HELLO | fields)
    return await http.post("/v1/tts", content=body, headers=MSGPACK | (headers or {}))


async def save(http: httpx.AsyncClient, title: str = "anna", **fields: Any) -> httpx.Response:
    files = [("voices", b"RIFF of " + title.encode())]
    return await http.post("/model", data={"title": title, **fields}, files=files)


def assert_is_error(answer: httpx.Response, status: int, says: str) -> None:
    """In the shape that both generations of the client read."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body["status"] == status
    assert body["message"] == body["detail"]
    assert says in body["message"]
    if answer.request.url.path.startswith("/v1/references/"):
        assert body["success"] is False


def wav_seconds(data: bytes) -> float:
    return float(soundfile.info(io.BytesIO(data)).duration)


def spoken(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]
