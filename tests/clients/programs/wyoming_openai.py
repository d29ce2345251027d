"""Home Assistant's voice assistants, through the proxy wyoming_openai."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator

from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.info import Describe, Info
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
    SynthesizeVoice,
)

from tests.clients.programs.jobs import Answer, Job, Take, run, takes, words


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.asynccontextmanager
async def proxy(job: Job) -> AsyncIterator[AsyncTcpClient]:
    """The proxy in a process of its own, as its users start it, and a client's connection to it."""
    port = free_port()
    options = ["--uri", f"tcp://127.0.0.1:{port}", "--tts-openai-url", f"{job['url']}/v1"]
    options += ["--tts-openai-key", job["key"], "--tts-models", job.get("model", "tts-1")]
    options += ["--tts-streaming-models", job["streamed"]] if job.get("streamed") else []
    options += ["--tts-voices", job["voice"]] if job["voice"] else []
    options += ["--tts-backend", job["backend"]] if job.get("backend") else []
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "wyoming_openai", *options, stdout=sys.stderr
    )
    client = AsyncTcpClient("127.0.0.1", port)
    try:
        while True:
            try:
                await client.connect()
                break
            except OSError:
                if process.returncode is not None:
                    raise RuntimeError("the proxy ended, its log says why") from None
                await asyncio.sleep(0.05)
        yield client
        await client.disconnect()
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def played(job: Job, client: AsyncTcpClient, last: str) -> Take:
    """What comes until the event `last`, which ends an utterance."""
    take = Take(job)
    while event := await client.read_event():
        if AudioStart.is_type(event.type):
            take.rate_hz = AudioStart.from_event(event).rate
        elif AudioChunk.is_type(event.type):
            take.add(AudioChunk.from_event(event).audio)
        elif Error.is_type(event.type):
            raise RuntimeError(Error.from_event(event).text)
        elif event.type == last:
            return take
    raise RuntimeError("the proxy closed the connection")


async def speak(job: Job) -> Answer:
    heard = []
    voice = SynthesizeVoice(name=job["voice"]) if job["voice"] else None
    async with proxy(job) as client:
        for text in job["texts"]:
            await client.write_event(Synthesize(text=text, voice=voice).event())
            heard.append(await played(job, client, AudioStop(timestamp=0).event().type))
    return takes(*heard)


async def live(job: Job) -> Answer:
    """The answer of a language model, spoken sentence by sentence while it is written."""
    voice = SynthesizeVoice(name=job["voice"])
    (text,) = job["texts"]
    async with proxy({**job, "streamed": "tts-1"}) as client:
        await client.write_event(SynthesizeStart(voice=voice).event())
        for piece in words(text):
            await client.write_event(SynthesizeChunk(text=piece).event())
        await client.write_event(SynthesizeStop().event())
        return takes(await played(job, client, SynthesizeStopped().event().type))


async def lists(job: Job) -> Answer:
    """The voices that the proxy offers."""
    async with proxy(job) as client:
        await client.write_event(Describe().event())
        while event := await client.read_event():
            if Info.is_type(event.type):
                programs = Info.from_event(event).tts
                return {"voices": [voice.name for each in programs for voice in each.voices]}
    raise RuntimeError("the proxy closed the connection")


run(speak=speak, live=live, lists=lists)
