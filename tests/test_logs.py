"""What is logged: printable, bounded, and nothing of what a frame's variables hold."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from loguru import logger

from backend.logs import Faults, LogBudget, log_fault, tame

ROOT = Path(__file__).parent.parent
SERVE = """
from fastapi import Request
from backend import cli
from backend.serving import launch
from tests.scripted import command

launch.worker_command = lambda *_: command()
create_app = cli.create_app

async def boom(request: Request):
    authorization, text = request.headers["authorization"], await request.body()
    raise ZeroDivisionError("\\x1b[31mred\\nINFO forged")

def create(*arguments, **options):
    app = create_app(*arguments, **options)
    app.add_api_route("/boom", boom, methods=["POST"])
    return app

cli.create_app = create
cli.app(["serve", "--port", "0"])
"""
WORKER = """
from loguru import logger
from backend.worker.messages import WorkerConfig
from backend.worker.pipe import _configured

_configured(WorkerConfig("x").to_json())

def of_a_library(text):
    try:
        return len(text) / 0
    except ZeroDivisionError:
        logger.exception("It failed.")

of_a_library("MY" + "SECRETTEXT")
"""
KEY, TEXT = "sekret-key-123", "MYSECRETTEXT"


def stderr_of(script: str, folder: Path) -> str:
    """What a process of its own writes there; a file, as of nothing else variables are shown."""
    file = folder / "script.py"
    file.write_text(script, "utf-8")
    done = subprocess.run(
        [sys.executable, str(file)],
        check=True,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
    )
    return done.stderr


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("as it is: é 小明 …", "as it is: é 小明 …"),
        ("\x1b[31mred\x1b[0m \x07", r"\x1b[31mred\x1b[0m \x07"),
        ("\x9b2J\x7f\r", r"\x9b2J\x7f\r"),
        ("\u202eback\u2028line", r"\u202eback\u2028line"),
        ("half \ud83d", r"half \ud83d"),
        ("a\nINFO forged\n\tb\n", "a\n    INFO forged\n\tb\n"),
    ],
)
def test_what_reaches_a_terminal(text: str, shown: str) -> None:
    assert tame(text) == shown


def test_long_messages_keep_their_ends() -> None:
    shown = tame("begin" + "\x1b" * 10_000_000 + "end")
    assert len(shown) < 40_000
    assert shown.startswith("begin")
    assert "10000008 characters" in shown
    assert shown.endswith("end")


def failure() -> Exception:
    secret = KEY
    try:
        secret.index("nothing")
        raise AssertionError
    except ValueError as error:
        return error


def test_a_fault_is_told_without_variables_whatever_the_sink() -> None:
    lines: list[str] = []
    sink = logger.add(lines.append, diagnose=True, backtrace=True)  # loguru's own defaults
    try:
        log_fault("Request {} failed.", "r1", error=failure())
    finally:
        logger.remove(sink)
    (line,) = lines
    assert "Request r1 failed." in line
    assert "test_a_fault_is_told" in line, "the place of who logs"
    assert "ValueError: substring not found" in line
    assert "test_logs.py" in line
    assert KEY not in line


def test_the_same_fault_again_is_one_line() -> None:
    clock = Clock()
    faults = Faults(clock)
    assert "Traceback" in faults.describe(failure())
    again = faults.describe(failure())
    assert re.fullmatch(r"ValueError in .*test_logs.py, line \d+, as told [a-z ]+\.", again)
    assert faults.describe(KeyError("another")) == "KeyError: 'another'"
    clock.now_s = 61.0
    assert "Traceback" in faults.describe(failure())
    for number in range(1000):
        faults.describe(type(f"Fault{number}", (Exception,), {})())
    assert len(faults._told_s) <= 100


def test_the_log_of_a_minute_is_bounded() -> None:
    clock = Clock()
    lines: list[str] = []
    budget = LogBudget(10_000, clock)
    sink = logger.add(lines.append, level="INFO", format="{level} {message}", filter=budget)
    try:
        for _ in range(1000):
            logger.info("a" * 80)
        assert len(lines) == 50, "half of it for what is no warning"
        for _ in range(1000):
            logger.warning("b" * 80)
        assert len(lines) == 100
        clock.now_s = 60.0
        logger.info("the next minute")
    finally:
        logger.remove(sink)
    assert sum(len(line) for line in lines) < 11_000
    assert lines[-2].startswith("WARNING 1900 messages were left out")
    assert lines[-1] == "INFO the next minute\n"


def test_a_worker_logs_no_variables(tmp_path: Path) -> None:
    said = stderr_of(WORKER, tmp_path)
    assert "It failed." in said
    assert "ZeroDivisionError" in said
    assert TEXT not in said


def test_a_real_server_logs_neither_key_nor_text_nor_what_moves_a_terminal(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "SHOAL_METRICS": "false",
        "SHOAL_DATA_DIR": str(tmp_path),
        "SHOAL_API_KEYS": f"ann:{KEY}",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE], stderr=subprocess.PIPE, cwd=ROOT, env=environment
    )
    assert process.stderr is not None
    try:
        log: list[bytes] = []
        while not log or b"curl" not in log[-1]:
            log.append(process.stderr.readline())
            assert log[-1], b"".join(log)
        found = re.search(rb"http://127\.0\.0\.1:(\d+)", log[-1])
        assert found
        port = int(found[1])
        bearer = {"Authorization": f"Bearer {KEY}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=bearer) as http:
            for _ in range(20):
                answer = http.post("/boom", content=TEXT)
                assert answer.status_code == 500
                assert answer.headers["X-Request-ID"] in answer.text
            assert http.get(f"/nothing?api_key={KEY}").status_code == 404
        head = f"POST /tts HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
        for header in ("X-Forwarded-For: 1.2.3.4", "Content-Type: "):  # parsers may refuse it
            with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
                raw.sendall(f"{head}{header}\x1b[31mFAKE\r\nContent-Length: 2\r\n\r\n{{}}".encode())
                assert raw.recv(100).startswith(b"HTTP/1.1 4")
    finally:
        process.terminate()
        rest = process.stderr.read()
        process.kill()
        process.wait()
        process.stderr.close()
    text = (b"".join(log) + rest).decode()
    assert KEY not in text
    assert TEXT not in text
    assert "\x1b" not in text
    assert r"\x1b[31mred" in text
    assert not re.search("^INFO forged", text, re.MULTILINE)
    assert text.count("by a fault of the server's") == 20
    assert text.count("Traceback") == 1
    assert len(text) < 20_000


def test_what_a_library_logs_is_ours(tmp_path: Path) -> None:
    script = (
        "import logging\nfrom backend.logs import log_to_stderr\nlog_to_stderr('INFO')\n"
        "logging.getLogger('uvicorn.error').warning('\\x1b[31m %s', 'GET /x?key=secret HTTP')\n"
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    logging.getLogger('asyncio')."
        "exception('It failed.')\n"
    )
    said = stderr_of(script, tmp_path)
    assert r"\x1b[31m GET /x?… HTTP" in said
    assert "asyncio" in said
    assert "It failed.\n" in said
    assert said.count("ZeroDivisionError: division by zero") == 1


def test_our_own_messages_are_as_they_were(tmp_path: Path) -> None:
    """Where nobody called `log_to_stderr`: in a process of its own, for other tests do."""
    script = (
        "import sys\nfrom loguru import logger\nimport backend.logs\nlogger.remove()\n"
        "logger.add(sys.stderr, format='{level} {message}')\nlogger.info('a\\nb')\n"
    )
    assert stderr_of(script, tmp_path) == "INFO a\nb\n"


def test_no_traceback_is_left_to_a_sink() -> None:
    """Loguru's own sink prints variables: whoever catches a fault calls `log_fault`."""
    found = re.compile(r"logger\.exception|logger\.catch|opt\([^)]*exception")
    files = sorted((ROOT / "backend").rglob("*.py"))
    assert not [str(file) for file in files if found.search(file.read_text("utf-8"))]
