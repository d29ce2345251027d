"""Which requests are let in: by the server's name, API keys, web pages, and a rate a client."""

import hashlib
import hmac
import math
import re
from collections.abc import Mapping

from fastapi import FastAPI
from loguru import logger
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from backend.api.cors import Pages
from backend.api.pace import OPEN_PATHS, SAFE_METHODS, is_paced
from backend.api.paths import GET_SPEECH, LISTS
from backend.api.peer import Network, parse_proxies, peer_name, put_client
from backend.api.rates import Rates, rates_of
from backend.api.shape import error_response, takes_response
from backend.api.sites import check_host, check_link, check_origin, parse_hosts, parse_origins
from backend.api.status import retry_headers, status_of
from backend.errors import BadSetting, RateLimited, ShoalError, Unauthorized
from backend.listening import is_loopback
from backend.settings import Settings, listed

_KEY_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_POLICY_VIOLATION = 1008


def protect(app: FastAPI, settings: Settings) -> None:
    """Check the name that requests call the server, ask for keys, keep other pages out but those
    that `settings` name, and keep to the rate, which `app.state.rates` is from then on.

    Raises `BadSetting`. Add `RequestBoundary` after it, so that a refusal has its id too.
    """
    app.state.rates = rates = rates_of(settings)
    origins, hosts = parse_origins(settings.cors_origins), parse_hosts(settings.allowed_hosts)
    app.add_middleware(
        Guard,
        keys=parse_keys(settings.api_keys),
        # Elsewhere the names that a server is called are its network's matter.
        hosts=hosts if hosts or is_loopback(settings.host) else None,
        origins=origins,
        proxies=parse_proxies(settings.forwarded_allow_ips),
        rates=rates,
        open_paths=OPEN_PATHS | (LISTS if settings.public_lists else frozenset()),
    )
    app.add_middleware(Pages, origins=origins)


def refuse_open(settings: Settings) -> None:
    """Raises `BadSetting` where anybody in the network might use the server, and nobody said so."""
    if settings.api_keys or is_loopback(settings.host):
        return
    if not settings.allow_open:
        raise BadSetting(
            f"SHOAL_HOST={settings.host} lets other machines in, and none would be asked for a "
            "key: set SHOAL_API_KEYS=name:long-random-key, or SHOAL_ALLOW_OPEN=true to let "
            "everybody use this server."
        )
    logger.warning("Anybody who reaches {} uses this server without a key.", settings.host)


def parse_keys(text: str) -> dict[bytes, str]:
    """Of each key's SHA-256 the client's name; `text` is `key` or `name:key`, comma-separated."""
    keys = {}
    for entry in listed(text):
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
    for entry in listed(text):
        name, colon, key = entry.partition(":")
        return key if colon else name
    return ""


class Guard:
    """ASGI middleware: refuses requests, and names the client of the others in `state.client`.

    `hosts` are the names that requests may call the server beside localhost's, None checks none;
    `origins` are the pages that may use it beside its own; a GET of `open_paths` needs no key.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: Mapping[bytes, str],
        hosts: frozenset[str] | None,
        origins: frozenset[str],
        proxies: tuple[Network, ...],
        rates: Rates | None,
        open_paths: frozenset[str] = OPEN_PATHS,
    ) -> None:
        self._app = app
        self._open_paths = open_paths
        self._keys, self._hosts, self._origins = keys, hosts, origins
        self._proxies, self._rates = proxies, rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or refuse one request or WebSocket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        put_client(scope, self._proxies)
        try:
            await self._check(scope)
        except ShoalError as error:
            if takes_response(scope):
                await _refusal(scope, error)(scope, receive, send)
            else:  # such a server answers 403 to this, without a body
                await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
            return
        await self._app(scope, receive, send)

    async def _check(self, scope: Scope) -> None:
        """Raises what a request is refused for."""
        if self._hosts is not None:
            check_host(scope, self._hosts)
        client = self._client(scope)
        scope.setdefault("state", {})["client"] = client
        is_websocket = scope["type"] == "websocket"
        if is_websocket or scope["method"] not in SAFE_METHODS:
            check_origin(scope, self._origins)
        elif scope["method"] == "GET" and scope["path"] == GET_SPEECH:
            check_link(scope, self._origins)
        if self._rates and (is_websocket or is_paced(scope["method"], scope["path"])):
            await _keep_to(self._rates, client)

    def _client(self, scope: Scope) -> str:
        """The name of the client; `Unauthorized` if its key is wrong or missing."""
        if not self._keys or scope["path"] in self._open_paths:
            return peer_name(scope)
        sent = _digest(_sent_key(scope))
        found = ""
        for digest, name in self._keys.items():  # all of them: the time must not tell which it was
            if hmac.compare_digest(digest, sent):
                found = name
        if not found:
            raise Unauthorized(
                "An API key is needed, and none or a wrong one was sent; send Authorization: "
                "Bearer <key>, or X-API-Key."
            )
        return found


async def _keep_to(rates: Rates, client: str) -> None:
    wait_s = math.ceil(await rates.wait_s(client))
    if wait_s:
        raise RateLimited(
            f"More than {rates.per_minute} requests in a minute; try again in {wait_s} s.", wait_s
        )


def _refusal(scope: Scope, error: ShoalError) -> Response:
    client, status = scope.get("state", {}).get("client") or peer_name(scope), status_of(error)
    logger.info("{!r} of {} refused, {}: {}", scope["path"], client, int(status), error)
    headers = retry_headers(error)
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
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
