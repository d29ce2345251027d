"""A connection that became a WebSocket: uvicorn's, within the limits of `Limits`."""

import asyncio
import math
from functools import partial
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from backend.connections.outgoing import Outgoing
from backend.connections.patience import Patience
from backend.connections.quota import Holding
from backend.connections.shared import Shared

_READ_BYTES = 4 * 1024
"""Read in one turn of the loop: up to 700 messages, which take it a few milliseconds."""
_FRAGMENT_BYTES = 64
"""What a fragment takes in memory beside what is in it."""
_BURST_S = 1.0
"""For so long messages may come faster than they may come for ever."""
_ARE_YOU_THERE = b"there"
"""What a ping holds that the app asked for; uvicorn's own holds a number."""
_INVALID_DATA, _POLICY_VIOLATION, _TRY_AGAIN_LATER = 1007, 1008, 1013


class WebSocketProtocol(WebSocketsSansIOProtocol, asyncio.BufferedProtocol):
    """One WebSocket, from its handshake to its end; it has the place of the connection it was."""

    def __init__(self, shared: Shared, network: str, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._shared, self._network = shared, network
        self._application: ASGIApp = self.app
        self.app = self._serve
        limits = shared.limits
        self._holding = Holding(shared.uploads, network)
        self._largest_bytes = 0
        """Of the messages so far: the app holds a recording until it has spoken."""
        self._received_bytes = 0
        self._message = Patience(
            limits.upload_timeout_s,
            limits.upload_bytes_per_s,
            self._arrived_bytes,
            partial(self._fail, _POLICY_VIOLATION, "The message did not come in time."),
        )
        self._outgoing = Outgoing(shared)
        self._handled_s = -math.inf
        """When all messages so far would have come, had they come no faster than they may."""
        self._may_go_on = asyncio.Event()
        self._may_go_on.set()
        self._heard = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give everything back."""
        self._message.stop()
        self._outgoing.stop()
        self._holding.release()
        self._shared.places.give_back(self._network)
        self._may_go_on.set()
        self._heard.set()
        super().connection_lost(exc)

    # -- in ----------------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go; few at a time, whatever the system has."""
        return self._shared.buffer[:_READ_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes came."""
        self.data_received(bytes(self._shared.buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Take frames in, if there is room for what is not whole yet."""
        if self.transport.is_closing():
            return
        self._received_bytes += len(data)
        self._heard.set()
        self.conn.receive_data(data)
        if self.conn.handshake_exc is not None:
            self._refuse_handshake()
            return
        if self.conn.parser_exc is not None:
            self.handle_parser_exception()
            return
        events = len(self.conn.events)
        self.handle_events()
        self._slow_down(events)
        self._hold()

    def send_receive_event_to_app(self) -> None:
        """A message is whole."""
        data = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        if self.close_sent:
            return  # nobody reads it; the client's farewell may follow
        self._largest_bytes = max(self._largest_bytes, len(data))
        if self.curr_msg_data_type == "text":
            try:
                self.queue.put_nowait({"type": "websocket.receive", "text": data.decode()})
            except UnicodeDecodeError:
                self._fail(_INVALID_DATA, "The message is no UTF-8.")
                return
        else:
            self.queue.put_nowait({"type": "websocket.receive", "bytes": bytes(data)})
        self._pause_reading()

    async def receive(self) -> Message:  # type: ignore[override] # the same by another name
        """The next message, not faster than they may come."""
        await self._may_go_on.wait()
        message: Message = await self.queue.get()  # type: ignore[assignment]
        self._resume_reading()
        return message

    def _refuse_handshake(self) -> None:
        output = b"".join(self.conn.data_to_send())
        self.transport.write(
            output or b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        )
        self.transport.close()

    def _slow_down(self, messages: int) -> None:
        """Rest, where so many more are too many."""
        now_s = self.loop.time()
        cost_s = messages / self._shared.limits.messages_per_s
        self._handled_s = max(self._handled_s, now_s - _BURST_S) + cost_s
        if self._handled_s > now_s:
            self._may_go_on.clear()
            self._pause_reading()
            self.loop.call_later(self._handled_s - now_s, self._go_on)

    def _go_on(self) -> None:
        self._may_go_on.set()
        self._resume_reading()

    def _pause_reading(self) -> None:
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self.read_paused and self.queue.empty() and self._may_go_on.is_set():
            self.read_paused = False
            self.transport.resume_reading()

    def _unfinished_bytes(self) -> int:
        fragments_bytes = (self.conn.current_size or 0) + _FRAGMENT_BYTES * len(self.frames)
        return fragments_bytes + len(self.conn.reader.buffer)

    def _hold(self) -> None:
        unfinished_bytes = self._unfinished_bytes()
        if unfinished_bytes:
            self._message.start()
        if not self._shared.has_room(self._holding, self._largest_bytes + unfinished_bytes):
            self._fail(_TRY_AGAIN_LATER, "Other uploads hold all the room there is for them.")

    def _arrived_bytes(self) -> float | None:
        if self.transport.is_closing() or not self._unfinished_bytes():
            return None
        return math.inf if self.read_paused else self._received_bytes

    def _fail(self, code: int, reason: str) -> None:
        """End it, and say why."""
        if not self.close_sent and not self.transport.is_closing():
            self.frames = []
            self.conn.fail(code, reason)
            self.handle_parser_exception()

    async def answers_ping(self, within_s: float) -> bool:
        """Whether the client answers a ping; one of which something waits to be read is there."""
        if not self.queue.empty():  # and nothing behind it is read, no answer either
            return True
        self._heard.clear()
        if self.close_sent or self.transport.is_closing():
            return False
        self.conn.send_ping(_ARE_YOU_THERE)
        self.transport.write(b"".join(self.conn.data_to_send()))
        try:
            async with asyncio.timeout(within_s):
                await self._heard.wait()
        except TimeoutError:
            return False
        return True

    # -- out ---------------------------------------------------------------------------------------

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The app, which does not write for ever."""

        async def send_watched(message: Message) -> None:
            await send(message)
            if not self.disconnected:
                size_bytes = len(message.get("bytes") or message.get("text") or "")
                self._outgoing.wrote(self.transport, size_bytes)

        scope["state"]["answers_ping"] = self.answers_ping
        try:
            await self._application(scope, receive, send_watched)
        except asyncio.CancelledError:
            if not self._shared.is_stopping:
                raise
