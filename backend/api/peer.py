"""The address that a request comes from: the peer's, or the one that a trusted proxy tells."""

import ipaddress
import re
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import Scope

from backend.errors import BadSetting
from backend.listening import Address, network_of, unmapped
from backend.settings import listed

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_WITH_PORT = re.compile(r"\[([^\]]*)\](?::\d+)?|([0-9.]+):\d+")
_MAX_PROXIES = 16
"""Of `X-Forwarded-For`, the last so many are read."""


def parse_proxies(text: str) -> tuple[Network, ...]:
    """The addresses and networks of `text`, comma-separated."""
    try:
        return tuple(ipaddress.ip_network(entry) for entry in listed(text))
    except ValueError as error:
        raise BadSetting(
            f"SHOAL_FORWARDED_ALLOW_IPS: write addresses or networks, as 127.0.0.1: {error}."
        ) from None


def put_client(scope: Scope, proxies: Sequence[Network]) -> None:
    """Put the address that one of `proxies` tells in the place of the proxy's own.

    Each proxy adds the address it was asked from at the end of `X-Forwarded-For`; what stands
    before the first that is not one of ours, anybody may have written.
    """
    peer = _address(scope["client"][0]) if scope.get("client") else None
    client = peer
    said = ",".join(Headers(scope=scope).getlist("x-forwarded-for")) if proxies else ""
    for part in reversed(said.rsplit(",", _MAX_PROXIES)):
        if client is None or not any(client in network for network in proxies):
            break
        told = _address(part.strip())
        if told is None:
            break
        client = told
    if client is not peer and client is not None:
        scope["client"] = (str(client), 0)


def peer_name(scope: Scope) -> str:
    """The address that a request comes from; of IPv6 the network."""
    return network_of(scope["client"][0] if scope.get("client") else "")


def _address(text: str) -> Address | None:
    """The address in `text`, which may have a port; None where it is none."""
    found = _WITH_PORT.fullmatch(text)
    bare = found[1] or found[2] if found else text
    try:
        return unmapped(ipaddress.ip_address(bare.partition("%")[0]))  # a zone may be any text
    except ValueError:
        return None
