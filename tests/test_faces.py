"""Pages in the browser: real processes; a small HTTP server stands in for what they show."""

import os
import re
import signal
import subprocess
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import psutil
import pytest
from loguru import logger
from typer.testing import CliRunner

from backend import cli, faces
from backend.cli import app
from backend.errors import BadSetting
from backend.faces import GRADIO, Face, Page, api_environment, has_browser, make_page
from backend.listening import listen
from tests.scripted import children, settings

ROOT = Path(__file__).parent.parent
CLI = ("-m", "backend.cli")
SERVE = """
import sys
from backend import cli
from backend.serving import launch
from tests.scripted import command
launch.worker_command = lambda *_: command()
cli.app(["serve", "--port", "0", "--ui", "--ui-port", "0", *sys.argv[1:]])
"""
PAGE = """
import http.server, json, os, signal, sys

NAMES = ("API_URL", "API_KEY", "UI_HOST", "UI_PORT")

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/exit/"):
            os._exit(int(self.path.removeprefix("/exit/")))
        told = {name: os.environ.get(name) for name in NAMES}
        body = json.dumps(told | {"pid": os.getpid(), "argv": sys.argv}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

if "IS_STUBBORN" in os.environ:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
port = next((a for a in sys.argv if a.startswith("--server.port=")), "=" + os.environ["UI_PORT"])
with http.server.ThreadingHTTPServer(("127.0.0.1", int(port.partition("=")[2])), Handler) as server:
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print("the page closes in order", file=sys.stderr, flush=True)
        os._exit(42)
"""
ENDS_WITH = 42
CLOSES = "the page closes in order"
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="no such signals on Windows")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """In which a stand-in is found in the place of each page, and of what it is made with."""
    for package in ("ui", "gradio", "streamlit"):
        (tmp_path / package).mkdir()
    (tmp_path / "ui" / "__init__.py").touch()
    (tmp_path / "ui" / "gradio_app.py").write_text(PAGE)
    (tmp_path / "ui" / "streamlit_app.py").write_text("raise SystemExit('streamlit runs it')")
    for package in ("gradio", "streamlit"):  # slow to import: the command must not
        (tmp_path / package / "__init__.py").write_text(
            "import sys\nassert sys.argv[1:2] == ['run'], 'it is imported by the command'"
        )
    (tmp_path / "streamlit" / "__main__.py").write_text(PAGE)
    unset = ("API_URL", "API_KEY", "UI_HOST", "UI_PORT", "DISPLAY", "WAYLAND_DISPLAY")
    return {name: value for name, value in os.environ.items() if name not in unset} | {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]),
        "SHOAL_METRICS": "false",
        "SHOAL_DATA_DIR": str(tmp_path / "data"),
    }


class Command:
    """A `shoal` process and what it and its page have said."""

    def __init__(self, arguments: tuple[str, ...], environment: dict[str, str]) -> None:
        # -P: the page of this repository must not be found before the stand-in.
        self.process = subprocess.Popen(
            [sys.executable, "-P", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self.process.stderr is not None
        self._stderr = self.process.stderr
        self.said = ""

    def until(self, pattern: str) -> str:
        """Read on until it has said that; the group in `pattern`."""
        while not (found := re.search(pattern, self.said)):
            line = self._stderr.readline()
            assert line, self.said
            self.said += line
        return found[1] if found.lastindex else found[0]

    def page(self) -> dict[str, Any]:
        """What the page says of itself."""
        told: dict[str, Any] = httpx.get(self.until(r"The page is at (\S+)")).json()
        return told

    def end(self) -> int:
        """Its exit code, when it and the page, which holds the same pipe, are gone."""
        self.said += self._stderr.read()
        return self.process.wait()


@contextmanager
def started(environment: dict[str, str], *arguments: str) -> Iterator[Command]:
    command = Command(arguments, environment)
    try:
        yield command
    finally:
        command.process.kill()
        command.process.communicate()


# -- shoal ui --------------------------------------------------------------------------------------


def test_the_page_is_told_where_the_server_is(environment: dict[str, str]) -> None:
    given = {"API_URL": "http://127.0.0.1:9", "API_KEY": "secret"}
    with started(environment | given, *CLI, "ui", "gradio", "--port", "0") as command:
        told = command.page()
        assert {name: told[name] for name in given} == given
        assert (told["UI_HOST"], told["UI_PORT"]) == ("127.0.0.1", url_port(command))
        assert "secret" not in " ".join(psutil.Process(told["pid"]).cmdline())
    option = ("--api-url", "https://shoal.example/api")
    with started(environment | given, *CLI, "ui", "gradio", "--port", "0", *option) as command:
        told = command.page()
        assert (told["API_URL"], told["API_KEY"]) == (option[1], "secret")
    with started(environment | {"UI_PORT": "0"}, *CLI, "ui", "gradio") as command:
        told = command.page()
        assert (told["API_URL"], told["API_KEY"]) == ("http://127.0.0.1:8000", None)
        assert told["UI_PORT"] == url_port(command) != "7860"


def url_port(command: Command) -> str:
    return command.until(r"The page is at http://127\.0\.0\.1:(\d+)")


@POSIX
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_page_in_order(environment: dict[str, str], number: str) -> None:
    with started(environment, *CLI, "ui", "gradio", "--port", "0") as command:
        command.page()
        command.process.send_signal(signal.Signals[number])
        assert command.end() == ENDS_WITH, "the page's exit code is the command's"
        assert CLOSES in command.said
        assert "Traceback" not in command.said


@POSIX
@pytest.mark.parametrize("command_line", [(*CLI, "ui", "gradio", "--port", "0"), ("-c", SERVE)])
def test_the_page_ends_even_if_the_command_is_killed(
    environment: dict[str, str], command_line: tuple[str, ...]
) -> None:
    with started(environment, *command_line) as command:
        page = psutil.Process(command.page()["pid"])
        command.process.kill()
        command.end()
        assert CLOSES in command.said
        page.wait(20)


def test_the_exit_code_is_the_pages(environment: dict[str, str]) -> None:
    with started(environment, *CLI, "ui", "gradio", "--port", "0") as command:
        with pytest.raises(httpx.HTTPError):
            httpx.get(command.until(r"The page is at (\S+)") + "/exit/7")
        assert command.end() == 7


def test_streamlit_is_run_so_that_it_asks_nobody(environment: dict[str, str]) -> None:
    with started(environment, *CLI, "ui", "streamlit", "--port", "0") as command:
        _, run, *flags, script = command.page()["argv"]
        assert run == "run"
        assert Path(script).name == "streamlit_app.py"
        assert f"--server.port={url_port(command)}" in flags
        assert {
            *("--server.address=127.0.0.1", "--server.headless=true"),
            *("--browser.gatherUsageStats=false", "--server.showEmailPrompt=false"),
            "--client.toolbarMode=minimal",
        } <= set(flags)


@POSIX
@pytest.mark.skipif(find_spec("streamlit") is None, reason="streamlit is not installed")
def test_streamlit_itself_takes_these_options(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "streamlit").rename(tmp_path / "not streamlit")
    (tmp_path / "ui" / "streamlit_app.py").write_text("import streamlit\nstreamlit.title('Shoal')")
    with started(environment, *CLI, "ui", "streamlit", "--port", "0") as command:
        url = command.until(r"The page is at (\S+)")
        assert httpx.get(f"{url}/_stcore/health").text == "ok"
        command.process.send_signal(signal.SIGINT)
        assert command.end() == 0
        assert "Traceback" not in command.said


@pytest.mark.parametrize("face", ["gradio", "streamlit"])
def test_what_is_not_installed_is_one_line(monkeypatch: pytest.MonkeyPatch, face: str) -> None:
    monkeypatch.setattr(faces, "find_spec", lambda name: None)
    for arguments in (["ui", face], ["serve", "--port", "0", "--ui"]):
        result = CliRunner().invoke(app, arguments, env={"SHOAL_METRICS": "false"})
        assert result.exit_code == 1
        assert "pip install 'shoal-tts[ui]'" in result.stderr.strip().splitlines()[-1]
        assert "Traceback" not in result.output
    assert not children()


def found_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces, "find_spec", lambda name: SimpleNamespace(origin=name))


def test_an_installation_without_the_page_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> object:
        if name == "gradio":
            return SimpleNamespace(origin=name)
        raise ModuleNotFoundError(name)  # of the package around it

    monkeypatch.setattr(faces, "find_spec", find)
    with pytest.raises(BadSetting, match=r"no ui\.gradio_app"):
        make_page(GRADIO, None, 0, {}, False)


@pytest.mark.parametrize(
    ("arguments", "variables", "says"),
    [
        (["--api-url", "shoal.example"], {}, "--api-url: write http"),
        (["--api-url", "file:///etc/passwd"], {}, "--api-url: write http"),
        (["--api-url", "http://"], {}, "--api-url: write http"),
        (["--api-url", "http://a:port"], {}, "--api-url: write http"),
        ([], {"API_URL": "ftp://a"}, "API_URL: write http"),
        ([], {"UI_PORT": "many"}, "UI_PORT: write a number"),
        (["--port", "65536"], {}, "from 0 to 65535"),
        (["--port", "-1"], {}, "from 0 to 65535"),
        (["--host", "192.0.2.1", "--port", "0"], {}, "192.0.2.1:0 cannot be listened on"),
    ],
)
def test_errors_are_one_line(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], variables: dict[str, str], says: str
) -> None:
    found_everywhere(monkeypatch)
    result = CliRunner().invoke(app, ["ui", "gradio", *arguments], env=variables)
    assert result.exit_code == 1
    assert says in result.stderr.strip().splitlines()[-1]
    assert "Traceback" not in result.output
    assert not children()


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    found_everywhere(monkeypatch)
    for name in ("API_URL", "UI_HOST"):
        monkeypatch.setenv(name, "")
    assert api_environment(None) == {"API_URL": "http://127.0.0.1:8000"}
    assert make_page(GRADIO, None, 0, {}, False).host == "127.0.0.1"


# -- shoal serve --ui ------------------------------------------------------------------------------


@POSIX
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_the_page_beside_a_server_begins_and_ends_with_it(
    environment: dict[str, str], number: str
) -> None:
    keys = {"SHOAL_API_KEYS": " anna:first-key, second-key", "API_KEY": "of another server"}
    with started(environment | keys, "-c", SERVE) as command:
        told = command.page()
        server = command.until(r"(http://127\.0\.0\.1:\d+)/tts")
        assert told["API_URL"] == server
        assert told["API_KEY"] == "first-key"
        headers = {"x-api-key": told["API_KEY"]}
        assert httpx.get(f"{server}/hardware", headers=headers).status_code == 200
        for pid in (told["pid"], command.process.pid):
            assert "first-key" not in " ".join(psutil.Process(pid).cmdline())
        command.process.send_signal(signal.Signals[number])
        command.process.wait(30)
        assert not psutil.pid_exists(told["pid"]), "the page ends before the server does"
        command.end()
    assert CLOSES in command.said
    assert "first-key" not in command.said
    assert not re.search("Traceback|page has ended", command.said)


def test_a_server_goes_on_without_its_page(environment: dict[str, str]) -> None:
    with started(environment, "-c", SERVE) as command:
        page = command.until(r"The page is at (\S+)")
        server = command.until(r"(http://127\.0\.0\.1:\d+)/tts")
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{page}/exit/3")
        line = command.until(r".*The page has ended.*")
        assert "WARNING" in line and "exit code 3" in line
        answer = httpx.post(f"{server}/tts", data={"text": "Hello."})
        assert answer.content.startswith(b"RIFF")
        command.process.terminate()
        command.end()
        assert command.said.count("The page has ended") == 1
        assert "Traceback" not in command.said


@POSIX
@pytest.mark.parametrize("number", ["SIGTERM", "SIGKILL"])
def test_a_page_that_will_not_end_is_ended(environment: dict[str, str], number: str) -> None:
    with started(environment | {"IS_STUBBORN": "1"}, "-c", SERVE) as command:
        page = psutil.Process(command.page()["pid"])
        command.process.send_signal(signal.Signals[number])
        command.end()
        page.wait(20)
        assert CLOSES not in command.said


def test_a_server_serves_although_its_page_cannot_be_started(environment: dict[str, str]) -> None:
    broken = SERVE.replace(
        "cli.app(",
        "from backend import faces\nfaces.sys = type(sys)('sys')\n"
        "faces.sys.platform, faces.sys.executable = sys.platform, '/no/python'\n"
        "faces.sys.stderr = sys.stderr\ncli.app(",
    )
    with started(environment, "-c", broken) as command:
        assert "WARNING" in command.until(r".*page cannot be started.*")
        server = command.until(r"(http://127\.0\.0\.1:\d+)/tts")
        assert httpx.get(f"{server}/health/ready").status_code == 200


@pytest.mark.parametrize(
    ("host", "keys", "is_warned"),
    [
        ("0.0.0.0", "a:key", True),
        ("192.0.2.1", "a:key", True),
        ("0.0.0.0", "", False),
        ("127.0.0.1", "a:key", False),
        ("localhost", "a:key", False),
        ("::1", "a:key", False),
    ],
)
def test_a_page_that_lends_its_key_to_others_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, host: str, keys: str, is_warned: bool
) -> None:
    def made(face: Face, no_host: None, port: int, told: dict[str, str], *others: Any) -> Page:
        assert told == {"API_URL": "http://[::1]:8000"} | ({"API_KEY": "key"} if keys else {})
        return Page(face, host, port, told, False)

    monkeypatch.setattr(cli, "make_page", made)
    logged: list[str] = []
    sink = logger.add(logged.append, level="WARNING")
    try:
        cli._page_beside(settings(host="::", port=8000, api_keys=keys), 7860, False)
    finally:
        logger.remove(sink)
    assert any("without a key" in line for line in logged) == is_warned


# -- a page ----------------------------------------------------------------------------------------


@contextmanager
def shown(
    environment: dict[str, str],
    opens_browser: bool = False,
    has_ended: Callable[[int], object] = lambda code: None,
) -> Iterator[tuple[Page, psutil.Process]]:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    page = Page(GRADIO, "127.0.0.1", port, environment, opens_browser, has_ended)
    page.start()
    try:
        (process,) = children()
        yield page, process
    finally:
        page.end()
        assert not children()


@POSIX
def test_what_does_not_even_stop_when_asked_is_killed(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faces, "_END_S", 0.1)
    with shown(environment) as (page, process):
        process.suspend()
        assert page.end() == 128 + signal.SIGKILL
        assert page.end() == 128 + signal.SIGKILL, "once more does no harm"


def test_a_page_that_is_told_to_end_has_not_ended_by_itself(environment: dict[str, str]) -> None:
    codes: list[int] = []
    with shown(environment, has_ended=codes.append) as (page, _):
        page.end()
    assert codes == []
    is_told = threading.Event()

    def has_ended(code: int) -> None:
        codes.append(code)
        is_told.set()

    with shown(environment, has_ended=has_ended) as (page, process):
        process.kill()
        assert is_told.wait(30)
        assert codes == [page.wait()]


@pytest.mark.parametrize("opens_browser", [True, False])
@pytest.mark.parametrize("is_seen", [True, False])
def test_the_browser_is_opened_once_the_page_is_there(
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    opens_browser: bool,
    is_seen: bool,
) -> None:
    opened: list[int] = []

    def open_browser(url: str) -> bool:
        opened.append(httpx.get(url).status_code)
        return True

    monkeypatch.setattr(webbrowser, "open", open_browser)
    monkeypatch.setattr(faces, "has_browser", lambda: is_seen)
    with shown(environment, opens_browser):
        (announcing,) = (t for t in threading.enumerate() if t.name == "page announcement")
        announcing.join()
    assert opened == ([200] if opens_browser and is_seen else [])


def test_a_browser_that_stays_open_keeps_nobody(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    is_open, is_closed = threading.Event(), threading.Event()

    def open_browser(url: str) -> bool:
        is_open.set()
        return is_closed.wait(60)

    monkeypatch.setattr(webbrowser, "open", open_browser)
    monkeypatch.setattr(faces, "has_browser", lambda: True)
    try:
        with shown(environment, opens_browser=True) as (page, _):
            assert is_open.wait(60)
            assert page.end() == ENDS_WITH
    finally:
        is_closed.set()


@pytest.mark.parametrize(
    ("platform", "variables", "is_terminal", "is_seen"),
    [
        ("linux", {}, True, False),
        ("linux", {"DISPLAY": ":0"}, True, True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True, True),
        ("linux", {"DISPLAY": ":0"}, False, False),
        ("linux", {"DISPLAY": ""}, True, False),
        ("win32", {}, True, True),
        ("darwin", {}, True, True),
        ("darwin", {}, False, False),
    ],
)
def test_a_browser_is_seen_where_somebody_sits(
    monkeypatch: pytest.MonkeyPatch,
    platform: str,
    variables: dict[str, str],
    is_terminal: bool,
    is_seen: bool,
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    terminal = SimpleNamespace(isatty=lambda: is_terminal)
    monkeypatch.setattr(faces, "sys", SimpleNamespace(platform=platform, stderr=terminal))
    assert has_browser() is is_seen


def test_nobody_sees_a_browser_without_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(faces, "sys", SimpleNamespace(platform="win32", stderr=None))
    assert not has_browser()
