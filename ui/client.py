"""The only HTTP caller of the pages: what a Shoal server can be asked, and how it refuses."""

import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from ui.live import Live, connect
from ui.setup import Setup
from ui.wire import Event, Refused, ServerAway

Answer = dict[str, Any]

_QUICK_S = 10.0
_SPEECH_S = 600.0
"""Patience with a slow machine's next piece of audio; a server that queues says so every 2 s."""
_PIECE_BYTES = 32 * 1024


@dataclass(frozen=True, slots=True)
class Download:
    """A file that the server sent."""

    name: str
    data: bytes


class Shoal:
    """One Shoal server. Every method raises `ServerAway` or `Refused`; use it in one event loop."""

    def __init__(self, setup: Setup, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._setup = setup
        headers = {"Authorization": f"Bearer {setup.api_key}"} if setup.api_key else {}
        self._http = httpx.AsyncClient(
            base_url=setup.api_url,
            headers=headers,
            timeout=httpx.Timeout(_QUICK_S, read=60.0),
            transport=transport,
            trust_env=not setup.is_server_here,
            limits=httpx.Limits(max_connections=200),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    # -- the machine ------------------------------------------------------------------------------

    async def health(self) -> Answer:
        """How the server is."""
        return await self._json("GET", "/health", timeout=_QUICK_S)

    async def hardware(self) -> Answer:
        """What was found of its machine, and what was chosen for it."""
        return await self._json("GET", "/hardware")

    async def system_status(self) -> Answer:
        """How busy its machine is."""
        return await self._json("GET", "/system-status")

    async def emotions(self) -> Answer:
        """Where emotion comes from."""
        return await self._json("GET", "/emotions")

    async def optimize(self) -> Answer:
        """Clear caches, look again, go on with less or more."""
        return await self._json("POST", "/optimize-for-hardware")

    async def estimate(self, text: str, **fields: Any) -> Answer:
        """What speaking `text` would take; an older server knows of the text alone."""
        try:
            return await self._json("POST", "/estimate-memory", json={"text": text, **fields})
        except Refused as error:
            if error.status != 422 or not fields:
                raise
            return await self._json("POST", "/estimate-memory", json={"text": text})

    async def log_files(self) -> list[Answer]:
        """The files of its request log, the newest first; none of an older server."""
        try:
            found = await self._json("GET", "/metrics/files")
        except Refused as error:
            if error.status in (404, 405):
                return []
            raise
        return list(found["files"])

    async def log_file(self, name: str, last_bytes: int | None = None) -> bytes:
        """One of them: its header and as many of its last lines as `last_bytes` hold."""
        params = {"last_bytes": last_bytes} if last_bytes else {}
        path = f"/metrics/files/{quote(name, safe='')}"
        return (await self._send("GET", path, params=params)).content

    # -- voices -----------------------------------------------------------------------------------

    async def voices(self) -> list[Answer]:
        """The saved voices, the oldest first."""
        return list((await self._json("GET", "/voices"))["voices"])

    async def save_voice(
        self, name: str, recording: bytes, transcript: str = "", description: str = ""
    ) -> Answer:
        """Save the voice of `recording`, an audio file."""
        fields = {"name": name, "transcript": transcript, "description": description}
        files = {"audio": ("recording", recording)}
        return await self._json("POST", "/voices", data=fields, files=files, timeout=_SPEECH_S)

    async def change_voice(self, voice: str, **changes: str) -> Answer:
        """Change the name, transcript or description of `voice`."""
        return await self._json("PATCH", _voice(voice), json=changes)

    async def delete_voice(self, name: str) -> None:
        """Delete it."""
        await self._send("DELETE", _voice(name))

    async def hear_voice(self, name: str) -> bytes:
        """A short sample of it, as a WAV file."""
        return (await self._send("GET", f"{_voice(name)}/audio", timeout=_SPEECH_S)).content

    async def export_voice(self, name: str) -> Download:
        """It as one file."""
        answer = await self._send("GET", f"{_voice(name)}/export")
        voice = await self._json("GET", _voice(name))
        return Download(f"{voice['name']}.voice", answer.content)

    async def import_voice(self, data: bytes, name: str = "") -> Answer:
        """Save the voice in a file that `export_voice` gave; `name` is another than its own."""
        fields = {"name": name} if name else {}
        files = {"file": ("voice", data)}
        return await self._json("POST", "/voices/import", data=fields, files=files)

    # -- speech -----------------------------------------------------------------------------------

    async def speak(
        self, fields: Mapping[str, Any], recording: bytes | None = None
    ) -> AsyncGenerator[Event, None]:
        """Speak what `fields` of `POST /tts` say, in the voice of `recording` if there is one.

        Yields the server's events; `audio` ones bear 16-bit little-endian mono PCM at the rate of
        the plan. Closing this gives the speech up in the server.
        """
        body = {**fields, "response_format": "pcm", "stream": "events"}
        if recording is not None:
            body["speaker_file"] = base64.b64encode(recording).decode()
        try:
            async with self._stream("/tts", body) as answer:
                async for event in _events(answer.aiter_lines()):
                    yield event
        except Refused as error:
            if error.status != 422 or not error.detail.startswith("stream"):
                raise
        else:
            return
        async for event in self._speak_without_events(body):
            yield event

    async def _speak_without_events(self, body: Answer) -> AsyncGenerator[Event, None]:
        """The same from a server that is too old to tell what happens while it speaks."""
        model = (await self.health())["model"] or {}
        rate_hz = body.get("sample_rate") or model.get("sample_rate_hz") or 44_100
        body = {**body, "stream": True, "sample_rate": rate_hz}
        async with self._stream("/tts", body) as answer:
            request_id = answer.headers.get("x-request-id", "")
            told = {"request_id": request_id, "sample_rate": rate_hz, "sentences": None}
            yield Event("plan", {**told, "engine": answer.headers.get("x-engine", "")})
            if warning := answer.headers.get("x-warning"):
                yield Event("warning", {"detail": warning})
            async for piece in answer.aiter_bytes(_PIECE_BYTES):
                yield Event("audio", {"index": 0}, piece)
        yield Event("done", {"request_id": request_id})

    @asynccontextmanager
    async def speak_live(self, start: Mapping[str, Any]) -> AsyncIterator[Live]:
        """A connection that speaks text while it is written; `start` says how."""
        async with connect(self._setup.api_url, self._setup.api_key, start) as live:
            yield live

    # -- how it is asked --------------------------------------------------------------------------

    async def _json(self, method: str, path: str, **request: Any) -> Answer:
        try:
            answer = (await self._send(method, path, **request)).json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ServerAway(f"What answers at {self._setup.api_url} is no Shoal server.")
        return answer

    async def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            answer = await self._http.request(method, path, **request)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._away(error) from None
        if answer.is_error:
            raise _refusal(answer)
        return answer

    @asynccontextmanager
    async def _stream(self, path: str, body: Answer) -> AsyncIterator[httpx.Response]:
        patience = httpx.Timeout(_QUICK_S, read=_SPEECH_S, write=60.0)
        try:
            async with self._http.stream("POST", path, json=body, timeout=patience) as answer:
                if answer.is_error:
                    await answer.aread()
                    raise _refusal(answer)
                yield answer
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._away(error) from None

    def _away(self, error: Exception) -> ServerAway:
        url = self._setup.api_url
        if isinstance(error, httpx.TimeoutException):
            return ServerAway(f"The server at {url} did not answer in time.")
        if isinstance(error, httpx.ConnectError):
            return ServerAway(f"No server answers at {url}. Is `shoal serve` running there?")
        return ServerAway(f"The connection to {url} broke off.")


def _voice(name: str) -> str:
    return f"/voices/{quote(name, safe='')}"


def _refusal(answer: httpx.Response) -> Refused:
    """What an error says, whatever program answered."""
    try:
        body = answer.json()
        detail = str(body["detail"])
    except (ValueError, KeyError, TypeError):
        detail = f"The server answered {answer.status_code} {answer.reason_phrase}."
    retry = answer.headers.get("retry-after", "")
    return Refused(answer.status_code, detail, float(retry) if retry.isdecimal() else None)


async def _events(lines: AsyncIterator[str]) -> AsyncGenerator[Event, None]:
    """Server-sent events, each with its JSON on one line."""
    is_over = False
    async for line in lines:
        if not line.startswith("data:"):
            continue
        event = _event(line.removeprefix("data:"))
        is_over = is_over or event.kind in ("done", "error")
        yield event
    if not is_over:
        raise ServerAway("The server stopped in the middle of the speech.")


def _event(data: str) -> Event:
    try:
        fields = json.loads(data)
        kind = str(fields.pop("type"))
        return Event(kind, fields, base64.b64decode(fields.pop("audio", "")))
    except (ValueError, KeyError, TypeError, AttributeError):  # cut off, or not ours
        raise ServerAway("The server broke off in the middle of the speech.") from None
