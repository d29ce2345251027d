"""Shoal on Ray Serve: `serve run backend.cluster:app`. Nothing but this room imports Ray, and of it
only what is asked for here."""

from importlib import import_module
from typing import Any

from backend.errors import BadSetting

_ASKED_FOR = {"app": "application", "cluster_app": "command"}


def __getattr__(name: str) -> Any:
    if name not in _ASKED_FOR:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{_ASKED_FOR[name]}")
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] != "ray":
            raise
        told = 'A cluster needs Ray, which is not installed: pip install "shoal-tts[cluster]".'
        raise BadSetting(told) from None
    return getattr(module, name)
