"""Addresses: which are listened on, how this machine reaches them, and whose the others are."""

import ipaddress
import os
import socket
from urllib.parse import SplitResult, urlsplit

from backend.errors import BadSetting

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "localhost": "127.0.0.1"}


def listen(host: str, port: int) -> socket.socket:
    """Bound before anything else is done: a port in use is told at once, and port 0 is known.

    Raises `BadSetting`.
    """
    family = _family(host)
    # asyncio sends small pieces at once only where it is told that this is TCP: without, each
    # answer waits 40 ms for the client's acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # elsewhere it would let two servers have the same port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        listener.listen()
        return listener
    except OSError as error:
        listener.close()
        why = error.strerror or error
        raise BadSetting(f"{host}:{port} cannot be listened on: {why}.") from None


def server_url(url: str) -> SplitResult:
    """The parts of a server's `url`, as a user wrote it; `BadSetting` says what it should be."""
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        is_url = False
    if not is_url:
        raise BadSetting(f"write http://host[:port], got {url!r}.")
    return parts


def is_loopback(host: str) -> bool:
    """Whether nothing but this machine reaches what listens on `host`, an address or a name."""
    if not host:  # every address
        return False
    try:
        found = socket.getaddrinfo(host, None, _family(host))
    except (OSError, UnicodeError):
        return False
    return all(is_loopback_address(ipaddress.ip_address(entry[4][0])) for entry in found)


def unmapped(address: Address) -> Address:
    """`address`, as IPv4 where it is such a one in the form of IPv6."""
    return getattr(address, "ipv4_mapped", None) or address


def is_loopback_address(address: Address) -> bool:
    """Whether `address` is this machine's own."""
    return unmapped(address).is_loopback


def reached_at(host: str) -> str:
    """The address at which a program on this machine reaches what listens on `host`."""
    return _WILDCARDS.get(host, host)


def local_url(host: str, port: int) -> str:
    """The same as a URL, without a slash at its end."""
    address = reached_at(host)
    return f"http://{f'[{address}]' if ':' in address else address}:{port}"


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def network_of(host: str) -> str:
    """Whose address `host` is: of IPv6 the network, as each customer has one of their own."""
    try:
        address = unmapped(ipaddress.ip_address(host))
    except ValueError:
        return host or "unknown"
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((int(address), 64), strict=False))
