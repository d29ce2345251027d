"""A connection that speaks HTTP: uvicorn's, within the limits of `Limits`."""

import asyncio
import json
import math
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

import httptools
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from backend.connections.arrival import Arrival
from backend.connections.outgoing import Outgoing
from backend.connections.patience import Patience
from backend.connections.quota import Holding
from backend.connections.shared import BUFFER_BYTES, Shared
from backend.connections.websocket import WebSocketProtocol
from backend.errors import OverCapacity, UploadTooSlow
from backend.listening import network_of

_READ_BYTES = BUFFER_BYTES
"""Read in one turn of the loop, so that one client's bytes do not keep the others waiting."""
_MAX_HEADERS = 128
_LINGER_S = 2.0
"""A client that is refused is still listened to for so long: closed at once, it would be reset
before it has read why."""
_LINGER_BYTES = 4 * 1024 * 1024
_PROBE_S = 0.05
_PROBE_MAX_S = 5.0
_UPLOADS_FULL_S = 10.0
"""When to try again where uploads of others hold all room."""


class HttpProtocol(HttpToolsProtocol, asyncio.BufferedProtocol):
    """One connection, from its acceptance to its end or to its upgrade."""

    def __init__(self, shared: Shared, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._shared, self._limits = shared, shared.limits
        self._application: ASGIApp = self.app
        self._network: str | None = None
        """Whose place it has; None without one."""
        self._header_timer: asyncio.TimerHandle | None = None
        self._later_timer: asyncio.TimerHandle | None = None
        self._is_refused = False
        self._is_in_header = False
        self._refusal = (HTTPStatus.BAD_REQUEST, "This is no valid HTTP request.")
        self._framing_bytes = 0
        """Bytes of the message that are no body: its header, and how it is cut into chunks."""
        self._arrival: Arrival | None = None
        """The request that arrives, or came last."""
        self._served: Arrival | None = None
        limits = shared.limits
        self._upload = Patience(
            limits.upload_timeout_s, limits.upload_bytes_per_s, self._uploaded, self._upload_is_late
        )
        self._outgoing = Outgoing(shared)

    # -- begin and end -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Give it a place, or close it before anything is read."""
        super().connection_made(transport)
        network = network_of(self.client[0] if self.client else "")
        if not self._shared.places.take(network):
            self._shared.seldom.warn("Connections are closed: too many are open.")
            self._is_refused = True
            transport.abort()
            return
        self._network = network
        self._await_header()
        self.ws_protocol_class = partial(  # type: ignore[assignment] # made as the class is
            WebSocketProtocol, self._shared, network
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """Give everything back."""
        self._stop_waiting()
        self._outgoing.stop()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)
        if self._served is not None:  # not always the last one that came
            self._served.disconnect()
        if self._network is not None:
            self._shared.places.give_back(self._network)
            self._network = None

    def shutdown(self) -> None:
        """The server stops: a request that is not whole is not waited for."""
        if self._arrival is not None and not self._arrival.is_whole:
            self.transport.close()
        else:
            super().shutdown()

    def eof_received(self) -> bool:  # type: ignore[override] # it may stay open
        """The client sends no more; whether it may still read."""
        arrival = self._arrival
        if self._is_refused or arrival is None or arrival.cycle is None:
            return False
        cycle = arrival.cycle
        if not arrival.is_whole:
            cycle.keep_alive = False
            arrival.is_cut = True
            arrival.wake()
            return not cycle.response_complete
        if cycle.response_complete or self.parser.get_http_version() != "1.1":
            return False
        if cycle.response_started and cycle.chunked_encoding:
            return False  # of a stream we hear only when there is more of it
        cycle.keep_alive = False
        self._probe(_PROBE_S)
        return True

    def _probe(self, again_s: float) -> None:
        """Find out whether the client has only stopped to send, or is gone: then the system says
        so at the next write. Every client of HTTP/1.1 reads over an interim answer."""
        assert self._arrival is not None and self._arrival.cycle is not None
        if self.transport.is_closing() or self._arrival.cycle.response_started:
            return
        self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._later(again_s, partial(self._probe, min(4 * again_s, _PROBE_MAX_S)))

    def _later(self, delay_s: float, call: Callable[[], None]) -> None:
        self._later_timer = self.loop.call_later(delay_s, call)

    def _stop_waiting(self) -> None:
        for timer in (self._header_timer, self._later_timer):
            if timer is not None:
                timer.cancel()
        self._upload.stop()

    # -- in ----------------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go; few at a time, whatever the system has."""
        return self._shared.buffer[:_READ_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes came."""
        self.data_received(bytes(self._shared.buffer[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Read on, unless it is refused."""
        if self._is_refused:
            self._framing_bytes += len(data)
            if self._framing_bytes > _LINGER_BYTES:
                self.transport.abort()
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._upgrade()
            return
        except httptools.HttpParserError:
            self._refuse(*self._refusal)
            return
        self._framing_bytes += len(data)
        arrived = self._arrival
        body_bytes = arrived.received_bytes if arrived and not self._is_in_header else 0
        if self._framing_bytes > self._limits.header_bytes + body_bytes:
            if self._is_in_header:
                self._refuse(*self._header_too_large())
            else:
                self._refuse(HTTPStatus.BAD_REQUEST, "The body is cut into too small chunks.")

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._unset_keepalive_if_required()
        self._framing_bytes = 0
        self._is_in_header = True
        self._await_header()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field; those after a body are not ours to believe."""
        if not self._is_in_header:
            return
        if len(self.headers) >= _MAX_HEADERS:
            self._reject(*self._header_too_large())
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The request can be answered, its body may follow."""
        self._unset_keepalive_if_required()
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None
        self._is_in_header = False
        self._framing_bytes = 0
        self._check_header()
        arrival = Arrival(Holding(self._shared.uploads, self._network or ""))
        self.app = partial(self._serve, arrival)
        super().on_headers_complete()
        if self.parser.should_upgrade() and self._should_upgrade():
            return
        self._arrival, arrival.cycle = arrival, self.cycle
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False  # what follows would be of a protocol that nobody speaks
        self._upload.start()

    def _check_header(self) -> None:
        """What the parser lets pass, and no server should."""
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (not hosts and self.parser.get_http_version() == "1.1"):
            self._reject(HTTPStatus.BAD_REQUEST, "Send one Host header.")

    def on_body(self, body: bytes) -> None:
        """Some of the body, where there is room for it."""
        self._framing_bytes -= len(body)
        arrival = self._arrival
        if arrival is None or arrival.cycle is None:
            return
        arrival.received_bytes += len(body)
        if arrival.problem is not None or arrival.cycle.response_complete:
            return
        if self._shared.has_room(arrival.holding, arrival.received_bytes):
            super().on_body(body)
            return
        arrival.fail(
            OverCapacity(
                "Other uploads hold all the room there is for them; try again.", _UPLOADS_FULL_S
            )
        )

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._arrival is not None:
            self._arrival.is_whole = True
        self._upload.stop()
        super().on_message_complete()
        if self.cycle is not None and not self._is_answering():
            self._await_another()

    def on_response_complete(self) -> None:
        """A request is answered. What is left of its body is read over: few clients read an answer
        before they have sent everything."""
        super().on_response_complete()
        if self._arrival is not None and not self._arrival.is_whole:
            self._unset_keepalive_if_required()

    def _await_another(self) -> None:
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def _await_header(self) -> None:
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(
                self._limits.header_timeout_s, self._header_is_late
            )

    def _header_is_late(self) -> None:
        self._header_timer = None
        if self._is_answering():
            return  # closed when it is idle, as all others
        if self._is_in_header:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "The request did not come in time.")
        else:
            self.transport.abort()

    def _uploaded(self) -> float | None:
        arrival = self._arrival
        if arrival is None or arrival.is_whole or arrival.cycle is None:
            return None
        is_ours = self.flow.read_paused or arrival.cycle.waiting_for_100_continue
        return math.inf if is_ours else arrival.received_bytes

    def _upload_is_late(self) -> None:
        assert self._arrival is not None and self._arrival.cycle is not None
        self._arrival.cycle.keep_alive = False
        if self._arrival.cycle.response_complete:
            self.transport.abort()
        else:
            self._arrival.fail(UploadTooSlow("The body did not come in time; send it faster."))

    # -- refused -----------------------------------------------------------------------------------

    def _header_too_large(self) -> tuple[HTTPStatus, str]:
        most = f"{self._limits.header_bytes} bytes and {_MAX_HEADERS} fields"
        return (
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"The header is larger than {most}; send less.",
        )

    def _reject(self, status: HTTPStatus, detail: str) -> None:
        """From within the parser, which then stops."""
        self._refusal = (status, detail)
        raise ValueError(detail)

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answer so, where nothing else is being answered, and end it."""
        self._is_refused = True
        self._stop_waiting()
        arrival = self._arrival
        if arrival is not None and (self._is_answering() or not arrival.is_whole):
            if self.pipeline or self.cycle.response_started:
                self.transport.abort()  # one request has one answer
                return
            arrival.disconnect()
        body = json.dumps({"detail": detail}).encode()
        head = (
            b"content-type: application/json\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n" % len(body)
        )
        self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.write_eof()
        self._later(_LINGER_S, self.transport.abort)

    def _is_answering(self) -> bool:
        """A request is being answered, or waits for it."""
        cycle: RequestResponseCycle | None = self.cycle
        return self._served is not None or (cycle is not None and not cycle.response_complete)

    def _upgrade(self) -> None:
        if not self._should_upgrade():
            return  # it was answered as if it had not asked
        names = {name for name, _ in self.headers}
        if (
            self._is_answering()
            or self.parser.get_method() != b"GET"
            or self.parser.get_http_version() != "1.1"
            or names & {b"content-length", b"transfer-encoding"}
        ):
            self._refuse(HTTPStatus.BAD_REQUEST, "This is no valid WebSocket handshake.")
            return
        self._outgoing.stop()
        self._unset_keepalive_if_required()
        self._network = None  # the place is the WebSocket's now
        self.handle_websocket_upgrade()

    # -- out ---------------------------------------------------------------------------------------

    async def _serve(self, arrival: Arrival, scope: Scope, receive: Receive, send: Send) -> None:
        """The app, which is told what became of the body, and does not write for ever."""
        assert arrival.cycle is not None
        cycle = arrival.cycle

        async def receive_body() -> Message:
            message: Message = {"type": "http.disconnect"}
            if arrival.problem is None and not arrival.is_cut:
                message = await receive()
            if arrival.problem is not None:
                raise arrival.problem
            return {"type": "http.disconnect"} if arrival.is_cut else message

        async def send_watched(message: Message) -> None:
            if cycle.disconnected:
                await asyncio.sleep(0)  # a long answer to nobody must not keep the others waiting
            await send(message)
            if not cycle.disconnected:
                self._outgoing.wrote(self.transport, len(message.get("body", b"")))

        self._served = arrival
        try:
            await self._application(scope, receive_body, send_watched)
        except asyncio.CancelledError:
            if not self._shared.is_stopping:
                raise
            arrival.disconnect()
            self.transport.close()
        finally:
            self._served = None
            arrival.holding.release()
