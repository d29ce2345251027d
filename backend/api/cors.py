"""Pages of other origins: those that are named read the answers, the log tells of the others."""

from loguru import logger
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from backend.api.sites import is_foreign

_PRIVATE_NETWORK = b"access-control-request-private-network"
_MAX_ORIGINS = 100
"""That are told of; a program can invent any number of them."""
_SHOWN_CHARACTERS = 100


class Pages:
    """ASGI middleware: CORS for the pages of `origins`, and a line in the log, once, for each other
    origin that asks."""

    def __init__(self, app: ASGIApp, origins: frozenset[str]) -> None:
        # Around the guard: a browser asks without its key first, and reads refusals too.
        self._app: ASGIApp = _Cors(app, origins) if origins else app
        self._origins = origins
        self._told: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or WebSocket."""
        if scope["type"] in ("http", "websocket"):
            headers = Headers(scope=scope)
            origin = headers.get("origin", "")
            if origin and is_foreign(origin, headers, self._origins):
                self._tell(origin[:_SHOWN_CHARACTERS])
        await self._app(scope, receive, send)

    def _tell(self, origin: str) -> None:
        if origin in self._told or len(self._told) == _MAX_ORIGINS:
            return
        self._told.add(origin)
        logger.warning(
            "Pages of {!r} are refused; to let them use this server, name it in "
            "SHOAL_CORS_ORIGINS.",
            origin,
        )


class _Cors(CORSMiddleware):
    """Lets pages of `origins` in, also from a public network into this private one."""

    def __init__(self, app: ASGIApp, origins: frozenset[str]) -> None:
        super().__init__(
            app,
            allow_origins=sorted(origins),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["*"],
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """What a browser asks before the request."""
        # Not left to Starlette: earlier ones do not know this question, later ones refuse it.
        asked = [field for field in request_headers.raw if field[0] != _PRIVATE_NETWORK]
        response = super().preflight_response(Headers(raw=asked))
        if len(asked) < len(request_headers.raw) and response.status_code == 200:
            response.headers["Access-Control-Allow-Private-Network"] = "true"
        return response
