"""Who may ask, and how often: API keys, a rate for each client, and pages of other origins."""

import hashlib
import hmac
import math
import re
import time
from collections.abc import Mapping

from fastapi import FastAPI
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from loguru import logger
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from backend.api.shape import error_response, takes_response
from backend.errors import BadSetting, RateLimited, ShoalError, Unauthorized
from backend.listening import network_of
from backend.settings import Settings

OPEN_PATHS = frozenset({"/health", "/health/ready", "/v1/health"})
"""Asked without a key: load balancers have none, and nothing is told that needs one."""

_VOICE_AUDIO = "/voices/{name}/audio"
PACED = frozenset(
    (
        ("GET", _VOICE_AUDIO),
        *(("POST", path) for path in ("/tts", "/v1/audio/speech", "/v1/tts")),
        *(("POST", path) for path in ("/voices", "/model", "/v1/references/add")),
    )
)
"""What counts towards the rate beside WebSockets: what speaks, encodes or decodes."""

_MAX_CLIENTS = 10_000
"""Clients whose rate is remembered; with one more all are forgotten, and may begin anew."""

_VOICE_AUDIO_PATH = re.compile(r"/voices/[^/]+/audio")
_KEY_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s]+")
_POLICY_VIOLATION = 1008


def protect(app: FastAPI, settings: Settings) -> None:
    """Ask for keys, keep to the rate, and let in the pages that `settings` name.

    Raises `BadSetting`. Add `RequestBoundary` after it, so that a refusal has its id too.
    """
    keys, origins = parse_keys(settings.api_keys), parse_origins(settings.cors_origins)
    pace = Pace(settings.rate_limit_per_minute) if settings.rate_limit_per_minute else None
    app.add_middleware(Guard, keys=keys, pace=pace, origins=origins)
    if origins:
        # Around the guard: a browser asks without its key first, and reads refusals too.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(origins),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["*"],
        )


def parse_keys(text: str) -> dict[bytes, str]:
    """Of each key's SHA-256 the client's name; `text` is `key` or `name:key`, comma-separated."""
    keys = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, colon, key = entry.partition(":")
        if not colon:
            name, key = "", entry
        elif not (key and _KEY_NAME.fullmatch(name)):
            raise BadSetting(
                "SHOAL_API_KEYS: write key or name:key, separated by commas; a name has letters, "
                "digits, . _ and - only, and a key has no colon unless a name is before it."
            )
        digest = _digest(key.encode())
        keys[digest] = name or f"key-{digest.hex()[:8]}"
    if text and not keys:
        raise BadSetting("SHOAL_API_KEYS has no key in it; leave it empty to ask for none.")
    return keys


def first_key(text: str) -> str:
    """The key that comes first in `text`, which `parse_keys` accepts; "" without any."""
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, colon, key = entry.partition(":")
        return key if colon else name
    return ""


def parse_origins(text: str) -> frozenset[str]:
    """The origins of `text`, comma-separated: scheme://host[:port], or * for all."""
    origins = frozenset(filter(None, (part.strip().rstrip("/") for part in text.split(","))))
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise BadSetting(
                f"SHOAL_CORS_ORIGINS: write scheme://host[:port] or *, got {origin!r}."
            )
    return origins


class Pace:
    """How often each client has asked within the last minute."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._item = RateLimitItemPerMinute(per_minute)
        self._forget()

    def wait_s(self, client: str) -> float:
        """0.0 if `client` may ask now, which counts; else seconds until it may."""
        # The storage keeps a row of every client for ever.
        if client not in self._clients and len(self._clients) >= _MAX_CLIENTS:
            self._forget()
        self._clients.add(client)
        if self._limiter.hit(self._item, client):
            return 0.0
        return max(1.0, self._limiter.get_window_stats(self._item, client).reset_time - time.time())

    def _forget(self) -> None:
        self._clients: set[str] = set()
        self._limiter = MovingWindowRateLimiter(MemoryStorage())


class Guard:
    """ASGI middleware: refuses who may not ask, and names the others in `state.client`."""

    def __init__(
        self,
        app: ASGIApp,
        keys: Mapping[bytes, str],
        pace: Pace | None = None,
        origins: frozenset[str] = frozenset(),
    ) -> None:
        self._app = app
        self._keys = keys
        self._pace = pace
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or refuse one request or WebSocket."""
        refusal = self._refusal(scope) if scope["type"] in ("http", "websocket") else None
        if refusal is None:
            await self._app(scope, receive, send)
        elif takes_response(scope):
            await refusal(scope, receive, send)
        else:  # such a server answers 403 to this, without a body
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})

    def _refusal(self, scope: Scope) -> Response | None:
        """The answer to who may not ask; None for all others."""
        client = self._client(scope)
        if client is None:
            return _refused(
                scope,
                401,
                Unauthorized(
                    "An API key is needed, and none or a wrong one was sent; send Authorization: "
                    "Bearer <key>, or X-API-Key."
                ),
                {"WWW-Authenticate": "Bearer"},
            )
        scope.setdefault("state", {})["client"] = client
        is_websocket = scope["type"] == "websocket"
        if is_websocket and not self._is_origin_let_in(Headers(scope=scope)):
            foreign = (
                "Pages of this origin may not connect; SHOAL_CORS_ORIGINS names those that may."
            )
            return _refused(scope, 403, Unauthorized(foreign))
        if self._pace and (is_websocket or _is_paced(scope["method"], scope["path"])):
            return _refusal_of_pace(scope, self._pace, client)
        return None

    def _client(self, scope: Scope) -> str | None:
        """The name of who asks; None if its key is wrong or missing."""
        if not self._keys or scope["path"] in OPEN_PATHS:
            return _peer(scope)
        sent = _digest(_sent_key(scope))
        found = None
        for digest, name in self._keys.items():  # all of them: the time must not tell which it was
            if hmac.compare_digest(digest, sent):
                found = name
        return found

    def _is_origin_let_in(self, headers: Headers) -> bool:
        """What CORS is to other requests: browsers let any page open a WebSocket anywhere."""
        origin = headers.get("origin", "")
        if not origin or "*" in self._origins or origin in self._origins:
            return True
        return origin.partition("://")[2] == headers.get("host", "")


def _is_paced(method: str, path: str) -> bool:
    route = _VOICE_AUDIO if _VOICE_AUDIO_PATH.fullmatch(path) else path
    return (method, route) in PACED


def _refusal_of_pace(scope: Scope, pace: Pace, client: str) -> Response | None:
    wait_s = math.ceil(pace.wait_s(client))
    if not wait_s:
        return None
    detail = f"More than {pace.per_minute} requests in a minute; try again in {wait_s} s."
    return _refused(scope, 429, RateLimited(detail, wait_s), {"Retry-After": str(wait_s)})


def _refused(
    scope: Scope, status: int, error: ShoalError, headers: dict[str, str] | None = None
) -> Response:
    client = scope.get("state", {}).get("client") or _peer(scope)
    logger.info("{!r} of {} refused, {}: {}", scope["path"], client, status, error)
    return error_response(scope["path"], status, str(error), error.code, headers)


def _sent_key(scope: Scope) -> bytes:
    """The key in the headers, as it was sent; b"" without one."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer":
        return credentials.strip()
    return headers.get(b"x-api-key", b"").strip()


def _digest(key: bytes) -> bytes:
    """Of the same length whatever the key's, so that comparing does not tell it."""
    return hashlib.sha256(key).digest()


def _peer(scope: Scope) -> str:
    """Whose address asks."""
    return network_of(scope["client"][0] if scope.get("client") else "")
