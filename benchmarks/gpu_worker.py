"""What a worker process does, asked over its pipe: text to sound, first audio, start, memory."""

import asyncio
import contextlib
import statistics
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from backend.core import EngineInfo, ReferenceCodes, SamplingParams, VoicePrompt
from backend.hardware.need import CUDA_FAST_BYTES, CheckpointShape, RequestNeed
from backend.model.config import CodecConfig
from backend.model.reading import longest_s
from backend.nvml import Card, NvmlUnavailable
from backend.worker.client import Patience, WorkerClient
from backend.worker.messages import Speak, WorkerConfig
from backend.worker.supervisor import supervised
from benchmarks.gpu_table import arrivals_s

LETTERS = "the old lighthouse keeper climbed the stairs every evening to light the lamp "
BYTES_PER_SAMPLE = 4
FAST_WITHIN = 1.25
"""A text is spoken fast when it takes at most so many times what the last ones took."""
LAST_TEXTS = 5
LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Case:
    """A worker, and what it speaks."""

    folder: Path
    device: str
    precision: str
    max_batch: int
    is_fast: bool = True
    """Whether it is to look for faster ways than the eager one."""
    cache_dir: str = ""
    """Where kernels that were built are kept."""

    def client(self) -> WorkerClient:
        """A worker that is not started yet."""
        config = WorkerConfig(
            model_dir=str(self.folder),
            device=self.device,
            precision=self.precision,
            max_batch=self.max_batch,
            try_compile=self.is_fast,
            compile_dir=self.cache_dir,
            log_level="WARNING",
        )
        command = (sys.executable, "-P", "-m", "backend.worker.main", "--config", config.to_json())
        names = ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "CUDA_CACHE_PATH")
        kept = {name: f"{self.cache_dir}/{name.lower()}" for name in names if self.cache_dir}
        return supervised(command, Patience(start_attempts=1), kept)


@dataclass(frozen=True, slots=True)
class Heard:
    """One text that was spoken; seconds of the clock that `time.perf_counter` reads."""

    asked_s: float
    first_s: float
    over_s: float
    prompt_tokens: int
    frames: int
    audio_s: float

    @property
    def first_audio_s(self) -> float:
        """From asking to the first samples."""
        return self.first_s - self.asked_s

    @property
    def took_s(self) -> float:
        """From asking to the end."""
        return self.over_s - self.asked_s


def text_for(frames: int, frame_rate_hz: float) -> str:
    """The longest text whose runaway guard is `frames` at most; random weights speak up to it."""
    letters = 1
    while longest_s(letters + 1, 0.0) * frame_rate_hz <= frames:
        letters += 1
    return (LETTERS * (letters // len(LETTERS) + 1))[: letters - 1].rstrip() + "."


def voice_of(info: EngineInfo, codec: CodecConfig, frames: int, seed: int) -> VoicePrompt:
    """A reference of random codes, as the server keeps one that it has encoded."""
    most = min(codec.semantic_codebook_size, codec.residual_codebook_size)
    codes = np.random.default_rng(seed).integers(0, most, (codec.num_codebooks, frames), np.uint16)
    audio_s = frames / codec.frame_rate_hz
    return VoicePrompt(
        ReferenceCodes(codes.astype("<u2").tobytes(), codec.num_codebooks, info.codec_id, audio_s)
    )


@contextlib.asynccontextmanager
async def worker(case: Case) -> AsyncIterator[WorkerClient]:
    """A worker that is ready, and ended afterwards."""
    client = case.client()
    client.start()
    try:
        await client.ready()
        yield client
    finally:
        await client.close()


async def say(
    client: WorkerClient, text: str, seed: int, references: tuple[VoicePrompt, ...] = ()
) -> Heard:
    """One text, alone or beside others."""
    first_s = list[float]()

    def take(_: bytes) -> None:
        if not first_s:
            first_s.append(time.perf_counter())

    asked_s = time.perf_counter()
    speak = Speak(f"say-{seed}", text, SamplingParams(seed=seed), references)
    stats = (await client.speak(speak, take)).stats
    over_s = time.perf_counter()
    return Heard(asked_s, first_s[0], over_s, stats.prompt_tokens, stats.frames, stats.audio_s)


# -- start -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """How a worker began; seconds since its process was started."""

    ready_s: float
    first_audio_s: float
    fast_s: float
    """Until the first sample of the first text that was spoken as fast as the last ones."""


async def start(case: Case, text: str, settle_s: float) -> Start:
    """Start a worker and let it speak until it has told of its compilation, or for `settle_s`."""
    began_s = time.perf_counter()
    async with worker(case) as client:
        ready_s = time.perf_counter()
        heard, more = list[Heard](), LAST_TEXTS
        while more:
            heard.append(await say(client, text, len(heard)))
            is_settled = client.way_state is not None
            if is_settled or time.perf_counter() - ready_s > settle_s:
                more -= 1
    at_last_s = statistics.median(each.took_s for each in heard[-LAST_TEXTS:])
    fast = next(each for each in heard if each.took_s <= FAST_WITHIN * at_last_s)
    return Start(ready_s - began_s, heard[0].first_s - began_s, fast.first_s - began_s)


# -- many at once ----------------------------------------------------------------------------------


@dataclass(slots=True)
class Crowd:
    """Listeners that each ask for the next text as soon as they have heard one."""

    client: WorkerClient
    count: int
    text: str
    voices: tuple[VoicePrompt, ...] = ()
    samples: int = 0
    """Heard by all of them so far."""
    _began: set[int] = field(default_factory=set)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _is_asking: bool = True

    async def __aenter__(self) -> "Crowd":
        self._tasks = [asyncio.create_task(self._listen(row)) for row in range(self.count)]
        try:
            while len(self._began) < self.count:
                self._check()
                await asyncio.sleep(LOOK_S)
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._leave()

    async def _leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def during(self, seconds: float) -> float:
        """Samples a second that all of them heard in that time."""
        before, began_s = self.samples, time.perf_counter()
        await asyncio.sleep(seconds)
        self._check()
        return (self.samples - before) / (time.perf_counter() - began_s)

    def stop_asking(self) -> None:
        """Each hears its text to the end and is then content."""
        self._is_asking = False

    def _check(self) -> None:
        for task in self._tasks:
            if task.done() and (error := task.exception()) is not None:
                raise error

    async def _listen(self, row: int) -> None:
        def take(samples: bytes) -> None:
            self._began.add(row)
            self.samples += len(samples) // BYTES_PER_SAMPLE

        voices = (self.voices[row % len(self.voices)],) if self.voices else ()
        # Each begins with another length: from then on they do not end together.
        text, seed = self.text[: max(1, len(self.text) * (row + 1) // self.count)], row
        while self._is_asking:
            speak = Speak(f"crowd-{seed}", text, SamplingParams(seed=seed), voices)
            await self.client.speak(speak, take)
            text, seed = self.text, seed + self.count


async def first_audio_at_random(
    client: WorkerClient,
    text: str,
    voices: tuple[VoicePrompt, ...],
    streams: int,
    frame_samples: int,
    seconds: tuple[float, float],
) -> list[float]:
    """Seconds to first audio of texts that arrive at random while some `streams` are being spoken.

    A crowd of `streams` is heard for the first of `seconds`; how long a text takes among them says
    how often texts must arrive to take the crowd's place as it leaves (Little's law). They arrive
    for the second of `seconds`, thrice the streams at most.
    """
    async with Crowd(client, streams, text, voices) as crowd:
        rate = await crowd.during(seconds[0]) / frame_samples
        frames = (await say(client, text, 1_000_000, voices[:1])).frames
        crowd.stop_asking()
        arriving_hz = rate / frames
        began_s, tasks = time.perf_counter(), list[asyncio.Task[Heard]]()
        for number, at_s in enumerate(arrivals_s(arriving_hz, 3 * streams, seconds[1], seed=0)):
            await asyncio.sleep(max(0.0, at_s - (time.perf_counter() - began_s)))
            voice = (voices[number % len(voices)],) if voices else ()
            tasks.append(asyncio.create_task(say(client, text, 2_000_000 + number, voice)))
        return [each.first_audio_s for each in await asyncio.gather(*tasks)]


# -- memory ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Memory:
    """The most that a worker held of its GPU, sampled while it spoke."""

    client: WorkerClient
    card: Card
    before_bytes: int
    """Used of the card before the worker was started, by whomever."""
    held_bytes: int = 0
    """By torch, in use or kept for reuse."""
    cache_bytes: int = 0
    card_bytes: int = 0
    """Used of the card, the driver's context included."""

    async def watch(self) -> None:
        """Sample until cancelled."""
        while True:
            load = self.client.load
            self.held_bytes = max(self.held_bytes, load.memory_bytes)
            self.cache_bytes = max(self.cache_bytes, load.cache_bytes)
            self.card_bytes = max(self.card_bytes, used_bytes(self.card) - self.before_bytes)
            await asyncio.sleep(LOOK_S)

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Sample meanwhile."""
        task = asyncio.create_task(self.watch())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def used_bytes(card: Card) -> int:
    """Used of the card now; 0 where no driver tells."""
    try:
        return card.read().used_bytes
    except NvmlUnavailable:
        return 0


@dataclass(frozen=True, slots=True)
class Promised:
    """What the plan promises to `streams` of one text."""

    total_bytes: int
    """With the loaded worker."""
    cache_bytes: int
    """Keys and values of the transformer."""
    slot_bytes: int
    """What the codec keeps of each stream: its keys, values and tails."""

    @classmethod
    def to(cls, case: Case, text: str, streams: int) -> Self:
        """Promised to `streams` of `text`."""
        shape = CheckpointShape.from_folder(case.folder)
        need = shape.request_need(
            len(text), case.precision, len(text), open_segments=1, device=case.device
        )
        together = RequestNeed.together([need] * streams)
        resident = shape.resident_bytes(case.precision, "none", case.device, case.max_batch)
        if case.is_fast:
            resident += CUDA_FAST_BYTES
        return cls(
            resident + together.total_bytes,
            together.cache_bytes,
            shape.codec.slot_bytes(case.max_batch),
        )
