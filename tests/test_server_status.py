"""`shoal status`, of real servers: ready, not ready, with keys, of several workers, and of none."""

import asyncio
import io
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from backend import server_status
from backend.cli import app
from backend.server_status import status_table
from tests.scripted import children, server

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No `.env` and no API_* of whoever runs the tests."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # where the scripted worker is found
    monkeypatch.chdir(tmp_path)
    for name in ("API_URL", "API_KEY"):
        monkeypatch.delenv(name, raising=False)


def status_of(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, ["status", *arguments], env={**environment, "COLUMNS": "150"})


async def asked(http: httpx.AsyncClient, *arguments: str, **environment: str) -> Result:
    """Of that server, without holding up its event loop."""
    return await asyncio.to_thread(
        status_of, str(http.base_url).rstrip("/"), *arguments, **environment
    )


def test_a_server_that_is_ready_is_shown_with_its_workers() -> None:
    async def work() -> None:
        async with server(workers="2", rate_limit_per_minute=60, num_threads=1) as http:
            await http.post("/tts", data={"text": "Hello."})
            table, as_json = await asked(http), await asked(http, "--json")
            assert (table.exit_code, as_json.exit_code) == (0, 0), table.output
            told = json.loads(as_json.stdout)
            assert (told["ready"], told["state"]) == (True, "ready")
            assert [each["worker"] for each in told["workers"]] == [0, 1]
            for each in told["workers"]:
                assert each["plan"]["num_threads"] == 1
                assert {"device", "state", "speaking", "rows", "memory_mb"} < set(each)
            assert told["requests"]["requests"] == 1 and told["queue"]["waiting"] == 0
            shown = table.stdout
            for words in (
                *(": ready\n", "serves: Shoal 0.1.0", "memory, MB", "0/16", "1 thread"),
                *("60 a minute for each client, counted here", "RTF p50", "% of"),
            ):
                assert words in shown, shown

    asyncio.run(work())
    assert not children()


def test_a_server_that_cannot_speak_is_told_with_the_reason() -> None:
    async def work() -> None:
        async with server(restart_delay_s=60.0, restart_delay_max_s=60.0) as http:
            for _ in range(3):  # under each of which several workers die
                await http.post("/tts", data={"text": "crash"}, timeout=60.0)
            found = await asked(http, "--json")
            told = json.loads(found.stdout)
            assert (found.exit_code, told["ready"]) == (1, False)
            assert told["state"] in ("starting", "restarting") and told["reason"]
            table = await asked(http)
            assert table.exit_code == 1 and ": not ready (" in table.stdout

    asyncio.run(work())


def test_a_key_is_needed_and_taken_from_the_environment() -> None:
    async def work() -> None:
        async with server(api_keys="ann:5ecret") as http:
            without, wrong = await asked(http), await asked(http, API_KEY="wr0ng")
            assert (without.exit_code, wrong.exit_code) == (1, 1)
            assert "asks for a key: set API_KEY." in without.stderr
            assert "does not take this key" in wrong.stderr
            assert "wr0ng" not in wrong.output
            assert (await asked(http, API_KEY="5ecret")).exit_code == 0
            port = str(http.base_url.port)
            ours = {"SHOAL_PORT": port, "SHOAL_API_KEYS": "ann:5ecret"}
            assert (await asyncio.to_thread(status_of, **ours)).exit_code == 0, "its own key"
            named = {"API_URL": str(http.base_url), "API_KEY": "5ecret"}
            assert (await asyncio.to_thread(status_of, **named)).exit_code == 0

    asyncio.run(work())


@contextmanager
def answering(status: int, body: bytes, **headers: str) -> Iterator[str]:
    """The URL of what answers that, whatever is asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{http.server_port}"
        finally:
            http.shutdown()


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (200, b"<html>", "is no Shoal server"),
        (200, b'{"status": "ok"}', "is no Shoal server"),
        (404, b"no", "is no Shoal server (404)"),
        (302, b"", "is no Shoal server (302)"),
        (421, b'{"detail": "This server is not called\\u001b[31m x."}', "answers 421: This server"),
    ],
)
def test_what_is_no_shoal_server_is_told_in_one_line(status: int, body: bytes, says: str) -> None:
    with answering(status, body, Location="http://127.0.0.1:1/") as url:
        result = status_of(url, API_KEY="5ecret")
    assert result.exit_code == 1
    assert says in result.stderr and result.stderr.count("\n") == 1
    assert "\x1b[31m x" not in result.stderr


def test_an_answer_without_end_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_status, "MAX_ANSWER_BYTES", 100)
    with answering(200, json.dumps({"version": "1", "worker": {"x": "y" * 200}}).encode()) as url:
        result = status_of(url)
    assert (result.exit_code, "is no Shoal server." in result.stderr) == (1, True)


def test_where_nobody_answers_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # which is not asked for this machine
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        result = status_of(url, "--timeout", "0.2")
    assert (result.exit_code, result.stderr) == (
        1,
        f"shoal: {url} has not answered within 0.2 s.\n",
    )
    result = status_of(url)
    assert result.exit_code == 1
    assert result.stderr == f"shoal: Nobody listens at {url}; `shoal serve` starts a server.\n"
    result = status_of("somewhere:8000")
    assert (result.exit_code, "write http://host[:port]" in result.stderr) == (1, True)


def test_replicas_of_a_cluster_are_shown_by_name_and_node() -> None:
    each = {
        **{"worker": 0, "replica": "r0", "node": "n0", "device": "cuda:0", "state": "silent"},
        **{"reason": "it hangs", "speaking": 3, "rows": 128, "memory_mb": 2048.4, "restarts": 1},
        **{"gpu_memory_total_mb": 80_000, "plan": {}},
    }
    told: dict[str, Any] = {
        **{"url": "http://a", "ready": True, "state": "ready", "reason": "", "version": "1"},
        **{"engine": "shoal", "checkpoint": "s1-mini", "workers": [each], "recent": {}},
        "queue": {"speaking": 3, "waiting": 0, "characters_ahead": 9, "characters_per_s": 1.0},
        "memory": {"memory_percent": 5.0, "memory_total_mb": 1000, "memory_available_mb": 950},
        "rates": {"per_minute": 5, "counted": "here", "store": "redis", "problem": "it is down"},
        **{"requests": {"requests": 0, "uptime_s": 1.0}, "recommended_action": "Wait"},
    }
    shown = io.StringIO()
    Console(width=150, file=shown).print(status_table(told))
    for words in (
        "replica",
        "n0",
        "3/128",
        "2,048/80,000",
        "it is down",
        "do: Wait",
        "r0: silent: it hangs",
    ):
        assert words in shown.getvalue(), shown.getvalue()


def test_eighty_columns_are_enough() -> None:
    """Of a reason, too, which no column of the table is wide enough for."""
    each = {
        **{"worker": 0, "device": "cuda:0", "state": "ready", "speaking": 12, "rows": 128},
        **{"reason": "the worker was killed: memory ran short", "memory_mb": 12345.6},
        **{"restarts": 10, "gpu_memory_total_mb": 81_920},
        **{"plan": {"precision": "bf16", "quantization": "none", "num_threads": 1}},
    }
    told: dict[str, Any] = {
        **{"url": "http://127.0.0.1:8000", "ready": False, "state": "restarting", "version": "1"},
        **{"reason": "memory ran short", "engine": None, "checkpoint": "s1-mini"},
        **{"workers": [each, each | {"worker": 1, "reason": ""}], "rates": None},
        "queue": {"speaking": 12, "waiting": 3, "characters_ahead": 912, "characters_per_s": 308.7},
        "memory": {"memory_percent": 95.5, "memory_total_mb": 524_288},
        "requests": {"requests": 123_456, "uptime_s": 3 * 86_400.0 + 61},
        "recent": {name: {"p50": 0.1031, "p95": 0.1212} for name in ("rtf", "first_audio_s")},
        "recommended_action": "OK",
    }
    shown = io.StringIO()
    Console(width=80, file=shown).print(status_table(told))
    lines = [line.rstrip() for line in shown.getvalue().splitlines()]
    rows = [line for line in lines if line.startswith(("0 ", "1 "))]
    assert [row.split("  ")[0] for row in rows] == ["0", "1"]
    assert all("bf16, 1 thread" in row and row.endswith("10") for row in rows), lines
    for line in (
        "worker 0: ready: the worker was killed: memory ran short",
        "requests: 123,456 since the start 3 days, 0:01:01 ago",
        "speed: RTF p50 0.103, p95 0.121; first audio p50 0.103 s, p95 0.121 s",
        "queue: 12 spoken, 3 waiting, 912 characters ahead at 308.7 a second",
    ):
        assert line in lines, lines
