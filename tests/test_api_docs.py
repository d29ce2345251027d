"""`/docs` works offline: its files are ours; `tests/browser/test_docs.py` sees it in a browser."""

import asyncio
import re
from collections.abc import Coroutine
from typing import Any

from tests.scripted import client


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
