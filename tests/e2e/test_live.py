"""Text that is still being written, spoken by a real server with the shipped voice."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError
from websockets.frames import CloseCode

from backend.core import MIB
from tests.e2e.serving import Served

pytestmark = pytest.mark.timeout(300)

SENTENCES = (
    "The children walked home along the river.",
    "Nobody said a word until it was dark.",
    "Then it began to rain, and all of them ran.",
    "The dog was the first to reach the door.",
)


@asynccontextmanager
async def live(server: Served) -> AsyncIterator[ClientConnection]:
    async with connect(f"{server.url.replace('http', 'ws')}/v1/audio/stream") as socket:
        yield socket


def tokens(text: str) -> list[str]:
    """Pieces as a language model writes them: of a few letters, spaces in front."""
    return [text[start : start + 4] for start in range(0, len(text), 4)]


class Listener:
    """What is heard while something is written."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.said: list[dict[str, Any]] = []
        self.audio = b""
        self.first_audio_s = 0.0
        self.speaks = asyncio.Event()

    async def listen(self) -> None:
        async for frame in self._socket:
            if isinstance(frame, bytes):
                self.first_audio_s = self.first_audio_s or time.perf_counter()
                self.audio += frame
                self.speaks.set()
            else:
                self.said.append(json.loads(frame))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.said if message["type"] == kind]


def test_it_speaks_before_the_last_word_is_written(server: Served) -> None:
    async def work() -> None:
        async with live(server) as socket:
            listener = Listener(socket)
            listening = asyncio.create_task(listener.listen())
            *written, last = tokens(" ".join(SENTENCES))
            for token in written:
                await socket.send(json.dumps({"type": "text", "text": token}))
                await asyncio.sleep(0.01)
            await listener.speaks.wait()
            await socket.send(json.dumps({"type": "text", "text": last}))
            last_s = time.perf_counter()
            await socket.send(json.dumps({"type": "end"}))
            await listening
        assert socket.close_code == 1000
        assert listener.first_audio_s < last_s
        (started,), (done,) = listener.of("session.started"), listener.of("done")
        assert [each["text"] for each in listener.of("sentence.start")] == list(SENTENCES)
        ends = listener.of("sentence.end")
        assert [each["index"] for each in ends] == [0, 1, 2, 3]
        places = [place for each in ends for place in (each["start_s"], each["end_s"])]
        assert places == sorted(places)
        samples = np.frombuffer(listener.audio, "<i2")
        assert len(samples) / started["sample_rate"] == pytest.approx(done["audio_s"], abs=0.01)
        assert done["audio_s"] == pytest.approx(ends[-1]["end_s"], abs=0.01)
        for each in ends:
            heard = samples[
                int(each["start_s"] * started["sample_rate"]) : int(
                    each["end_s"] * started["sample_rate"]
                )
            ]
            assert np.abs(heard).max() > 1000, "a sentence is silent"

    asyncio.run(work())


def test_who_breaks_off_frees_the_machine(server: Served) -> None:
    async def work() -> None:
        async with live(server) as socket:
            text = " ".join(SENTENCES * 20)
            await socket.send(json.dumps({"type": "text", "text": text}))
            while isinstance(await socket.recv(), str):
                pass
            socket.transport.abort()
        async with httpx.AsyncClient(base_url=server.url) as http:
            while True:
                health = (await http.get("/health")).json()
                if health["worker"]["running"] == health["worker"]["waiting"] == 0:
                    break
                await asyncio.sleep(0.05)
            queue = health["queue"]
            assert queue["speaking"] == queue["waiting"] == 0

    asyncio.run(work())


def test_two_speak_side_by_side(server: Served) -> None:
    async def speak(sentence: str) -> Listener:
        async with live(server) as socket:
            start = {"type": "session.start", "response_format": "mp3", "seed": 1}
            for message in (start, {"type": "text", "text": sentence}, {"type": "end"}):
                await socket.send(json.dumps(message))
            listener = Listener(socket)
            await listener.listen()
            return listener

    async def work() -> None:
        listeners = await asyncio.gather(*(speak(sentence) for sentence in SENTENCES[:2]))
        for listener, sentence in zip(listeners, SENTENCES, strict=False):
            (start,) = listener.of("sentence.start")
            assert start["text"] == sentence
            assert len(listener.audio) > 4000

    asyncio.run(work())


def test_a_message_past_all_measure_is_refused(server: Served) -> None:
    async def work() -> None:
        async with live(server) as socket:
            with pytest.raises(ConnectionClosedError):
                await socket.send("a" * (25 * MIB))
                await socket.recv()
            await socket.wait_closed()
            assert socket.close_code == CloseCode.MESSAGE_TOO_BIG

    asyncio.run(work())
