"""What stands around Streamlit's server: the routes of takes, the end of closed tabs, its end."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import config
from streamlit.starlette import App

from ui.desk import Desk, desk
from ui.setup import BadSetup
from ui.speaking.routes import take_routes

_closing = asyncio.Event()


def root() -> str:
    """The path below which the page's own routes are: `/page`, or `/base/page`."""
    base = str(config.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{base}/page" if base else "/page"


def around() -> dict[str, Any]:
    """What Streamlit's `App` is given beside the script. Ends the process where a variable of the
    environment says what cannot be."""
    try:
        desk()
    except BadSetup as error:
        sys.exit(f"shoal: {error}")
    return {"lifespan": _lifespan, "middleware": [Middleware(_Aside, desk=desk())]}


class _Aside:
    """Answers what a take's element asks for, before Streamlit would compress and delay it."""

    def __init__(self, app: ASGIApp, desk: Desk) -> None:
        self._app = app
        self._ours = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
        self._ours.include_router(take_routes(desk.process.setup, desk.process.speaker))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "websocket" and not _is_ours(scope):
            # Streamlit would ask an outside host for this machine's address, to compare.
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] == "http" and scope["path"].startswith(f"{root()}/"):
            path = scope["path"].removeprefix(root().removesuffix("/page"))
            scope = {**scope, "path": path, "root_path": ""}
            await _until_closing(self._ours, scope, receive, send)
        else:
            await self._app(scope, receive, send)


async def _until_closing(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Events of a take never end by themselves; the server cannot end before them."""
    is_begun = is_ended = False

    async def note(message: Message) -> None:
        nonlocal is_begun, is_ended
        is_begun = True
        is_ended = message["type"] == "http.response.body" and not message.get("more_body", False)
        await send(message)

    answer = asyncio.ensure_future(app(scope, receive, note))
    closing = asyncio.ensure_future(_closing.wait())
    try:
        await asyncio.wait({answer, closing}, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            answer.result()
    finally:
        closing.cancel()
        answer.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(answer, return_exceptions=True)
    if is_begun and not is_ended:
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _is_ours(scope: Scope) -> bool:
    """The page that connects is this one, or one that the configuration names."""
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    origin = headers.get(b"origin")
    if origin is None or urlsplit(origin).netloc == headers.get(b"host"):
        return True
    named = config.get_option("server.corsAllowedOrigins")
    allowed = {urlsplit(each).hostname or each for each in named}
    if config.is_manually_set("browser.serverAddress"):
        allowed.add(config.get_option("browser.serverAddress"))
    return urlsplit(origin).hostname in allowed


@asynccontextmanager
async def _lifespan(app: App) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    desk().open(loop)
    _end_answers_on(signal.SIGINT, loop)
    _end_answers_on(signal.SIGTERM, loop)
    minding = asyncio.create_task(desk().mind(), name="mind closed tabs")
    try:
        yield
    finally:
        minding.cancel()
        await asyncio.gather(minding, return_exceptions=True)
        await desk().process.close()


def _end_answers_on(number: signal.Signals, loop: asyncio.AbstractEventLoop) -> None:
    """End the answers that never end, beside what the server itself does when told to stop."""
    before = signal.getsignal(number)

    def stop(sent: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(_closing.set)
        if callable(before):
            before(sent, frame)

    signal.signal(number, stop)
