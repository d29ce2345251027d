import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from backend.api.live_body import LiveText, SessionStart, parse_message
from backend.errors import BadField, ShoalError, TextTooLong, UploadTooLarge
from backend.text.sentences import PARAGRAPH_PAUSE_S
from tests.monitored import logged
from tests.scripted import children, server
from tests.wire import Wire, deaf

FIRST = "Once upon a time there was a test. "
SECOND = "It was spoken one sentence at a time. "
END = {"type": "end"}
FLUSH = {"type": "flush"}


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)
    assert not children()


def text(piece: str) -> dict[str, str]:
    return {"type": "text", "text": piece}


@asynccontextmanager
async def live(http: httpx.AsyncClient, **options: Any) -> AsyncIterator[ClientConnection]:
    url = str(http.base_url).replace("http", "ws").rstrip("/")
    async with connect(f"{url}/v1/audio/stream", **options) as socket:
        yield socket


async def say(socket: ClientConnection, *messages: object) -> None:
    for message in messages:
        await socket.send(message if isinstance(message, str | bytes) else json.dumps(message))


async def hear(socket: ClientConnection) -> tuple[list[dict[str, Any]], bytes]:
    """Everything the server says until it closes, and all audio."""
    said, audio = [], b""
    async for frame in socket:
        if isinstance(frame, bytes):
            audio += frame
        else:
            said.append(json.loads(frame))
    return said, audio


async def hear_until(socket: ClientConnection, kind: str) -> dict[str, Any]:
    """The next JSON message of that `kind`."""
    while True:
        frame = await socket.recv()
        if isinstance(frame, str) and (message := json.loads(frame))["type"] == kind:
            return dict(message)


def kinds(said: Sequence[dict[str, Any]]) -> list[str]:
    return [message["type"] for message in said]


PING, CLOSE = 9, 8


async def frames_of(client: Wire) -> tuple[list[int], int]:
    """The kinds of all frames until the connection is closed, and the code of its end."""
    kinds: list[int] = []
    while True:
        first, size = await client.reader.readexactly(2)
        kinds.append(first & 0x0F)
        if size == 126:
            size = int.from_bytes(await client.reader.readexactly(2))
        payload = await client.reader.readexactly(size)
        if kinds[-1] == CLOSE:
            return kinds, int.from_bytes(payload[:2])


async def running(http: httpx.AsyncClient) -> int:
    worker = (await http.get("/health")).json()["worker"]
    return int(worker["running"]) + int(worker["waiting"])


def frame_of(text: bytes) -> bytes:
    """A text frame of a client, masked with zeros."""
    return bytes([0x81, 0x80 | len(text)]) + bytes(4) + text


@pytest.mark.parametrize("path", ["/v1/audio/stream", "/v1/tts/live"])
def test_two_mistakes_in_one_segment_are_no_fault_of_the_servers(path: str) -> None:
    """The second ends the connection before the first is answered."""

    async def work() -> None:
        async with server() as http:
            with logged("WARNING") as lines:
                for _ in range(5):
                    url = str(http.base_url).replace("http", "ws").rstrip("/") + path
                    async with connect(url) as socket:
                        socket.transport.write(frame_of(b"junk") + frame_of(b"\xff\xff"))
                        with pytest.raises(ConnectionClosed):
                            while True:
                                await socket.recv()
                        assert socket.close_code == 1007
                assert (await http.get("/health")).status_code == 200
            assert not lines

    run(work())


def test_sentences_are_spoken_in_order() -> None:
    async def work() -> None:
        async with server() as http, live(http) as socket:
            await say(socket, *(text(letter) for letter in FIRST + SECOND), END)
            said, audio = await hear(socket)
            assert kinds(said) == [
                "session.started",
                *("sentence.start", "sentence.end") * 2,
                "done",
            ]
            started, first, first_end, second, second_end, done = said
            assert started["format"] == "pcm"
            assert started["sample_rate"] == 8_000
            assert re.fullmatch("[0-9a-f]{16}", started["request_id"])
            assert (first["index"], first["text"]) == (0, FIRST.strip())
            assert (second["index"], second["text"]) == (1, SECOND.strip())
            assert first_end == {"type": "sentence.end", "index": 0, "start_s": 0.0, "end_s": 0.1}
            assert second_end["end_s"] - second_end["start_s"] == pytest.approx(0.1)
            assert done["sentences"] == 2
            assert done["usage"] == {"input_tokens": 10, "output_tokens": 22, "total_tokens": 32}
            assert len(audio) / 2 / 8_000 == pytest.approx(done["audio_s"], abs=0.001)
            assert np.abs(np.frombuffer(audio, "<i2")).max() > 10_000
            assert socket.close_code == 1000

    run(work())


def test_audio_comes_before_the_text_has_ended() -> None:
    async def work() -> None:
        async with server() as http, live(http) as socket:
            await say(socket, text(FIRST + SECOND[:8]))
            start = await hear_until(socket, "sentence.start")
            assert start["text"] == FIRST.strip()
            await hear_until(socket, "sentence.end")
            await say(socket, text(SECOND[8:]), END)
            assert (await hear_until(socket, "sentence.start"))["text"] == SECOND.strip()
            assert (await hear_until(socket, "done"))["sentences"] == 2

    run(work())


def test_flush_speaks_what_is_there() -> None:
    async def work() -> None:
        async with server() as http, live(http) as socket:
            await say(socket, FLUSH, text("no sentence"), FLUSH, FLUSH)
            assert "no sentence" in (await hear_until(socket, "sentence.start"))["text"]
            await hear_until(socket, "sentence.end")
            await say(socket, text("and\fmore"), END)
            assert "and more" in (await hear_until(socket, "sentence.start"))["text"]
            assert (await hear_until(socket, "done"))["sentences"] == 2

    run(work())


def test_how_it_is_spoken_is_said_first(tmp_path: Path) -> None:
    log = tmp_path / "spoken"
    start = {
        **{"type": "session.start", "response_format": "wav", "sample_rate": 16_000, "speed": 2},
        **{"seed": 7, "temperature": 0.5, "language": "en", "voice": {"id": "alloy"}},
    }

    async def work() -> None:
        async with server({"spoken_file": str(log)}) as http, live(http) as socket:
            await say(socket, start)
            started = await hear_until(socket, "session.started")
            assert (started["format"], started["sample_rate"]) == ("wav", 16_000)
            await say(socket, text(FIRST), END)
            said, audio = await hear(socket)
            assert audio[:4] == b"RIFF"
            assert audio.count(b"RIFF") == 1
            assert said[-1]["audio_s"] == pytest.approx(0.05)
            assert said[1]["end_s"] == pytest.approx(0.05)

    run(work())
    assert len(log.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("messages", "status", "close", "says"),
    [
        (["{"], 422, 1008, "not valid JSON"),
        ([b"\x00\x01"], 422, 1008, "[Bb]inary"),
        ([{"type": "speak"}], 422, 1008, "session.start, text, flush, end"),
        ([text(FIRST), {"type": "session.start"}], 422, 1008, "first"),
        ([text(FIRST), END, text(SECOND)], 422, 1008, "has ended"),
        ([{"type": "session.start", "speed": 9}], 422, 1008, "speed.*9"),
        ([{"type": "session.start", "voice": "nobody"}], 404, 1008, "nobody"),
        ([text("a" * 300), text("b" * 300)], 413, 1009, "more than 500"),
        ([END], 400, 1008, "nothing|blank"),
        ([text(" \n"), END], 400, 1008, "nothing|blank"),
        ([text("crash now, please, all of you. "), END], 503, 1013, "exit code 3"),
    ],
)
def test_what_is_wrong_is_said_and_the_connection_closed(
    messages: list[object], status: int, close: int, says: str
) -> None:
    async def work() -> None:
        async with server(max_text_characters=500) as http, live(http) as socket:
            with contextlib.suppress(ConnectionClosed):  # refused before all was said
                await say(socket, *messages)
            said, _ = await hear_all(socket)
            assert said[-1]["type"] == "error", said
            assert said[-1]["status"] == status
            assert re.search(says, said[-1]["detail"]), said
            assert said[-1]["code"]
            assert socket.close_code == close

    run(work())


async def hear_all(socket: ClientConnection) -> tuple[list[dict[str, Any]], bytes]:
    """As `hear`, where it closes for another reason than that all is said."""
    said: list[dict[str, Any]] = []
    audio = b""
    try:
        while True:
            frame = await socket.recv()
            if isinstance(frame, bytes):
                audio += frame
            else:
                said.append(json.loads(frame))
    except ConnectionClosed:
        return said, audio


@pytest.mark.parametrize("messages", [[], [{"type": "session.start"}], [text(FIRST), FLUSH]])
def test_who_is_idle_is_left_if_it_answers_no_ping(messages: list[Any]) -> None:
    async def work() -> None:
        async with server(live_idle_s=0.2) as http, deaf(http, "/v1/audio/stream") as client:
            for message in messages:
                await client.send(frame_of(json.dumps(message).encode()))
            kinds, code = await frames_of(client)
            assert PING in kinds
            assert code == 1000
            assert await running(http) == 0

    run(work())


@pytest.mark.parametrize("messages", [[], [{"type": "session.start"}], [text(FIRST), FLUSH]])
def test_who_is_idle_and_answers_pings_stays(messages: list[Any]) -> None:
    async def work() -> None:
        async with server(live_idle_s=0.1) as http, live(http) as socket:
            await say(socket, *messages)
            if messages[-1:] == [FLUSH]:
                await hear_until(socket, "sentence.end")
            for _ in range(4):  # a ping of ours is answered after it: the server was silent so long
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.2):
                        while True:
                            await socket.recv()
            await say(socket, text(SECOND), END)
            assert (await hear_until(socket, "done"))["sentences"] >= 1

    run(work())


def test_what_was_left_unfinished_is_spoken_and_the_end() -> None:
    async def work() -> None:
        async with server(live_idle_s=0.2) as http, live(http) as socket:
            await say(socket, text("Once up"))
            said, audio = await hear(socket)
            assert kinds(said)[-1] == "done"
            assert [each["text"] for each in said if each["type"] == "sentence.start"] == [
                "Once up"
            ]
            assert audio
            assert socket.close_code == 1000

    run(work())


def test_an_idle_connection_past_its_deadline_is_closed_without_an_error() -> None:
    async def work() -> None:
        async with server(request_timeout_s=1.0) as http, live(http) as socket:
            await say(socket, text(FIRST), FLUSH)
            await hear_until(socket, "sentence.end")
            said, _ = await hear(socket)
            assert not said
            assert socket.close_code == 1000

    run(work())


def test_what_fails_at_the_deadline_is_an_error() -> None:
    async def work() -> None:
        async with server(request_timeout_s=1.0) as http, live(http) as socket:
            await say(socket, text("The worker lets this wait."), FLUSH)
            said, _ = await hear_all(socket)
            assert said[-1]["status"] == 504

    run(work())


def test_the_pause_after_a_flush_is_over_when_nothing_was_left_to_play() -> None:
    """0.1 s of speech, 0.6 s of pause: who writes on at once gets it, who is late does not."""

    async def lengths(waits: bool) -> float:
        async with server() as http, live(http) as socket:
            await say(socket, text(FIRST.strip()), FLUSH)
            await hear_until(socket, "sentence.end")
            if waits:
                await asyncio.sleep(0.8)  # the silence that is measured
            await say(socket, text(SECOND), END)
            return float((await hear_until(socket, "sentence.end"))["start_s"])

    async def work() -> None:
        at_once, late = await lengths(False), await lengths(True)
        assert 0.1 < at_once <= 0.11 + PARAGRAPH_PAUSE_S
        assert late == pytest.approx(0.1, abs=0.01)

    run(work())


def test_who_listens_is_not_idle() -> None:
    async def work() -> None:
        async with server(live_idle_s=0.3) as http, live(http) as socket:
            await say(socket, text("slow and long and slow."), FLUSH)
            ended = await hear_until(socket, "sentence.end")
            assert ended["end_s"] == pytest.approx(4.0)
            await say(socket, text(SECOND), END)
            assert (await hear_until(socket, "done"))["sentences"] == 2

    run(work())


def test_who_leaves_is_spoken_to_no_more(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def work() -> None:
        async with server({"log_file": str(log)}) as http:
            async with live(http) as socket:
                await say(socket, text("slow and long and slow."), FLUSH)
                await hear_until(socket, "sentence.start")
                socket.transport.abort()
            while "Abort" not in log.read_text():
                await asyncio.sleep(0.01)
            while await running(http):
                await asyncio.sleep(0.01)
            async with live(http) as socket:
                await say(socket, text(FIRST), END)
                assert kinds((await hear(socket))[0])[-1] == "done"

    run(work())


def test_who_does_not_read_is_left(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()

    async def work() -> None:
        async with (
            server({"log_file": str(log)}, live_idle_s=0.5) as http,
            live(http, max_queue=1, compression=None) as socket,  # silence deflates to nothing
        ):
            await say(socket, text("flood and drown."), FLUSH)
            while "Abort" not in log.read_text():
                await asyncio.sleep(0.05)
            socket.transport.abort()

    run(work())


def test_text_is_read_as_it_comes() -> None:
    async def work() -> None:
        live_text = LiveText(100)
        live_text.write("a\fb")
        live_text.write("")
        live_text.flush()
        live_text.flush()
        live_text.write("c")
        assert [await anext(live_text) for _ in range(3)] == ["a b", "\f", "c"]
        waiting = asyncio.create_task(anext(live_text))
        await asyncio.sleep(0)
        assert not waiting.done()
        live_text.write("d")
        assert await waiting == "d"
        live_text.end()
        assert [piece async for piece in live_text] == []
        with pytest.raises(BadField, match="has ended"):
            live_text.write("e")

    asyncio.run(work())


def test_text_is_bounded() -> None:
    live_text = LiveText(10)
    live_text.write("12345")
    live_text.write("67890")
    with pytest.raises(TextTooLong, match="more than 10"):
        live_text.write("1")


@pytest.mark.parametrize(
    ("message", "error", "says"),
    [
        ('"' + "a" * (1 << 20) + '"', UploadTooLarge, "too long"),
        ("[" * 100_000, BadField, "not valid JSON"),
        ('{"type": "text"}', BadField, "text is missing"),
        ('{"type": "text", "text": 5}', BadField, "text.*string"),
        ('{"type": "text", "text": "a", "voice": "b"}', BadField, "voice"),
        ('{"type": ["text"]}', BadField, "type"),
        ("[]", BadField, "type"),
        ('{"type": "session.start", "temperature": NaN}', BadField, "temperature"),
        ('{"type": "session.start", "sample_rate": 1}', BadField, "sample_rate"),
        ('{"type": "session.start", "voise": "ann"}', BadField, "voise"),
    ],
)
def test_messages_that_are_none(message: str, error: type[ShoalError], says: str) -> None:
    with pytest.raises(error, match=says):
        parse_message(message)


def test_a_start_without_fields_is_as_no_start() -> None:
    start = parse_message('{"type": "session.start"}')
    assert start == SessionStart()
    assert isinstance(start, SessionStart)
    assert start.output.format == "pcm"


def test_one_client_has_only_so_many_connections() -> None:
    async def work() -> None:
        async with server(max_live_per_client=2) as http, AsyncExitStack() as held:
            for _ in range(2):
                socket = await held.enter_async_context(live(http))
                await say(socket, {"type": "session.start"})
                await hear_until(socket, "session.started")
            async with live(http) as third:
                said, _ = await hear_all(third)
                assert (said[0]["status"], said[0]["code"]) == (429, "rate_limited")
                assert third.close_code == 1013
            await held.aclose()
            async with live(http) as again:
                await say(again, text(FIRST), END)
                said, audio = await hear(again)
                assert kinds(said)[-1] == "done" and audio

    run(work())


def test_connections_that_said_their_sentence_keep_no_other_client_out() -> None:
    async def work() -> None:
        async with server(max_batch=1, queue_limit=1) as http, AsyncExitStack() as held:
            for _ in range(6):
                socket = await held.enter_async_context(live(http))
                await say(socket, text(FIRST), FLUSH)
                await hear_until(socket, "sentence.end")
            queue = (await http.get("/health")).json()["queue"]
            assert (queue["speaking"], queue["waiting"]) == (0, 0)
            assert (await http.post("/tts", data={"text": "Hello."})).status_code == 200

    run(work())
