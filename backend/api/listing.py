"""Answers that list the saved voices: encoded once, and again when there are others."""

from collections.abc import Callable
from typing import TypeVar

from backend.api.bulk import in_bulk
from backend.voices.store import Voice, VoiceStore
from backend.voices.threads import in_store

T = TypeVar("T")


class Listing:
    """The answer that `encode` makes of all voices; ten thousand take it a while."""

    def __init__(self, encode: Callable[[tuple[Voice, ...]], bytes]) -> None:
        self._encode = encode
        self._kept: tuple[tuple[Voice, ...] | None, bytes] = (None, b"")

    def of(self, store: VoiceStore) -> bytes:
        """The answer for what is in `store`; may be called in any thread."""
        voices = store.list()
        listed, encoded = self._kept
        if listed is not voices:
            encoded = self._encode(voices)
            self._kept = (voices, encoded)
        return encoded


async def of_voices(store: VoiceStore, work: Callable[[], T]) -> T:
    """What `work` makes of all voices in `store`, in its turn among all that is large; where they
    are kept elsewhere, that is waited for before."""
    await in_store(store.look)
    return await in_bulk(work)
