"""The page's process and a tab that shows it, each with an eye on what must not happen."""

import base64
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, expect
from playwright.sync_api import Request as Asked

SOUND = (Path(__file__).parent / "sound.js").read_text(encoding="utf-8")
START_S = 60.0
LIBRARY_WARNINGS = ("^warning: https://svelte.dev/e/derived_inert",)
"""What Gradio's own script says of itself now and then."""
SPOKEN_MS = 45_000.0
"""For everything that waits for speech: other work may have the machine's cores."""
_LOOK_S = 0.05


@dataclass(slots=True)
class Face:
    """A running page: where it is, its process, its folder, whom else it spoke to."""

    url: str
    process: psutil.Process
    folder: Path
    strangers: set[str] = field(default_factory=set)
    log: list[str] = field(default_factory=list)


@contextmanager
def facing(api_url: str, folder: Path, port: int = 0, **environment: str) -> Iterator[Face]:
    """Start the page for the server at `api_url`, stop it in the end."""
    process = subprocess.Popen(
        (sys.executable, "-m", "ui.gradio_app"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            **os.environ,
            "API_URL": api_url,
            "UI_PORT": str(port),
            "SHOAL_DATA_DIR": str(folder),
            "PYTHONFAULTHANDLER": "1",
            **environment,
        },
    )
    face = Face("", psutil.Process(process.pid), folder)
    is_over = threading.Event()
    is_told = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            face.log.append(line)
            if found := re.match(r"The page is at (http://\S+)", line):
                face.url = found[1]
                is_told.set()
        is_told.set()

    threads = [
        threading.Thread(target=read),
        threading.Thread(target=_watch, args=(face, urlsplit(api_url).port, is_told, is_over)),
    ]
    for thread in threads:
        thread.start()
    try:
        is_told.wait(START_S)
        if not face.url:
            raise RuntimeError("the page did not start:\n" + "".join(face.log))
        yield face
    finally:
        is_over.set()
        died_of = process.poll()
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for thread in threads:
            thread.join(10)
        assert process.stdout is not None
        process.stdout.close()
        was_killed = died_of == -signal.SIGKILL  # by the test itself
        assert died_of is None or was_killed, f"the page ended with {died_of}:\n{''.join(face.log)}"


def _watch(
    face: Face, server_port: int | None, is_told: threading.Event, is_over: threading.Event
) -> None:
    """Note each connection that the page's process opens to anybody but the server."""
    is_told.wait(START_S)
    port = urlsplit(face.url).port
    while not is_over.wait(_LOOK_S):
        try:
            connections = face.process.net_connections("inet")
        except psutil.Error:
            return
        for each in connections:
            is_ours = each.laddr.port == port or not each.raddr
            if not is_ours and (each.raddr.ip, each.raddr.port) != ("127.0.0.1", server_port):
                face.strangers.add(f"{each.raddr.ip}:{each.raddr.port}")


@dataclass(frozen=True, slots=True)
class Piece:
    """Sound that was scheduled."""

    when_s: float
    now_s: float
    state: str
    """Of the take, when it was scheduled."""
    samples: np.ndarray[Any, np.dtype[np.int16]]
    rate_hz: float

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate_hz


class Tab:
    """The page in a tab of a browser; `close` fails where anything went wrong in it."""

    def __init__(self, face: Face, context: BrowserContext) -> None:
        self.face, self.context = face, context
        context.add_init_script(SOUND)
        self.page: Page = context.new_page()
        self._before: str | None = None
        """The take that was shown when the last one was asked for."""
        self.wrong: list[str] = []
        self.forgives = [*LIBRARY_WARNINGS]
        """Patterns of what a test brings about on purpose."""
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.wrong.append(f"pageerror: {error}"))
        self.page.on("request", self._request)

    def open(self) -> "Tab":
        self.page.goto(self.face.url)
        self.is_ready()
        return self

    def is_ready(self) -> None:
        """Everything is wired, and what was kept is shown."""
        expect(self.page.locator("#status .chip")).not_to_contain_text("Looking", timeout=30_000)
        expect(self.text).to_be_visible()

    def reload(self, is_ready: bool = True) -> None:
        """Gradio complains of what it had just asked for."""
        self.forgives += ["AbortError", "Connection errored out", "Failed to fetch"]
        self.page.reload()
        if is_ready:
            self.is_ready()

    def close(self) -> None:
        self.context.close()
        wrong = [each for each in self.wrong if not any(re.search(p, each) for p in self.forgives)]
        assert not wrong, wrong
        assert not self.face.strangers, self.face.strangers

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(f"{message.type}: {message.text} {message.location}")

    def _request(self, request: Asked) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts.hostname != "127.0.0.1":
            self.wrong.append(f"asked {request.url}")

    # -- where things are -------------------------------------------------------------------------

    @property
    def text(self) -> Locator:
        return self.page.locator("#text textarea")

    @property
    def go(self) -> Locator:
        return self.page.locator("#go")

    @property
    def card(self) -> Locator:
        return self.page.locator("#card")

    @property
    def problem(self) -> Locator:
        return self.page.locator("#problem .problem")

    @property
    def take(self) -> Locator:
        return self.page.locator("shoal-take")

    @property
    def state(self) -> Locator:
        return self.take.locator("#state")

    @property
    def play(self) -> Locator:
        return self.take.locator("#play")

    @property
    def sentences(self) -> Locator:
        return self.take.locator("#strip li")

    def choose(self, elem_id: str, option: str) -> None:
        """Choose in a dropdown."""
        box = self.page.locator(f"#{elem_id}")
        box.locator("input").click()
        shown = box.get_by_role("option", name=option, exact=True)
        shown.click()
        expect(shown).to_have_count(0)  # else the next list opens beside this one

    def mode(self, name: str) -> None:
        self.page.locator("#mode").get_by_text(name, exact=True).click()

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).click()

    def settings(self) -> None:
        self.page.locator("#settings .label-wrap").click()

    # -- what is done -----------------------------------------------------------------------------

    def speak(self, text: str) -> None:
        """Write it and press Speak."""
        self._before = self.take.get_attribute("src") if self.take.count() else None
        self.text.fill(text)
        self.go.click()

    def is_done(self, state: str = "done") -> None:
        """The take that was asked for last is; the one before it may be shown for a moment."""
        if self._before is not None:
            expect(self.take).not_to_have_attribute("src", self._before)
            self._before = None
        expect(self.take).to_have_attribute("data-state", state, timeout=SPOKEN_MS)

    def is_heard(self) -> None:
        """Everything was played, to its end."""
        expect(self.play).to_have_attribute("data-state", "idle", timeout=SPOKEN_MS)

    def heard(self) -> list[Piece]:
        """Every piece of sound that was scheduled so far."""
        return [
            Piece(
                each["when"],
                each["now"],
                each["state"],
                np.frombuffer(base64.b64decode(each["pcm"]), "<i2"),
                each["rate_hz"],
            )
            for each in self.page.evaluate("heardPieces()")
        ]

    def view(self) -> dict[str, Any]:
        """What the page's process says of the take that is shown."""
        src = self.take.get_attribute("src")
        with httpx.stream("GET", f"{self.face.url}/{src}/events") as answer:
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    view: dict[str, Any] = httpx.Response(200, text=line[6:]).json()
                    return view
        raise AssertionError("no view came")

    def pcm(self) -> bytes:
        """The sound of the take that is shown."""
        src = self.take.get_attribute("src")
        return httpx.get(f"{self.face.url}/{src}/audio", timeout=60).content


def until(is_true: Callable[[], bool], within_s: float) -> float:
    """Look until it is; how long that took. Fails after `within_s`."""
    begin_s = time.perf_counter()
    never = threading.Event()
    while True:
        was_true = is_true()
        took_s = time.perf_counter() - begin_s
        if was_true and took_s <= within_s:
            return took_s
        assert took_s <= within_s, f"not within {within_s} s"
        never.wait(0.02)


def is_idle(url: str) -> bool:
    """Nothing is spoken, and nothing waits for it."""
    health = httpx.get(f"{url}/health").json()
    worker, queue = health["worker"], health["queue"]
    counts = [worker["running"], worker["waiting"], queue["speaking"], queue["waiting"]]
    return not any(counts)


def rows(url: str) -> int:
    """How many requests are being spoken."""
    return int(httpx.get(f"{url}/health").json()["queue"]["speaking"])


def new_tab(browser: Browser, face: Face, **context: Any) -> Tab:
    return Tab(face, browser.new_context(**context))
