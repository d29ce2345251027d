"""A pipeline of Pipecat around one speech service: what is said to it, and what it plays."""

import asyncio
from typing import Any

from pipecat.frames.frames import (
    ErrorFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.workers.runner import WorkerRunner

from tests.clients.programs.jobs import Job, Take, words

RATE_HZ = 24_000


class Talk:
    """Turns of a bot, one after the other, in one pipeline."""

    def __init__(self, job: Job, service: Any) -> None:
        self._job = job
        self.takes: list[Take] = []
        self.errors: list[str] = []
        self._spoke = asyncio.Event()
        self._begun = asyncio.Event()
        self._worker = PipelineWorker(
            Pipeline([service]),
            cancel_on_idle_timeout=False,
            enable_rtvi=False,
            params=PipelineParams(audio_out_sample_rate=RATE_HZ),
        )
        self._worker.set_reached_downstream_filter((TTSAudioRawFrame, TTSStoppedFrame))
        self._worker.add_event_handler("on_frame_reached_downstream", self._played)
        self._worker.set_reached_upstream_filter((ErrorFrame,))
        self._worker.add_event_handler("on_frame_reached_upstream", self._failed)

    async def __aenter__(self) -> "Talk":
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(self._worker)
        self._running = asyncio.create_task(runner.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._worker.stop_when_done()
        await self._running

    async def _played(self, _worker: Any, frame: Any) -> None:
        if isinstance(frame, TTSAudioRawFrame):
            self.takes[-1].rate_hz = frame.sample_rate
            self.takes[-1].add(frame.audio)
            self._begun.set()
        else:
            self._spoke.set()

    async def _failed(self, _worker: Any, frame: Any) -> None:
        self.errors.append(frame.error)
        self._begun.set()
        self._spoke.set()

    def _next(self) -> None:
        self.takes.append(Take(self._job))
        self._spoke.clear()
        self._begun.clear()

    async def say(self, text: str) -> None:
        """A line that the bot was told to say."""
        self._next()
        await self._worker.queue_frame(TTSSpeakFrame(text))
        await self._spoke.wait()

    async def write(self, text: str, *, broken_off: bool = False) -> None:
        """What a language model writes; `broken_off`, its user speaks up as soon as it sounds."""
        self._next()
        pieces = [LLMTextFrame(piece) for piece in words(text)]
        await self._worker.queue_frames(
            [LLMFullResponseStartFrame(), *pieces, LLMFullResponseEndFrame()]
        )
        if broken_off:
            await self._begun.wait()
            await self._worker.queue_frame(InterruptionFrame())
        else:
            await self._spoke.wait()

    def told(self) -> dict[str, Any]:
        """The errors that it pushed, for the answer of a job."""
        return {"error": "; ".join(self.errors) or None}
