"""Speech to HTTP answers: whole with every figure, as a stream, or as JSON with timestamps."""

import asyncio
import base64
import json
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, closing
from typing import IO

from fastapi import Request, Response
from loguru import logger
from starlette.types import Receive, Scope, Send

from backend.api.dependencies import unless_hung_up
from backend.api.headers import figures, figures_at_start
from backend.audio.subtitles import srt, webvtt
from backend.audio.write import AudioWriter, Outlet, carried_rate_hz, content_type
from backend.core import AudioOutput, SpeechRequest
from backend.errors import ShoalError
from backend.session import SpeechSession
from backend.smart_backend import SmartBackend

_IN_MEMORY_BYTES = 8 * 1024 * 1024
"""A longer answer that is sent in one piece waits on disk."""
_PIECE_BYTES = 48 * 1024
"""Sent in one go; a multiple of three, so that pieces in base64 can be joined."""
_ENCODED_S = 0.5
"""Of audio encoded in one go: others are served in between."""
_SUBTITLES = {"vtt": webvtt, "srt": srt}

Events = Callable[[AsyncIterator[bytes], SpeechSession], AsyncGenerator[bytes, None]]
"""Wraps the encoded audio of a session, as server-sent events say."""


async def answer(
    request: Request,
    backend: SmartBackend,
    speech: SpeechRequest,
    output: AudioOutput,
    *,
    events: Events | None = None,
    media: str | None = None,
) -> Response:
    """Speak `speech`, streamed if it says so, else in one piece with every figure in the headers.

    What is refused before the first audio raises, and keeps its status; later there is only the
    connection to be cut. A client that hangs up gives the speech up. `events` wraps a stream,
    whose type is `media` then.
    """
    if speech.is_streamed:
        return await unless_hung_up(request, _open_stream(backend, speech, output, events, media))
    return await unless_hung_up(request, _speak_whole(backend, speech, output))


async def answer_json(
    request: Request,
    backend: SmartBackend,
    speech: SpeechRequest,
    output: AudioOutput,
    subtitles: str,
) -> Response:
    """Speak `speech` whole; JSON of the audio in base64 and of where each sentence is in it.

    `subtitles` is "vtt", "srt" or "".
    """
    return await unless_hung_up(request, _speak_json(backend, speech, output, subtitles))


async def encoded(session: SpeechSession, output: AudioOutput) -> AsyncGenerator[bytes, None]:
    """The session's audio as `output` wants it, in pieces, as soon as it is made."""
    outlet = Outlet()
    with closing(AudioWriter(outlet, output, session.info.sample_rate_hz)) as writer:
        async for _ in _write(writer, session):
            if data := outlet.take():
                yield data
    if data := outlet.take():
        yield data


async def _write(writer: AudioWriter, session: SpeechSession) -> AsyncIterator[None]:
    """Write the session, a little at a time."""
    step = 4 * round(_ENCODED_S * session.info.sample_rate_hz)
    async for chunk in session:
        for start in range(0, len(chunk.samples), step):
            if start:
                await asyncio.sleep(0)
            writer.write(chunk.samples[start : start + step])
            yield


# -- in one piece ----------------------------------------------------------------------------------


async def _speak_whole(
    backend: SmartBackend, speech: SpeechRequest, output: AudioOutput
) -> Response:
    file = _temporary_file()
    try:
        session = await _speak_into(file, backend, speech, output)
    except BaseException:
        file.close()
        raise
    return FileAnswer(file, _content_type(session, output), figures(session, output.speed))


async def _speak_json(
    backend: SmartBackend, speech: SpeechRequest, output: AudioOutput, subtitles: str
) -> Response:
    file = _temporary_file()
    try:
        with _temporary_file() as audio:
            session = await _speak_into(audio, backend, speech, output)
            file.write(json.dumps(_timing(session, output, subtitles)).encode()[:-1])
            file.write(b', "audio": "')
            audio.seek(0)
            while data := audio.read(_PIECE_BYTES):
                file.write(base64.b64encode(data))
                await asyncio.sleep(0)
            file.write(b'"}')
    except BaseException:
        file.close()
        raise
    return FileAnswer(file, "application/json", figures(session, output.speed))


def _temporary_file() -> IO[bytes]:
    return tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)


async def _speak_into(
    file: IO[bytes], backend: SmartBackend, speech: SpeechRequest, output: AudioOutput
) -> SpeechSession:
    async with backend.speak(speech) as session:
        with closing(AudioWriter(file, output, session.info.sample_rate_hz)) as writer:
            async for _ in _write(writer, session):
                pass
    return session


def _timing(session: SpeechSession, output: AudioOutput, subtitles: str) -> dict[str, object]:
    speed = output.speed
    timing: dict[str, object] = {
        "format": output.format,
        "media_type": _content_type(session, output),
        "duration_s": round(session.audio_s / speed, 3),
        "sentences": [
            {
                "text": sentence.text,
                "start_s": round(sentence.start_s / speed, 3),
                "end_s": round(sentence.end_s / speed, 3),
                **({"voice": sentence.voice} if sentence.voice else {}),
            }
            for sentence in session.sentences
        ],
    }
    if subtitles:
        timing["subtitles"] = _SUBTITLES[subtitles](session.sentences, speed)
    return timing


def _content_type(session: SpeechSession, output: AudioOutput) -> str:
    wanted_hz = output.sample_rate_hz or session.info.sample_rate_hz
    return content_type(output.format, carried_rate_hz(output.format, wanted_hz))


class FileAnswer(Response):
    """Sends a temporary file, and leaves nothing of it."""

    def __init__(self, file: IO[bytes], media: str, headers: dict[str, str]) -> None:
        self._file = file
        length = file.seek(0, 2)
        super().__init__(media_type=media, headers=headers)
        self.headers["Content-Length"] = str(length)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        with self._file as file:
            file.seek(0)
            await send(_start(self))
            while data := file.read(_PIECE_BYTES):
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


# -- as it is made ---------------------------------------------------------------------------------


async def _open_stream(
    backend: SmartBackend,
    speech: SpeechRequest,
    output: AudioOutput,
    events: Events | None,
    media: str | None,
) -> Response:
    """Up to the first piece of audio, so that what is refused until then is answered."""
    stack = AsyncExitStack()
    try:
        session = await stack.enter_async_context(backend.speak(speech))
        audio = await stack.enter_async_context(aclosing(encoded(session, output)))
        pieces = (
            await stack.enter_async_context(aclosing(events(audio, session))) if events else audio
        )
        first = await anext(pieces, b"")
    except BaseException:
        await stack.aclose()
        raise
    headers = figures_at_start(session)
    return StreamAnswer(
        session, stack, first, pieces, media or _content_type(session, output), headers
    )


class StreamAnswer(Response):
    """Sends audio as it is made; a client that hangs up ends the speech at once."""

    def __init__(
        self,
        session: SpeechSession,
        stack: AsyncExitStack,
        first: bytes,
        pieces: AsyncIterator[bytes],
        media: str,
        headers: dict[str, str],
    ) -> None:
        self._session, self._stack = session, stack
        self._first, self._pieces = first, pieces
        super().__init__(media_type=media, headers=headers)
        del self.headers["Content-Length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; the response stays incomplete where the speech fails, so that it shows."""
        async with self._stack:
            try:
                await unless_hung_up(Request(scope, receive), self._send(send))
            except (ShoalError, TimeoutError) as error:
                logger.info("A stream was cut off: {}", error or "it took too long")

    async def _send(self, send: Send) -> None:
        # A client that reads nothing is given up, too.
        async with asyncio.timeout_at(self._session.deadline_s):
            await send(_start(self))
            await send({"type": "http.response.body", "body": self._first, "more_body": True})
            async for piece in self._pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


def _start(response: Response) -> dict[str, object]:
    return {
        "type": "http.response.start",
        "status": response.status_code,
        "headers": response.raw_headers,
    }
