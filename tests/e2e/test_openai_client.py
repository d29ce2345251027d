"""OpenAI's own client against a real server with the shipped voice."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import av
import httpx
import numpy as np
import openai
import pytest
from openai import OpenAI

from backend.core import AudioFormat
from tests.e2e.serving import Served, serving

pytestmark = pytest.mark.timeout(300)

TEXT = "The children walked home along the river."
LONG = " ".join([TEXT, "Then it began to rain, and all of them ran.", "The dog was first.", TEXT])


@pytest.fixture(scope="module")
def client(server: Served) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def decoded(audio: bytes) -> tuple[np.ndarray[Any, Any], int]:
    """Samples in [-1, 1] and their rate, of a file that says itself what it is."""
    resampler = av.AudioResampler("flt", "mono")
    with av.open(io.BytesIO(audio), "r") as file:
        rate_hz = file.streams.audio[0].rate
        frames = [each for frame in file.decode(audio=0) for each in resampler.resample(frame)]
    return np.concatenate([frame.to_ndarray().ravel() for frame in frames]), rate_hz


def seconds(audio: bytes) -> float:
    samples, rate_hz = decoded(audio)
    assert np.abs(samples).max() > 0.05, "it is silent"
    return len(samples) / rate_hz


@pytest.mark.parametrize("name", get_args(AudioFormat))
def test_every_format_holds_the_sentence(client: OpenAI, tmp_path: Path, name: str) -> None:
    form: Any = name
    file = tmp_path / f"speech.{name}"
    speech = client.audio.speech.create(
        model="tts-1", voice="alloy", input=TEXT, response_format=form
    )
    speech.write_to_file(file)
    audio = file.read_bytes()
    long_s = len(audio) / 2 / 24_000 if name == "pcm" else seconds(audio)
    assert 1.2 < long_s < 6


def test_speed(client: OpenAI) -> None:
    def long_s(speed: float) -> float:
        speech = client.audio.speech.create(
            model="fish", voice="nova", input=TEXT, response_format="wav", speed=speed
        )
        return seconds(speech.content)

    slow_s, fast_s = long_s(0.5), long_s(2.0)
    assert 2.5 < slow_s / fast_s < 6


def test_audio_is_streamed_while_it_is_made(client: OpenAI, server: Served) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts",
        voice="sage",
        input=LONG,
        response_format="pcm",
        instructions="Speak in a cheerful tone.",
    ) as speech:
        assert "instructions" in speech.headers["X-Warning"]
        chunks = speech.iter_bytes()
        audio = next(chunks)
        assert httpx.get(f"{server.url}/health").json()["worker"]["running"] > 0, "it was all made"
        audio += b"".join(chunks)
    assert 5 < len(audio) / 2 / 24_000 < 25


def test_events(client: OpenAI) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="echo", input=TEXT, stream_format="sse"
    ) as speech:
        lines = [line for line in speech.iter_lines() if line]
    *deltas, done = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert len(deltas) > 1
    assert 1.2 < seconds(b"".join(base64.b64decode(each["audio"]) for each in deltas)) < 6
    assert done["type"] == "speech.audio.done"
    usage = done["usage"]
    assert usage["input_tokens"] > 0
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def test_models_and_voices(client: OpenAI, server: Served) -> None:
    models = client.models.list().data
    assert models[0].id == httpx.get(f"{server.url}/health").json()["checkpoint"]
    assert "tts-1" in [model.id for model in models]
    assert client.models.retrieve("tts-1").object == "model"
    listed = httpx.get(f"{server.url}/v1/audio/voices").json()
    assert "alloy" in [voice["id"] for voice in listed["voices"]]


def test_a_saved_voice_speaks_by_name_and_id(client: OpenAI, server: Served) -> None:
    sample = client.audio.speech.create(
        model="fish", voice="alloy", input=TEXT, response_format="wav"
    )
    saved = httpx.post(
        f"{server.url}/voices",
        data={"name": "Ann", "prompt_text": TEXT},
        files={"speaker_file": ("ann.wav", sample.content)},
        timeout=120,
    )
    assert saved.is_success, saved.text
    listed = httpx.get(f"{server.url}/v1/audio/voices").json()["data"]
    voices: list[Any] = ["ann", {"id": listed[0]["id"]}]
    for voice in voices:
        speech = client.audio.speech.create(
            model="fish", voice=voice, input=TEXT, response_format="wav"
        )
        assert 1 < seconds(speech.content) < 8


def test_errors_are_the_clients_own(client: OpenAI) -> None:
    def create(text: str = TEXT, voice: str = "alloy", speed: float = 1.0) -> object:
        return client.audio.speech.create(model="tts-1", input=text, voice=voice, speed=speed)

    with pytest.raises(openai.BadRequestError, match=r"speed.*less than or equal to 4") as refused:
        create(speed=5)
    assert refused.value.param == "speed"
    assert refused.value.type == "invalid_request_error"
    with pytest.raises(openai.BadRequestError, match="blank"):
        create(text=" ")
    with pytest.raises(openai.BadRequestError, match="at most 100000"):
        create(text="a" * 100_001)
    with pytest.raises(openai.NotFoundError, match="nobody") as unknown:
        create(voice="nobody")
    assert unknown.value.code == "unknown_voice"
    with pytest.raises(openai.NotFoundError, match="gpt-9"):
        client.models.retrieve("gpt-9")


def test_keys() -> None:
    with serving(SHOAL_API_KEYS="ours:right-key") as server:
        url = f"{server.url}/v1"
        with (
            OpenAI(base_url=url, api_key="wrong-key", max_retries=0) as stranger,
            pytest.raises(openai.AuthenticationError, match="API key") as refused,
        ):
            stranger.audio.speech.create(model="tts-1", voice="alloy", input=TEXT)
        assert refused.value.code == "invalid_api_key"
        with OpenAI(base_url=url, api_key="right-key", max_retries=0) as client:
            assert client.models.list().data
            speech = client.audio.speech.create(model="tts-1", voice="alloy", input="Come in.")
            assert seconds(speech.content) > 0.3
