"""The requests of Open WebUI, with a server of OpenAI's kind as its engine for speech."""

from typing import Any

import aiohttp

from tests.clients.programs.jobs import Answer, Job, Take, run, takes


async def speak(job: Job) -> Answer:
    """A message read aloud: each sentence is a request, and mp3 is taken as it is."""
    heard = []
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {job['key']}"}
    async with aiohttp.ClientSession(trust_env=True) as session:
        for text in job["texts"]:
            said = {"input": text, "voice": job["voice"], "model": "tts-1"}
            take = Take(job)
            url = f"{job['url']}{job.get('base', '/v1')}/audio/speech"
            async with session.post(url, json=said, headers=headers) as answer:
                if answer.status >= 400:
                    told = await answer.json()
                    raise RuntimeError(f"{answer.status}, External: {told['error']['message']}")
                if answer.content_type not in ("audio/mpeg", "audio/mp3"):
                    raise RuntimeError(f"{answer.content_type} would be encoded again")
                take.add(await answer.read())
                heard.append(take)
    return takes(*heard)


async def lists(job: Job) -> Answer:
    """What its settings offer; it sends no key with either."""

    async def ask(path: str) -> Any:
        async with session.get(f"{job['url']}/v1{path}") as answer:
            answer.raise_for_status()
            return await answer.json()

    async with aiohttp.ClientSession(trust_env=True) as session:
        models = (await ask("/audio/models"))["models"]
        voices = (await ask("/audio/voices"))["voices"]
    return {
        "voices": [voice["name"] for voice in voices if voice["id"]],
        "models": [model["id"] for model in models],
    }


run(speak=speak, lists=lists)
