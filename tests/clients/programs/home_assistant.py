"""The requests of Home Assistant's integration openai_tts, which stands in its community store."""

import asyncio
import json
import urllib.request
from typing import Any

import aiohttp

from tests.clients.programs.jobs import Answer, Job, Take, run, takes

AGENT = {"User-Agent": "HomeAssistant-OpenAI-TTS"}
PIECE_BYTES = 8192


def headers(job: Job) -> dict[str, str]:
    return {"Content-Type": "application/json", "Authorization": f"Bearer {job['key']}"}


def payload(job: Job, text: str) -> dict[str, Any]:
    """`extras` are what its users write into the field for fields of other servers."""
    said = {"model": "tts-1", "input": text, "voice": job["voice"]}
    return {**said, "response_format": "mp3", "speed": 1.0, **job.get("extras", {})}


async def speak(job: Job) -> Answer:
    """A notification: urllib in a thread, the whole file."""
    heard = []
    for text in job["texts"]:
        heard.append(take := Take(job))
        request = urllib.request.Request(
            f"{job['url']}/v1/audio/speech",
            data=json.dumps(payload(job, text)).encode(),
            headers={**headers(job), **AGENT},
            method="POST",
        )

        def read(request: urllib.request.Request = request, take: Take = take) -> None:
            with urllib.request.urlopen(request, timeout=30) as answer:
                while piece := answer.read(PIECE_BYTES):
                    take.add(piece)

        await asyncio.to_thread(read)
    return takes(*heard)


async def stream(job: Job) -> Answer:
    """An answer of the assistant: past 60 characters it is passed on while it comes."""
    take = Take(job)
    (text,) = job["texts"]
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{job['url']}/v1/audio/speech",
            json=payload(job, text),
            headers={**headers(job), **AGENT},
            timeout=aiohttp.ClientTimeout(total=60),
        ) as answer,
    ):
        answer.raise_for_status()
        async for piece in answer.content.iter_chunked(PIECE_BYTES):
            take.add(piece)
    return takes(take)


async def check(job: Job) -> Answer:
    """What its setup dialogue sends: a full stop is spoken, or the server counts as unreachable."""
    said = {"model": "tts-1", "input": ".", "voice": "alloy", "response_format": "mp3"}
    take = Take(job)
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{job['url']}/v1/audio/speech",
            json=said,
            headers=headers(job),
            timeout=aiohttp.ClientTimeout(total=10),
        ) as answer,
    ):
        answer.raise_for_status()
        take.add(await answer.read())
    return takes(take)


run(speak=speak, stream=stream, check=check)
