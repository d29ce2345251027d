"""Bots of Pipecat that speak through its service for OpenAI."""

from pipecat.services.openai.tts import OpenAITTSService

from tests.clients.programs.jobs import Answer, Job, run, takes
from tests.clients.programs.pipecat_turns import Talk


def talk(job: Job) -> Talk:
    return Talk(
        job,
        OpenAITTSService(
            base_url=f"{job['url']}/v1",
            api_key=job["key"],
            settings=OpenAITTSService.Settings(voice=job["voice"]),
        ),
    )


async def speak(job: Job) -> Answer:
    async with talk(job) as bot:
        for text in job["texts"]:
            await bot.say(text)
    return takes(*bot.takes, **bot.told())


async def live(job: Job) -> Answer:
    async with talk(job) as bot:
        for text in job["texts"]:
            await bot.write(text)
    return takes(*bot.takes, **bot.told())


run(speak=speak, live=live)
