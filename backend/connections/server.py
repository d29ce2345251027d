"""The server around the app: listens, shows the page beside it, and stops in order."""

import asyncio
import errno
import gc
import socket
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from loguru import logger
from starlette.types import ASGIApp

from backend.connections.http import HttpProtocol
from backend.connections.limits import ACCEPTED_AT_ONCE, BACKLOG, limits_of
from backend.connections.shared import Shared
from backend.faces import Page
from backend.settings import Settings

_OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_POLL_S = 0.05
_SWITCH_S = 0.001
"""For so long a thread that reads a text or a list keeps the loop waiting; by default five times as
long, at each of the loop's turns."""
_COLLECTED_AT = 10_000
"""New objects after which the collector looks for cycles. A request makes hundreds that live as
long as it does: looking at them after each 700 took a tenth of the server's time."""
_GOODBYE_S = 2.0
"""What requests that are given up have to be answered."""


class Server(uvicorn.Server):
    """Serves `app` within the limits of `settings`. Told to stop, it lets what is being spoken be
    finished, and nothing else begin.

    `stop_admitting` is called when the signal comes; `page` is shown while it serves.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        stop_admitting: Callable[[], None] = lambda: None,
        page: Page | None = None,
    ) -> None:
        limits = limits_of(settings)
        self.shared = Shared(limits)
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                loop="asyncio",
                http=partial(HttpProtocol, self.shared),  # type: ignore[arg-type] # makes one
                log_config=None,  # ours, for all libraries
                log_level=settings.log_level.lower(),
                proxy_headers=False,  # the guard reads them, and only from proxies that are named
                backlog=ACCEPTED_AT_ONCE,
                timeout_keep_alive=limits.keep_alive_s,  # type: ignore[arg-type] # of any length
                ws_max_size=limits.message_bytes,
                # A client that listens at the speed of speech has minutes of audio before a ping.
                ws_ping_timeout=None,
                ws_per_message_deflate=False,  # audio does not get smaller
            )
        )
        self._grace_s = settings.shutdown_grace_s
        self._stop_admitting = stop_admitting
        self._page = page

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then show the page."""
        asyncio.get_running_loop().set_exception_handler(self._report)
        sys.setswitchinterval(_SWITCH_S)
        await super().startup(sockets)
        gc.freeze()  # what is there by now stays, and is not to be looked at again
        gc.set_threshold(_COLLECTED_AT)
        for listener in sockets or []:
            listener.listen(BACKLOG)  # asyncio knows one number for this and for what it accepts
        if self._page is None or not self.started:
            return
        try:
            await asyncio.to_thread(self._page.start)
        except OSError as error:
            logger.warning("The page cannot be started, the server goes on: {}", error)

    def _report(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What went wrong in the loop; connections that cannot be accepted are told seldom."""
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _OUT_OF_RESOURCES:
            self.shared.seldom.warn("Connections cannot be accepted: the system has no room.")
        else:
            loop.default_exception_handler(context)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what is at work within the grace, answer the rest 503, then end app and page.

        The page here, since uvicorn then kills this process by the signal.
        """
        state = self.server_state
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        for connection in list(state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(self._grace_s):
                while (state.connections or state.tasks) and not self.force_exit:
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            await self._give_up(set(state.tasks))
        for connection in list(state.connections):
            connection.transport.abort()
        if not self.force_exit:
            await self.lifespan.shutdown()
        if self._page is not None:
            await asyncio.to_thread(self._page.end)

    async def _give_up(self, tasks: set[asyncio.Task[None]]) -> None:
        if not tasks:
            return
        logger.warning("The server stops; requests that are given up: {}.", len(tasks))
        self.shared.is_stopping = True
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=_GOODBYE_S)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came; a second one stops at once."""
        asyncio.get_running_loop().call_soon_threadsafe(self._stop_admitting)
        super().handle_exit(sig, frame)
