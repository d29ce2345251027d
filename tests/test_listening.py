import socket

import pytest

from backend.errors import BadSetting
from backend.listening import is_loopback, listen, local_url


def test_small_pieces_are_sent_at_once() -> None:
    """asyncio turns Nagle's algorithm off where a listener says that it is TCP."""
    with listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_a_port_in_use_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BadSetting, match=f"127.0.0.1:{port} cannot be listened on"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "is_ours_alone"),
    [
        *((host, True) for host in ("127.0.0.1", "127.1", "127.255.0.9", "::1", "localhost")),
        *((host, False) for host in ("", "0.0.0.0", "0", "::", "192.0.2.7", "fe80::1", "a" * 300)),
        ("no-such-name.invalid", False),
    ],
)
def test_who_reaches_an_address(host: str, is_ours_alone: bool) -> None:
    assert is_loopback(host) is is_ours_alone


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("localhost", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("::1", "http://[::1]:8000"),
        ("192.0.2.7", "http://192.0.2.7:8000"),
        ("shoal.example", "http://shoal.example:8000"),
    ],
)
def test_a_wildcard_is_reached_at_this_machine(host: str, url: str) -> None:
    assert local_url(host, 8000) == url
