"""A live connection: reads what the client writes and speaks it at the same time, within bounds."""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect
from starlette.types import Message

from backend.api.live_body import LiveText
from backend.api.status import RETRY_AFTER_S
from backend.errors import RateLimited, TimedOut
from backend.serving.session import SpeechSession
from backend.smart_backend import SmartBackend


class LiveClients:
    """How many live connections each client has open."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[str] = Counter()

    @contextmanager
    def one_more(self, client: str) -> Iterator[None]:
        """Count one of `client` while the block lasts; `RateLimited` where it has too many."""
        if self._open[client] >= self._most:
            raise RateLimited(
                f"{self._most} live connections of yours are open; close one first.",
                RETRY_AFTER_S,
            )
        self._open[client] += 1
        try:
            yield
        finally:
            self._open[client] -= 1
            if not self._open[client]:
                del self._open[client]


class LiveConnection:
    """What the live routes have in common; `_session` is set once it is spoken."""

    idle_advice: str
    """What a client is told to do that sent nothing for too long."""
    unread_message: str
    """What one is told that does not read, with `{idle_s}`."""

    def __init__(self, socket: WebSocket, backend: SmartBackend) -> None:
        self._socket, self._backend = socket, backend
        self._clients: LiveClients = socket.app.state.live_clients
        self._idle_s = backend.settings.live_idle_s
        self._text = LiveText(backend.settings.max_text_characters)
        self._session: SpeechSession | None = None
        self._clock = asyncio.get_running_loop().time
        self._active_s = self._clock()
        """When it was last the server's turn, or something was received or sent."""

    async def _race(
        self, read: Coroutine[Any, Any, None], speak: Coroutine[Any, Any, None]
    ) -> None:
        """Read and speak until all is spoken; raises what ends either early.

        A client that leaves is noticed while it is spoken to, and the speech given up.
        """
        reading = asyncio.create_task(read, name="live text")
        speaking = asyncio.create_task(speak, name="live speech")
        try:
            await asyncio.wait({reading, speaking}, return_when=asyncio.FIRST_COMPLETED)
            (speaking if speaking.done() else reading).result()
        finally:
            reading.cancel()
            speaking.cancel()
            await asyncio.gather(reading, speaking, return_exceptions=True)

    async def _next_message(self) -> Message:
        """The next message; raises `WebSocketDisconnect`, and `TimedOut` where the client sends
        nothing though it is its turn."""
        message: Message | None = None
        while message is None:
            try:
                async with asyncio.timeout_at(self._active_s + self._idle_s):
                    message = await self._socket.receive()
            except TimeoutError:
                if self._is_at_work():
                    self._active_s = self._clock()
                elif self._clock() >= self._active_s + self._idle_s:  # else audio was sent
                    raise TimedOut(
                        f"Nothing was sent for {self._idle_s:g} s; {self.idle_advice}."
                    ) from None
        self._active_s = self._clock()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1006))
        return message

    def _is_at_work(self) -> bool:
        """It is the server's turn: something is being spoken, or waits for it."""
        if self._session is None:
            return self._text.has_ended or self._text.is_flushed
        return self._text.has_ended or self._session.is_at_work

    async def _send(self, message: Message) -> None:
        """Wait until the client takes it, but not for ever."""
        try:
            async with asyncio.timeout(self._idle_s):
                await self._socket.send(message)
        except TimeoutError:
            raise TimedOut(self.unread_message.format(idle_s=f"{self._idle_s:g}")) from None
        self._active_s = self._clock()
