"""What is written to a client, which is cut off where it does not read."""

import asyncio

from backend.connections.patience import Patience
from backend.connections.shared import Shared

_READ_BYTES_PER_S = 1024
"""Slowest that an answer may be read: a quarter of speech in the smallest format."""


class Outgoing:
    """The bytes of one connection that its client should read."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._transport: asyncio.Transport | None = None
        self._written_bytes = 0
        self._patience = Patience(
            shared.limits.unread_timeout_s, _READ_BYTES_PER_S, self._read, self._cut_off
        )

    def wrote(self, transport: asyncio.Transport, size_bytes: int) -> None:
        """So many more bytes were given to `transport`; what it still has is watched."""
        self._transport = transport
        self._written_bytes += size_bytes
        if transport.get_write_buffer_size():
            self._patience.start()

    def stop(self) -> None:
        """Watch no more."""
        self._patience.stop()

    def _read(self) -> float | None:
        assert self._transport is not None
        unread_bytes = self._transport.get_write_buffer_size()
        return self._written_bytes - unread_bytes if unread_bytes else None

    def _cut_off(self) -> None:
        assert self._transport is not None
        self._shared.seldom.warn("Connections are closed: their clients do not read the answer.")
        self._transport.abort()
