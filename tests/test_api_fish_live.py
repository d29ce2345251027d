import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.fish_requests import pack, run, spoken, unpack
from tests.scripted import server
from tests.wire import deaf, frame


class Live:
    """One live connection, seen from the client."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def say(self, event: str, **more: Any) -> None:
        await self._socket.send(pack({"event": event} | more))

    async def send(self, frame: bytes | str) -> None:
        await self._socket.send(frame)

    async def start(self, **fields: Any) -> None:
        request = {"text": "", "format": "pcm", "sample_rate": 8_000}
        await self.say("start", request=request | fields)

    async def hear(self) -> dict[str, Any]:
        frame = await self._socket.recv()
        assert isinstance(frame, bytes)
        event: dict[str, Any] = unpack(frame)
        return event

    async def audio(self, count: int) -> bytes:
        """The next `count` bytes of audio, at least."""
        data = b""
        while len(data) < count:
            event = await self.hear()
            assert event["event"] == "audio", event
            data += event["audio"]
        return data

    async def finish(self) -> tuple[bytes, dict[str, Any], list[str]]:
        """All audio up to the end, the last event, and what was logged."""
        data, logged = b"", []
        while (event := await self.hear())["event"] != "finish":
            if event["event"] == "log":
                logged.append(event["message"])
            else:
                data += event["audio"]
        return data, event, logged

    async def rest(self) -> tuple[bytes, dict[str, Any], list[str]]:
        """The same, and the server closes."""
        data, event, logged = await self.finish()
        with pytest.raises(ConnectionClosed):
            await self._socket.recv()
        assert self._socket.close_code == 1000
        return data, event, logged


@asynccontextmanager
async def live(
    worker: dict[str, Any] | None = None, user_agent: str = "", **values: Any
) -> AsyncIterator[tuple[Live, httpx.AsyncClient]]:
    async with server(worker, **values) as http:
        url = str(http.base_url.copy_with(scheme="ws")).rstrip("/") + "/v1/tts/live"
        async with connect(url, user_agent_header=user_agent or None) as socket:
            yield Live(socket), http


SENTENCE_BYTES = 1600
"""0.1 s of 16-bit samples at 8 kHz."""


def test_live_text_is_spoken_as_it_comes(tmp_path: Path) -> None:
    log = tmp_path / "spoken"

    async def work() -> None:
        async with live({"spoken_file": str(log)}, data_dir=tmp_path) as (socket, _):
            await socket.start()
            for piece in ("Hello the", "re. How are you", "? And"):
                await socket.say("text", text=piece)
            await socket.audio(2 * SENTENCE_BYTES)
            await socket.say("text", text=" then")
            await socket.say("flush")
            await socket.say("flush")
            await socket.audio(SENTENCE_BYTES)
            await socket.say("text", text="The end")
            await socket.say("stop")
            data, last, _ = await socket.rest()
            assert len(data) >= SENTENCE_BYTES
            assert last == {"event": "finish", "reason": "stop"}

    run(work())
    assert [line["text"] for line in spoken(log)] == [
        "Hello there.",
        "How are you?",
        "And then",
        "The end",
    ]


def test_live_request_text_is_spoken_first_in_its_voice_with_warnings(tmp_path: Path) -> None:
    log = tmp_path / "spoken"

    async def work() -> None:
        async with live({"spoken_file": str(log)}, data_dir=tmp_path) as (socket, _):
            references = [{"audio": b"RIFF", "text": "mine"}]
            await socket.start(text="First.", references=references, prosody={"volume": 3.0})
            await socket.say("stop")
            data, last, logged = await socket.rest()
            assert len(data) == SENTENCE_BYTES
            assert last["reason"] == "stop"
            assert any("volume" in line for line in logged)

    run(work())
    assert [transcript for transcript, _ in spoken(log)[0]["references"]] == ["mine"]


def test_live_without_text_ends_without_audio(tmp_path: Path) -> None:
    async def work() -> None:
        async with live(data_dir=tmp_path) as (socket, _):
            await socket.start()
            await socket.say("text", text=" ")
            await socket.say("stop")
            data, last, _ = await socket.rest()
            assert not data
            assert last == {"event": "finish", "reason": "stop"}

    run(work())


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        ([{"event": "text", "text": "x"}], "start"),
        ([{"event": "start"}], "request"),
        ([{"event": "start", "request": {"text": "", "temperature": 9.0}}], "temperature"),
        ([{"event": "start", "request": {"text": "", "reference_id": "nobody"}}], "nobody"),
        ([{"event": "start", "request": {"text": "Hi."}}] * 2, "once"),
        ([{"event": "start", "request": {"text": ""}}, {"event": "text"}], "text"),
        ([{"event": "start", "request": {"text": "a" * 100_001}}], "100000"),
        ([{"event": "what"}], "event"),
        ([b"\xc1"], "msgpack"),
        (["text"], "binary"),
        ([{"event": "start", "request": {"text": "bad reference"}}, {"event": "stop"}], "decoded"),
    ],
)
def test_bad_live_events_end_it_with_a_reason(frames: list[Any], says: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with live(data_dir=tmp_path) as (socket, _):
            for frame in frames:
                await socket.send(frame if isinstance(frame, bytes | str) else pack(frame))
            if "nobody" in says:  # the voice is looked for when there is something to say
                await socket.say("text", text="Hello.")
                await socket.say("stop")
            _, last, _ = await socket.rest()
            assert last["reason"] == "error"
            assert says in last["message"]

    run(work())


@pytest.mark.parametrize("has_begun", [False, True])
def test_live_client_that_says_nothing_and_answers_no_ping_is_left_as_at_a_stop(
    has_begun: bool, tmp_path: Path
) -> None:
    async def work() -> None:
        async with (
            server(data_dir=tmp_path, live_idle_s=0.2) as http,
            deaf(http, "/v1/tts/live") as client,
        ):
            start = {"event": "start", "request": {"text": ""}}
            await client.send(frame(pack(start), opcode=2) if has_begun else b"")
            assert await client.reader.readexactly(2) == b"\x89\x05"  # a ping
            await client.reader.readexactly(5)
            first, size = await client.reader.readexactly(2)
            assert first == 0x82
            last = unpack(await client.reader.readexactly(size))
            assert last == {"event": "finish", "reason": "stop"}
            assert await client.close_code() == 1000

    run(work())


def test_live_client_that_says_nothing_stays_while_it_answers_pings(tmp_path: Path) -> None:
    async def work() -> None:
        async with live(data_dir=tmp_path, live_idle_s=0.1) as (socket, _):
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.25):
                        await socket.hear()
                await socket.start() if _ == 0 else await socket.say("flush")
            await socket.say("text", text="Still there.")
            await socket.say("stop")
            data, last, _ = await socket.rest()
            assert len(data) == SENTENCE_BYTES
            assert last == {"event": "finish", "reason": "stop"}

    run(work())


def test_what_was_left_unfinished_is_spoken_and_the_end(tmp_path: Path) -> None:
    async def work() -> None:
        async with live(data_dir=tmp_path, live_idle_s=0.2) as (socket, _):
            await socket.start()
            await socket.say("text", text="Once up")
            data, last, _ = await socket.rest()
            assert len(data) == SENTENCE_BYTES
            assert last == {"event": "finish", "reason": "stop"}

    run(work())


def test_one_request_after_another_on_one_connection(tmp_path: Path) -> None:
    log = tmp_path / "spoken"
    words = ("first", "second", "third")

    async def work() -> None:
        async with live({"spoken_file": str(log)}, data_dir=tmp_path) as (socket, _):
            for number, voice in enumerate(("", "933563129e564b19a115bedd57b7406a", "")):
                await socket.start(reference_id=voice, sample_rate=8_000 * (1 + number))
                await socket.say("text", text=f"This is the {words[number]}.")
                await socket.say("stop")
                data, last, logged = await socket.finish()
                assert last == {"event": "finish", "reason": "stop"}
                assert len(data) == pytest.approx(SENTENCE_BYTES * (1 + number), abs=64)
                assert ["default voice" in line for line in logged] == [True] * bool(voice)
                for late in ("text", "flush", "stop"):  # of the one that is over
                    await socket.say(late, text="too late")
            await socket.start()
            await socket.say("stop")
            data, last, _ = await socket.finish()
            assert (data, last["reason"]) == (b"", "stop")
            await socket.start(reference_id="nobody")
            await socket.say("text", text="Hello.")
            await socket.say("flush")
            _, last, _ = await socket.rest()
            assert last["reason"] == "error"

    run(work())
    assert [line["text"] for line in spoken(log)] == [f"This is the {word}." for word in words]


def test_after_finish_the_server_closes_unless_the_client_keeps_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.api.fish.live._REUSE_S", 0.1)

    async def work() -> None:
        async with live(data_dir=tmp_path) as (socket, _):
            await socket.start(text="One.")
            await socket.say("stop")
            data, last, _ = await socket.rest()
            assert (len(data), last["reason"]) == (SENTENCE_BYTES, "stop")
        keeper = "livekit-plugins-fishaudio/1.8.9"
        async with live(data_dir=tmp_path, user_agent=keeper, live_idle_s=0.2) as (socket, _):
            for _ in range(2):
                await socket.start(text="One.")
                await socket.say("stop")
                await socket.finish()
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await socket.hear()

    run(work())


def test_live_client_is_not_idle_while_it_waits_for_audio(tmp_path: Path) -> None:
    async def work() -> None:
        async with live(data_dir=tmp_path, live_idle_s=0.2) as (socket, _):
            await socket.start(text="The worker lets this wait.")
            await socket.say("flush")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.0):
                    await socket.hear()

    run(work())


def test_live_client_that_leaves_is_not_spoken_to(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def work() -> None:
        async with server({"log_file": str(log)}, data_dir=tmp_path) as http:
            url = str(http.base_url.copy_with(scheme="ws")).rstrip("/") + "/v1/tts/live"
            async with connect(url) as socket:
                conversation = Live(socket)
                await conversation.start(text="This is slow.")
                await conversation.say("flush")
                await conversation.audio(SENTENCE_BYTES)
            while "Abort" not in log.read_text():
                await asyncio.sleep(0.02)

    run(work())
