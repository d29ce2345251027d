"""A server of ours around any app, and clients that write bytes instead of requests."""

import asyncio
import json
import logging
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import FastAPI
from loguru import logger
from starlette.types import ASGIApp, Receive, Scope, Send

from backend.connections.server import Server
from tests.scripted import settings

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
"""A request without its end."""
OK = b"HTTP/1.1 200 OK"
HANDSHAKE = (
    GET + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@dataclass(slots=True)
class Wire:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def rest(self) -> bytes:
        """Everything until the server closes it; cut off counts as closed."""
        received = b""
        try:
            while piece := await self.reader.read(65536):
                received += piece
        except ConnectionResetError:
            pass
        return received

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        """One answer with its length in the header: status, headers, body from JSON."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(head[0].split()[1]), headers, json.loads(body or b"null")

    async def close_code(self) -> int:
        """The code in the close frame of a WebSocket that says nothing else."""
        first, size = await self.reader.readexactly(2)
        payload = await self.reader.readexactly(size)
        assert first == 0x88
        return int(struct.unpack_from(">H", payload)[0])


@asynccontextmanager
async def wire(port: int) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def websocket(port: int) -> AsyncIterator[Wire]:
    """A connection whose handshake was answered."""
    async with wire(port) as client:
        await client.send(HANDSHAKE)
        assert (await client.answer())[0] == 101
        yield client


@asynccontextmanager
async def deaf(http: httpx.AsyncClient, path: str) -> AsyncIterator[Wire]:
    """A live connection of a client that answers no pings."""
    async with wire(http.base_url.port or 0) as client:
        line = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n"
        await client.send(HANDSHAKE.replace(GET, line.encode()))
        assert (await client.answer())[0] == 101
        yield client


def frame(payload: bytes, opcode: int = 1, size: int | None = None) -> bytes:
    """A client's frame with a mask that changes nothing; `size` is what it says of itself."""
    size = len(payload) if size is None else size
    length = bytes([0x80 | size]) if size < 126 else b"\xff" + struct.pack(">Q", size)
    return bytes([0x80 | opcode]) + length + bytes(4) + payload


async def greet(scope: Scope, receive: Receive, send: Send) -> None:
    """An app: reads nothing, answers 200 and `{}`."""
    headers = [(b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


async def held(server: Server, size_bytes: int) -> None:
    """Wait until the server holds so much of what is being uploaded."""
    while server.shared.uploads.taken < size_bytes:
        await asyncio.sleep(0)


@contextmanager
def logged() -> Iterator[list[str]]:
    """What the server logs meanwhile, of our own log and of uvicorn's."""
    said: list[str] = []

    def hear(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            said.append(record.getMessage())
        return True

    sink = logger.add(said.append, level="WARNING")
    uvicorns = logging.getLogger("uvicorn.error")
    uvicorns.addFilter(hear)  # handlers are made anew with each server
    try:
        yield said
    finally:
        uvicorns.removeFilter(hear)
        logger.remove(sink)


@asynccontextmanager
async def serving(app: ASGIApp, **values: Any) -> AsyncIterator[tuple[Server, int]]:
    """A server around `app`, and its port."""
    server = Server(app, settings(**{"port": 0, "log_level": "WARNING", **values}))
    if not isinstance(app, FastAPI):
        server.config.lifespan = "off"
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0)
    try:
        yield server, server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task
