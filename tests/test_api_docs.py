"""`/docs` works offline: its files are ours, and a browser that loads it asks nobody else."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.scripted import client, server

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or ""


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def test_page_names_only_files_of_ours() -> None:
    async def work() -> None:
        async with client(is_ready=False) as http:
            page = await http.get("/docs")
            assert page.headers["content-type"].startswith("text/html")
            named = re.findall(r"""(?:src|href)=["']([^"']+)|url: '([^']+)'""", page.text)
            files = {one or other for one, other in named}
            assert len(files) == 4
            kinds = ("text/javascript", "text/css", "image/png", "application/json")
            for file in files:
                assert "//" not in file
                answer = await http.get(f"/{file}")
                assert answer.status_code == 200
                assert answer.headers["content-type"].startswith(kinds)
            assert '"validatorUrl": null' in page.text
            assert "default-src 'self'" in page.headers["content-security-policy"]

    run(work())


def test_there_is_no_other_page_and_no_other_file() -> None:
    async def work() -> None:
        async with client(is_ready=False) as http:
            for path in ("/redoc", "/docs/", "/docs/assets", "/docs/assets/", "/docs/assets/x.js"):
                assert (await http.get(path)).status_code == 404
            assert (await http.get("/docs/assets/..%2f__init__.py")).status_code == 404
            assert "GET /docs" not in (await http.get("/")).json()["routes"]

    run(work())


def test_page_needs_a_key_like_the_rest() -> None:
    async def work() -> None:
        async with client(is_ready=False, api_keys="secret") as http:
            for path in ("/docs", "/openapi.json", "/docs/assets/swagger-ui.css"):
                assert (await http.get(path)).status_code == 401
                assert (await http.get(path, headers={"x-api-key": "secret"})).status_code == 200

    run(work())


@pytest.mark.browser
@pytest.mark.skipif(not CHROMIUM, reason="no chromium on the PATH (Debian: apt install chromium)")
def test_browser_shows_every_route_and_asks_nobody_else(tmp_path: Path) -> None:
    async def work() -> None:
        async with server() as http:
            url = f"{http.base_url}/docs"
            shown, asked = await asyncio.to_thread(browse, url, tmp_path)
            told = (await http.get("/openapi.json")).json()["paths"]
            for methods in told.values():
                for operation in methods.values():
                    (tag,) = operation["tags"]
                    assert f'id="operations-{tag}-{operation["operationId"]}"' in shown
            assert f"{http.base_url}/openapi.json" in asked
            assert all(each.startswith((str(http.base_url), "data:")) for each in asked), asked

    run(work())


def browse(url: str, folder: Path) -> tuple[str, set[str]]:
    """What the page at `url` is when its scripts have run, and what it asked for."""
    log = folder / "net.json"
    done = subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
            f"--user-data-dir={folder / 'profile'}",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"--log-net-log={log}",
            *("--virtual-time-budget=20000", "--dump-dom", url),
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    events = json.loads(log.read_text(encoding="utf-8"))["events"]
    origin = url.removesuffix("/docs")
    asked = {
        event["params"]["url"]
        for event in events
        # What the browser asks on its own account has no page as its initiator.
        if "url" in event.get("params", {})
        and event["params"].get("initiator", "not an origin") == origin
    }
    return done.stdout, asked
