"""Where a request enters and leaves: it gets its id, time and path, and always an answer."""

import asyncio
import re
import secrets

from loguru import logger
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from backend.api.paths import canonical
from backend.api.shape import error_response, takes_response
from backend.api.status import RETRY_AFTER_S, status_of
from backend.errors import Aborted
from backend.logs import log_fault

REQUEST_ID_HEADER = "X-Request-ID"
_SANE_ID = re.compile(r"[A-Za-z0-9._:\-]{1,64}")
_CARRIES_ID = frozenset(
    {"http.response.start", "websocket.accept", "websocket.http.response.start"}
)
_TO_CLIENT = frozenset({"websocket.send", "websocket.close"})
_INTERNAL_ERROR = 1011
_LEFT = 1006


class RequestBoundary:
    """ASGI middleware, the outermost: `X-Request-ID` on every response, a 500 for every bug."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or WebSocket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        sent = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
        request_id = sent if _SANE_ID.fullmatch(sent) else secrets.token_hex(8)
        scope["path"] = canonical(scope["path"])
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        state["arrived_s"] = asyncio.get_running_loop().time()  # its body may take long to come
        last = ""

        async def send_with_id(message: Message) -> None:
            nonlocal last
            last = message["type"]
            if last in _CARRIES_ID:
                message.setdefault("headers", [])
                MutableHeaders(scope=message)[REQUEST_ID_HEADER] = request_id
            try:
                await send(message)
            except RuntimeError:
                if scope["type"] == "http" or last not in _TO_CLIENT:
                    raise
                # The server has closed the connection for what came next, which is not read yet.
                raise WebSocketDisconnect(_LEFT) from None

        try:
            with logger.contextualize(request_id=request_id):
                await self._app(scope, receive, send_with_id)
        except WebSocketDisconnect:
            return  # the client left: nobody reads an answer
        except asyncio.CancelledError:  # the server stops, and has waited as long as it may
            if not last and takes_response(scope):
                await _given_up(scope["path"])(scope, receive, send_with_id)
            raise
        except Exception as error:  # the request boundary: report it, answer it
            log_fault("Request {} failed by a fault of the server's.", request_id, error=error)
            detail = f"The server made a mistake; its log tells more under {request_id}."
            if not last and takes_response(scope):
                response = error_response(scope["path"], 500, detail)
                await response(scope, receive, send_with_id)
            elif scope["type"] == "http":
                raise  # too late for an answer: the server cuts the connection
            elif last in ("", "websocket.accept", "websocket.send"):
                await send({"type": "websocket.close", "code": _INTERNAL_ERROR})


def _given_up(path: str) -> Response:
    error = Aborted("The server stops, and gave this request up; try again.")
    retry = {"Retry-After": str(RETRY_AFTER_S)}
    return error_response(path, status_of(error), str(error), error.code, retry)
