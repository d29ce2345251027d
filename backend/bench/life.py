"""The life of one worker: started cold, heard, warm, asked for a recording, ended."""

import asyncio
import io
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import numpy as np
import psutil
import soundfile

from backend.core import MIB, SamplingParams
from backend.errors import EngineFailed
from backend.worker.client import Patience, WorkerClient
from backend.worker.messages import EncodeVoice, Speak
from backend.worker.supervisor import supervised

RECORDING_S = 10.0
_RECORDING_RATE_HZ = 44_100
_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Life:
    """What one worker was seen to do; the times of a machine's clock on the wall."""

    cold_s: float
    """From starting its process to the first sound of the first text."""
    first_audio_s: float
    """From a text's arrival in the worker, which is warm, to its first sound."""
    rtf: float
    """Seconds for each second of that text's sound, all of it."""
    encode_s: float | None
    """Of a recording of `RECORDING_S`; None where the worker was asked for none."""
    peak_mb: float
    """The most memory from its start on, in 1e6 bytes: resident, or of its GPU."""
    speaking_mb: float
    """The most while that text was spoken."""
    way: str


async def live(
    command: Sequence[str],
    environment: Mapping[str, str],
    text: str,
    recording: bytes | None,
) -> Life:
    """Start a worker and see; what it fails with is raised, a `ShoalError`."""
    client = supervised(command, Patience(start_attempts=1), environment)
    began_s = time.perf_counter()
    client.start()
    try:
        async with _watching(client) as seen:
            info = await client.ready()
            cold_s = await _first_sound_s(client, text) - began_s
            asked_s = time.perf_counter()
            done = await client.speak(Speak("warm", text, SamplingParams(seed=1)), _drop)
            took_s = time.perf_counter() - asked_s
            encode_s = None if recording is None else await _encode_s(client, recording)
            way = client.way_state
        stats = done.stats
        speaking_mb = stats.peak_memory_mb * MIB / 1e6
        return Life(
            cold_s,
            stats.first_audio_s,
            took_s / stats.audio_s,
            encode_s,
            max(speaking_mb, seen.peak_mb if info.device == "cpu" else 0.0),
            speaking_mb,
            way.name if way is not None else info.way,
        )
    finally:
        await client.close()


def recording_of(seconds: float) -> bytes:
    """A wav file of a gliding, gated buzz with noise: neither silent nor periodic."""
    t = np.arange(round(seconds * _RECORDING_RATE_HZ)) / _RECORDING_RATE_HZ
    phase = 2 * np.pi * np.cumsum(120 + 40 * np.sin(2 * np.pi * 1.3 * t)) / _RECORDING_RATE_HZ
    buzz = sum(np.sin(k * phase) / k for k in range(1, 12))
    gate = 1 / (1 + np.exp(-8 * np.sin(2 * np.pi * 3.7 * t)))
    noise = np.random.default_rng(0).standard_normal(len(t))
    wav = io.BytesIO()
    samples = 0.2 * buzz * gate + 0.02 * noise
    soundfile.write(wav, samples.clip(-1, 1), _RECORDING_RATE_HZ, format="WAV", subtype="PCM_16")
    return wav.getvalue()


async def _first_sound_s(client: WorkerClient, text: str) -> float:
    """When the first sound of `text` came, by the clock; the rest of it is not waited for."""
    has_come, came_s = asyncio.Event(), 0.0

    def take(_: bytes) -> None:
        nonlocal came_s
        came_s = came_s or time.perf_counter()
        has_come.set()

    async def speak() -> None:
        await client.speak(Speak("cold", text, SamplingParams(seed=0)), take)

    speaking = asyncio.create_task(speak())
    speaking.add_done_callback(lambda _: has_come.set())  # if it fails, too
    await has_come.wait()
    if not came_s:
        await speaking  # raises what it failed with
        raise EngineFailed("The worker spoke, and nothing was heard.")
    speaking.cancel()
    await asyncio.gather(speaking, return_exceptions=True)
    return came_s


async def _encode_s(client: WorkerClient, recording: bytes) -> float:
    began_s = time.perf_counter()
    await client.encode(EncodeVoice("recording", recording))
    return time.perf_counter() - began_s


def _drop(_: bytes) -> None:
    """Hear it, and keep nothing."""


@dataclass(slots=True)
class _Seen:
    peak_mb: float = 0.0


@asynccontextmanager
async def _watching(client: WorkerClient) -> AsyncIterator[_Seen]:
    """The most resident memory of the worker meanwhile."""
    seen = _Seen()

    async def look() -> None:
        while True:
            with suppress(psutil.NoSuchProcess):
                if client.pid is not None:
                    resident = psutil.Process(client.pid).memory_info().rss
                    seen.peak_mb = max(seen.peak_mb, resident / 1e6)
            await asyncio.sleep(_LOOK_S)

    watch = asyncio.create_task(look())
    try:
        yield seen
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
