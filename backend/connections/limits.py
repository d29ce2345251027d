"""What connections may take of the server: numbers made of the settings and of this machine's."""

import sys
from dataclasses import dataclass

from backend.api.arrival import FIELDS_BYTES
from backend.core import MIB
from backend.settings import Settings

ACCEPTED_AT_ONCE = 64
"""Connections that are accepted in one turn of the loop."""
BACKLOG = 4096
"""Connections that wait for that, and take no descriptor: with few, a client that comes while
another opens thousands is not heard, and asks again a second later."""
_KEPT_BACK = 64 + ACCEPTED_AT_ONCE
"""Descriptors that no connection gets: the server's own and a new worker's, and connections that
are accepted only to be closed."""
_DESCRIPTORS_EACH = 2
"""Of a connection: its socket, and a temporary file."""
_FEWEST = 8
_RECORDINGS = 4
"""Most recordings of one request."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one connection and of all of them together; the settings say what each is."""

    connections: int
    connections_per_address: int
    header_bytes: int
    header_timeout_s: float
    keep_alive_s: float
    uploads_bytes: int
    uploads_bytes_per_address: int
    upload_timeout_s: float
    upload_bytes_per_s: int
    unread_timeout_s: float
    message_bytes: int
    """Longest message of a WebSocket: a recording may come in one."""
    messages_per_s: int


def limits_of(settings: Settings) -> Limits:
    """The limits that `settings` say, as far as this process may open as many descriptors."""
    wanted = _KEPT_BACK + _DESCRIPTORS_EACH * settings.max_connections
    held = _raise_descriptor_limit(wanted)
    connections = max(_FEWEST, min(wanted, held) - _KEPT_BACK) // _DESCRIPTORS_EACH
    largest_bytes = FIELDS_BYTES + _RECORDINGS * settings.max_upload_bytes
    uploads_bytes = max(settings.uploads_mb * MIB, largest_bytes)
    return Limits(
        connections=connections,
        connections_per_address=max(1, min(settings.max_connections_per_address, connections // 2)),
        header_bytes=settings.max_header_bytes,
        header_timeout_s=settings.header_timeout_s,
        keep_alive_s=settings.keep_alive_s,
        uploads_bytes=uploads_bytes,
        uploads_bytes_per_address=max(uploads_bytes // 2, largest_bytes),
        upload_timeout_s=settings.upload_timeout_s,
        upload_bytes_per_s=settings.upload_bytes_per_s,
        unread_timeout_s=settings.unread_timeout_s,
        message_bytes=FIELDS_BYTES + settings.max_upload_bytes,
        messages_per_s=settings.live_messages_per_s,
    )


if sys.platform == "win32":

    def _raise_descriptor_limit(wanted: int) -> int:
        """`wanted`: the system has no such limit."""
        return wanted

else:
    import resource

    def _raise_descriptor_limit(wanted: int) -> int:
        """How many this process may open, after asking for at least `wanted`."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if resource.RLIM_INFINITY in (soft, wanted) or soft >= wanted:
            return wanted if soft == resource.RLIM_INFINITY else soft
        raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        except (OSError, ValueError):  # macOS has a limit beside the one it tells
            return soft
        return raised
