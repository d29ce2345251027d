"""The words that are sent are the words that are heard, on every road that speech takes."""

import asyncio
import json

import httpx
import numpy as np
import pytest
from websockets.asyncio.client import connect

from backend.core import AudioFormat
from tests.e2e.serving import RATE_HZ, Served
from tests.heard import FORMATS, Sound, heard
from training.demo_voice.bounds import MOST_MISHEARD
from training.demo_voice.compare import repeated, word_errors
from training.demo_voice.recognise import transcribe

pytestmark = pytest.mark.timeout(300)

TEXT = "Children were chasing each other around the fountain in the square."
LONG = (
    "We lost our way in the fog and had to follow the river home. "
    "He promised to return the ladder as soon as the roof was fixed. "
    "The fisherman pulled his little boat onto the sand just before sunset."
)
SEED = "3"


def speak(server: Served, text: str, **fields: str) -> bytes:
    form = {"text": text, "seed": SEED, **fields}
    answer = httpx.post(f"{server.url}/tts", data=form, timeout=240)
    assert answer.status_code == 200, answer.text
    return answer.content


def check(text: str, sound: Sound, rate_hz: int) -> None:
    said = transcribe(sound, rate_hz).text
    errors = word_errors(text, said)
    assert errors.rate <= MOST_MISHEARD, f"sent: {text}\nheard: {said}"
    assert not repeated(text, said), said


@pytest.mark.parametrize("name", FORMATS)
def test_in_every_format(server: Served, name: AudioFormat) -> None:
    check(TEXT, *heard(speak(server, TEXT, response_format=name), name, RATE_HZ))


def test_in_a_stream(server: Served) -> None:
    form = {"text": TEXT, "seed": SEED, "stream": "true", "response_format": "pcm"}
    with httpx.stream("POST", f"{server.url}/tts", data=form, timeout=240) as answer:
        audio = b"".join(answer.iter_raw())
    check(TEXT, *heard(audio, "pcm", RATE_HZ))


def test_in_a_long_text(server: Served) -> None:
    check(LONG, *heard(speak(server, LONG, long_text="split"), "wav", RATE_HZ))


def test_numbers_are_heard_as_they_are_read(server: Served) -> None:
    text = "The train leaves at 6:45, and 2 tickets cost $18."
    check(text, *heard(speak(server, text), "wav", RATE_HZ))


def test_in_a_saved_voice(server: Served) -> None:
    said = "The children walked home along the river, and nobody said a word until dark."
    recording = speak(server, said)
    kept = httpx.post(
        f"{server.url}/voices",
        data={"name": "Anna", "transcript": said},
        files={"audio": ("voice.wav", recording)},
        timeout=120,
    )
    assert kept.is_success, kept.text
    check(TEXT, *heard(speak(server, TEXT, voice="Anna"), "wav", RATE_HZ))


def test_while_it_is_written(server: Served) -> None:
    async def work() -> bytes:
        audio = b""
        url = f"{server.url.replace('http', 'ws')}/v1/audio/stream"
        async with connect(url) as socket:
            await socket.send(json.dumps({"type": "session.start", "seed": int(SEED)}))
            for start in range(0, len(TEXT), 4):
                piece = {"type": "text", "text": TEXT[start : start + 4]}
                await socket.send(json.dumps(piece))
            await socket.send(json.dumps({"type": "end"}))
            async for frame in socket:
                audio += frame if isinstance(frame, bytes) else b""
        return audio

    pcm = np.frombuffer(asyncio.run(work()), "<i2").astype(np.float32) / np.float32(32_768)
    check(TEXT, pcm, RATE_HZ)
