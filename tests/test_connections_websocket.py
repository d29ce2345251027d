"""What one WebSocket may take: bytes that are not whole yet, messages a second, and time."""

import asyncio
from typing import Any

from starlette.types import Receive, Scope, Send

from backend.api.arrival import FIELDS_BYTES
from tests.test_connections_http import in_loop
from tests.wire import HANDSHAKE, OK, frame, greet, held, logged, serving, websocket, wire

MIB = 1024 * 1024
BINARY, PING = 2, 9


class Ear:
    """An app that accepts a WebSocket and counts what it hears."""

    def __init__(self, most: int = 0) -> None:
        self.left = asyncio.Event()
        self.heard = 0
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await greet(scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            self.heard += 1
            if self.heard == self._most:
                await send({"type": "websocket.close", "code": 1000})
        self.left.set()


@in_loop
async def test_half_a_message_is_given_up() -> None:
    async with serving(ear := Ear(), upload_timeout_s=0.2) as (_, port):
        async with websocket(port) as client:
            await client.send(frame(b"abc", size=1000))
            assert await client.close_code() == 1008
            await ear.left.wait()
        async with websocket(port) as client:  # of a message in fragments, too
            await client.send(b"\x01" + frame(b"abc")[1:])
            assert await client.close_code() == 1008


@in_loop
async def test_unfinished_messages_share_the_budget_of_uploads() -> None:
    async with serving(Ear(most=1), uploads_mb=1, max_upload_bytes=1024) as (server, port):
        half = frame(b"a" * (FIELDS_BYTES * 3 // 4), BINARY, FIELDS_BYTES)
        async with websocket(port) as holder, websocket(port) as other:
            await holder.send(half)
            await held(server, FIELDS_BYTES // 2)
            await other.send(half)
            assert await other.close_code() == 1013
        async with websocket(port) as client:  # what was held is to be had again
            await client.send(frame(b"a" * (FIELDS_BYTES * 3 // 4), BINARY))
            assert await client.close_code() == 1000


@in_loop
async def test_fragments_without_anything_in_them_are_counted() -> None:
    """A client's six bytes of an empty fragment are some sixty in memory."""
    fast: dict[str, Any] = {"uploads_mb": 1, "max_upload_bytes": 1024, "live_messages_per_s": 10**6}
    async with serving(Ear(), **fast) as (_, port), websocket(port) as client:
        await client.send(b"\x02" + frame(b"")[1:])
        await client.send((b"\x00" + frame(b"")[1:]) * 80_000)
        assert await client.close_code() == 1013


@in_loop
async def test_a_flood_is_read_as_fast_as_messages_may_come() -> None:
    loop = asyncio.get_running_loop()
    ear, slow = Ear(most=150), {"live_messages_per_s": 100}
    # And what a connection is given that asks for nothing is no matter of a WebSocket's.
    brief = {"header_timeout_s": 0.1, "keep_alive_s": 0.1}
    async with serving(ear, **slow, **brief) as (_, port), websocket(port) as client:
        began_s = loop.time()
        await client.send(frame(b"a") * 150)
        assert await client.close_code() == 1000
        assert loop.time() - began_s >= 0.45  # a second's worth at once, the rest at 100 a second


@in_loop
async def test_pings_are_messages_too() -> None:
    loop = asyncio.get_running_loop()
    async with serving(Ear(), live_messages_per_s=1000) as (_, port), websocket(port) as client:
        began_s = loop.time()
        await client.send(frame(b"", PING) * 1500)
        await client.reader.readexactly(2 * 1500)
        assert loop.time() - began_s >= 0.3


@in_loop
async def test_who_has_said_what_nobody_read_yet_is_there() -> None:
    """No answer to a ping is read behind a message that waits."""
    answered: list[bool] = []

    async def look_after(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        answered.append(await scope["state"]["answers_ping"](0.2))
        await send({"type": "websocket.close", "code": 1000})

    async with serving(look_after) as (_, port), websocket(port) as client:
        await client.send(frame(b"a") * 2)
        assert await client.close_code() == 1000
    assert answered == [True]


@in_loop
async def test_a_message_that_is_no_text_is_1007() -> None:
    with logged() as said:
        async with serving(ear := Ear()) as (_, port), websocket(port) as client:
            await client.send(frame(b"\xff\xfe"))
            assert await client.close_code() == 1007
            await ear.left.wait()
    assert not said


@in_loop
async def test_sound_that_nobody_reads_is_cut_off() -> None:
    left = asyncio.Event()

    async def speak(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        try:
            while True:
                await send({"type": "websocket.send", "bytes": bytes(65536)})
        except OSError:
            left.set()

    async with serving(speak, unread_timeout_s=0.3) as (_, port), websocket(port) as client:
        client.reader._transport.pause_reading()  # type: ignore[attr-defined] # it has no other way
        await left.wait()


@in_loop
async def test_it_keeps_the_place_of_its_connection_until_it_ends() -> None:
    async with serving(ear := Ear(), max_connections_per_address=1) as (server, port):
        async with websocket(port), wire(port) as refused:
            assert await refused.rest() == b""
        await ear.left.wait()
        assert server.shared.places.taken == 0
        async with websocket(port):
            pass


@in_loop
async def test_a_handshake_after_an_answer_that_is_not_over_is_refused() -> None:
    go_on = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        await greet(scope, receive, send)

    async with serving(slow) as (_, port), wire(port) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + HANDSHAKE)
        answer = await client.rest()
        go_on.set()
        assert answer.startswith(b"HTTP/1.1 400 ") and OK not in answer
