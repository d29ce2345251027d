"""`WS /v1/tts/live`: text in piece by piece, audio out as it is made, as events in msgpack.

The client sends `start` with a request, then `text` as it has it, `flush` to have spoken what is
there, `stop` at the end. The server sends `audio`, `log` for what the client should know, and last
`finish` with a reason, `stop` or `error`. After a `stop` another `start` may follow; the server
waits for it a moment, and closes.
"""

import asyncio
from contextlib import aclosing, suppress
from dataclasses import replace
from itertools import count
from typing import Any, NoReturn

import msgspec
from fastapi import APIRouter, WebSocket
from loguru import logger

from backend.api.answer import encoded
from backend.api.bulk import by_size, in_bulk
from backend.api.dependencies import Asked, Backend, Origin
from backend.api.fish.body import FishSpeech, Wanted, decode, wanted
from backend.api.live_connection import LeftAlone, LiveConnection
from backend.api.voice_names import saved_voice
from backend.errors import BadField, BlankText, ShoalError

router = APIRouter()

_MAX_REASON_CHARACTERS = 500
_FAREWELL_S = 5.0
"""For the last words to a client that may have stopped listening."""
_REUSE_S = 2.0
"""After a `finish` another `start` is awaited for so long: some clients end when the server closes,
npm's fish-audio for one."""
_KEEPERS = ("livekit-plugins-fishaudio/",)
"""Clients, by their `User-Agent`, that keep the connection for the next time somebody has said
something. Any client that came back once is taken for one."""
_ID_CHARACTERS = 56
"""Of a request's id, so that a number fits behind it."""


class _Start(msgspec.Struct, tag_field="event", tag="start"):
    request: FishSpeech


class _Text(msgspec.Struct, tag_field="event", tag="text"):
    text: str


class _Flush(msgspec.Struct, tag_field="event", tag="flush"):
    pass


class _Stop(msgspec.Struct, tag_field="event", tag="stop"):
    pass


_Event = _Start | _Text | _Flush | _Stop


@router.websocket("/v1/tts/live")
async def live(socket: WebSocket, backend: Backend, origin: Asked) -> None:
    """Speak text that is still being written."""
    await socket.accept()
    conversation = _Conversation(socket, backend)
    finish: dict[str, str] | None = None
    try:
        await conversation.hold(origin)
    except LeftAlone:
        logger.info("Live request {}: the client was silent.", origin.request_id)
        finish = {"event": "finish", "reason": "stop"} if conversation.is_awaiting else None
    except ShoalError as error:
        logger.info("Live request {} ended: {}", origin.request_id, error)
        message = str(error)[:_MAX_REASON_CHARACTERS]
        finish = {"event": "finish", "reason": "error", "message": message}
    with suppress(TimeoutError):
        async with asyncio.timeout(_FAREWELL_S):
            if finish:
                await socket.send_bytes(msgspec.msgpack.encode(finish))
            await socket.close()


class _Conversation(LiveConnection):
    """One connection: reads and speaks at the same time, one request after another."""

    unread_message = "The audio was not taken for {idle_s} s."
    is_awaiting = True
    """A `finish` is due to the client."""

    async def hold(self, origin: Origin) -> None:
        """Speak what comes until it is over; raises what ends it early."""
        with self._clients.one_more(origin.client):
            is_kept = self._socket.headers.get("user-agent", "").startswith(_KEEPERS)
            for number in count(1):
                asked = await self._start(origin, number, is_kept)
                if asked is None:
                    return
                self.is_awaiting = True
                with suppress(BlankText):  # no mistake: it may pass on what another program writes
                    self._text.write(asked.speech.text)
                    await self._race(self._read(), self._speak(asked))
                await self._say(event="finish", reason="stop")
                self.is_awaiting = False
                is_kept = is_kept or number > 1
                self._begin()

    async def _start(self, origin: Origin, number: int, is_kept: bool) -> Wanted | None:
        """The next request; None where none comes after the first."""
        # Apart from the conversation, which would hold the event and its recordings to its end.
        event = await (self._receive() if number == 1 else self._another(is_kept))
        if event is None:
            return None
        if not isinstance(event, _Start):
            raise BadField("event: the first event is to be start, with a request.")
        if number > 1:
            origin = replace(origin, request_id=f"{origin.request_id[:_ID_CHARACTERS]}.{number}")
        headers = self._socket.headers
        return await in_bulk(lambda: wanted(event.request, "msgpack", headers, origin))

    async def _another(self, is_kept: bool) -> _Start | None:
        """The `start` after a `finish`; what else comes late belongs to what is over."""
        try:
            async with asyncio.timeout(None if is_kept else _REUSE_S):
                while not isinstance(event := await self._receive(), _Start):
                    pass
        except TimeoutError:
            return None
        return event

    async def _speak(self, asked: Wanted) -> None:
        await self._text.begun()  # a client without text takes no place
        warnings = list(asked.warnings)
        voice = await saved_voice(self._backend, asked.speech.voice, warnings)
        # Its deadline counts from here: until now it was the client's turn.
        speech = replace(
            asked.speech,
            text="",
            voice=voice,
            speed=asked.output.speed,
            is_streamed=True,
            arrived_s=None,
        )
        async with self._backend.speak(speech, texts=self._text) as session:
            self._session = session
            told = session.warnings
            await self._log(*warnings, *told)
            async with aclosing(encoded(session, asked.output)) as audio:
                async for piece in audio:
                    await self._say(event="audio", audio=piece)
            await self._log(*session.warnings[len(told) :])

    async def _read(self) -> NoReturn:
        """Take events until the connection ends, which raises."""
        while True:
            event = await self._receive()
            if isinstance(event, _Start):
                raise BadField("event: start is sent once, and again after finish.")
            if self._text.has_ended:
                continue
            match event:
                case _Text():
                    self._text.write(event.text)
                case _Flush():
                    self._text.flush()
                case _Stop():
                    self._text.end()

    async def _receive(self) -> _Event:
        data = (await self._next_message()).get("bytes")
        if data is None:
            raise BadField("The event is text; send events in msgpack, as binary frames.")
        event: _Event = await by_size(len(data), lambda: decode(data, "msgpack", _Event))
        return event

    async def _log(self, *warnings: str) -> None:
        for warning in warnings:
            await self._say(event="log", message=warning)

    async def _say(self, **event: Any) -> None:
        await self._send({"type": "websocket.send", "bytes": msgspec.msgpack.encode(event)})
