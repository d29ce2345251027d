"""Where the routers of Serve, which it makes itself, tell which replicas there are.

A module of its own: Serve carries the router's module about by value, and its globals are copies.
"""

import threading
from collections.abc import Callable

Told = Callable[[frozenset[str]], None]

_lock = threading.Lock()
_there: dict[str, frozenset[str]] = {}
_told: dict[str, Told] = {}


def watch(deployment: str, told: Told) -> None:
    """Call `told` with the names of its replicas, now and whenever they are others; in whichever
    thread that is found."""
    with _lock:
        _told[deployment] = told
        told(_there.get(deployment, frozenset()))


def tell(deployment: str, replicas: frozenset[str]) -> None:
    """Its replicas are these now."""
    with _lock:
        _there[deployment] = replicas
        if deployment in _told:
            _told[deployment](replicas)
