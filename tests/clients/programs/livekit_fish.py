"""Agents of LiveKit that speak through its Fish Audio plugin."""

import asyncio
from typing import Any

import aiohttp
from livekit.agents import APIConnectOptions
from livekit.plugins import fishaudio

from tests.clients.programs.jobs import Answer, Job, Take, run, takes, words

ONCE = APIConnectOptions(max_retry=0)


def service(job: Job, session: aiohttp.ClientSession) -> fishaudio.TTS:
    voice: dict[str, Any] = {} if job["voice"] is None else {"voice_id": job["voice"]}
    return fishaudio.TTS(base_url=job["url"], api_key=job["key"], http_session=session, **voice)


async def speak(job: Job) -> Answer:
    """`POST /v1/tts` for a text that is known."""
    heard = []
    async with aiohttp.ClientSession() as session:
        speech = service(job, session)
        for text in job["texts"]:
            heard.append(take := Take(job))
            async with speech.synthesize(text, conn_options=ONCE) as stream:
                async for event in stream:
                    take.rate_hz = event.frame.sample_rate
                    take.add(bytes(event.frame.data))
        await speech.aclose()
    return takes(*heard)


async def spoken(job: Job, speech: fishaudio.TTS, text: str) -> Take:
    """One turn, as a language model writes it."""
    take = Take(job)
    async with speech.stream(conn_options=ONCE) as stream:
        for piece in words(text):
            stream.push_text(piece)
        stream.end_input()
        async for event in stream:
            take.rate_hz = event.frame.sample_rate
            take.add(bytes(event.frame.data))
    return take


async def live(job: Job) -> Answer:
    """`WS /v1/tts/live` for what a language model writes; the socket is kept for the next turn."""
    heard, kept = [], 0
    async with aiohttp.ClientSession() as session:
        speech = service(job, session)
        for text in job["texts"]:
            heard.append(await spoken(job, speech, text))
            kept += speech._pool.last_connection_reused
            await asyncio.sleep(job.get("pause_s", 0.0))
        await speech.aclose()
    return takes(*heard, kept=kept)


async def broken_off(job: Job) -> Answer:
    """The user interrupts the first answer; only the second is told."""
    first, second = job["texts"]
    async with aiohttp.ClientSession() as session:
        speech = service(job, session)
        async with speech.stream(conn_options=ONCE) as stream:
            stream.push_text(first)
            stream.end_input()
            await anext(stream)
        answer = await spoken(job, speech, second)
        await speech.aclose()
    return takes(answer)


run(speak=speak, live=live, broken_off=broken_off)
