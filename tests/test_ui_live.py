"""The live connection: what goes out, what comes in, and how it ends, against a real WebSocket."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from tests.pages import RATE_HZ, setup_in, tone
from ui.client import Shoal
from ui.setup import Setup
from ui.speaking.shelf import Shelf
from ui.speaking.speaker import LiveText, Speaker
from ui.wire import Event, Refused, ServerAway

Talk = Callable[[ServerConnection], Awaitable[None]]
STARTED = {"type": "session.started", "request_id": "r", "sample_rate": RATE_HZ}


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 20))


@asynccontextmanager
async def serving(talk: Talk, refuses: int | None = None) -> AsyncIterator[str]:
    def process(connection: ServerConnection, request: Request) -> Response | None:
        return connection.respond(HTTPStatus(refuses), "no\n") if refuses else None

    async with serve(talk, "127.0.0.1", 0, process_request=process) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def tell(socket: ServerConnection, **message: Any) -> None:
    await socket.send(json.dumps(message))


async def heard(url: str, **start: Any) -> list[Event]:
    async with Shoal(Setup(api_url=url)) as client, client.speak_live(start) as live:
        await live.end()
        return [event async for event in live.events()]


def test_text_goes_out_and_speech_comes_in() -> None:
    asked: list[Any] = []

    async def talk(socket: ServerConnection) -> None:
        assert socket.request is not None
        asked.append((socket.request.path, socket.request.headers.get("authorization")))
        async for message in socket:
            asked.append(json.loads(message))
            if asked[-1]["type"] == "end":
                break
        await tell(socket, **STARTED)
        await tell(socket, type="sentence.start", index=1, text="Two.")
        await socket.send(tone(0.1))
        await tell(socket, type="sentence.end", index=1, start_s=0.0, end_s=0.1)
        await tell(socket, type="done", audio_s=0.1)

    async def work() -> None:
        async with serving(talk) as url:
            setup = Setup(api_url=f"{url}/base", api_key="secret")
            async with Shoal(setup) as client, client.speak_live({"voice": "anna"}) as live:
                await live.write("One. ")
                await live.flush()
                await live.end()
                events = [event async for event in live.events()]
        assert [event.kind for event in events] == [
            *("plan", "sentence.start", "audio", "sentence.end", "done")
        ]
        assert events[0].fields["sample_rate"] == RATE_HZ
        assert (events[2].fields, events[2].audio) == ({"index": 1}, tone(0.1))
        place, *messages = asked
        assert place == ("/base/v1/audio/stream", "Bearer secret")
        assert messages == [
            {"type": "session.start", "response_format": "pcm", "voice": "anna"},
            {"type": "text", "text": "One. "},
            {"type": "flush"},
            {"type": "end"},
        ]

    run(work())


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012])
def test_a_server_that_closes_in_the_middle_is_away_however_politely(code: int) -> None:
    async def talk(socket: ServerConnection) -> None:
        await socket.recv()
        await tell(socket, **STARTED)
        await socket.close(code)

    async def work() -> None:
        async with serving(talk) as url:
            with pytest.raises(ServerAway, match="in the middle"):
                await heard(url)

    run(work())


def test_what_was_done_is_done_though_the_connection_breaks_then() -> None:
    async def talk(socket: ServerConnection) -> None:
        await socket.recv()
        await tell(socket, **STARTED)
        await tell(socket, type="done")
        socket.transport.close()

    async def work() -> None:
        async with serving(talk) as url:
            assert [event.kind for event in await heard(url)] == ["plan", "done"]

    run(work())


@pytest.mark.parametrize("message", ["no json", "[1]", '"x"', "{}"])
def test_another_program_is_no_shoal_server(message: str) -> None:
    async def talk(socket: ServerConnection) -> None:
        await socket.send(message)
        await socket.wait_closed()

    async def work() -> None:
        async with serving(talk) as url:
            with pytest.raises(ServerAway, match="no Shoal server"):
                await heard(url)

    run(work())


def test_a_refused_connection_says_so() -> None:
    async def talk(socket: ServerConnection) -> None:
        raise AssertionError("nobody is let in")

    async def work() -> None:
        async with serving(talk, refuses=403) as url:
            with pytest.raises(Refused) as caught:
                await heard(url)
        assert caught.value.status == 403
        with pytest.raises(ServerAway, match="shoal serve"):
            await heard(url)

    run(work())


def test_a_take_is_spoken_while_it_is_typed(tmp_path: Path) -> None:
    async def talk(socket: ServerConnection) -> None:
        await socket.recv()
        await tell(socket, **STARTED)
        said = ""
        async for message in socket:
            told = json.loads(message)
            said += told.get("text", "")
            if said == "One. ":
                await tell(socket, type="sentence.start", index=0, text="One.")
                await socket.send(tone(0.5))
                await tell(socket, type="sentence.end", index=0, start_s=0.0, end_s=0.5)
                said = ""
            if told["type"] == "end":
                await tell(socket, type="done", audio_s=0.5, warnings=["It was cut off."])
                return

    async def work() -> None:
        async with serving(talk) as url:
            client = Shoal(setup_in(tmp_path, api_url=url))
            speaker, text = Speaker(client, Shelf(setup_in(tmp_path))), LiveText()
            take = speaker.begin_live(
                "me", {"text": "One.", "voice": "anna", "long_text": "split"}, text
            )
            text.write("One. T")
            while not (take.record.sentences and take.record.sentences[0].state == "done"):
                await take.changed(take.version)
            assert not take.is_over and take.audio_s == 0.5
            text.finish("One. Two")
            await speaker.wait(take)
            assert take.record.state == "done"
            assert take.record.warnings == ["It was cut off."]
            speaker.again(take)
            assert take.is_over, "what was typed is not typed again"

    run(work())


def test_stop_closes_the_live_connection(tmp_path: Path) -> None:
    async def work() -> None:
        opened, closed = asyncio.Event(), asyncio.Event()

        async def talk(socket: ServerConnection) -> None:
            await socket.recv()
            opened.set()
            await socket.wait_closed()
            closed.set()

        async with serving(talk) as url:
            client = Shoal(setup_in(tmp_path, api_url=url))
            speaker = Speaker(client, Shelf(setup_in(tmp_path)))
            take = speaker.begin_live("me", {"text": ""}, LiveText())
            await opened.wait()
            await speaker.stop(take)
            await closed.wait()
            assert take.record.state == "stopped"

    run(work())
