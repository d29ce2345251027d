"""Audio that is made and not fetched yet, of the clients that listen while it is made."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from backend.errors import Aborted, ShoalError


class Stream(Protocol):
    """A sentence whose audio is fetched while it is made."""

    def give_up(self, error: ShoalError) -> None:
        """Drop its audio and tell `error` to its listener."""


class Backlog:
    """Counts the audio of all streams that waits to be fetched, and bounds it.

    A worker cannot be told to pause, and speaks faster than people listen: at 44.1 kHz a sentence
    of 400 characters is some 5 MB of float32, at its frame limit 18 (43 in Chinese), and a request
    has up to three of them open. So a client that never reads holds 15 MB for ever, and a full
    queue of them gigabytes. With half of `most_bytes` waiting, a request begins its next sentence
    only once it has fetched all that is made of it; clients that read go on. At `most_bytes` the
    sentence of which most waits is given up.

    Audio that is sent when it is whole is not counted: it is taken as soon as a sentence is good,
    and the sentences at work are few.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._waiting: dict[Stream, int] = {}
        self._shrunk = asyncio.Event()
        self.waiting_bytes = 0

    def add(self, stream: Stream, size: int) -> None:
        """So many bytes of `stream` were made."""
        self._waiting[stream] = self._waiting.get(stream, 0) + size
        self.waiting_bytes += size
        if self.waiting_bytes > self._most_bytes:
            slowest = max(self._waiting, key=self._waiting.__getitem__)
            self.drop(slowest)
            slowest.give_up(Aborted("The audio is not fetched as fast as it is made."))

    def fetched(self, stream: Stream, size: int) -> None:
        """So many bytes of `stream` were fetched."""
        if stream not in self._waiting:
            return
        self._waiting[stream] -= size
        self.waiting_bytes -= size
        if not self._waiting[stream]:
            self.drop(stream)

    def drop(self, stream: Stream) -> None:
        """Nothing of `stream` waits any more."""
        self.waiting_bytes -= self._waiting.pop(stream, 0)
        self._shrunk.set()
        self._shrunk = asyncio.Event()

    def waits_of(self, stream: Stream) -> bool:
        """Something of `stream` waits."""
        return stream in self._waiting

    async def room(self, streams: Sequence[Stream]) -> None:
        """Wait until less than half of the bound waits, or nothing of `streams`."""
        while 2 * self.waiting_bytes > self._most_bytes and any(map(self.waits_of, streams)):
            await self._shrunk.wait()
