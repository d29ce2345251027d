"""The page in front of servers that are full, away, guarded by keys, old, or without ffmpeg."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from playwright.sync_api import Browser, expect

from tests.browser.face import SPOKEN_MS, Tab, facing, new_tab, until
from tests.e2e.serving import Served, serving
from tests.pages import tone

KEY = "sk-nobody-may-see-this"


@contextmanager
def tab_on(browser: Browser, url: str, folder: Path, **environment: str) -> Iterator[Tab]:
    with facing(url, folder, 0, **environment) as face:
        tab = new_tab(browser, face).open()
        yield tab
        tab.close()


@pytest.mark.slow
def test_a_worker_that_dies_is_told_and_comes_back(browser: Browser, tmp_path: Path) -> None:
    with serving() as served, tab_on(browser, served.url, tmp_path) as tab:
        tab.text.fill("It was a long day, and nobody knew how it would end. " * 6)
        tab.go.click()
        expect(tab.take).to_have_attribute("data-state", "speaking", timeout=SPOKEN_MS)
        served.worker().kill()
        tab.is_done("failed")
        expect(tab.state).not_to_be_empty()
        expect(tab.go).to_be_enabled()
        until(lambda: httpx.get(f"{served.url}/health/ready").status_code == 200, 60)
        expect(tab.page.locator("#status")).to_contain_text("CPU")
        tab.take.get_by_role("button", name="Try again").click()
        tab.is_done()


@pytest.mark.slow
def test_a_server_that_goes_away_is_told_and_found_again(browser: Browser, tmp_path: Path) -> None:
    with serving() as served:
        url = served.url
        with facing(url, tmp_path) as face:
            tab = new_tab(browser, face).open()
            served.process.kill()
            status = tab.page.locator("#status .chip")
            expect(status).to_contain_text("No server answers at")
            tab.speak("Is anybody there?")
            tab.is_done("failed")
            expect(tab.state).to_contain_text("shoal serve")
            with serving(SHOAL_PORT=url.rpartition(":")[2]) as again:
                assert again.url == url
                expect(status).to_contain_text("CPU", timeout=30_000)
                tab.take.get_by_role("button", name="Try again").click()
                tab.is_done()
            tab.close()


@pytest.mark.slow
def test_a_full_queue_counts_down_and_tries_again(browser: Browser, tmp_path: Path) -> None:
    with (
        serving(SHOAL_MAX_BATCH="1", SHOAL_QUEUE_LIMIT="0", LONG_TEXT="split") as served,
        tab_on(browser, served.url, tmp_path) as tab,
    ):
        text = "It was a long day, and nobody knew how it would end. " * 6
        fields = {"text": text, "stream": True, "response_format": "pcm", "long_text": "split"}
        with httpx.Client(base_url=served.url, timeout=60) as http:
            with http.stream("POST", "/tts", json=fields) as answer:
                pieces = answer.iter_bytes()  # kept: without it the connection is closed
                next(pieces)
                tab.speak("One more.")
                tab.is_done("failed")
                expect(tab.state).to_contain_text("queue")
                expect(tab.take.locator("#left")).to_contain_text("free in about")
                tab.take.locator("#self input").check()
            tab.is_done()
        assert tab.view()["audio_s"] > 0


def test_a_server_with_keys_is_spoken_to_and_no_browser_sees_the_key(
    browser: Browser, tmp_path: Path
) -> None:
    har = tmp_path / "traffic.har"
    with (
        serving(SHOAL_API_KEYS=KEY) as served,
        facing(served.url, tmp_path / "page", API_KEY=KEY) as face,
    ):
        tab = new_tab(browser, face, record_har_path=har, record_har_content="embed").open()
        tab.speak("Behind a key.")
        tab.is_done()
        tab.take.locator("#receipt summary").click()
        expect(tab.take.get_by_role("button", name="Copy as curl")).to_be_visible()
        tab.mode("As I type")
        tab.page.locator("#live textarea").fill("The first sentence is here. And now ")
        expect(tab.sentences.first).to_contain_text("The first", timeout=SPOKEN_MS)
        tab.page.get_by_role("button", name="Finish", exact=True).click()
        tab.is_done()
        for name in ("Voices", "Emotion guide", "System"):
            tab.tab(name)
        expect(tab.page.locator("#plan")).to_contain_text("Decided by")
        tab.close()
        told = har.read_text("utf-8")
        assert len(json.loads(told)["log"]["entries"]) > 20 and "$API_KEY" in told
        assert KEY not in told
        kept = [file for file in (tmp_path / "page").rglob("*") if file.is_file()]
        assert kept and not [file for file in kept if KEY.encode() in file.read_bytes()]


def test_a_wrong_key_is_told(browser: Browser, tmp_path: Path) -> None:
    with (
        serving(SHOAL_API_KEYS=KEY) as served,
        tab_on(browser, served.url, tmp_path, API_KEY="wrong") as tab,
    ):
        tab.speak("Let me in.")
        tab.is_done("failed")
        expect(tab.state).to_contain_text("key")


def test_without_ffmpeg_it_speaks_all_the_same(
    browser: Browser, server: Served, tmp_path: Path
) -> None:
    nothing = tmp_path / "bin"
    nothing.mkdir()
    assert shutil.which("ffmpeg", path=str(nothing)) is None
    with tab_on(browser, server.url, tmp_path / "page", PATH=str(nothing)) as tab:
        tab.speak("Nothing else is needed.")
        tab.is_done()
        tab.is_heard()
        with tab.page.expect_download() as download:
            tab.take.locator("#files a", has_text="MP3").click()
        assert Path(download.value.path()).stat().st_size > 1000


# -- older servers --------------------------------------------------------------------------------


def _older(is_free: Event) -> FastAPI:
    """What the pages need of a server that knows neither events nor what came after them; it tells
    its voices once it `is_free`."""
    app = FastAPI()

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {
            "status": "ok",
            "device": "cpu",
            "checkpoint": "older",
            "model": {"sample_rate_hz": 8_000},
            "worker": {},
        }

    @app.get("/voices")
    def voices() -> dict[str, Any]:
        is_free.wait(30)
        return {"voices": []}

    @app.post("/estimate-memory")
    async def estimate(request: Request) -> Response:
        fields = await request.json()
        if set(fields) != {"text"}:
            return JSONResponse({"detail": "language: no such field."}, 422)
        told = {"estimated_mb": 1.0, "available_mb": 9.0, "safe": True, "text_length": 1}
        return JSONResponse({"status": "ok", "estimate": told})

    @app.post("/tts")
    async def tts(request: Request) -> Response:
        fields = await request.json()
        if fields["stream"] is not True:
            return JSONResponse({"detail": "stream: write true or false."}, 422)
        return StreamingResponse(iter([tone(0.5)] * 4), media_type="audio/pcm")

    return app


@pytest.fixture
def is_free() -> Event:
    return Event()


@pytest.fixture
def older(is_free: Event) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(_older(is_free), port=0, log_level="warning"))
    thread = Thread(target=server.run)
    thread.start()
    begin_s = monotonic()
    until(lambda: server.started, 20)
    assert monotonic() - begin_s < 20
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def test_what_is_asked_for_before_the_page_has_found_its_takes_stays_in_view(
    browser: Browser, older: str, is_free: Event, tmp_path: Path
) -> None:
    with tab_on(browser, older, tmp_path) as tab:
        tab.speak("Hello.")  # the page still waits for the server's voices
        tab.is_done()
        src = tab.take.get_attribute("src")
        is_free.set()
        tab.page.wait_for_function("window.shoalIsRestored")
        tab.page.locator("#earlier .label-wrap").click()
        tab.page.locator("#takes input").click()
        expect(tab.page.locator("#takes").get_by_role("option")).to_contain_text(["Hello."])
        expect(tab.take).to_have_attribute("src", src or "")


def test_an_older_server_speaks_without_events(
    browser: Browser, older: str, is_free: Event, tmp_path: Path
) -> None:
    is_free.set()
    with tab_on(browser, older, tmp_path) as tab:
        tab.text.fill("Hello.")
        expect(tab.card).to_contain_text("Fits this machine.")
        tab.go.click()
        tab.is_done()
        tab.is_heard()
        assert b"".join(piece.samples.tobytes() for piece in tab.heard()) == tone(0.5) * 4
        expect(tab.sentences).to_have_count(0)
        tab.tab("Emotion guide")
        expect(tab.page.locator("#guide .problem")).to_be_visible()
        tab.tab("System")
        expect(tab.page.locator("#charts .problem")).to_be_visible()
        expect(tab.page.locator("#plan .problem")).to_be_visible()


def test_environment_of_the_tests_has_no_key() -> None:
    assert "API_KEY" not in os.environ
