"""`WS /v1/tts/live`: text in piece by piece, audio out as it is made, as events in msgpack.

The client sends `start` with a request, then `text` as it has it, `flush` to have spoken what is
there, `stop` at the end. The server sends `audio`, `log` for what the client should know, and last
`finish` with a reason, `stop` or `error`.
"""

import asyncio
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any, NoReturn

import msgspec
from fastapi import APIRouter, WebSocket
from loguru import logger

from backend.api.answer import encoded
from backend.api.bulk import by_size, in_bulk
from backend.api.dependencies import Asked, Backend, Origin
from backend.api.fish.body import FishSpeech, Wanted, decode, wanted
from backend.api.live_connection import LiveConnection
from backend.errors import BadField, BlankText, ShoalError

router = APIRouter()

_MAX_REASON_CHARACTERS = 500
_FAREWELL_S = 5.0
"""For the last words to a client that may have stopped listening."""


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
    finish: dict[str, str] = {"event": "finish", "reason": "stop"}
    try:
        await _Conversation(socket, backend).hold(origin)
    except BlankText:
        pass  # no text is no mistake: the client may pass on what another program writes
    except ShoalError as error:
        logger.info("Live request {} ended: {}", origin.request_id, error)
        finish |= {"reason": "error", "message": str(error)[:_MAX_REASON_CHARACTERS]}
    with suppress(TimeoutError):
        async with asyncio.timeout(_FAREWELL_S):
            await socket.send_bytes(msgspec.msgpack.encode(finish))
            await socket.close()


class _Conversation(LiveConnection):
    """One connection: reads and speaks at the same time."""

    idle_advice = "send stop at the end"
    unread_message = "The audio was not taken for {idle_s} s."

    async def hold(self, origin: Origin) -> None:
        """Speak what comes until it is over; raises what ends it early."""
        with self._clients.one_more(origin.client):
            asked = await self._start(origin)
            self._text.write(asked.speech.text)
            await self._race(self._read(), self._speak(asked))

    async def _start(self, origin: Origin) -> Wanted:
        # Apart from the conversation, which would hold the event and its recordings to its end.
        event = await self._receive()
        if not isinstance(event, _Start):
            raise BadField("event: the first event is to be start, with a request.")
        headers = self._socket.headers
        return await in_bulk(lambda: wanted(event.request, "msgpack", headers, origin))

    async def _speak(self, asked: Wanted) -> None:
        await self._text.begun()  # a client without text takes no place
        # Its deadline counts from here: until now it was the client's turn.
        speech = replace(asked.speech, text="", is_streamed=True, arrived_s=None)
        async with self._backend.speak(speech, texts=self._text) as session:
            self._session = session
            told = session.warnings
            await self._log(*asked.warnings, *told)
            async with aclosing(encoded(session, asked.output)) as audio:
                async for piece in audio:
                    await self._say(event="audio", audio=piece)
            await self._log(*session.warnings[len(told) :])

    async def _read(self) -> NoReturn:
        """Take events until the connection ends, which raises."""
        while True:
            event = await self._receive()
            if self._text.has_ended:
                continue
            match event:
                case _Text():
                    self._text.write(event.text)
                case _Flush():
                    self._text.flush()
                case _Stop():
                    self._text.end()
                case _Start():
                    raise BadField("event: start is sent once, at the beginning.")

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
