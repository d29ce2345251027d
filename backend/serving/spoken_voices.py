"""In which voices a worker has spoken lately: it need not read their prompts again."""

from collections import OrderedDict

from backend.core import EngineInfo

KEPT = 64
"""Voices. The worker itself keeps as many as its cache has room for; who is sent there for a voice
that it has let go of only waits as anywhere else."""


class SpokenVoices:
    """Names of voices, of the worker that is there now."""

    def __init__(self) -> None:
        self._info: EngineInfo | None = None
        self._voices: OrderedDict[int, None] = OrderedDict()

    def add(self, voice: int, info: EngineInfo | None) -> None:
        """It is spoken by the worker that has loaded `info`."""
        if info is not self._info:
            self._info = info
            self._voices.clear()
        self._voices[voice] = None
        self._voices.move_to_end(voice)
        if len(self._voices) > KEPT:
            self._voices.popitem(last=False)

    def has(self, voice: int, info: EngineInfo | None) -> bool:
        """The worker that has loaded `info` has spoken it."""
        return info is self._info and voice in self._voices
