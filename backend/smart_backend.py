"""The one place that sees every room: cuts the text, speaks it through the worker, keeps time."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from types import TracebackType
from typing import Self

from backend.core import EngineInfo, PcmChunk, SpeechRequest, SpeechStats
from backend.errors import (
    BadReference,
    BlankText,
    TextTooLong,
    TimedOut,
    UploadTooLarge,
)
from backend.settings import Settings
from backend.text.sentences import fold, split_sentences
from backend.worker.client import Patience, WorkerClient
from backend.worker.messages import Done, Pcm, Speak, WorkerConfig


def worker_command(settings: Settings) -> tuple[str, ...]:
    """The command line that starts a worker."""
    config = WorkerConfig(
        model_dir=str(settings.checkpoint_dir),
        device=settings.device,
        precision=settings.precision,
        num_threads=settings.num_threads,
        max_batch=settings.max_batch,
        log_level=settings.log_level,
    )
    # -P: a folder called backend where the server is started must not stand in for ours.
    module = ("-P", "-m", "backend.worker.main")
    return (str(settings.worker_python), *module, "--config", config.to_json())


class SpeechSession:
    """One request being spoken: iterate over its audio, then read `stats`.

    Leaving the `async with` block early gives the request up in the worker.
    """

    def __init__(
        self,
        messages: AsyncGenerator[Pcm | Done, None],
        info: EngineInfo,
        segments: tuple[str, ...],
        warnings: tuple[str, ...],
        deadline_s: float,
    ) -> None:
        self._messages = messages
        self.info = info
        self.segments = segments
        self.warnings = warnings
        self._deadline_s = deadline_s
        self._stats: SpeechStats | None = None

    @property
    def stats(self) -> SpeechStats:
        """What the request cost, warnings included, once its audio is read to the end."""
        if self._stats is None:
            raise RuntimeError("the speech is not finished")
        return self._stats

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._messages.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> PcmChunk:
        try:
            async with asyncio.timeout_at(self._deadline_s):
                message = await anext(self._messages)
        except TimeoutError:
            raise TimedOut("The request was not spoken in time; send less text.") from None
        if isinstance(message, Pcm):
            return PcmChunk(message.samples, message.segment)
        warnings = (*self.warnings, *message.stats.warnings)
        self._stats = replace(message.stats, warnings=warnings)
        raise StopAsyncIteration


class SmartBackend:
    """Speaks requests through one supervised worker."""

    def __init__(
        self,
        settings: Settings,
        command: tuple[str, ...] | None = None,
        start_attempts: int | None = None,
    ) -> None:
        self.settings = settings
        self.worker = WorkerClient(
            command or worker_command(settings),
            Patience(
                start_timeout_s=settings.worker_start_timeout_s,
                restart_delay_s=settings.restart_delay_s,
                restart_delay_max_s=settings.restart_delay_max_s,
                unresponsive_s=settings.worker_unresponsive_s,
                shutdown_grace_s=settings.shutdown_grace_s,
                start_attempts=start_attempts,
            ),
        )

    async def __aenter__(self) -> Self:
        self.worker.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.worker.close()

    def speak(self, request: SpeechRequest) -> SpeechSession:
        """Begin to speak `request`; raises at once what can be said about it without the worker."""
        self._check_size(request)
        info = self.worker.loaded()
        segments = split_sentences(request.text, info.max_segment_characters)
        if not segments:
            raise BlankText("text is blank; send what is to be spoken.")
        reference = request.reference
        speak = Speak(
            request_id=request.request_id,
            segments=segments,
            sampling=request.sampling,
            reference_audio=reference.audio if reference else None,
            reference_text=fold(reference.transcript) if reference else "",
        )
        deadline_s = asyncio.get_running_loop().time() + self.settings.request_timeout_s
        warnings = _language_warnings(request.language, info)
        return SpeechSession(self.worker.speak(speak), info, segments, warnings, deadline_s)

    def _check_size(self, request: SpeechRequest) -> None:
        length, longest = len(request.text), self.settings.max_text_characters
        if length > longest:
            raise TextTooLong(f"text has {length} characters; send at most {longest} at once.")
        if not fold(request.text):
            raise BlankText("text is blank; send what is to be spoken.")
        reference = request.reference
        if reference is None:
            return
        if len(reference.audio) > self.settings.max_upload_bytes:
            raise UploadTooLarge(
                f"speaker_file is larger than {self.settings.max_upload_bytes} bytes; shorten it."
            )
        if not reference.audio:
            raise BadReference("speaker_file is empty; send a wav, flac, ogg or mp3 file.")


def _language_warnings(language: str, info: EngineInfo) -> tuple[str, ...]:
    if language == "auto" or not info.languages or language in info.languages:
        return ()
    declared = ", ".join(info.languages)
    return (f"this checkpoint declares {declared}; {language} may not sound right",)
