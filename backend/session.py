"""One request being spoken, as whoever asked for it sees it."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Self

from backend.core import EngineInfo, PcmChunk, Plan, SpeechStats, TextLimit
from backend.errors import TimedOut
from backend.worker.messages import Done, Pcm


class SpeechSession:
    """Iterate over the audio, then read `stats`."""

    def __init__(
        self,
        messages: AsyncGenerator[Pcm | Done, None],
        *,
        info: EngineInfo,
        plan: Plan,
        text_limit: TextLimit,
        segments: tuple[str, ...],
        warnings: tuple[str, ...],
        timeout_s: float,
    ) -> None:
        self._messages = messages
        self.info, self.plan = info, plan
        self.text_limit, self.segments = text_limit, segments
        self.warnings = warnings
        self._loop = asyncio.get_running_loop()
        self._began_s = self._loop.time()
        self._deadline_s = self._began_s + timeout_s
        self._samples = 0
        self._stats: SpeechStats | None = None
        self.first_audio_s = 0.0
        """Seconds from admission to the first audio; 0 before it."""
        self.total_s = 0.0
        """Seconds from admission to what was heard last."""
        self.peak_gpu_util_pct = 0.0
        """Highest GPU utilization while it was spoken, once the session is over."""
        self.peak_vram_mb = 0.0
        """Most memory in use on the GPU while it was spoken, likewise."""

    @property
    def is_spoken(self) -> bool:
        """The audio was read to its end."""
        return self._stats is not None

    @property
    def stats(self) -> SpeechStats:
        """What the request cost, warnings included, once its audio is read to the end."""
        if self._stats is None:
            raise RuntimeError("the speech is not finished")
        return self._stats

    @property
    def audio_s(self) -> float:
        """Seconds of audio so far."""
        return self._samples / self.info.sample_rate_hz

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> PcmChunk:
        try:
            async with asyncio.timeout_at(self._deadline_s):
                message = await anext(self._messages)
        except TimeoutError:
            raise TimedOut("The request was not spoken in time; send less text.") from None
        self.total_s = self._loop.time() - self._began_s
        if isinstance(message, Pcm):
            self.first_audio_s = self.first_audio_s or self.total_s
            self._samples += len(message.samples) // 4
            return PcmChunk(message.samples, message.segment)
        warnings = (*self.warnings, *message.stats.warnings)
        self._stats = replace(message.stats, warnings=warnings)
        raise StopAsyncIteration
