"""Where encoded bytes go."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class Sink(Protocol):
    """What is written to: a file, `io.BytesIO`, or an `Outlet`, which cannot seek."""

    def write(self, data: bytes, /) -> int | None:
        """Take all of `data`."""

    def seekable(self) -> bool:
        """Whether what was written can be changed."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go on elsewhere."""

    def tell(self) -> int:
        """Where the next bytes go."""


class Outlet(io.RawIOBase):
    """A sink to read from while it is written: what was written waits for `take`."""

    def __init__(self) -> None:
        super().__init__()
        self._written: list[bytes] = []

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        """Keep `data` for the next `take`."""
        kept = bytes(data)  # itself, where it is bytes
        self._written.append(kept)
        return len(kept)

    def take(self) -> bytes:
        """What was written since the last call."""
        taken = b"".join(self._written)
        self._written.clear()
        return taken
