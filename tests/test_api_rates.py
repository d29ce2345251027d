"""Rates that several servers count together, in Debian's redis; and what they do without."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from backend.api import rates as rates_module
from backend.api.guard import protect
from backend.api.rates import rates_of
from backend.errors import BadSetting
from backend.settings import Settings
from tests.monitored import logged
from tests.redis_server import PASSWORD, RedisServer, redis_server
from tests.scripted import client as whole_server

pytest.importorskip("limits")
KEYS = "ann:key-of-ann,bob:key-of-bob"
ANN, BOB = {"X-API-Key": "key-of-ann"}, {"X-API-Key": "key-of-bob"}
NOBODY = "redis://127.0.0.1:1/0"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


def settings(**values: Any) -> Settings:
    return Settings(_env_file=None, **{"api_keys": KEYS, "rate_limit_per_minute": 5, **values})


@asynccontextmanager
async def servers(number: int, **values: Any) -> AsyncIterator[list[httpx.AsyncClient]]:
    """A client of each of several servers, which share nothing but what the settings name."""
    async with AsyncExitStack() as stack:
        found = []
        for _ in range(number):
            app = FastAPI()

            async def who(request: Request) -> dict[str, Any]:
                return dict(request.app.state.rates.status())

            app.post("/tts")(who)
            protect(app, settings(**values))
            stack.push_async_callback(app.state.rates.close)
            transport = httpx.ASGITransport(app)
            http = httpx.AsyncClient(transport=transport, base_url="http://localhost")
            found.append(await stack.enter_async_context(http))
        yield found


async def statuses(*clients: httpx.AsyncClient, times: int, key: dict[str, str]) -> list[int]:
    """Of requests at all of them at once."""
    posts = [http.post("/tts", headers=key) for _ in range(times) for http in clients]
    return sorted(answer.status_code for answer in await asyncio.gather(*posts))


def test_two_servers_count_one_key_together(store: RedisServer) -> None:
    async def work() -> None:
        async with servers(2, rate_store=store.url) as both:
            assert await statuses(*both, times=6, key=ANN) == [200] * 5 + [429] * 7
            refused = await both[0].post("/tts", headers=ANN)
            assert 50 <= int(refused.headers["Retry-After"]) <= 60
            assert PASSWORD not in refused.text
            told = (await both[1].post("/tts", headers=BOB)).json()
            assert told == {"per_minute": 5, "counted": "shared", "store": "redis", "problem": ""}

    asyncio.run(work())
    names = store.keys()
    assert len(names) == 2 and all(name.startswith("LIMITS:shoal/") for name in names)
    assert not any(word in name for name in names for word in ("ann", "bob", "key-of"))


def test_without_a_store_each_counts_for_itself() -> None:
    async def work() -> None:
        async with servers(2) as both:
            assert await statuses(*both, times=6, key=ANN) == [200] * 10 + [429] * 2

    asyncio.run(work())


def test_a_store_that_stops_costs_no_request_and_lets_nobody_begin_anew(
    store: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates_module, "RETRY_S", 0.05)

    async def work() -> None:
        async with servers(2, rate_store=store.url) as (one, other):
            assert await statuses(one, times=3, key=ANN) == [200] * 3
            store.stop()
            with logged() as lines:
                assert await statuses(one, times=3, key=ANN) == [200] * 2 + [429]
                assert await statuses(other, times=6, key=ANN) == [200] * 5 + [429]
            assert [line.split()[0] for line in lines if "the rates" in line] == ["WARNING"] * 2
            assert not any(PASSWORD in line or str(store.port) in line for line in lines)
            told = (await one.post("/tts", headers=BOB)).json()
            assert (told["counted"], told["problem"][:18]) == ("here", "the store (redis) ")
            with logged() as lines:
                store.start()
                async with asyncio.timeout(20):
                    while len(lines) < 2:
                        await asyncio.sleep(0.01)
            assert {*lines} == {"INFO The store of rates (redis) counts again.\n"}
            assert await statuses(one, other, times=6, key=ANN) == [200] * 5 + [429] * 7

    asyncio.run(work())


def test_a_store_that_hangs_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates_module, "RETRY_S", 60.0)
    asked = 0

    async def work() -> None:
        ends = asyncio.Event()

        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal asked
            asked += 1
            await ends.wait()
            writer.close()

        async with await asyncio.start_server(hang, "127.0.0.1", 0) as hung:
            url = f"redis://127.0.0.1:{hung.sockets[0].getsockname()[1]}/0"
            async with servers(1, rate_store=url) as (http,):
                assert await statuses(http, times=1, key=ANN) == [200]
                with monkeypatch.context() as patch:
                    patch.setattr(rates_module, "STORE_WAIT_S", 3600.0)  # were it asked, we hung
                    assert await statuses(http, times=5, key=ANN) == [200] * 4 + [429]
            ends.set()

    asyncio.run(work())
    assert asked == 1


def test_a_server_that_could_not_run_does_not_take_its_store_for_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rates_module, "STORE_WAIT_S", 0.1)

    class Store:
        """It answers while the loop of whoever asks stands still."""

        async def hit(self, item: object, name: str) -> bool:
            loop = asyncio.get_running_loop()
            told = loop.create_future()
            loop.call_soon(time.sleep, 0.2)  # what stands still is what is tried
            loop.call_soon(loop.call_soon, told.set_result, True)
            return bool(await told)

    async def work() -> None:
        rates = rates_module.Rates(5, Store(), "store")  # type: ignore[arg-type]
        assert [await rates.wait_s("ann") for _ in range(3)] == [0.0] * 3
        assert rates.status()["problem"] == ""

    asyncio.run(work())


def test_a_whole_server_tells_how_it_counts() -> None:
    async def work() -> None:
        async with whole_server(rate_limit_per_minute=7, rate_store=NOBODY) as http:
            told = (await http.get("/system-status")).json()["rates"]
            assert told == {"per_minute": 7, "counted": "shared", "store": "redis", "problem": ""}
            assert (await http.post("/cache/clear")).status_code == 200
            told = (await http.get("/system-status")).json()["rates"]
            assert (told["counted"], bool(told["problem"])) == ("here", True)
        async with whole_server() as http:
            assert (await http.get("/system-status")).json()["rates"] is None

    asyncio.run(work())


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("localhost:6379", "give the URL of a store that servers share"),
        ("memory://", "give the URL of a store that servers share"),
        ("ftp://me:secret@host", "no store that limits knows"),
        ("redis://me:secret@host:port/x", "its URL cannot be read"),
    ],
)
def test_a_store_that_is_none_is_refused_and_its_password_kept(url: str, problem: str) -> None:
    with pytest.raises(BadSetting, match=problem) as caught:
        rates_of(settings(rate_store=url))
    assert "secret" not in str(caught.value) + repr(settings(rate_store=url))


def test_a_store_with_nothing_to_count_is_refused() -> None:
    with pytest.raises(BadSetting, match="set SHOAL_RATE_LIMIT_PER_MINUTE"):
        rates_of(settings(rate_store=NOBODY, rate_limit_per_minute=0))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "limits.aio.strategies", None)
    with pytest.raises(BadSetting, match=r'pip install "shoal-tts\[rates\]"'):
        rates_of(settings(rate_store=NOBODY))


def test_servers_that_share_voices_are_told_that_each_counts_for_itself(tmp_path: Path) -> None:
    with logged() as lines:
        rates_of(settings(shared_dir=str(tmp_path)))
    assert lines == [
        "WARNING Of the servers that share voices in SHOAL_SHARED_DIR each counts the requests of "
        "a client for itself: SHOAL_RATE_STORE names a store that counts for all.\n"
    ]
