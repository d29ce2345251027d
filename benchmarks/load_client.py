"""Clients that ask a server over and over and listen, cheaply: one process holds many of them.

A client has one connection and parses with httptools; its process takes about a tenth of what the
server takes for the same bytes.
"""

import asyncio
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from urllib.parse import urlencode

import httptools

from benchmarks.marks import MARK_BYTES, read_mark

WORDS = [
    "the",
    "old",
    "lighthouse",
    "keeper",
    "climbed",
    "narrow",
    "stairs",
    "every",
    "evening",
    "and",
    "watched",
    "quiet",
    "ships",
    "come",
    "home",
    "over",
    "grey",
    "water",
    "while",
    "lamps",
    "were",
    "lit",
    "along",
    "the",
    "harbour",
    "wall",
]


@dataclass(frozen=True, slots=True)
class Part:
    """The clients of one process."""

    host: str
    port: int
    arrivals_s: tuple[float, ...]
    """When each of them asks first, seconds from the start."""
    begin_s: float
    end_s: float
    """Bytes are counted from `begin_s` on; from `end_s` on, nothing more is asked."""
    characters: tuple[int, ...]
    """Of the texts, of which each request has one by chance."""
    fields: dict[str, str]
    frame_bytes: int
    """Of 16-bit samples, where marks are read; else 0."""
    seed: int
    requests: int | None = None
    """Of each client; None asks until `end_s`."""


@dataclass(slots=True)
class Answer:
    """One request; times are of `time.monotonic`."""

    outcome: str
    began_s: float
    first_s: float = math.nan
    ended_s: float = math.nan
    audio_bytes: int = 0
    received_s: float = math.nan
    """When the worker had the text, by a mark."""
    queue_ms: float = math.nan
    """Until it was its turn, by the server's clock."""
    server_first_ms: float = math.nan
    """From then to the first audio."""


@dataclass(slots=True)
class Told:
    """What one process heard."""

    answers: list[Answer] = field(default_factory=list)
    counted_bytes: int = 0
    """Audio that came between `Part.begin_s` and `Part.end_s`."""
    travel_s: list[float] = field(default_factory=list)
    """From the worker to the client, of one frame in each bytes received."""
    cpu_s: float = 0.0
    """Of this process between the two."""


class _Listener(asyncio.Protocol):
    """A connection on which one request after another is answered."""

    def __init__(self, part: Part, told: Told, start_s: float) -> None:
        self._part, self._told = part, told
        self._begin_s, self._end_s = start_s + part.begin_s, start_s + part.end_s
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: Answer | None = None
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._now_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._now_s = time.monotonic()
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("cut off")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._answer is None:
            return
        if name.lower() == b"x-queue-ms":
            self._answer.queue_ms = float(value)
        elif name.lower() == b"x-time-to-first-audio-ms":
            self._answer.server_first_ms = float(value)

    def on_body(self, body: bytes) -> None:
        answer, now_s = self._answer, self._now_s
        if answer is None:
            return
        if not answer.audio_bytes:
            answer.first_s = now_s
        if self._part.frame_bytes:
            self._read_mark(answer, body)
        answer.audio_bytes += len(body)
        if self._begin_s <= now_s < self._end_s:
            self._told.counted_bytes += len(body)

    def on_message_complete(self) -> None:
        self._end(str(self._parser.get_status_code()))
        self._parser = httptools.HttpResponseParser(self)

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes) -> Answer:
        assert self._transport is not None
        self._over = asyncio.get_running_loop().create_future()
        self._answer = answer = Answer("cut off", time.monotonic())
        self._transport.write(request)
        await self._over
        return answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _read_mark(self, answer: Answer, body: bytes) -> None:
        at = -answer.audio_bytes % self._part.frame_bytes
        mark = read_mark(body[at : at + MARK_BYTES], self._now_s)
        if mark is not None:
            self._told.travel_s.append(self._now_s - mark.sent_s)
            if math.isnan(answer.received_s):
                answer.received_s = mark.received_s

    def _end(self, outcome: str) -> None:
        if self._answer is not None:
            self._answer.outcome, self._answer.ended_s = outcome, time.monotonic()
            self._answer = None
        if not self._over.done():
            self._over.set_result(None)


def sentence(chance: random.Random, characters: int) -> str:
    """So many characters of one sentence."""
    text = ""
    while len(text) < characters:
        text += chance.choice(WORDS) + " "
    return text[: characters - 1].strip().capitalize() + "."


def _requests(part: Part, number: int) -> Iterator[bytes]:
    chance = random.Random(f"{part.seed}/{number}")
    asked = 0
    while part.requests is None or asked < part.requests:
        text = sentence(chance, chance.choice(part.characters))
        body = urlencode({"text": text, "seed": str(asked), **part.fields}).encode()
        head = (
            f"POST /tts HTTP/1.1\r\nHost: {part.host}:{part.port}\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        yield head.encode() + body
        asked += 1


async def _client(part: Part, told: Told, start_s: float, number: int) -> None:
    loop = asyncio.get_running_loop()

    async def connect() -> _Listener:
        _, listener = await loop.create_connection(
            lambda: _Listener(part, told, start_s), part.host, part.port
        )
        return listener

    await asyncio.sleep(max(0.0, start_s + part.arrivals_s[number] - time.monotonic()))
    listener = await connect()
    for request in _requests(part, number):
        if time.monotonic() >= start_s + part.end_s:
            break
        if not listener.is_open:
            listener = await connect()
        told.answers.append(await listener.ask(request))
    listener.close()


async def _count_cpu(part: Part, told: Told, start_s: float) -> None:
    await asyncio.sleep(max(0.0, start_s + part.begin_s - time.monotonic()))
    before_s = time.process_time()
    await asyncio.sleep(max(0.0, start_s + part.end_s - time.monotonic()))
    told.cpu_s = time.process_time() - before_s


async def _listen(part: Part, start_s: float) -> Told:
    told = Told()
    clients = (_client(part, told, start_s, number) for number in range(len(part.arrivals_s)))
    await asyncio.gather(_count_cpu(part, told, start_s), *clients)
    return told


def run(part: Part, parent: Connection) -> None:
    """Say that it is ready, wait for when to start, send what was heard."""
    parent.send("ready")
    start_s: float = parent.recv()
    parent.send(asyncio.run(_listen(part, start_s)))
