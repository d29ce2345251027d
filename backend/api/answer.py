"""Speech to HTTP answers: whole with every figure, as a stream, or as JSON with timestamps."""

import asyncio
import base64
import json
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, closing, suppress
from dataclasses import dataclass
from typing import IO

from fastapi import Request, Response
from loguru import logger
from starlette.types import Message, Receive, Scope, Send

from backend.api.dependencies import unless_hung_up
from backend.api.headers import STREAMED, figures, figures_at_start
from backend.api.openapi import JSON
from backend.api.scratch import on_disk
from backend.api.sse import EVENT_STREAM
from backend.audio.subtitles import srt, webvtt
from backend.audio.write import AudioWriter, Outlet, carried_rate_hz, content_type
from backend.core import MIB, AudioOutput, EngineInfo, PcmChunk, SpeechRequest
from backend.errors import ShoalError
from backend.serving.session import SpeechSession, in_time
from backend.smart_backend import SmartBackend

_IN_MEMORY_BYTES = 8 * MIB
"""A longer answer that is sent in one piece waits on disk."""
PIECE_BYTES = 48 * 1024
"""Sent in one go; a multiple of three, so that pieces in base64 can be joined."""
_ENCODED_S = 0.75
"""Of audio encoded in one go: others are served in between. A piece of a stream is as long."""
_UNREAD = "What is spoken was not read in time; read faster, or send a longer X-Timeout-S."
_END: Message = {"type": "http.response.body", "body": b""}
_SUBTITLES = {"vtt": webvtt, "srt": srt}

_GOODBYE_S = 1.0
"""Patience with a client that is to be told why its stream ends, and does not read."""

LastWord = Callable[[ShoalError], bytes]
"""What a stream that fails ends with."""


@dataclass(frozen=True, slots=True)
class Events:
    """How a stream of audio is told in server-sent events."""

    wrap: Callable[[AsyncIterator[bytes], SpeechSession], AsyncGenerator[bytes, None]]
    failed: LastWord


async def answer(
    request: Request,
    backend: SmartBackend,
    speech: SpeechRequest,
    output: AudioOutput,
    *,
    events: Events | None = None,
) -> Response:
    """Speak `speech`, streamed if it says so, else in one piece with every figure in the headers.

    What is refused before the first audio raises, and keeps its status; later there is only the
    connection to be cut, or the last of the `events`. A client that hangs up gives the speech up.
    """
    if speech.is_streamed:
        return await unless_hung_up(request, _open_stream(backend, speech, output, events))
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
        async for chunk in session:
            await write_chunk(writer, chunk, session.info)
            if data := outlet.take():
                yield data
    if data := outlet.take():
        yield data


async def write_chunk(writer: AudioWriter, chunk: PcmChunk, info: EngineInfo) -> None:
    """Write `chunk`, a little at a time."""
    step = 4 * round(_ENCODED_S * info.sample_rate_hz)
    for start in range(0, len(chunk.samples), step):
        if start:
            await asyncio.sleep(0)
        writer.write(chunk.samples[start : start + step])


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
    return FileAnswer(file, media_of(session.info, output), figures(session, output.speed))


async def _speak_json(
    backend: SmartBackend, speech: SpeechRequest, output: AudioOutput, subtitles: str
) -> Response:
    file = _temporary_file()
    try:
        with _temporary_file() as audio:
            session = await _speak_into(audio, backend, speech, output)
            with on_disk():
                file.write(json.dumps(_timing(session, output, subtitles)).encode()[:-1])
                file.write(b', "audio": "')
                audio.seek(0)
                while data := audio.read(PIECE_BYTES):
                    file.write(base64.b64encode(data))
                    await asyncio.sleep(0)
                file.write(b'"}')
    except BaseException:
        file.close()
        raise
    return FileAnswer(file, JSON, figures(session, output.speed))


def _temporary_file() -> IO[bytes]:
    return tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)


async def _speak_into(
    file: IO[bytes], backend: SmartBackend, speech: SpeechRequest, output: AudioOutput
) -> SpeechSession:
    async with backend.speak(speech) as session:
        rate_hz = session.info.sample_rate_hz
        with on_disk(), closing(AudioWriter(file, output, rate_hz)) as writer:
            async for chunk in session:
                await write_chunk(writer, chunk, session.info)
    return session


def _timing(session: SpeechSession, output: AudioOutput, subtitles: str) -> dict[str, object]:
    speed = output.speed
    timing: dict[str, object] = {
        "format": output.format,
        "media_type": media_of(session.info, output),
        "duration_s": round(session.audio_s / speed, 3),
        "text": session.text,
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


def rate_of(info: EngineInfo, output: AudioOutput) -> int:
    """Samples a second of what is sent."""
    return carried_rate_hz(output.format, output.sample_rate_hz or info.sample_rate_hz)


def media_of(info: EngineInfo, output: AudioOutput) -> str:
    """What HTTP calls it."""
    return content_type(output.format, rate_of(info, output))


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
            while data := file.read(PIECE_BYTES):
                await send(_body(data))
            await send(_END)


# -- as it is made ---------------------------------------------------------------------------------


async def _open_stream(
    backend: SmartBackend, speech: SpeechRequest, output: AudioOutput, events: Events | None
) -> Response:
    """Up to the first piece of audio, so that what is refused until then is answered."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(backend.speak(speech))
        pieces = await stack.enter_async_context(aclosing(encoded(session, output)))
        if events:
            pieces = await stack.enter_async_context(aclosing(events.wrap(pieces, session)))
        first = await anext(pieces, b"")
        response = StreamAnswer(
            stack.pop_all(),
            first,
            pieces,
            session.deadline_s,
            EVENT_STREAM if events else media_of(session.info, output),
            figures_at_start(session),
            events.failed if events else None,
        )
    return response


class StreamAnswer(Response):
    """Sends what is spoken as it is made; a client that hangs up ends the speech at once.

    `stack` holds the speech, and is told what ended it early. Where the speech fails the response
    stays incomplete, so that it shows, or ends with what `failed` says of it.
    """

    def __init__(
        self,
        stack: AsyncExitStack,
        first: bytes,
        pieces: AsyncIterator[bytes],
        deadline_s: float,
        media: str,
        headers: Mapping[str, str],
        failed: LastWord | None = None,
    ) -> None:
        self._stack, self._deadline_s = stack, deadline_s
        self._first, self._pieces, self._failed = first, pieces, failed
        super().__init__(media_type=media, headers={**headers, **STREAMED})
        del self.headers["Content-Length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            async with self._stack:
                # A client that reads nothing is given up, too: later than what was not spoken in
                # time, which says so itself.
                sending = in_time(self._send(send), self._deadline_s + _GOODBYE_S, _UNREAD)
                await unless_hung_up(Request(scope, receive), sending)
        except ShoalError as error:
            logger.info("A stream was cut off: {}", error)
            if self._failed is None:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(_GOODBYE_S):
                    await send(_body(self._failed(error)))
                    await send(_END)

    async def _send(self, send: Send) -> None:
        await send(_start(self))
        await send(_body(self._first))
        async for piece in self._pieces:
            await send(_body(piece))
        await send(_END)


def _body(piece: bytes) -> Message:
    return {"type": "http.response.body", "body": piece, "more_body": True}


def _start(response: Response) -> Message:
    return {
        "type": "http.response.start",
        "status": response.status_code,
        "headers": response.raw_headers,
    }
