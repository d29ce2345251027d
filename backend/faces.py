"""The pages in the browser: each a process of its own, from its start to its certain end."""

import os
import signal
import socket
import subprocess
import sys
import threading
import webbrowser
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from types import FrameType
from typing import NoReturn

from loguru import logger

from backend.errors import BadSetting
from backend.listening import listen, local_url, reached_at, server_url

DEFAULT_API_URL = "http://127.0.0.1:8000"
DEFAULT_HOST = "127.0.0.1"
_POLL_S = 0.1
_END_S = 5.0
"""From being told to end to being killed; longer than a tether's own patience."""
_CREATE_NEW_PROCESS_GROUP = 0x200
_STREAMLIT_OPTIONS = {
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "minimal",
    "logger.hideWelcomeMessage": "true",  # it would ask an outside host for the public address
    "server.fileWatcherType": "none",
    "server.headless": "true",
    "server.showEmailPrompt": "false",
}


@dataclass(frozen=True, slots=True)
class Face:
    """One of the pages."""

    package: str
    """What it is made with."""
    module: str
    port: int
    """Unless another is asked for."""


GRADIO = Face("gradio", "ui.gradio_app", 7860)
STREAMLIT = Face("streamlit", "ui.streamlit_app", 8501)


class Page:
    """A page, as a process that ends with this one.

    Its stdin is a pipe that this process holds open, and `backend.tether` ends it when that closes,
    whatever this process dies of. It is in a group of its own: Ctrl-C in the terminal is for this
    process, which then ends it. `has_ended` is called with its exit code, in a thread, if it ends
    without being told to.
    """

    def __init__(
        self,
        face: Face,
        host: str,
        port: int,
        environment: Mapping[str, str],
        opens_browser: bool,
        has_ended: Callable[[int], object] = lambda exit_code: None,
    ) -> None:
        self.host, self.port = host, port
        self.exit_code = 1
        """Once it has ended, as a shell tells it."""
        self._face, self._environment = face, environment
        self._opens_browser, self._has_ended = opens_browser, has_ended
        self._process: subprocess.Popen[bytes] | None = None
        self._is_over, self._is_told = threading.Event(), threading.Event()

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it."""
        return local_url(self.host, self.port)

    @property
    def is_local(self) -> bool:
        """Only this machine reaches it."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    def start(self) -> None:
        """Start it; its address is logged, and opened, when it can be reached. Raises OSError."""
        is_windows = sys.platform == "win32"
        self._process = subprocess.Popen(
            _command(self._face, self.host, self.port),
            stdin=subprocess.PIPE,
            env={
                **os.environ,
                **self._environment,
                "UI_HOST": self.host,
                "UI_PORT": str(self.port),
            },
            start_new_session=not is_windows,
            creationflags=_CREATE_NEW_PROCESS_GROUP if is_windows else 0,
        )
        # Apart, as a browser may keep the thread that opens it until it is closed.
        for name, work in (("page", self._watch), ("page announcement", self._announce)):
            threading.Thread(target=work, name=name, daemon=True).start()

    def wait(self) -> int:
        """Until it has ended: its exit code."""
        while not self._is_over.wait(1.0):  # without a limit Windows would not let Ctrl-C through
            pass
        return self.exit_code

    def end(self) -> int:
        """Make sure that it is gone: ask, wait, kill. Its exit code. Blocks."""
        if self._process is None:
            return self.exit_code
        self._is_told.set()
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            is_over = self._is_over.wait(_END_S)
        except KeyboardInterrupt:
            is_over = False
        if not is_over:
            self._process.kill()
        return self.wait()

    def _watch(self) -> None:
        assert self._process is not None
        code = self._process.wait()
        self.exit_code = code if code >= 0 else 128 - code
        self._is_over.set()
        if not self._is_told.is_set():
            self._has_ended(self.exit_code)

    def _announce(self) -> None:
        while not self._is_reached():
            if self._is_told.wait(_POLL_S) or self._is_over.is_set():
                return
        logger.info("The page is at {}", self.url)
        if self._opens_browser and has_browser():
            webbrowser.open(self.url)

    def _is_reached(self) -> bool:
        try:
            socket.create_connection((reached_at(self.host), self.port), timeout=1.0).close()
        except OSError:
            return False
        return True


def make_page(
    face: Face,
    host: str | None,
    port: int | None,
    environment: Mapping[str, str],
    opens_browser: bool,
    has_ended: Callable[[int], object] = lambda exit_code: None,
) -> Page:
    """A page that can be started: what it needs is installed, and its port is free.

    What is None is what UI_HOST and UI_PORT say; port 0 is any that is free. Raises `BadSetting`.
    """
    if not _is_there(face.package):
        raise BadSetting(f"{face.package} is not installed: pip install 'shoal-tts[ui]'")
    if not _is_there(face.module):
        raise BadSetting(f"this installation has no {face.module}; install Shoal anew.")
    host = host or os.environ.get("UI_HOST") or DEFAULT_HOST
    # Let go at once: the page itself is to have it.
    with listen(host, _port(face) if port is None else _checked(port)) as listener:
        port = listener.getsockname()[1]
    return Page(face, host, port, environment, opens_browser, has_ended)


def api_environment(api_url: str | None) -> dict[str, str]:
    """What tells a page which server it is for: `api_url`, else API_URL, else this machine's.

    Raises `BadSetting` for what is no URL. API_KEY is passed on as it is.
    """
    named = "--api-url" if api_url else "API_URL"
    url = api_url or os.environ.get("API_URL") or DEFAULT_API_URL
    try:
        server_url(url)
    except BadSetting as error:
        raise BadSetting(f"{named}: {error}") from None
    return {"API_URL": url}


def show(page: Page) -> int:
    """Show `page` until it ends or this process is told to: the page's exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        page.start()
        return page.wait()
    except KeyboardInterrupt:
        return page.end()


def has_browser() -> bool:
    """Somebody sits here and can see a browser."""
    if sys.stderr is None or not sys.stderr.isatty():
        return False
    is_graphical = sys.platform in ("win32", "darwin")
    return is_graphical or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _command(face: Face, host: str, port: int) -> tuple[str, ...]:
    # -P: a folder called ui where we are started must not stand in for ours.
    tether = (sys.executable, "-P", "-m", "backend.tether")
    if face is not STREAMLIT:
        return (*tether, face.module)
    found = find_spec(face.module)
    assert found is not None and found.origin is not None
    options = {**_STREAMLIT_OPTIONS, "server.address": host, "server.port": str(port)}
    flags = (f"--{name}={value}" for name, value in options.items())
    return (*tether, "streamlit", "run", *flags, found.origin)


def _is_there(module: str) -> bool:
    """It can be imported; only the package around it is."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _port(face: Face) -> int:
    said = os.environ.get("UI_PORT")
    if not said:
        return face.port
    try:
        return _checked(int(said))
    except ValueError:
        raise BadSetting(f"UI_PORT: write a number from 0 to 65535, got {said!r}.") from None


def _checked(port: int) -> int:
    if not 0 <= port <= 65_535:
        raise BadSetting(f"The page's port: write a number from 0 to 65535, got {port}.")
    return port


def _interrupt(signal_number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
