"""What clients of other servers do before and beside speech: other paths, HEAD, lists, links."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest
from loguru import logger

from backend.api.cors import _MAX_ORIGINS
from backend.api.paths import canonical
from backend.settings import load_settings
from tests.scripted import children, client, server
from tests.wire import wire

HELLO = {"model": "tts-1", "input": "Hello from the test.", "voice": "alloy"}
KEY = {"Authorization": "Bearer secret"}
PAGE = "https://a.example"
PREFLIGHT = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Private-Network": "true",
}


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)
    assert not children()


# -- paths -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/", "/"),
        ("//", "/"),
        ("/tts", "/tts"),
        ("/tts/", "/tts"),
        ("//tts//", "/tts"),
        ("/v1//audio/speech", "/v1/audio/speech"),
        ("//audio/speech", "/v1/audio/speech"),
        ("/audio/speech/", "/v1/audio/speech"),
        ("/audio/stream", "/v1/audio/stream"),
        ("/audio", "/v1/audio"),
        ("/audiobook", "/audiobook"),
        ("/models", "/v1/models"),
        ("/models/tts-1", "/v1/models/tts-1"),
        ("/model/abc", "/model/abc"),
        ("/audio/voices", "/v1/audio/voices"),
        ("/audio/models", "/v1/models"),
        ("/v1/audio/models", "/v1/models"),
        ("/v1/voices", "/v1/audio/voices"),
        ("/v1/voices/all", "/v1/audio/voices"),
        ("/voices/all", "/v1/audio/voices"),
        ("/voices", "/voices"),
        ("/voices/all/audio", "/voices/all/audio"),
        ("/voices/anna/", "/voices/anna"),
        ("/docs/", "/docs/"),
        ("http://evil.example//tts", "http://evil.example//tts"),
        ("*", "*"),
        ("", ""),
    ],
)
def test_every_route_has_one_path(path: str, route: str) -> None:
    assert canonical(path) == route
    assert canonical(route) == route


def test_a_path_of_slashes_takes_no_time() -> None:
    assert canonical("/" * 1_000_000 + "a" + "/" * 1_000_000) == "/a"


def test_slashes_and_other_names_lead_to_the_same_route() -> None:
    async def work() -> None:
        async with server() as http:
            for path in ("//audio/speech", "/v1/audio/speech/", "/v1//audio//speech//"):
                url = f"{str(http.base_url).rstrip('/')}{path}"
                answer = await http.post(url, json=HELLO)
                assert answer.status_code == 200, answer.text
                assert answer.headers["content-type"] == "audio/mpeg"
            for path in ("/v1/audio/models", "/audio/models", "/models", "/v1/models/"):
                listed = (await http.get(path)).json()
                assert "tts-1" in [each["id"] for each in listed["models"]]
            for path in ("/v1/voices", "/v1/voices/all", "/voices/all", "/audio/voices"):
                listed = (await http.get(path)).json()
                assert {"id": "alloy", "name": "alloy"} in listed["voices"]
            assert (await http.get("/models/tts-1")).json()["task"] == "text-to-speech"
            assert (await http.post("/tts/", data={"text": "Hello."})).status_code == 200

    run(work())


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/v1", {"error"}),
        ("/v1/nothing", {"error"}),
        ("/v1/audio/nothing/", {"error"}),
        ("/audio/nothing", {"error"}),
        ("/models/nothing", {"error"}),
        ("/v1/chat/completions", {"error"}),
        ("/v1/tts/nothing", {"status", "message", "detail"}),
        ("/v1/references/nothing", {"status", "message", "detail"}),
        ("/nothing", {"detail"}),
        ("/v12", {"detail"}),
    ],
)
def test_what_is_not_there_is_told_in_the_shape_of_its_server(path: str, shape: set[str]) -> None:
    async def work() -> None:
        async with client(is_ready=False) as http:
            answer = await http.get(path)
            assert answer.status_code == 404
            assert answer.json().keys() == shape

    run(work())


# -- HEAD ------------------------------------------------------------------------------------------


def test_head_is_answered_as_get_without_the_body() -> None:
    async def work() -> None:
        async with server() as http:
            paths = (await http.get("/openapi.json")).json()["paths"]
            plain = [path for path in paths if "get" in paths[path] and "{" not in path]
            for path in (*plain, "/docs", "/openapi.json", "/v1/models/fish", "/voices/nobody"):
                asked, headed = await http.get(path), await http.head(path)
                assert headed.status_code == asked.status_code, path
                assert headed.headers["content-type"] == asked.headers["content-type"]
                assert headed.headers["X-Request-ID"]
                assert headed.content == b""
            assert (await http.head("/cache/clear")).status_code == 405

    run(work())


def test_after_a_head_the_connection_goes_on() -> None:
    """A body where none may be would be taken for the next answer."""

    async def work() -> None:
        async with server() as http, wire(http.base_url.port or 0) as raw:
            for path in ("/health", "/docs", "/nothing"):
                await raw.send(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                head = await raw.reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 404" if path == "/nothing" else b"HTTP/1.1 200")
            await raw.send(b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await raw.answer())[2] == {"status": "ok"}

    run(work())


def test_head_needs_a_key_and_keeps_to_the_rate() -> None:
    async def work() -> None:
        async with client(api_keys="secret", rate_limit_per_minute=1) as http:
            assert (await http.head("/hardware")).status_code == 401
            assert (await http.head("/health")).status_code == 200
            for status in (404, 429):
                answer = await http.head("/voices/nobody/audio", headers=KEY)
                assert answer.status_code == status

    run(work())


# -- lists without a key ---------------------------------------------------------------------------


def test_public_lists_open_the_lists_and_nothing_else() -> None:
    lists = ("/v1/models", "/v1/audio/voices", "/v1/audio/models", "/v1/voices", "/audio/voices")

    async def statuses(http: httpx.AsyncClient) -> list[int]:
        asked = [await http.get(path) for path in lists]
        asked += [await http.head(lists[0])]
        return [answer.status_code for answer in asked]

    async def work() -> None:
        async with client(api_keys="secret") as http:
            assert set(await statuses(http)) == {401}
        async with client(api_keys="secret", public_lists=True) as http:
            assert set(await statuses(http)) == {200}
            paths = (await http.get("/openapi.json", headers=KEY)).json()["paths"]
            needless = {"/health", "/health/ready", "/v1/health", "/v1/models", "/v1/audio/voices"}
            for path, methods in paths.items():
                for method in methods:
                    answer = await http.request(method, path.replace("{name}", "tts-1"))
                    assert (answer.status_code == 401) == (path not in needless), path
            assert (await http.post("/v1/audio/speech", json=HELLO)).status_code == 401

    run(work())


# -- pages of other origins ------------------------------------------------------------------------


def logged_by(lines: list[str], origin: str) -> int:
    return sum("SHOAL_CORS_ORIGINS" in line and origin in line for line in lines)


def test_a_listed_page_may_come_from_a_public_network() -> None:
    async def work() -> None:
        for origins in (PAGE, "*"):
            async with client(cors_origins=origins) as http:
                answer = await http.options("/tts", headers=PREFLIGHT)
                assert answer.status_code == 200, answer.text
                assert answer.headers["Access-Control-Allow-Private-Network"] == "true"
                plain = {k: v for k, v in PREFLIGHT.items() if "Private" not in k}
                answer = await http.options("/tts", headers=plain)
                assert "Access-Control-Allow-Private-Network" not in answer.headers
        async with client(cors_origins=PAGE) as http:
            other = await http.options("/tts", headers=PREFLIGHT | {"Origin": "https://b.example"})
            assert other.status_code == 400
            assert "Access-Control-Allow-Private-Network" not in other.headers

    run(work())


@pytest.mark.parametrize("origins", ["", PAGE])
def test_a_refused_origin_is_told_once_with_the_setting(origins: str) -> None:
    other = "https://b.example"

    async def work() -> None:
        async with client(cors_origins=origins) as http:
            for _ in range(3):
                await http.options("/tts", headers=PREFLIGHT | {"Origin": other})
                await http.post("/tts", data={"text": "Hi."}, headers={"Origin": other})
                await http.get("/health", headers={"Origin": other})
                await http.get("/health", headers={"Origin": "http://127.0.0.1"})  # its own
                if origins:
                    await http.get("/health", headers={"Origin": PAGE})
            assert logged_by(lines, other) == 1
            assert sum("SHOAL_CORS_ORIGINS" in line for line in lines) == 1
            await http.get("/health", headers={"Origin": "null"})
            await http.get("/health", headers={"Origin": "https://" + "c" * 10_000})
            assert logged_by(lines, "null") == 1
            assert max(map(len, lines)) < 1000
            for number in range(3 * _MAX_ORIGINS):
                await http.get("/health", headers={"Origin": f"https://{number}.example"})
            assert sum("SHOAL_CORS_ORIGINS" in line for line in lines) == _MAX_ORIGINS

    lines: list[str] = []
    sink = logger.add(lines.append, level="WARNING")
    try:
        run(work())
    finally:
        logger.remove(sink)


# -- a link that speaks ----------------------------------------------------------------------------


def test_a_link_speaks_only_where_it_is_let() -> None:
    async def work() -> None:
        async with client() as http:
            answer = await http.get("/tts", params={"text": "Hello."})
            assert answer.status_code == 405
            assert "/tts" in (await http.get("/openapi.json")).json()["paths"]
            assert "get" not in (await http.get("/openapi.json")).json()["paths"]["/tts"]
        async with client(get_speech=True) as http:
            assert "GET /tts" in (await http.get("/")).json()["routes"]
            answer = await http.put("/tts")
            assert answer.headers["Allow"] == "POST, GET, HEAD"

    run(work())


def test_a_link_speaks_as_the_form_does(tmp_path: Path) -> None:
    log = tmp_path / "spoken"

    async def work() -> None:
        async with client({"spoken_file": str(log)}, get_speech=True) as http:
            asked = {"text": "Hello there.", "seed": "7", "response_format": "pcm"}
            streamed = await http.get("/tts", params=asked)
            assert streamed.status_code == 200, streamed.text
            assert "content-length" not in streamed.headers
            assert streamed.headers["X-Accel-Buffering"] == "no"
            assert streamed.headers["Cache-Control"] == "no-cache, no-transform"
            whole = await http.get("/tts", params=asked | {"stream": "false"})
            assert int(whole.headers["content-length"]) == len(whole.content)
            posted = await http.post("/tts", data=asked)
            assert streamed.content == whole.content == posted.content
            empty = await http.get("/tts", params=asked | {"stream": "", "voice": ""})
            assert "content-length" not in empty.headers

    run(work())
    assert len(set(log.read_text().splitlines())) == 1


@pytest.mark.parametrize(
    ("query", "status", "says"),
    [
        ("", 422, "text is missing"),
        ("text=", 400, "blank"),
        ("text=+%0A", 400, "blank"),
        ("text=Hi&text=Ho", 422, "'text' is given twice"),
        ("text=Hi&voise=anna", 422, "did you mean voice"),
        ("text=Hi&voice=nobody", 404, "nobody"),
        ("text=Hi&speed=9", 422, "speed"),
        ("text=Hi&stream=events", 422, "POST"),
        ("text=Hi&timestamps=true", 422, "timestamps"),
        ("text=Hi&prompt_text=x", 422, "prompt_text"),
        ("text=Hi&dialogue=x", 422, "dialogue"),
        ("text=" + "a" * 501, 413, "501 characters"),
    ],
)
def test_bad_links(query: str, status: int, says: str) -> None:
    async def work() -> None:
        async with client(get_speech=True, max_text_characters=500) as http:
            answer = await http.get(f"/tts?{query}")
            assert answer.status_code == status, answer.text
            assert says in answer.json()["detail"]

    run(work())


def test_head_of_a_link_speaks_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()

    async def work() -> None:
        async with client({"log_file": str(log)}, get_speech=True) as http:
            answer = await http.head("/tts", params={"text": "Hello.", "response_format": "mp3"})
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "audio/mpeg"
            assert (await http.head("/tts", params={"text": "Hi", "speed": 9})).status_code == 422

    run(work())
    assert "Speak" not in log.read_text()


@pytest.mark.parametrize(
    ("headers", "is_let"),
    [
        ({}, True),  # VLC
        ({"Sec-Fetch-Site": "none"}, True),  # typed
        ({"Sec-Fetch-Site": "same-origin", "Referer": "http://127.0.0.1/page"}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Referer": "http://127.0.0.1/page?a=b"}, True),
        ({"Origin": PAGE}, True),
        ({"Sec-Fetch-Site": "cross-site", "Referer": f"{PAGE}/"}, True),
        ({"Sec-Fetch-Site": "cross-site", "Referer": f"{PAGE}/a/b.html"}, True),
        ({"Sec-Fetch-Site": "cross-site", "Referer": "https://evil.example/"}, False),
        ({"Referer": "https://evil.example/"}, False),
        ({"Referer": "https://evil.example/https://a.example"}, False),
        ({"Referer": "https://a.example.evil.example/"}, False),
        ({"Referer": "http://127.0.0.1.evil.example/"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "https://evil.example", "Referer": f"{PAGE}/"}, False),
    ],
)
def test_a_link_is_guarded_against_other_sites(headers: dict[str, str], is_let: bool) -> None:
    async def work() -> None:
        async with client(get_speech=True, cors_origins=PAGE) as http:
            for ask in (http.get, http.head):
                answer = await ask("/tts", params={"text": "Hello."}, headers=headers)
                assert answer.status_code == (200 if is_let else 403)

    run(work())


def test_a_link_needs_a_key_and_keeps_to_the_rate() -> None:
    async def work() -> None:
        async with client(get_speech=True, api_keys="secret", rate_limit_per_minute=1) as http:
            params = {"text": "Hello."}
            assert (await http.get("/tts", params=params)).status_code == 401
            for status in (200, 429):
                answer = await http.get("/tts", params=params, headers=KEY)
                assert answer.status_code == status

    run(work())


def test_the_settings_are_off_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not load_settings(None).get_speech
    assert not load_settings(None).public_lists
    monkeypatch.setenv("SHOAL_GET_SPEECH", "true")
    monkeypatch.setenv("SHOAL_PUBLIC_LISTS", "true")
    assert load_settings(None).get_speech
    assert load_settings(None).public_lists
