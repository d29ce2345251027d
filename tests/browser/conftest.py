"""One server, one page and one browser a module; a fresh tab for each test."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.face import Face, Tab, facing, new_tab
from tests.e2e.serving import Served, serving

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--autoplay-policy=user-gesture-required",
)
NewTab = Callable[..., Tab]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and not CHROMIUM:
            item.add_marker(pytest.mark.skip("no chromium (Debian: apt install chromium)"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Of a module, not of the session: Playwright's loop runs in this thread, and other tests have
    # loops of their own.
    expect.set_options(timeout=15_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture(scope="module")
def face(server: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Face]:
    with facing(server.url, tmp_path_factory.mktemp("page")) as face:
        yield face


@pytest.fixture
def tabs(browser: Browser) -> Iterator[NewTab]:
    """Opens a tab of a page, in a browser profile of its own; all are looked over in the end."""
    opened: list[Tab] = []

    def new(face: Face, **context: Any) -> Tab:
        opened.append(new_tab(browser, face, **context))
        return opened[-1].open()

    yield new
    for tab in opened:
        tab.close()


@pytest.fixture
def tab(tabs: NewTab, face: Face) -> Tab:
    return tabs(face)


@pytest.fixture(autouse=True)
def no_proxy() -> None:
    assert not os.environ.get("HTTP_PROXY"), "what the tests ask goes to 127.0.0.1 directly"
