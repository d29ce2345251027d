"""Bots of Pipecat that speak through its service for Fish Audio, over one WebSocket."""

import asyncio

from pipecat.services.fish.tts import FishAudioTTSService

from tests.clients.programs.jobs import Answer, Job, run, takes
from tests.clients.programs.pipecat_turns import Talk


def talk(job: Job) -> Talk:
    service = FishAudioTTSService(
        api_key=job["key"], settings=FishAudioTTSService.Settings(voice=job["voice"])
    )
    # It has no argument for it: who runs a server of their own sets this.
    service._base_url = job["url"].replace("http", "ws", 1) + "/v1/tts/live"
    return Talk(job, service)


async def live(job: Job) -> Answer:
    async with talk(job) as bot:
        for text in job["texts"]:
            await bot.write(text)
            await asyncio.sleep(job.get("pause_s", 0.0))
    return takes(*bot.takes, **bot.told())


async def broken_off(job: Job) -> Answer:
    """The user interrupts the first answer; only the second is told."""
    first, second = job["texts"]
    async with talk(job) as bot:
        await bot.write(first, broken_off=True)
        await bot.write(second)
    return takes(bot.takes[-1], **bot.told())


run(live=live, broken_off=broken_off)
