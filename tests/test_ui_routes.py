"""What a browser may ask of the page's process about takes, and what it may not."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from tests.pages import Body, Scripted, plan, setup_in, spoken, sse, stream, tone
from ui.setup import Setup
from ui.speaking.routes import take_routes
from ui.speaking.shelf import Shelf
from ui.speaking.speaker import Speaker
from ui.speaking.take import Take

TEXTS = ("One.", "Zwei ü.", "Three.")


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 30))


class Page:
    """The routes around a speaker, and a client of them."""

    def __init__(self, server: Scripted, setup: Setup, base_url: str = "http://page") -> None:
        self.speaker = Speaker(server.client(api_key=setup.api_key), Shelf(setup))
        self.app = FastAPI()
        self.app.include_router(take_routes(setup, self.speaker))

    async def finished(self) -> Take:
        take = self.speaker.begin("me", {"text": " ".join(TEXTS), "seed": 5})
        await self.speaker.wait(take)
        assert take.record.state == "done"
        return take

    @asynccontextmanager
    async def asked(self) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://page") as http:
            yield http

    @asynccontextmanager
    async def served(self) -> AsyncIterator[httpx.AsyncClient]:
        """On a socket: an answer that does not end cannot be asked for without one."""
        config = uvicorn.Config(self.app, port=0, log_level="warning")
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
                yield http
        finally:
            server.should_exit = server.force_exit = True
            await task


def page_of(folder: Path, *answers: httpx.Response, **setup: Any) -> Page:
    server = Scripted().on("POST", "/tts", *(answers or (stream(*spoken(*TEXTS)),)))
    return Page(server, setup_in(folder, **setup))


PLACES = (
    *(("GET", f"/page/takes/{{}}/{name}") for name in ("events", "audio", "receipt")),
    *(("GET", f"/page/takes/{{}}/{name}") for name in ("speech.wav", "speech.srt")),
    *(("GET", f"/page/takes/{{}}/{name}") for name in ("waveform.png", "spectrogram.png")),
    *(("POST", f"/page/takes/{{}}/{name}") for name in ("stop", "again", "sentences/0/redo")),
)


@pytest.mark.parametrize(("method", "path"), PLACES)
@pytest.mark.parametrize("take_id", ["x" * 22, "short", "..%2F..%2Fetc"])
def test_an_unknown_take_is_404(tmp_path: Path, method: str, path: str, take_id: str) -> None:
    async def work() -> None:
        async with page_of(tmp_path).asked() as http:
            answer = await http.request(method, path.format(take_id))
            assert answer.status_code == 404

    run(work())


@pytest.mark.parametrize("name", ["stop", "again", "sentences/0/redo"])
@pytest.mark.parametrize(
    ("origin", "may"),
    [
        ("http://evil.example", False),
        ("null", False),
        ("http://page.evil.example", False),
        ("http://page:81", False),
        ("http://page", True),
        ("https://page", True),
        (None, True),
    ],
)
def test_pages_of_other_sites_may_change_nothing(
    tmp_path: Path, name: str, origin: str | None, may: bool
) -> None:
    async def work() -> None:
        page = page_of(tmp_path, stream(*spoken(*TEXTS)), stream(*spoken("One.")))
        take = await page.finished()
        version = take.version
        headers = {"Origin": origin} if origin else {}
        async with page.asked() as http:
            answer = await http.post(f"/page/takes/{take.id}/{name}", headers=headers)
        assert answer.status_code == (200 if may else 403)
        if not may:
            assert take.version == version
        await page.speaker.close()

    run(work())


def test_audio_from_any_byte_on(tmp_path: Path) -> None:
    async def work() -> None:
        page = page_of(tmp_path)
        take = await page.finished()
        pcm = take.pcm.read_bytes()
        async with page.asked() as http:
            for start, wanted in (
                (0, 0),
                (100, 100),
                (101, 100),
                (-5, 0),
                (len(pcm) + 8, None),
                (10**30, None),
            ):
                answer = await http.get(f"/page/takes/{take.id}/audio", params={"start": start})
                assert answer.status_code == 200
                assert answer.content == (b"" if wanted is None else pcm[wanted:])
                assert answer.headers["cache-control"] == "no-store"
            bad = await http.get(f"/page/takes/{take.id}/audio", params={"start": "x"})
            assert bad.status_code == 422

    run(work())


def test_audio_of_a_take_at_work_goes_on_until_it_is_over(tmp_path: Path) -> None:
    async def work() -> None:
        go_on = asyncio.Event()
        first, *rest = spoken("One.")
        body = Body([first, *rest[:3]], waits=go_on)
        page = page_of(tmp_path, httpx.Response(200, stream=body))
        take = page.speaker.begin("me", {"text": "One."})
        await body.is_waiting.wait()
        place = f"/page/takes/{take.id}/audio"
        async with page.served() as http, http.stream("GET", place) as answer:
            pieces = answer.aiter_bytes()
            got = await anext(pieces)
            assert not take.is_over
            await page.speaker.stop(take)
            async for piece in pieces:
                got += piece
        assert got == take.pcm.read_bytes() == tone(0.5)

    run(work())


async def views(http: httpx.AsyncClient, take: Take) -> AsyncIterator[dict[str, Any]]:
    async with http.stream("GET", f"/page/takes/{take.id}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def test_events_tell_what_a_take_is_and_what_becomes_of_it(tmp_path: Path) -> None:
    async def work() -> None:
        body = Body([sse("plan", **plan(*TEXTS))], waits=asyncio.Event())
        page = page_of(tmp_path, httpx.Response(200, stream=body), stream(*spoken(*TEXTS)))
        take = page.speaker.begin("me", {"text": "One."})
        await body.is_waiting.wait()
        async with page.served() as http:
            seen = views(http, take)
            first = await anext(seen)
            assert (first["state"], len(first["sentences"])) == ("waiting", 3)
            await page.speaker.stop(take)
            second = await anext(seen)
            assert second["state"] == "stopped" and second["version"] > first["version"]

    run(work())


def test_events_of_a_take_that_is_over_end(tmp_path: Path) -> None:
    """A browser has six connections to a host: a tab must not hold one for what changes no more."""

    async def work() -> None:
        page = page_of(tmp_path)
        take = await page.finished()
        async with page.served() as http:
            seen = [view async for view in views(http, take)]
        assert [view["state"] for view in seen] == ["done"]

    run(work())


def test_redo_is_for_what_was_spoken(tmp_path: Path) -> None:
    async def work() -> None:
        body = Body(spoken(*TEXTS)[:4], waits=asyncio.Event())
        cut_off = httpx.Response(200, stream=body)
        page = page_of(tmp_path, cut_off, stream(*spoken("One.", seconds=1.0)))
        take = page.speaker.begin("me", {"text": "One."})
        await body.is_waiting.wait()
        async with page.asked() as http:
            place = f"/page/takes/{take.id}/sentences"
            assert (await http.post(f"{place}/0/redo")).status_code == 409, "it is at work"
            await page.speaker.stop(take)
            for index in (1, 2, 3, -1):
                assert (await http.post(f"{place}/{index}/redo")).status_code == 409
            assert (await http.post(f"{place}/0/redo")).json() == {"problem": ""}
        assert take.audio_s == 1.0

    run(work())


def test_a_redo_that_the_server_refuses_says_why(tmp_path: Path) -> None:
    async def work() -> None:
        full = httpx.Response(503, json={"detail": "The queue is full."})
        page = page_of(tmp_path, stream(*spoken(*TEXTS)), full)
        take = await page.finished()
        async with page.asked() as http:
            answer = await http.post(f"/page/takes/{take.id}/sentences/0/redo")
        assert answer.json() == {"problem": "The queue is full."}

    run(work())


def test_files_have_their_name_and_type(tmp_path: Path) -> None:
    async def work() -> None:
        page = page_of(tmp_path)
        take = await page.finished()
        async with page.asked() as http:
            for kind, media_type in (
                *(("wav", "audio/wav"), ("mp3", "audio/mpeg"), ("opus", "audio/ogg")),
                *(("flac", "audio/flac"), ("aac", "audio/aac"), ("vtt", "text/vtt")),
                ("srt", "application/x-subrip"),
            ):
                answer = await http.get(f"/page/takes/{take.id}/speech.{kind}")
                assert answer.status_code == 200 and answer.content
                assert answer.headers["content-type"].split(";")[0] == media_type
                name = quote(f"One Zwei ü Three.{kind}")
                disposition = f"attachment; filename*=UTF-8''{name}"
                assert answer.headers["content-disposition"] == disposition
            for kind in ("exe", "pcm", "json"):
                answer = await http.get(f"/page/takes/{take.id}/speech.{kind}")
                assert answer.status_code == 404

    run(work())


def test_a_take_without_sound_has_no_files(tmp_path: Path) -> None:
    async def work() -> None:
        page = page_of(tmp_path, httpx.Response(503, json={"detail": "Full."}))
        take = page.speaker.begin("me", {"text": "One."})
        await page.speaker.wait(take)
        async with page.asked() as http:
            assert (await http.get(f"/page/takes/{take.id}/speech.wav")).status_code == 404
            assert (await http.get(f"/page/takes/{take.id}/waveform.png")).status_code == 200

    run(work())


def test_pictures_and_scripts(tmp_path: Path) -> None:
    async def work() -> None:
        page = page_of(tmp_path)
        take = await page.finished()
        async with page.asked() as http:
            for name in ("waveform", "spectrogram"):
                answer = await http.get(f"/page/takes/{take.id}/{name}.png")
                assert answer.content.startswith(b"\x89PNG")
            assert (await http.get(f"/page/takes/{take.id}/take.png")).status_code == 404
            for name in ("take", "player", "looks"):
                answer = await http.get(f"/page/{name}.js")
                assert answer.headers["content-type"].startswith("text/javascript")
            for name in ("x", "..%2Ftake", "__init__"):
                assert (await http.get(f"/page/{name}.js")).status_code == 404

    run(work())


def test_a_receipt_is_told_without_the_key(tmp_path: Path) -> None:
    async def work() -> None:
        page = page_of(tmp_path, api_key="sk-very-secret")
        take = await page.finished()
        async with page.asked() as http:
            for kind in ("mp3", "exe"):
                answer = await http.get(f"/page/takes/{take.id}/receipt", params={"kind": kind})
                assert "sk-very-secret" not in answer.text
                told = answer.json()
                assert f"speech.{'mp3' if kind == 'mp3' else 'wav'}" in told["commands"]["curl"]
                assert ["Seed", "5"] in told["figures"]

    run(work())
