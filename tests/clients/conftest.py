"""The servers, the clients' programs, and what is written down of them."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clients import report
from tests.clients.driver import Driver
from tests.clients.environments import Missing, version
from tests.clients.roster import CLIENTS, Client
from tests.clients.scenarios import IDLE_S, PAGE, SCENARIOS, TEXT, VOICE, Trial
from tests.e2e.serving import serving

KEY = "a-key-for-the-tests"
PAGE_VARIABLE = "CLIENTS_PAGE"
"""The file that a run writes; not set, none is."""
ROWS = {client.program: report.Row(client) for client in CLIENTS}


class Server:
    """Where it is, and the voice that was saved there."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.key = key
        with httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60
        ) as http:
            recording = http.post("/tts", data={"text": TEXT}).raise_for_status().content
            http.post(
                "/voices",
                data={"name": VOICE, "prompt_text": TEXT},
                files={"speaker_file": ("anna.wav", recording)},
            ).raise_for_status()
            listed = http.get("/model").raise_for_status().json()["items"]
            (saved,) = (voice for voice in listed if voice["title"] == VOICE)
        self.voice_id = str(saved["_id"])


@pytest.fixture(scope="session")
def locked() -> Iterator[Server]:
    """A server that asks for a key for everything but the lists."""
    with serving(
        SHOAL_API_KEYS=f"tests:{KEY}", SHOAL_PUBLIC_LISTS="true", SHOAL_LIVE_IDLE_S=str(IDLE_S)
    ) as served:
        yield Server(served.url, KEY)


@pytest.fixture(scope="session")
def open_to_pages() -> Iterator[Server]:
    """A server without keys that lets a page of another origin in."""
    with serving(SHOAL_CORS_ORIGINS=PAGE) as served:
        yield Server(served.url, "any")


class Drivers:
    """One client's program at a time; the tests go through the clients one after another."""

    def __init__(self) -> None:
        self._driver: Driver | None = None

    def of(self, client: Client) -> Driver:
        """The running program of `client`; skips the test where it cannot be installed."""
        if self._driver and self._driver.client is client and self._driver.alive:
            return self._driver
        self.close()
        try:
            self._driver = Driver(client)
            ROWS[client.program].version = version(client)
        except Missing as missing:
            ROWS[client.program].missing = str(missing)
            pytest.skip(str(missing))
        return self._driver

    def close(self) -> None:
        """End the program that runs, if any."""
        if self._driver:
            self._driver.close()
        self._driver = None


@pytest.fixture(scope="session")
def drivers() -> Iterator[Drivers]:
    opened = Drivers()
    yield opened
    opened.close()


@pytest.fixture
def trial(
    client: Client, name: str, drivers: Drivers, request: pytest.FixtureRequest
) -> Iterator[Trial]:
    keyless = client.keyless or SCENARIOS[name].keyless
    server: Server = request.getfixturevalue("open_to_pages" if keyless else "locked")
    driver = drivers.of(client)
    trial = Trial(driver, server.url, server.key, server.voice_id)
    try:
        yield trial
    finally:
        if trial.first_s is not None:
            ROWS[client.program].first_s = trial.first_s
        print(driver.log())  # pytest shows it with a failure


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, pytest.TestReport]:
    """Write down what came of each test of a client."""
    told: pytest.TestReport = yield
    if isinstance(item, pytest.Function) and hasattr(item, "callspec"):
        client, name = item.callspec.params["client"], str(item.callspec.params["name"])
        assert isinstance(client, Client)
        row = ROWS[client.program]
        if hasattr(told, "wasxfail"):
            row.fails[name] = told.wasxfail
        elif told.failed and call.excinfo:
            row.fails[name] = report.reason(str(call.excinfo.value))
        elif told.passed and told.when == "call":
            row.works.append(name)
    return told


def pytest_sessionfinish() -> None:
    """Write the page, if this run was asked for it."""
    if file := os.environ.get(PAGE_VARIABLE):
        report.write(Path(file), list(ROWS.values()))
