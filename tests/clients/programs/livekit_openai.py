"""Agents of LiveKit that speak through its OpenAI plugin."""

from livekit.agents import APIConnectOptions, tokenize, tts
from livekit.plugins import openai

from tests.clients.programs.jobs import Answer, Job, Take, run, takes, words

ONCE = APIConnectOptions(max_retry=0)


def service(job: Job, model: str) -> openai.TTS:
    return openai.TTS(
        base_url=f"{job['url']}/v1", api_key=job["key"], voice=job["voice"], model=model
    )


async def heard(job: Job, speech: openai.TTS, text: str) -> Take:
    take = Take(job)
    async with speech.synthesize(text, conn_options=ONCE) as stream:
        async for event in stream:
            take.rate_hz = event.frame.sample_rate
            take.add(bytes(event.frame.data))
    return take


async def speak(job: Job) -> Answer:
    speech = service(job, job.get("model", "tts-1"))
    try:
        return takes(*[await heard(job, speech, text) for text in job["texts"]])
    finally:
        await speech.aclose()


async def live(job: Job) -> Answer:
    """An agent cuts what the language model writes into sentences, and has each spoken."""
    speech = service(job, "gpt-4o-mini-tts")
    adapter = tts.StreamAdapter(
        tts=speech, sentence_tokenizer=tokenize.blingfire.SentenceTokenizer()
    )
    take = Take(job)
    (text,) = job["texts"]
    async with adapter.stream(conn_options=ONCE) as stream:
        for piece in words(text):
            stream.push_text(piece)
        stream.end_input()
        async for event in stream:
            take.rate_hz = event.frame.sample_rate
            take.add(bytes(event.frame.data))
    await speech.aclose()
    return takes(take)


run(speak=speak, live=live)
