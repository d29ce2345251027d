"""A Shoal server made of answers, for tests of the pages: it has no socket, only a script."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import httpx

from ui.client import Shoal
from ui.setup import Setup

URL = "http://127.0.0.1:8000"
RATE_HZ = 8_000
Answer = httpx.Response | Callable[[httpx.Request], httpx.Response]


class Body(httpx.AsyncByteStream):
    """An answer that comes piece by piece, and knows when its connection was let go."""

    def __init__(
        self,
        pieces: Iterable[bytes],
        waits: asyncio.Event | None = None,
        error: Exception | None = None,
    ) -> None:
        self._pieces, self._waits, self._error = list(pieces), waits, error
        self.was_closed = asyncio.Event()
        self.is_waiting = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece
        if self._waits is not None:
            self.is_waiting.set()
            await self._waits.wait()
        if self._error is not None:
            raise self._error

    async def aclose(self) -> None:
        self.was_closed.set()


class Scripted:
    """Answers by method and path; the last one given to a route is given again and again."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []
        self._answers: dict[tuple[str, str], list[Answer]] = {}

    def on(self, method: str, path: str, *answers: Answer) -> "Scripted":
        self._answers[method, path] = list(answers)
        return self

    def client(self, **setup: Any) -> Shoal:
        transport = httpx.MockTransport(self._answer)
        return Shoal(Setup(**{"api_url": URL, **setup}), transport)

    def bodies(self) -> list[Any]:
        return [json.loads(each.content) for each in self.asked]

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.asked.append(request)
        answers = self._answers.get((request.method, request.url.raw_path.decode().split("?")[0]))
        if answers is None:
            return httpx.Response(404, json={"detail": "no such route"})
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return answer(request) if callable(answer) else answer


def sse(kind: str, **fields: Any) -> bytes:
    """One event as the server writes it."""
    if isinstance(audio := fields.get("audio"), bytes):
        fields["audio"] = base64.b64encode(audio).decode()
    return f"data: {json.dumps({'type': kind, **fields})}\n\n".encode()


def stream(*pieces: bytes) -> httpx.Response:
    return httpx.Response(200, stream=Body(pieces))


def tone(seconds: float, level: int = 8000) -> bytes:
    """16-bit mono PCM that is not silent."""
    count = round(seconds * RATE_HZ)
    return b"".join(
        (level if index // 9 % 2 else -level).to_bytes(2, "little", signed=True)
        for index in range(count)
    )


def plan(*texts: str, **fields: Any) -> dict[str, Any]:
    """The fields of a `plan` event."""
    script = [{"text": text, "voice": ""} for text in texts]
    return {"request_id": "r", "seed": 5, "sample_rate": RATE_HZ, "script": script, **fields}


def spoken(*texts: str, seconds: float = 0.5, **fields: Any) -> list[bytes]:
    """Everything that the server sends of a text it speaks."""
    events = [sse("plan", **plan(*texts, **fields))]
    for index, text in enumerate(texts):
        events.append(sse("sentence.start", index=index, text=text, voice=""))
        events.append(sse("audio", index=index, audio=tone(seconds)))
        ends = {"start_s": index * seconds, "end_s": (index + 1) * seconds, "rtf": 0.5}
        events.append(sse("sentence.end", index=index, **ends))
    return [*events, sse("done", request_id="r", seed=5, rtf=0.5, **fields)]


def setup_in(folder: Path, **values: Any) -> Setup:
    return Setup(**{"api_url": URL, "data_dir": folder, **values})
