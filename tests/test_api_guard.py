"""Keys, rates and origins, over HTTP and WebSockets, on a small app that says who it was told."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn
import websockets
from fastapi import FastAPI, Request, WebSocket
from loguru import logger

from backend.api.boundary import RequestBoundary
from backend.api.guard import first_key, parse_keys, protect, refuse_open
from backend.api.pace import OPEN_PATHS, Pace
from backend.api.shape import error_response
from backend.api.sites import check_host, parse_hosts, parse_origins
from backend.errors import BadSetting, ForeignHost
from backend.settings import Settings

KEY = {"Authorization": "Bearer secret"}
OTHER = "key-" + hashlib.sha256("öther".encode()).hexdigest()[:8]
MANY = (
    ("GET", "/voices/{name}/audio"),
    *(("POST", path) for path in ("/tts", "/v1/audio/speech", "/v1/tts", "/cache/clear")),
    *(("POST", path) for path in ("/voices", "/voices/import", "/v1/health")),
    *((method, "/voices/{name}") for method in ("GET", "PATCH", "DELETE")),
)
SHAPES = ("/tts", "/v1/audio/speech", "/v1/tts")


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def small_app(**values: Any) -> FastAPI:
    app = FastAPI()

    async def who(request: Request) -> dict[str, str]:
        return {"client": request.state.client, "id": request.state.request_id}

    for path in (*sorted(OPEN_PATHS), "/hardware"):
        app.get(path)(who)
    for method, path in MANY:
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
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


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
    assert error_response("/v1", 422, "wrong").status_code == 400
    assert error_response("/v1/nothing", 422, "wrong").status_code == 400
    assert error_response("/v1/tts", 422, "wrong").status_code == 422
    assert error_response("/v12", 422, "wrong").status_code == 422
    assert error_response("/tts", 422, "wrong \ud83d").body == b'{"detail":"wrong \\\\ud83d"}'


def test_what_needs_no_key() -> None:
    async def work() -> None:
        async with client(api_keys="secret") as http:
            for path in (*OPEN_PATHS, "/health/", "http://localhost//health"):
                assert (await http.get(path)).status_code == 200
            for path in ("/health%2F..%2Fhardware", "/Health", "/nothing", "/health//hardware"):
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
            for method, path in (("POST", "/tts"), ("POST", "/voices"), ("PATCH", "/voices/a")):
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
        ("POST", "/voices/import", True),
        ("POST", "/voices", True),
        ("PATCH", "/voices/Anna", True),
        ("DELETE", "/voices/Anna", True),
        ("POST", "/cache/clear", True),
        ("OPTIONS", "/tts", False),
        ("POST", "/v1/health", False),
    ],
)
def test_rate_counts_what_computes(method: str, path: str, is_paced: bool) -> None:
    async def work() -> None:
        async with client(rate_limit_per_minute=1) as http:
            await http.request(method, path)
            second = await http.request(method, path)
            assert (second.status_code == 429) == is_paced

    run(work())


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_rate_counts_again_a_minute_later() -> None:
    clock = Clock()
    pace = Pace(2, clock=clock)
    assert pace.wait_s("a") == 0.0
    clock.now_s += 20
    assert pace.wait_s("a") == 0.0
    assert pace.wait_s("a") == 40.0
    clock.now_s += 40
    assert pace.wait_s("a") == 0.0
    assert pace.wait_s("a") == 20.0


def test_many_addresses_reset_nobody_who_goes_on_asking() -> None:
    """The client that is idle longest is forgotten, and no other."""
    pace = Pace(1, max_clients=100, clock=Clock())
    assert pace.wait_s("eager") == 0.0
    for number in range(1000):
        assert pace.wait_s(f"address {number}") == 0.0
        if number % 50 == 0:
            assert pace.wait_s("eager") == 60.0
        assert pace.remembered <= 100
    assert pace.wait_s("eager") == 60.0
    assert pace.wait_s("address 999") == 60.0
    assert pace.wait_s("address 0") == 0.0


def test_clients_that_left_take_no_memory() -> None:
    clock = Clock()
    pace = Pace(3, clock=clock)
    for number in range(1000):
        pace.wait_s(str(number))
    clock.now_s += 61
    pace.wait_s("a")
    assert pace.remembered == 1


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
            # A page whose name was made to mean 127.0.0.1: its own name is what both say.
            foreign = {"Host": "evil.example", "Origin": "http://evil.example"}
            assert "SHOAL_ALLOWED_HOSTS" in await denied(url, 421, additional_headers=foreign)

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


# -- the name that the server is called ------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        *(
            "localhost",
            "LOCALHOST:8000",
            "localhost.",
            "127.0.0.1",
            "127.0.0.1:8137",
            "127.9.9.9:1",
        ),
        *("[::1]", "[::1]:8000", "page.localhost:3000", "[::ffff:127.0.0.1]"),
    ],
)
def test_localhost_is_served(host: str) -> None:
    async def work() -> None:
        async with client() as http:
            assert (await http.post("/tts", headers={"Host": host})).status_code == 200

    run(work())


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "localhost.evil.example", "notlocalhost", ""),
        *("192.168.1.5:8000", "[fe80::1]", "127.0.0.1.evil.example", "0.0.0.0:8000", "127.0.0.1@e"),
        *("localhost:8000:1", "[::1", "a" * 5000),
    ],
)
def test_a_foreign_name_is_refused_everywhere(host: str) -> None:
    async def work() -> None:
        async with client(api_keys="ann:secret") as http:
            for path in (*SHAPES, *OPEN_PATHS, "/nothing"):
                # Before the key: a page that rebinds a name learns nothing, not even of keys.
                answer = await http.get(path, headers={"Host": host})
                assert answer.status_code == 421, path
                assert answer.headers["X-Request-ID"]
                assert "SHOAL_ALLOWED_HOSTS" in answer.text
                assert len(answer.text) < 500

    run(work())


def test_every_name_that_is_sent_counts() -> None:
    async def work() -> None:
        async with client() as http:
            for hosts in (("localhost", "evil.example"), ("evil.example", "localhost")):
                sent = [("Host", host) for host in hosts]
                assert (await http.get("/health", headers=sent)).status_code == 421

    def target(path: str) -> None:
        check_host(
            {"type": "http", "path": path, "headers": [(b"host", b"localhost")]}, frozenset()
        )

    run(work())
    target("http://localhost:8000/health")
    with pytest.raises(ForeignHost, match="evil"):
        target("http://evil.example/health")


@pytest.mark.parametrize(
    ("allowed", "host", "status"),
    [
        ("shoal.example", "shoal.example", 200),
        ("other.example, Shoal.Example", "shoal.example:8443", 200),
        ("shoal.example", "localhost:8000", 200),
        ("shoal.example", "a.shoal.example", 421),
        ("*.shoal.example", "a.shoal.example", 200),
        ("*.shoal.example", "shoal.example", 421),
        ("*.shoal.example", "evilshoal.example", 421),
        ("192.168.1.5,[fd00::1]", "192.168.1.5:80", 200),
        ("192.168.1.5,[fd00::1]", "[fd00::1]:80", 200),
        ("*.5", "192.168.1.6", 421),
    ],
)
def test_names_that_are_allowed(allowed: str, host: str, status: int) -> None:
    async def work() -> None:
        for bound in ("127.0.0.1", "0.0.0.0"):
            async with client(allowed_hosts=allowed, host=bound) as http:
                answer = await http.post("/tts", headers={"Host": host})
                assert answer.status_code == status

    run(work())


@pytest.mark.parametrize("bound", ["0.0.0.0", "::", "192.0.2.7", ""])
def test_on_a_public_address_any_name_is_served(bound: str) -> None:
    async def work() -> None:
        async with client(host=bound) as http:
            answer = await http.post("/tts", headers={"Host": "shoal.example"})
            assert answer.status_code == 200

    run(work())


@pytest.mark.parametrize("text", ["http://a.example", "a.example:80", "a b", "*", "a/b", "*.*.a"])
def test_names_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(BadSetting, match="SHOAL_ALLOWED_HOSTS"):
        parse_hosts(text)


# -- web pages -------------------------------------------------------------------------------------

UNSAFE = (
    "POST /tts",
    "POST /cache/clear",
    "PATCH /voices/a",
    "DELETE /voices/a",
    "POST /v1/health",
)


@pytest.mark.parametrize(
    ("origin", "is_let_in"),
    [
        ("http://localhost", True),
        ("https://LOCALHOST", True),
        ("https://a.example", True),
        ("https://b.example", False),
        ("http://a.example", False),
        ("http://localhost:3000", False),
        ("http://localhost.evil.example", False),
        ("null", False),
        ("localhost", False),
        ("chrome-extension://localhost.x", False),
    ],
)
def test_pages_that_may_change_something(origin: str, is_let_in: bool) -> None:
    async def work() -> None:
        async with client(cors_origins="https://a.example") as http:
            for name in UNSAFE:
                method, _, path = name.partition(" ")
                answer = await http.request(method, path, headers={"Origin": origin})
                assert answer.status_code == (200 if is_let_in else 403), name
                assert is_let_in or "SHOAL_CORS_ORIGINS" in answer.text
            # Reading changes nothing, and the browser shows no answer to the page.
            assert (await http.get("/hardware", headers={"Origin": origin})).status_code == 200

    run(work())


def test_programs_and_all_pages() -> None:
    async def work() -> None:
        async with client() as http:  # curl sends no Origin
            assert (await http.post("/tts")).status_code == 200
        async with client(cors_origins="*") as http:
            for origin in ("https://b.example", "null"):
                assert (await http.post("/tts", headers={"Origin": origin})).status_code == 200

    run(work())


def test_order_of_what_is_checked() -> None:
    """Name, key, page, rate: who is refused for one learns nothing of the next."""

    async def work() -> None:
        async with client(api_keys="secret", rate_limit_per_minute=1) as http:
            wrong = {"Host": "evil.example", "Origin": "http://evil.example"}
            statuses = []
            for right in ({"Host": "localhost"}, KEY, {"Origin": "http://localhost"}, {}):
                statuses.append((await http.post("/tts", headers=wrong)).status_code)
                wrong |= right
            statuses.append((await http.post("/tts", headers=wrong)).status_code)
            statuses.append((await http.post("/tts", headers=wrong)).status_code)
            assert statuses == [421, 401, 403, 200, 429, 429]

    run(work())


# -- reverse proxies -------------------------------------------------------------------------------

PROXY = "127.0.0.1"


@pytest.mark.parametrize(
    ("proxies", "peer", "told", "name"),
    [
        ("", PROXY, "10.0.0.1", PROXY),
        (PROXY, PROXY, "10.0.0.1", "10.0.0.1"),
        (PROXY, PROXY, "", PROXY),
        (PROXY, "10.0.0.9", "10.0.0.1", "10.0.0.9"),
        (PROXY, PROXY, "6.6.6.6, 10.0.0.1", "10.0.0.1"),  # the first is the client's own word
        (f"{PROXY},192.168.0.0/16", PROXY, "6.6.6.6, 10.0.0.1, 192.168.3.4", "10.0.0.1"),
        (PROXY, PROXY, "10.0.0.1, nonsense", PROXY),
        (PROXY, PROXY, "1.2.3.4\x1b[31m FAKE\x1b[0m", PROXY),
        (PROXY, PROXY, "fe80::1%\x1b[31m", "fe80::/64"),
        (PROXY, PROXY, "2001:db8:1:2::5", "2001:db8:1:2::/64"),
        (PROXY, PROXY, "[2001:db8:1:2::5]:443", "2001:db8:1:2::/64"),
        (PROXY, PROXY, "10.0.0.1:5678", "10.0.0.1"),
        (PROXY, PROXY, "::ffff:10.0.0.1", "10.0.0.1"),
        (PROXY, "::ffff:127.0.0.1", "10.0.0.1", "10.0.0.1"),
        (PROXY, PROXY, "127.0.0.1, 127.0.0.1", PROXY),
        (PROXY, PROXY, "a," * 20_000 + "10.0.0.1", "10.0.0.1"),
        ("0.0.0.0/0", PROXY, "9.9.9.9," * 40 + "10.0.0.1", "9.9.9.9"),
    ],
)
def test_client_behind_a_proxy(proxies: str, peer: str, told: str, name: str) -> None:
    async def work() -> None:
        async with client(peer, forwarded_allow_ips=proxies) as http:
            sent = {b"X-Forwarded-For": told.encode()}
            assert (await http.get("/hardware", headers=sent)).json()["client"] == name

    run(work())


def test_nobody_escapes_the_rate_by_a_header() -> None:
    async def work() -> None:
        async with client(PROXY, rate_limit_per_minute=2) as http:
            statuses = [
                (await http.post("/tts", headers={"X-Forwarded-For": f"10.0.0.{n}"})).status_code
                for n in range(4)
            ]
            assert statuses == [200, 200, 429, 429]

    run(work())


@pytest.mark.parametrize("text", ["*", "localhost", "127.0.0.1/8", "127.0.0.1 10.0.0.1"])
def test_proxies_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(BadSetting, match="SHOAL_FORWARDED_ALLOW_IPS"):
        protect(FastAPI(), Settings(_env_file=None, forwarded_allow_ips=text))


# -- the start -------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "", "0", "fd00::7"])
def test_a_public_address_asks_for_keys(host: str) -> None:
    with pytest.raises(BadSetting, match=r"SHOAL_API_KEYS=.*SHOAL_ALLOW_OPEN=true"):
        refuse_open(Settings(_env_file=None, host=host))
    refuse_open(Settings(_env_file=None, host=host, api_keys="secret"))
    refuse_open(Settings(_env_file=None, host=host, allow_open=True))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_this_machine_asks_for_none(host: str) -> None:
    refuse_open(Settings(_env_file=None, host=host))
