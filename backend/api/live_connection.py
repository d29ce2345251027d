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
from backend.errors import Aborted, RateLimited, TimedOut
from backend.serving.session import SpeechSession
from backend.smart_backend import SmartBackend


class LeftAlone(Exception):
    """Nothing is pending, and the client neither says anything nor answers: nobody is there."""


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

    unread_message: str
    """What one is told that does not read, with `{idle_s}`."""

    def __init__(self, socket: WebSocket, backend: SmartBackend) -> None:
        self._socket, self._backend = socket, backend
        self._clients: LiveClients = socket.app.state.live_clients
        self._idle_s = backend.settings.live_idle_s
        self._begin()
        self._clock = asyncio.get_running_loop().time
        self._active_s = self._clock()
        """When it was last the server's turn, or something was received or sent."""

    def _begin(self) -> None:
        """Nothing is written, and nothing spoken."""
        self._text = LiveText(self._backend.settings.max_text_characters)
        self._session: SpeechSession | None = None

    async def _race(
        self, read: Coroutine[Any, Any, None], speak: Coroutine[Any, Any, None]
    ) -> None:
        """Read and speak until all is spoken; raises what ends either early, `LeftAlone` where
        that is the deadline and nothing was pending.

        A client that leaves is noticed while it is spoken to, and the speech given up.
        """
        reading = asyncio.create_task(read, name="live text")
        speaking = asyncio.create_task(speak, name="live speech")
        try:
            await asyncio.wait({reading, speaking}, return_when=asyncio.FIRST_COMPLETED)
            (speaking if speaking.done() else reading).result()
        except TimedOut:
            session = self._session
            if session and session.deadline_s <= self._clock() and not self._is_pending():
                raise LeftAlone from None
            raise
        finally:
            reading.cancel()
            speaking.cancel()
            await asyncio.gather(reading, speaking, return_exceptions=True)

    async def _next_message(self) -> Message:
        """The next message; raises `WebSocketDisconnect`, and `LeftAlone`.

        A client that is silent though it is its turn may stay while it answers pings. Where it has
        left something unfinished, that is the end of its text.
        """
        message: Message | None = None
        while message is None:
            try:
                async with asyncio.timeout_at(self._active_s + self._idle_s):
                    message = await self._socket.receive()
            except TimeoutError:
                if self._is_at_work():
                    self._active_s = self._clock()
                elif self._clock() >= self._active_s + self._idle_s:  # else audio was sent
                    await self._look_after()
        self._active_s = self._clock()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1006))
        return message

    async def _look_after(self) -> None:
        """What becomes of a client that has said nothing for so long."""
        if self._text.is_pending:
            self._text.end()
        else:
            answers_ping = getattr(self._socket.state, "answers_ping", None)
            if answers_ping is None or not await answers_ping(self._idle_s):
                raise LeftAlone
        self._active_s = self._clock()

    def _is_pending(self) -> bool:
        """Something that was written is not spoken to its end."""
        return self._text.is_pending or self._is_at_work()

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
        except WebSocketDisconnect:  # noticed here before it was read
            raise Aborted("The client hung up.") from None
        self._active_s = self._clock()
