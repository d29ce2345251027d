"""`/docs` in a browser that can reach nothing but this machine."""

import asyncio
import json
import subprocess
from pathlib import Path

from tests.browser.conftest import CHROMIUM
from tests.scripted import server


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

    asyncio.run(work())


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
