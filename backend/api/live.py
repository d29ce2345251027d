"""`WS /v1/audio/stream`: text in piece by piece, as a language model writes it, speech out.

The client sends JSON in text frames:

    {"type": "session.start", "voice": "ann", "response_format": "mp3", …}   first, or left out
    {"type": "text", "text": "Once upon"}     as often as there is some; sentences are found in it
    {"type": "flush"}                         what is there is a sentence, whatever follows
    {"type": "end"}                           no text follows

The server sends JSON in text frames and audio in binary frames, which joined are one file:

    {"type": "session.started", "request_id": "…", "format": "mp3", "sample_rate": 24000}
    {"type": "sentence.start", "index": 0, "text": "Once upon a time."}
    …audio…
    {"type": "sentence.end", "index": 0, "start_s": 0.0, "end_s": 1.3}
    {"type": "done", "audio_s": 1.3, "sentences": 1, "usage": {…}, "warnings": []}
    {"type": "error", "status": 413, "code": "text_too_long", "detail": "…"}   instead of `done`

and closes: 1000 after `done`; after `error` 1008 where the client is wrong, 1009 where it sends too
much, 1013 where trying again later helps, 1011 where the server is at fault. A client that closes
is spoken to no more. One that is silent keeps the connection while it answers pings and all that it
wrote is spoken; what it left unfinished is ended, and one that does not answer is left (1000).
Where a sentence begins and ends among the frames is exact in pcm and wav; the encoders of
the other formats, and a change of tempo, give the last of a sentence away only with what follows.
"""

import asyncio
import contextlib
import json
from typing import Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from loguru import logger

from backend.api.bulk import by_size
from backend.api.dependencies import Backend, Origin, RequestId, origin_of
from backend.api.live_body import (
    End,
    Flush,
    FromClient,
    SessionStart,
    TextPiece,
    parse_message,
)
from backend.api.live_connection import LeftAlone, LiveConnection
from backend.api.status import status_of
from backend.api.voice_names import saved_voice
from backend.audio.write import AudioWriter, Outlet
from backend.core import SpeechRequest
from backend.errors import Aborted, BadField, ShoalError, TimedOut
from backend.languages import one_language
from backend.serving.session import SpeechSession

router = APIRouter()

_GOODBYE_S = 1.0
"""Patience with a client that is to be told why it is left, and does not read."""


@router.websocket("/v1/audio/stream")
async def stream(socket: WebSocket, backend: Backend, request_id: RequestId) -> None:
    """Speak what the client writes, while it writes."""
    await socket.accept()
    connection = _Connection(socket, backend)
    try:
        await connection.serve(origin_of(socket))
    except WebSocketDisconnect:
        logger.info("Live request {}: the client left.", request_id)
    except LeftAlone:
        logger.info("Live request {}: the client was silent.", request_id)
        await connection.close(1000)
    except ShoalError as error:
        logger.info("Live request {} refused: {}", request_id, error)
        await connection.refuse(status_of(error), error.code, str(error))


class _Connection(LiveConnection):
    """One client, and what is spoken to it."""

    unread_message = "What is sent was not read for {idle_s} s; read faster."

    async def serve(self, asked: Origin) -> None:
        """Read and speak, until all is spoken or the client has left."""
        with self._clients.one_more(asked.client):
            first = await self._receive()
            start = first if isinstance(first, SessionStart) else SessionStart()
            if first is not start:
                self._take(first)
            await self._race(self._read(), self._speak(start, asked))
            await self._socket.close()

    async def refuse(self, status: int, code: str, detail: str) -> None:
        """Tell the client what is wrong, and leave it."""
        await self.close(_close_code(status), status=status, code=code, detail=detail)

    async def close(self, close_code: int, **error: Any) -> None:
        """Leave the client, with an `error` if there is one."""
        with contextlib.suppress(WebSocketDisconnect, Aborted, TimeoutError, TimedOut):
            async with asyncio.timeout(_GOODBYE_S):
                if error:
                    await self._tell("error", **error)
                await self._socket.close(close_code)

    # -- in ---------------------------------------------------------------------------------------

    async def _read(self) -> None:
        """Take what the client writes; only leaving or a mistake of the client's ends it."""
        while True:
            self._take(await self._receive())

    def _take(self, message: FromClient) -> None:
        match message:
            case TextPiece():
                self._text.write(message.text)
            case Flush():
                self._text.flush()
            case End():
                self._text.end()
            case SessionStart():
                raise BadField("session.start comes first; open another connection.")

    async def _receive(self) -> FromClient:
        text = (await self._next_message()).get("text")
        if text is None:
            raise BadField("Binary frames are not read here; send JSON in text frames.")
        return await by_size(len(text), lambda: parse_message(text))

    # -- out --------------------------------------------------------------------------------------

    async def _speak(self, start: SessionStart, asked: Origin) -> None:
        output, outlet = start.output, Outlet()
        warnings: list[str] = []
        request = SpeechRequest(
            request_id=asked.request_id,
            text="",
            language=one_language(start.language, start.lang_code),
            sampling=start.sampling,
            voice=await saved_voice(self._backend, start.voice, warnings),
            long_text="split",
            normalize=start.normalize,
            pauses=start.pauses,
            speed=output.speed,
            is_streamed=True,
            timeout_s=asked.timeout_s,
            client=asked.client,
            trace_parent=asked.trace_parent,
        )
        rate_hz = self._backend.worker.loaded().sample_rate_hz
        with contextlib.closing(AudioWriter(outlet, output, rate_hz)) as writer:
            await self._tell(
                "session.started",
                request_id=asked.request_id,
                format=output.format,
                sample_rate=writer.sample_rate_hz,
            )
            await self._text.begun()  # a client without text takes no place
            async with self._backend.speak(request, self._text) as session:
                self._session = session
                await self._play(session, writer, outlet, output.speed)
        await self._tell("done", **_figures(session, output.speed, warnings))

    async def _play(
        self, session: SpeechSession, writer: AudioWriter, outlet: Outlet, speed: float
    ) -> None:
        index = -1
        async for chunk in session:
            if chunk.segment != index:
                index = chunk.segment
                await self._tell("sentence.start", index=index, text=session.speaking.text)
            writer.write(chunk.samples)
            await self._send_audio(outlet)
            if not chunk.samples:  # the sentence is over
                spoken = session.sentences[-1]
                start_s, end_s = round(spoken.start_s / speed, 3), round(spoken.end_s / speed, 3)
                await self._tell("sentence.end", index=index, start_s=start_s, end_s=end_s)
        writer.close()
        await self._send_audio(outlet)

    async def _send_audio(self, outlet: Outlet) -> None:
        if audio := outlet.take():
            await self._send({"type": "websocket.send", "bytes": audio})

    async def _tell(self, kind: str, **fields: Any) -> None:
        text = json.dumps({"type": kind, **fields})
        await self._send({"type": "websocket.send", "text": text})


def _figures(session: SpeechSession, speed: float, warnings: list[str]) -> dict[str, Any]:
    """What the client is told in the end."""
    stats = session.stats
    read, spoken = stats.prompt_tokens, stats.generated_tokens
    return {
        "audio_s": round(session.audio_s / speed, 3),
        "sentences": stats.segments,
        "usage": {"input_tokens": read, "output_tokens": spoken, "total_tokens": read + spoken},
        "warnings": [*warnings, *session.warnings],
    }


def _close_code(status: int) -> int:
    if status in (429, 503):
        return 1013  # try again later
    if status == 413:
        return 1009  # too big
    return 1011 if status == 500 else 1008  # a fault of the server's; of the client's
