"""How tests start the scripted worker, an app on it, and a real server around that."""

import asyncio
import functools
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from fastapi import FastAPI

from backend.app import create_app
from backend.connections.server import Server
from backend.core import SamplingParams
from backend.hardware.deployment import Deployment
from backend.hardware.detect import detect
from backend.hardware.machine import Hardware
from backend.hardware.readings import read_machine
from backend.settings import Settings
from backend.smart_backend import SmartBackend
from backend.worker.messages import Speak

QUICK: dict[str, Any] = {
    "restart_delay_s": 0.05,
    "worker_start_timeout_s": 30.0,
    "shutdown_grace_s": 3.0,
    "metrics": False,
    "shipped_voices": False,
    "workers": "1",
}
_kept = tempfile.TemporaryDirectory(prefix="shoal-tests-")
"""What the servers of these tests keep, voices say, and no developer wants."""


def command(**script: Any) -> tuple[str, ...]:
    return (sys.executable, "-m", "tests.scripted_worker", json.dumps(script))


def settings(**values: Any) -> Settings:
    return Settings(_env_file=None, **{"data_dir": Path(_kept.name), **QUICK, **values})


@functools.cache
def hardware() -> Hardware:
    """This machine, looked at once for all tests."""
    return detect(read_machine())


def make_app(
    worker: dict[str, Any] | None = None,
    found: Hardware | None = None,
    is_commanded: bool = True,
    **values: Any,
) -> FastAPI:
    """An app on this machine, or on the one that was `found`, with a scripted worker.

    Without `is_commanded` its worker is what `worker_command` says.
    """
    chosen = settings(**values)
    machine = Deployment.look(chosen, found or hardware())
    return create_app(chosen, command(**(worker or {})) if is_commanded else None, machine)


def speak(text: str = "hello", request_id: str = "r") -> Speak:
    return Speak(request_id, text, SamplingParams())


def children() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


@asynccontextmanager
async def client(
    worker: dict[str, Any] | None = None,
    is_ready: bool = True,
    found: Hardware | None = None,
    **values: Any,
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app in this process, which speaks through a scripted worker, on the machine
    that was `found`: this one or a recorded one."""
    app = make_app(worker, found, **values)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http,
    ):
        if is_ready:
            backend: SmartBackend = app.state.backend
            await backend.ready()
        yield http


@asynccontextmanager
async def server(
    worker: dict[str, Any] | None = None, **values: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a real server on 127.0.0.1 at a free port."""
    chosen = {"port": 0, "log_level": "WARNING", **values}
    app = make_app(worker, **chosen)
    server = Server(app, settings(**chosen))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        backend: SmartBackend = app.state.backend
        await backend.ready()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            yield http
    finally:
        server.should_exit = True
        await serving
