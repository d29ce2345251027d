"""Where the server is, where a page keeps its takes, and where it listens: from the environment."""

import contextlib
import ipaddress
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from platformdirs import user_data_dir

MIB = 1024 * 1024
_SECRET_BYTES = 32


class BadSetup(Exception):
    """A variable of the environment says what cannot be; the message names it and the mend."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a page is told before it starts."""

    api_url: str = "http://127.0.0.1:8000"
    """The Shoal server, without a slash at its end."""
    api_key: str = field(default="", repr=False)
    """One of the server's keys. It stays in the page's process: no browser ever sees it."""
    data_dir: Path = field(default_factory=lambda: Path(user_data_dir("shoal", appauthor=False)))
    """Takes are kept in its folder `ui`."""
    takes_limit_mb: int = 1024
    """Room on disk for all takes, in MiB; the oldest make room for a new one."""
    host: str = "127.0.0.1"
    port: int = 7860

    @property
    def folder(self) -> Path:
        """What the pages keep."""
        return self.data_dir / "ui"

    @property
    def is_server_here(self) -> bool:
        """The server is on this machine: a proxy has no part in reaching it."""
        host = urlsplit(self.api_url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


def read_setup(environment: Mapping[str, str] = os.environ) -> Setup:
    """The setup that `environment` asks for, where empty is not set. Raises `BadSetup`."""
    given = {name: value.strip() for name, value in environment.items() if value.strip()}
    plain = Setup()
    url = given.get("API_URL", plain.api_url).rstrip("/")
    if not _is_http(url):
        asked = given["API_URL"]
        raise BadSetup(f"API_URL: write http://host:port of a Shoal server, got {asked!r}.")
    return Setup(
        api_url=url,
        api_key=given.get("API_KEY", ""),
        data_dir=Path(given["SHOAL_DATA_DIR"]) if "SHOAL_DATA_DIR" in given else plain.data_dir,
        takes_limit_mb=_number(given, "UI_TAKES_MB", plain.takes_limit_mb, 1, 1_000_000),
        host=given.get("UI_HOST", plain.host),
        port=_number(given, "UI_PORT", plain.port, 0, 65_535),
    )


def browser_secret(setup: Setup) -> str:
    """What a browser's store is sealed with: the same after a restart, so that it can be read.

    Raises OSError where it cannot be kept.
    """
    path = setup.folder / "browser.secret"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if len(kept := path.read_text("utf-8")) >= _SECRET_BYTES:
            return kept
    secret = secrets.token_urlsafe(_SECRET_BYTES)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    unfinished.touch(0o600)
    unfinished.write_text(secret, "utf-8")
    unfinished.replace(path)
    return secret


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # half an IPv6 address, or a port that is none
        return False


def _number(given: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    try:
        value = int(given.get(name, str(default)))
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise BadSetup(f"{name}: write a whole number from {least} to {most}, got {given[name]!r}.")
    return value
