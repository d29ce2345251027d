"""What comes from a Shoal server: events of speech, and the two ways in which it fails."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened while speech was made: a plan, a sentence's start, audio, …"""

    kind: str
    """As in MDs/API.md: plan, queue, sentence.start, audio, sentence.end, warning, done, error."""
    fields: dict[str, Any] = field(default_factory=dict)
    audio: bytes = b""
    """16-bit little-endian mono PCM."""


class ServerAway(Exception):
    """Nobody answers, or what answers is no Shoal server; the message is for the user."""


class Refused(Exception):
    """The server says no; `detail` says what is wrong and what to do."""

    def __init__(self, status: int, detail: str, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.retry_after_s = status, detail, retry_after_s
