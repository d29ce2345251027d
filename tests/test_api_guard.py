"""Keys, rates and origins, over HTTP and WebSockets, on a small app that says who it was told."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn
import websockets
from fastapi import FastAPI, Request, WebSocket
from loguru import logger

from backend.api import guard
from backend.api.boundary import RequestBoundary
from backend.api.guard import OPEN_PATHS, PACED, Pace, first_key, parse_keys, parse_origins, protect
from backend.api.shape import error_response
from backend.errors import BadSetting
from backend.settings import Settings

KEY = {"Authorization": "Bearer secret"}
OTHER = "key-" + hashlib.sha256("öther".encode()).hexdigest()[:8]
SHAPES = ("/tts", "/v1/audio/speech", "/v1/tts")


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def small_app(**values: Any) -> FastAPI:
    app = FastAPI()

    async def who(request: Request) -> dict[str, str]:
        return {"client": request.state.client, "id": request.state.request_id}

    for path in (*sorted(OPEN_PATHS), "/hardware"):
        app.get(path)(who)
    for method, path in PACED:
        app.api_route(path, methods=[method])(who)

    async def live(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_json({"client": socket.state.client, "id": socket.state.request_id})
        await socket.receive_text()
        raise ZeroDivisionError("secret")

    app.websocket("/v1/audio/stream")(live)

    async def broken(socket: WebSocket) -> None:
        raise ZeroDivisionError("secret")

    app.websocket("/broken")(broken)
    protect(app, Settings(_env_file=None, **values))
    app.add_middleware(RequestBoundary)
    return app


def client(address: str = "10.0.0.1", **values: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(small_app(**values), client=(address, 5))
    return httpx.AsyncClient(transport=transport, base_url="http://test")


@asynccontextmanager
async def server(**values: Any) -> AsyncIterator[str]:
    """host:port of a real server."""
    config = uvicorn.Config(small_app(**values), host="127.0.0.1", port=0, log_level="warning")
    serving = uvicorn.Server(config)
    task = asyncio.create_task(serving.serve())
    while not serving.started:
        await asyncio.sleep(0.01)
    try:
        yield f"127.0.0.1:{serving.servers[0].sockets[0].getsockname()[1]}"
    finally:
        serving.should_exit = True
        await task


# -- keys ------------------------------------------------------------------------------------------


def test_without_keys_everybody_may_ask_and_is_known_by_address() -> None:
    async def work() -> None:
        async with client() as http:
            assert (await http.get("/hardware")).json()["client"] == "10.0.0.1"
            ignored = await http.get("/hardware", headers={"Authorization": "Bearer whatever"})
            assert ignored.status_code == 200

    run(work())


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        (KEY, "ann"),
        ({"Authorization": "bearer   secret "}, "ann"),
        ({"X-API-Key": "secret"}, "ann"),
        (
            {"X-API-Key": "öther".encode()},
            "key-" + hashlib.sha256("öther".encode()).hexdigest()[:8],
        ),
        ({"X-API-Key": "third"}, "bob"),
    ],
)
def test_right_key_names_the_client(headers: Any, name: str) -> None:
    async def work() -> None:
        async with client(api_keys="ann:secret, öther,bob:third") as http:
            answer = await http.get("/hardware", headers=headers)
            assert answer.status_code == 200, answer.text
            assert answer.json()["client"] == name

    run(work())


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer secre"},
        {"Authorization": "Bearer secret2"},
        {"Authorization": "Bearer Secret"},
        {"Authorization": "Basic secret"},
        {"Authorization": "secret"},
        {"Authorization": "Bearer ann:secret"},
        {"Authorization": b"Bearer \xff\xfe\x00"},
        {"X-API-Key": "a" * 100_000},
        {"X-API-Key": ""},
    ],
)
def test_wrong_key_is_401_in_the_shape_of_the_route(headers: Any) -> None:
    async def work() -> None:
        async with client(api_keys="ann:secret") as http:
            for path in SHAPES:
                answer = await http.post(path, headers=headers)
                assert answer.status_code == 401
                assert answer.headers["WWW-Authenticate"] == "Bearer"
                assert answer.headers["X-Request-ID"]
                assert "Authorization: Bearer" in answer.text
            ours, openai, fish = [(await http.post(path)).json() for path in SHAPES]
            assert ours.keys() == {"detail"}
            assert openai["error"]["code"] == "invalid_api_key"
            assert fish["status"] == 401

    run(work())


def test_openai_knows_no_422() -> None:
    assert error_response("/v1/audio/speech", 422, "wrong").status_code == 400
    assert error_response("/v1/audio", 422, "wrong").status_code == 400
    assert error_response("/v1/audiobook", 422, "wrong").status_code == 422
    assert error_response("/tts", 422, "wrong \ud83d").body == b'{"detail":"wrong \\\\ud83d"}'


def test_what_needs_no_key() -> None:
    async def work() -> None:
        async with client(api_keys="secret") as http:
            for path in OPEN_PATHS:
                assert (await http.get(path)).status_code == 200
            for path in ("/health/", "/health%2F..%2Fhardware", "//health", "/Health", "/nothing"):
                assert (await http.get(path)).status_code == 401

    run(work())


def test_no_key_is_logged() -> None:
    async def work() -> None:
        lines: list[str] = []
        sink = logger.add(lines.append, level="DEBUG")
        try:
            async with client(api_keys="very-secret", rate_limit_per_minute=1) as http:
                for key in ("very-secret", "very-secret", "quite-wrong"):
                    await http.post("/tts", headers={"X-API-Key": key})
        finally:
            logger.remove(sink)
        assert len(lines) == 2
        assert "429" in lines[0]
        assert "401" in lines[1]
        assert not any("very-secret" in line or "quite-wrong" in line for line in lines)

    run(work())


def test_every_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = []

    def compare(one: bytes, other: bytes) -> bool:
        lengths.append((len(one), len(other)))
        return one == other

    async def work() -> None:
        async with client(api_keys="a,bb,ccc") as http:
            monkeypatch.setattr("hmac.compare_digest", compare)
            assert (await http.get("/hardware", headers={"X-API-Key": "a"})).status_code == 200
            assert (await http.get("/hardware", headers={"X-API-Key": "dddd"})).status_code == 401

    run(work())
    assert lengths == [(32, 32)] * 6


@pytest.mark.parametrize("text", ["name:", ":key", "a name:key", "ö:key", " , ", "a" * 65 + ":key"])
def test_keys_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(BadSetting, match="SHOAL_API_KEYS"):
        parse_keys(text)


def test_keys_are_kept_as_digests() -> None:
    assert parse_keys("") == {}
    keys = parse_keys("ann:a:b")
    assert keys == {hashlib.sha256(b"a:b").digest(): "ann"}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("", ""),
        ("one", "one"),
        (" one , two", "one"),
        (", ann:one,two", "one"),
        ("ann:a:b", "a:b"),
        ("a:1,b:2", "1"),
    ],
)
def test_the_first_key_is_one_that_is_let_in(text: str, key: str) -> None:
    assert first_key(text) == key
    assert not key or hashlib.sha256(key.encode()).digest() in parse_keys(text)


# -- rate ------------------------------------------------------------------------------------------


def test_rate_is_kept_by_client() -> None:
    async def work() -> None:
        async with client(api_keys="a:1,b:2", rate_limit_per_minute=3) as http:
            for method, path in sorted(PACED)[:3]:
                answer = await http.request(method, path, headers={"X-API-Key": "1"})
                assert answer.status_code == 200
            for path in SHAPES:
                answer = await http.post(path, headers={"X-API-Key": "1"})
                assert answer.status_code == 429
                assert 1 <= int(answer.headers["Retry-After"]) <= 60
                assert "More than 3 requests in a minute" in answer.text
            assert (await http.get("/hardware", headers={"X-API-Key": "1"})).status_code == 200
            assert (await http.post("/tts", headers={"X-API-Key": "2"})).status_code == 200

    run(work())


@pytest.mark.parametrize(
    ("method", "path", "is_paced"),
    [
        ("GET", "/voices/Anna/audio", True),
        ("GET", "/voices/%E5%B0%8F%E6%98%8E/audio", True),
        ("GET", "/voices/Anna%2Faudio", True),  # which is where it is served
        ("GET", "/voices/Anna", False),
        ("GET", "/voices/Anna/export", False),
        ("GET", "/voices/a/b/audio", False),
        ("POST", "/voices/Anna/audio", False),
        ("POST", "/voices/import", False),
        ("POST", "/voices", True),
    ],
)
def test_rate_counts_what_computes(method: str, path: str, is_paced: bool) -> None:
    async def work() -> None:
        async with client(rate_limit_per_minute=1) as http:
            await http.request(method, path)
            second = await http.request(method, path)
            assert (second.status_code == 429) == is_paced

    run(work())


def test_rate_counts_again_a_minute_later(monkeypatch: pytest.MonkeyPatch) -> None:
    pace, start_s = Pace(2), time.time()
    assert pace.wait_s("a") == pace.wait_s("a") == 0.0
    assert 50 < pace.wait_s("a") <= 60
    monkeypatch.setattr(time, "time", lambda: start_s + 62)
    assert pace.wait_s("a") == 0.0


def test_clients_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_MAX_CLIENTS", 3)
    pace = Pace(1)
    assert [pace.wait_s(name) for name in "abc"] == [0.0] * 3
    assert pace.wait_s("a") > 0
    assert pace.wait_s("d") == 0.0
    assert pace.wait_s("d") > 0
    assert len(pace._clients) == 1


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
    ],
)
def test_address_of_a_client(address: str, name: str) -> None:
    async def work() -> None:
        async with client(address) as http:
            assert (await http.get("/hardware")).json()["client"] == name

    run(work())


# -- origins ---------------------------------------------------------------------------------------


def test_cors_is_off_unless_set() -> None:
    async def work() -> None:
        asked = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
        async with client() as http:
            answer = await http.options("/tts", headers=asked)
            assert answer.status_code == 405
            plain = await http.get("/hardware", headers=asked)
            for each in (answer, plain):
                assert not any(name.startswith("access-control") for name in each.headers)

    run(work())


def test_cors_lets_the_named_origins_in() -> None:
    async def work() -> None:
        values = {"cors_origins": "https://a.example/, http://localhost:3000", "api_keys": "secret"}
        async with client(**values) as http:
            asked = {
                "Origin": "https://a.example",
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization,content-type",
            }
            answer = await http.options("/tts", headers=asked)
            assert answer.status_code == 200
            assert answer.headers["Access-Control-Allow-Origin"] == "https://a.example"
            assert "authorization" in answer.headers["Access-Control-Allow-Headers"]
            refused = await http.post("/tts", headers={"Origin": "https://a.example"})
            assert refused.status_code == 401
            assert refused.headers["Access-Control-Allow-Origin"] == "https://a.example"
            assert refused.headers["Access-Control-Expose-Headers"] == "*"
            other = await http.options("/tts", headers={**asked, "Origin": "https://b.example"})
            assert other.status_code == 400
            assert "Access-Control-Allow-Origin" not in other.headers

    run(work())


@pytest.mark.parametrize("text", ["a.example", "https://a.example/path", "https://a b", "://"])
def test_origins_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(BadSetting, match="SHOAL_CORS_ORIGINS"):
        parse_origins(text)


# -- WebSockets ------------------------------------------------------------------------------------


async def denied(url: str, status: int, **options: Any) -> str:
    with pytest.raises(websockets.exceptions.InvalidStatus) as caught:
        await websockets.connect(url, **options)
    response = caught.value.response
    assert response.status_code == status
    assert response.headers["X-Request-ID"]
    assert response.body
    return response.body.decode()


def test_websockets_need_a_key_and_keep_to_the_rate() -> None:
    async def work() -> None:
        async with server(api_keys="ann:secret", rate_limit_per_minute=1) as address:
            url = f"ws://{address}/v1/audio/stream"
            assert "API key" in await denied(url, 401)
            async with websockets.connect(url, additional_headers=KEY) as socket:
                assert '"ann"' in str(await socket.recv())
                assert socket.response
                assert socket.response.headers["X-Request-ID"]
            assert "in a minute" in await denied(url, 429, additional_headers=KEY)

    run(work())


def test_websockets_of_other_pages_are_refused() -> None:
    async def work() -> None:
        async with server(cors_origins="https://a.example") as address:
            url = f"ws://{address}/v1/audio/stream"
            for origin in ("https://a.example", f"http://{address}", None):
                async with websockets.connect(url, origin=origin) as socket:  # type: ignore[arg-type]
                    assert "127.0.0.1" in str(await socket.recv())
            for origin in ("https://b.example", "null", "http://127.0.0.1:1"):
                assert "origin" in await denied(url, 403, origin=origin)

    run(work())


def test_bug_in_a_websocket_is_told_without_its_trace() -> None:
    async def work() -> None:
        async with server() as address:
            body = await denied(f"ws://{address}/broken", 500)
            assert "mistake" in body
            assert "secret" not in body
            async with websockets.connect(f"ws://{address}/v1/audio/stream") as socket:
                await socket.recv()
                await socket.send("x")
                with pytest.raises(websockets.exceptions.ConnectionClosedError) as caught:
                    await socket.recv()
                assert caught.value.rcvd
                assert caught.value.rcvd.code == 1011

    run(work())


def test_server_that_cannot_deny_closes_before_it_accepts() -> None:
    async def work() -> None:
        sent = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        scope: dict[str, Any] = {
            "type": "websocket",
            "path": "/v1/audio/stream",
            "headers": [],
            "client": None,
        }
        await small_app(api_keys="secret")(scope, receive, send)
        assert sent == [{"type": "websocket.close", "code": 1008}]

    run(work())
