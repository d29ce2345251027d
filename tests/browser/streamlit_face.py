"""The Streamlit page in a process of its own, and a browser's tab of it that is looked over."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import psutil
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, expect

LIBRARY_NOISE = re.compile(
    # Streamlit looks for its server below the path of the page, then above it.
    r"/(voices|guide|system|report)/_stcore/(health|host-config)"
)


@dataclass(slots=True)
class Shown:
    """A page's process: where it is, and its process."""

    url: str
    process: psutil.Process

    def everything(self) -> list[psutil.Process]:
        """It and what it started."""
        return [self.process, *self.process.children(recursive=True)]


@contextmanager
def showing(api_url: str, folder: Path) -> Iterator[Shown]:
    """`shoal ui streamlit` on a free port; takes are kept in `folder`."""
    command = (sys.executable, "-m", "backend.cli", "ui", "streamlit", "--port", "0")
    process = subprocess.Popen(
        (*command, "--api-url", api_url),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,  # Streamlit writes what went wrong in a script to the former
        text=True,
        env={**os.environ, "SHOAL_DATA_DIR": str(folder)},
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if found := re.search(r"The page is at (\S+)", line):
            break
    else:
        raise RuntimeError(f"the page did not start:\n{said}")
    listener = threading.Thread(target=_pass_on, args=(process.stdout,), name="what the page says")
    listener.start()
    try:
        yield Shown(found[1], psutil.Process(process.pid))
    finally:
        process.terminate()
        listener.join()
        process.wait(20)
        process.stdout.close()


def _pass_on(stream: IO[str]) -> None:
    """Let the report of a failed test show what the page's process wrote."""
    for line in stream:
        print(line, end="", file=sys.stderr)


@dataclass
class Tab:
    """A tab of the page; `wrong` holds what no page may do."""

    context: BrowserContext
    page: Page
    url: str
    wrong: list[str] = field(default_factory=list)

    def open(self, path: str = "") -> None:
        """Go there, and wait until it is drawn."""
        self.page.goto(f"{self.url}/{path}")
        self.settle()

    def settle(self) -> None:
        """Wait until the script has run."""
        expect(self.page.locator(".chip")).to_be_visible(timeout=30_000)
        self.page.locator('[data-test-script-state="notRunning"]').wait_for(timeout=30_000)

    def write(self, text: str) -> None:
        """Into the field of the text."""
        self.page.get_by_label("Text", exact=True).fill(text)

    def speak(self) -> None:
        """Press Speak."""
        self.page.get_by_role("button", name="Speak", exact=True).click()

    def mode(self, name: str) -> None:
        """Choose what to speak."""
        self.page.get_by_test_id("stButtonGroup").get_by_text(name, exact=True).click()

    def choose(self, label: str, option: str) -> None:
        """Choose from a list by typing."""
        box = self.page.get_by_role("combobox", name=label, exact=True)
        box.click()
        box.fill(option)
        self.page.get_by_role("option", name=option, exact=True).first.click()

    def take(self, state: str = "") -> Locator:
        """The take, once it is in `state`."""
        return self.page.locator(f"shoal-take[data-state={state}]" if state else "shoal-take")

    def until(self, state: str) -> Locator:
        """Wait for that."""
        take = self.take(state)
        expect(take).to_be_visible(timeout=60_000)
        return take

    def note(self, message: ConsoleMessage) -> None:
        """Keep what the console calls an error."""
        place = str(message.location.get("url", ""))
        if message.type == "error" and not LIBRARY_NOISE.search(place):
            self.wrong.append(f"console: {message.text} {place}")


def new_tab(browser: Browser, url: str, width: int = 1280, scheme: str = "light") -> Tab:
    """In a browser profile of its own."""
    context = browser.new_context(
        viewport={"width": width, "height": 1000},
        color_scheme="dark" if scheme == "dark" else "light",
        accept_downloads=True,
    )
    tab = Tab(context, context.new_page(), url)
    host = urlsplit(url).netloc
    tab.page.on("console", tab.note)
    tab.page.on("pageerror", lambda error: tab.wrong.append(f"thrown: {error}"))
    tab.page.on(
        "request",
        lambda request: (
            None
            if urlsplit(request.url).netloc in ("", host)
            else tab.wrong.append(f"asked another host: {request.url}")
        ),
    )
    return tab
