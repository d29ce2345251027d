"""What one HTTP connection may take: time, bytes, and what it may say."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from backend.api.arrival import FIELDS_BYTES
from backend.api.boundary import RequestBoundary
from backend.connections.patience import Patience
from backend.listening import network_of
from tests.scripted import make_app, server
from tests.wire import GET, OK, greet, held, logged, serving, wire

POST = b"POST /tts HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
MIB = 1024 * 1024


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @wraps(test)
    def run(*arguments: object, **named: object) -> None:
        async def work() -> None:
            await test(*arguments, **named)

        asyncio.run(work())

    return run


async def swallow(scope: Scope, receive: Receive, send: Send) -> None:
    """An app that reads the body before it answers."""
    while (await receive()).get("more_body"):
        pass
    await greet(scope, receive, send)


# -- time ------------------------------------------------------------------------------------------


@in_loop
async def test_a_header_has_until_its_deadline() -> None:
    async with serving(greet, header_timeout_s=0.2) as (_, port):
        async with wire(port) as silent, wire(port) as half:
            await half.send(GET)
            assert await silent.rest() == b""
            assert (await half.rest()).startswith(b"HTTP/1.1 408 ")
        async with wire(port) as again:  # and the second request on a connection, too
            await again.send(GET + b"\r\n")
            assert (await again.answer())[0] == 200
            await again.send(GET)
            assert (await again.rest()).startswith(b"HTTP/1.1 408 ")


@in_loop
async def test_an_answered_connection_is_kept_for_a_while() -> None:
    async with serving(greet, keep_alive_s=0.2) as (_, port), wire(port) as client:
        for _ in range(2):
            await client.send(GET + b"\r\n")
            assert (await client.answer())[0] == 200
        await client.send(b"\r\n")  # is no request
        assert await client.rest() == b""


@in_loop
async def test_a_body_nobody_reads_does_not_keep_its_connection() -> None:
    async with serving(greet, upload_timeout_s=0.2) as (_, port), wire(port) as client:
        await client.send(GET + b"Content-Length: 1000000\r\n\r\nabc")
        assert (await client.answer())[0] == 200
        assert await client.rest() == b""


@in_loop
async def test_a_body_is_read_over_after_its_answer() -> None:
    async with serving(greet, keep_alive_s=0.2) as (_, port), wire(port) as client:
        for _ in range(2):
            await client.send(GET + b"Content-Length: 1000000\r\n\r\nabc")
            assert (await client.answer())[0] == 200
            await client.send(bytes(999_997))
        assert await client.rest() == b""


@in_loop
async def test_a_body_that_stops_is_given_up() -> None:
    async with server(upload_timeout_s=0.2) as http, wire(http.base_url.port or 0) as client:
        await client.send(POST + b"Content-Length: 100\r\nX-Request-ID: late\r\n\r\n{")
        status, headers, body = await client.answer()
        assert (status, headers["x-request-id"]) == (408, "late")
        assert "did not come in time" in body["detail"]
        assert await client.rest() == b""


@in_loop
async def test_patience_lasts_while_enough_moves() -> None:
    looks, most, ended = 0, 100, asyncio.Event()

    def moved() -> float:
        nonlocal looks
        looks += 1
        return min(looks, most)  # a byte from look to look, then none

    # 1/8 of the whole time passes from look to look, which is what one byte buys back.
    patience = Patience(0.04, 200, moved, ended.set)
    patience.start()
    await ended.wait()
    assert most < looks <= most + 10


@in_loop
async def test_patience_ends_for_a_trickle_and_lasts_where_it_is_not_the_clients_turn() -> None:
    looks, ended = 0, asyncio.Event()

    def moved() -> float:
        nonlocal looks
        looks += 1
        return float("inf") if looks < 20 else looks / 100

    Patience(0.04, 200, moved, ended.set).start()
    await ended.wait()
    assert 20 < looks < 32


@in_loop
async def test_an_answer_that_nobody_reads_is_cut_off() -> None:
    left = asyncio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        watching = asyncio.ensure_future(receive())
        while not watching.done() or watching.result()["type"] != "http.disconnect":
            if watching.done():
                watching = asyncio.ensure_future(receive())
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
        left.set()

    async with serving(endless, unread_timeout_s=0.3) as (_, port), wire(port) as client:
        client.reader._transport.pause_reading()  # type: ignore[attr-defined] # it has no other way
        await client.send(GET + b"\r\n")
        await left.wait()


# -- bytes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [b"X: " + b"a" * 70_000, b"X" * 70_000, b"".join(b"X-%d: a\r\n" % n for n in range(200))],
    ids=["a value", "a name", "many"],
)
@in_loop
async def test_a_header_has_a_longest_length(header: bytes) -> None:
    async with serving(greet) as (_, port), wire(port) as client:
        await client.send(GET + header)
        status, _, body = await client.answer()
        assert status == 431 and "larger than" in body["detail"]


@pytest.mark.parametrize(
    "body",
    [b"1\r\n \r\n" * 40_000, b"1;" + b"x" * 200_000, b"1\r\na\r\n0\r\nX: " + b"x" * 200_000],
    ids=["one-byte chunks", "an extension", "a trailer"],
)
@in_loop
async def test_a_body_is_mostly_body(body: bytes) -> None:
    async with serving(swallow) as (_, port), wire(port) as client:
        await client.send(CHUNKED + body)
        assert (await client.answer())[0] == 400


@in_loop
async def test_a_request_is_answered_once_whatever_its_body() -> None:
    async with serving(greet) as (_, port), wire(port) as client:
        await client.send(CHUNKED)
        assert (await client.answer())[0] == 200
        await client.send(b"no chunk\r\n")
        assert await client.rest() == b""


@in_loop
async def test_honest_chunks_pass() -> None:
    async with serving(swallow) as (_, port), wire(port) as client:
        await client.send(CHUNKED + b"200\r\n" + b"a" * 512 + b"\r\n")
        for _ in range(500):
            await client.send(b"a\r\n0123456789\r\n" * 40)
        await client.send(b"0\r\n\r\n")
        assert (await client.answer())[0] == 200


@in_loop
async def test_uploads_share_a_budget_and_sentences_do_not() -> None:
    small: dict[str, Any] = {"uploads_mb": 1, "max_upload_bytes": 1024}
    async with (
        serving(app := make_app(**small), **small) as (server, port),
        wire(port) as holder,
        wire(port) as other,
    ):
        await app.state.backend.worker.ready()
        head = POST + b"Content-Length: %d\r\n\r\n" % FIELDS_BYTES
        part = b'{"text": "' + b"a" * (FIELDS_BYTES * 3 // 4)
        await holder.send(head + part)
        await held(server, FIELDS_BYTES // 2)
        await other.send(head + part)
        status, headers, body = await other.answer()
        assert (status, headers["retry-after"]) == (503, "10")
        assert "uploads" in body["detail"]
        async with wire(port) as small_one:
            sentence = b'{"text": "hello"}'
            await small_one.send(POST + b"Content-Length: %d\r\n\r\n" % len(sentence) + sentence)
            assert (await small_one.reader.readline()).startswith(OK)
        holder.writer.write_eof()
        assert (await holder.answer())[0] == 400
        async with wire(port) as third:  # what was held is to be had again
            await third.send(head + part + b"a" * (FIELDS_BYTES // 4 - 12) + b'"}')
            assert (await third.answer())[0] == 413  # it was read whole: too long a text


# -- places ----------------------------------------------------------------------------------------


@in_loop
async def test_an_address_has_so_many_connections() -> None:
    few = serving(greet, max_connections_per_address=2)
    async with few as (_, port), wire(port) as first, wire(port):
        await first.send(GET)
        async with wire(port) as third:
            assert await third.rest() == b""
        await first.send(b"Connection: close\r\n\r\n")
        assert (await first.rest()).startswith(OK)
        async with wire(port) as fourth:
            await fourth.send(GET + b"\r\n")
            assert (await fourth.answer())[0] == 200


def test_an_address_of_ipv6_is_its_network() -> None:
    assert network_of("2001:db8::1:2") == network_of("2001:db8::ffff:1") == "2001:db8::/64"
    assert network_of("::ffff:192.0.2.7") == network_of("192.0.2.7") == "192.0.2.7"
    assert network_of("") == "unknown"


# -- what it says ----------------------------------------------------------------------------------

REFUSED = {
    "length and chunks": CHUNKED[:-2] + b"Content-Length: 4\r\n\r\n0\r\n\r\n" + GET + b"\r\n",
    "two lengths": GET + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    "a signed length": GET + b"Content-Length: +5\r\n\r\nabcde",
    "a negative length": GET + b"Content-Length: -1\r\n\r\n",
    "an endless length": GET + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
    "an unknown coding": GET + b"Transfer-Encoding: xchunked\r\n\r\n",
    "chunked not last": GET + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a huge chunk": CHUNKED + b"fffffffffffffffff\r\n",
    "a space before the colon": b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": GET + b"Host: b\r\n\r\n",
    "CONNECT": b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "NUL in the path": b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
    "8 bits in the path": b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    "8 bits in the query": b"GET /?\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    "an escape in a header": GET + b"X: \x1b[31m\r\n\r\n",
    "a WebSocket with a body": GET
    + b"Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 5\r\n\r\nhello",
    "a WebSocket by POST": b"POST / HTTP/1.1\r\nHost: a\r\n"
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
}


@pytest.mark.parametrize("request_", REFUSED.values(), ids=list(REFUSED))
@in_loop
async def test_what_is_no_sane_request_is_400_once(request_: bytes) -> None:
    async with serving(greet) as (_, port), wire(port) as client:
        await client.send(request_)
        client.writer.write_eof()
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1") == 1
        assert b'{"detail": ' in answer and b"traceback" not in answer.lower()


@in_loop
async def test_what_follows_a_body_is_no_header() -> None:
    seen = asyncio.Queue[list[tuple[bytes, bytes]]]()

    async def tell(scope: Scope, receive: Receive, send: Send) -> None:
        await swallow(scope, receive, send)
        seen.put_nowait(scope["headers"])

    async with serving(tell) as (_, port), wire(port) as client:
        await client.send(CHUNKED + b"1\r\na\r\n0\r\nAuthorization: Bearer x\r\n\r\n")
        assert (await client.answer())[0] == 200
        assert b"authorization" not in dict(await seen.get())


@in_loop
async def test_pipelined_requests_are_answered_in_order() -> None:
    async with serving(swallow) as (_, port), wire(port) as client:
        await client.send((GET + b"\r\n") * 50)
        for _ in range(50):
            assert (await client.answer())[0] == 200


@in_loop
async def test_a_body_is_asked_for_where_the_client_waits_for_that() -> None:
    async with serving(swallow) as (_, port), wire(port) as client:
        await client.send(GET + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert (await client.answer())[0] == 100
        await client.send(b"ab")
        assert (await client.answer())[0] == 200


# -- half-closed -----------------------------------------------------------------------------------


@in_loop
async def test_a_client_that_sends_no_more_gets_its_answer() -> None:
    body = json.dumps({"text": "slow"}).encode()
    async with server() as http, wire(http.base_url.port or 0) as client:
        await client.send(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        client.writer.write_eof()
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert answer.count(OK) == 1 and b"RIFF" in answer


@in_loop
async def test_half_a_body_is_400() -> None:
    async with server() as http, wire(http.base_url.port or 0) as client:
        await client.send(POST + b"Content-Length: 100\r\n\r\n{")
        client.writer.write_eof()
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 400 ") and b"ended before its body" in answer


# -- the end ---------------------------------------------------------------------------------------


@in_loop
async def test_what_is_at_work_after_the_grace_is_503() -> None:
    begun = asyncio.Event()

    async def work(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await asyncio.Event().wait()

    impatient = serving(RequestBoundary(work), shutdown_grace_s=0.3)
    with logged() as said:
        async with (
            impatient as (server, port),
            wire(port) as at_work,
            wire(port) as half,
            wire(port) as stalled,
        ):
            await half.send(GET)
            await stalled.send(GET + b"Content-Length: 100\r\n\r\n{")
            await begun.wait()
            begun.clear()
            await at_work.send(GET + b"X-Request-ID: mine\r\n\r\n")
            await begun.wait()
            server.should_exit = True
            assert await half.rest() == await stalled.rest() == b""
            status, headers, told = await at_work.answer()
    assert (status, headers["x-request-id"]) == (503, "mine")
    assert "The server stops" in told["detail"] and "retry-after" in headers
    assert len(said) == 1 and "given up: 2" in said[0]


@in_loop
async def test_a_stream_that_is_given_up_is_cut_off_in_silence() -> None:
    begun = asyncio.Event()

    async def work(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        begun.set()
        await asyncio.Event().wait()

    impatient = serving(RequestBoundary(work), shutdown_grace_s=0.1)
    with logged() as said:
        async with impatient as (server, port), wire(port) as client:
            await client.send(GET + b"\r\n")
            await begun.wait()
            server.should_exit = True
            assert (await client.rest()).startswith(OK)
    assert len(said) == 1 and "given up: 1" in said[0]
