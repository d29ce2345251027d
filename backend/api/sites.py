"""Which web pages may use the server: by the name they call it, and by where they come from.

A browser lets any page send simple requests to any address, this machine's own included (cross-site
request forgery), and a page whose name is made to mean 127.0.0.1 may read the answers as well (DNS
rebinding). A browser names the page in `Origin` and the server in `Host`; programs that are no
browsers send no `Origin`.
"""

import ipaddress
import re

from starlette.datastructures import Headers
from starlette.types import Scope

from backend.errors import BadSetting, ForeignHost, ForeignOrigin
from backend.listening import is_loopback_address
from backend.settings import listed

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s]+")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:/@\[\]]+)(:\d*)?")
_LISTED = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*|\[?[0-9a-f]*:[0-9a-f:.]+\]?")
_ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*://([^/?#]*)", re.IGNORECASE)
_SHOWN_CHARACTERS = 100
_OWN_SITE = ("same-origin", "none")
"""Of `Sec-Fetch-Site`: the server's own page, or a person who typed it."""
_FOREIGN = "A page of another origin sent this; SHOAL_CORS_ORIGINS names the origins that may."


def parse_origins(text: str) -> frozenset[str]:
    """The origins of `text`, comma-separated: scheme://host[:port], or * for all."""
    origins = frozenset(entry.rstrip("/") for entry in listed(text))
    for origin in origins:
        if origin != "*" and not _ORIGIN.fullmatch(origin):
            raise BadSetting(
                f"SHOAL_CORS_ORIGINS: write scheme://host[:port] or *, got {origin!r}."
            )
    return origins


def parse_hosts(text: str) -> frozenset[str]:
    """The names of `text`, comma-separated: name, *.name for all below it, or an address."""
    names = frozenset(entry.lower().strip("[]") for entry in listed(text))
    for name in names:
        if not _LISTED.fullmatch(name):
            raise BadSetting(
                "SHOAL_ALLOWED_HOSTS: write names or addresses without scheme and port, *.name "
                f"for all below a name, got {name!r}."
            )
    return names


def check_host(scope: Scope, names: frozenset[str]) -> None:
    """Raises `ForeignHost` where the request is for none of `names`, nor for localhost.

    HTTP/1.0 needs no Host; every browser sends one.
    """
    absolute = _ABSOLUTE.match(scope["path"])
    for host in (*Headers(scope=scope).getlist("host"), *(absolute.groups() if absolute else ())):
        if not _is_named(host, names):
            raise ForeignHost(
                f"This server is not called {host[:_SHOWN_CHARACTERS]!r}; call it localhost or "
                "127.0.0.1, or name it in SHOAL_ALLOWED_HOSTS."
            )


def check_origin(scope: Scope, origins: frozenset[str]) -> None:
    """Raises `ForeignOrigin` where a page sent it that is neither the server's nor of `origins`."""
    headers = Headers(scope=scope)
    origin = headers.get("origin", "")
    if origin and is_foreign(origin, headers, origins):
        raise ForeignOrigin(_FOREIGN)


def check_link(scope: Scope, origins: frozenset[str]) -> None:
    """The same of a GET that costs something: there a page need not be named in `Origin`.

    Where it hides itself (`Referrer-Policy`), a browser still says that it is another site's, to
    localhost and over TLS.
    """
    headers = Headers(scope=scope)
    referrer = _ABSOLUTE.match(headers.get("referer", ""))
    page = headers.get("origin", "") or (referrer[0] if referrer else "")
    is_hidden = not page and headers.get("sec-fetch-site", "none") not in _OWN_SITE
    if (page or is_hidden) and is_foreign(page, headers, origins):
        raise ForeignOrigin(_FOREIGN)


def is_foreign(origin: str, headers: Headers, origins: frozenset[str]) -> bool:
    """Whether pages of `origin` are neither the server's own nor of `origins`."""
    if "*" in origins or origin in origins:
        return False
    # The scheme is left out: a proxy may have taken TLS away.
    return origin.partition("://")[2].lower() != headers.get("host", "").lower()


def _is_named(host: str, names: frozenset[str]) -> bool:
    parts = _HOST.fullmatch(host.lower())
    if parts is None:
        return False
    name = parts[1].strip("[]").rstrip(".")
    return (
        name == "localhost"
        or name.endswith(".localhost")
        or name in names
        or any(each.startswith("*.") and name.endswith(each[1:]) for each in names)
        or _is_loopback(name)
    )


def _is_loopback(name: str) -> bool:
    try:
        return is_loopback_address(ipaddress.ip_address(name))
    except ValueError:
        return False
