"""Text with nothing to say: silence where clients of language models call, else 400."""

import asyncio
import io
import json
from collections.abc import Coroutine
from typing import Any, get_args

import av
import httpx
import numpy as np
import pytest
from websockets.asyncio.client import connect

from backend.core import AudioFormat
from tests.fish_requests import pack, unpack
from tests.scripted import children, client, server

MARKS = ("😀", "...", "—", "**", "# \n***\n- ", "```\n```", "• • •", "👍🏽", "<br>")
FORMATS: tuple[AudioFormat, ...] = get_args(AudioFormat)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)
    assert not children()


def samples(audio: bytes, kind: str, rate_hz: int = 24_000) -> tuple[np.ndarray[Any, Any], float]:
    """What is heard, and for how many seconds."""
    if kind == "pcm":
        heard = np.frombuffer(audio, "<i2") / 32768
        return heard, len(heard) / rate_hz
    with av.open(io.BytesIO(audio), "r") as file:
        frames = list(file.decode(audio=0))
    heard = np.concatenate([np.asarray(frame.to_ndarray(), float).ravel() for frame in frames])
    return heard, sum(frame.samples / frame.sample_rate for frame in frames)


def check_silence(answer: httpx.Response, kind: str, rate_hz: int = 24_000) -> None:
    assert answer.status_code == 200, answer.text
    assert "nothing to say" in answer.headers["x-warning"]
    heard, duration_s = samples(answer.content, kind, rate_hz)
    assert not heard.any()
    # Encoders pad to whole frames, of 72 ms in an mp3 at 8 kHz.
    assert 0.2 <= duration_s + 1e-6 < 0.4, (kind, duration_s)


@pytest.mark.parametrize("kind", FORMATS)
def test_openai_and_fish_answer_silence_in_every_format(kind: str) -> None:
    async def work() -> None:
        async with client() as http:
            body = {"model": "tts-1", "voice": "alloy", "input": "😀", "response_format": kind}
            check_silence(await http.post("/v1/audio/speech", json=body), kind)
            for streaming in (False, True):
                fish = {"text": "😀", "format": kind, "streaming": streaming, "sample_rate": 8000}
                check_silence(await http.post("/v1/tts", json=fish), kind, 8000)

    run(work())


@pytest.mark.parametrize("text", MARKS)
def test_marks_markdown_and_emoji_are_nothing_to_say(text: str) -> None:
    async def work() -> None:
        async with client() as http:
            body = {"model": "tts-1", "voice": "alloy", "input": text, "response_format": "wav"}
            check_silence(await http.post("/v1/audio/speech", json=body), "wav")
            check_silence(await http.post("/v1/tts", json={"text": text, "format": "wav"}), "wav")
            refused = await http.post("/tts", json={"text": text})
            assert refused.status_code == 400
            assert "send words" in refused.json()["detail"]

    run(work())


def test_events_of_openai_tell_silence() -> None:
    async def work() -> None:
        async with client() as http:
            answer = await http.post(
                "/v1/audio/speech",
                json={"model": "x", "voice": "alloy", "input": "…", "stream_format": "sse"},
            )
            assert "nothing to say" in answer.headers["x-warning"]
            events = [json.loads(line[6:]) for line in answer.text.split("\n\n") if line]
            assert events[0]["type"] == "speech.audio.delta"
            assert events[-1]["usage"]["total_tokens"] == 0

    run(work())


@pytest.mark.parametrize("text", ["", " \n", "\u00a0\u2003"])
def test_empty_text_is_a_mistake_everywhere(text: str) -> None:
    async def work() -> None:
        async with client() as http:
            body = {"model": "tts-1", "voice": "alloy", "input": text}
            assert (await http.post("/v1/audio/speech", json=body)).status_code == 400
            assert (await http.post("/v1/tts", json={"text": text})).status_code == 400
            assert (await http.post("/tts", json={"text": text})).status_code == 400

    run(work())


def test_markers_and_words_are_said() -> None:
    async def work() -> None:
        async with client() as http:
            for text in ("(laughing)", "[sighs]", "5", "字"):
                answer = await http.post(
                    "/v1/audio/speech", json={"model": "x", "voice": "alloy", "input": text}
                )
                assert answer.status_code == 200
                assert "x-warning" not in answer.headers

    run(work())


@pytest.mark.parametrize("pieces", [["😀"], ["*", "*", "\n\n", "—"], ["...", "\f", "…"]])
def test_live_text_of_marks_is_silence_with_a_warning(pieces: list[str]) -> None:
    async def work() -> None:
        async with server() as http:
            url = str(http.base_url).replace("http", "ws").rstrip("/") + "/v1/audio/stream"
            async with connect(url) as socket:
                for piece in pieces:
                    message = {"type": "text", "text": piece}
                    if piece == "\f":
                        message = {"type": "flush"}
                    await socket.send(json.dumps(message))
                await socket.send(json.dumps({"type": "end"}))
                frames = [frame async for frame in socket]
            assert socket.close_code == 1000
            audio = b"".join(frame for frame in frames if isinstance(frame, bytes))
            said = [json.loads(frame) for frame in frames if isinstance(frame, str)]
            assert [message["type"] for message in said] == ["session.started", "done"]
            assert "nothing to say" in said[-1]["warnings"][0]
            assert (said[-1]["audio_s"], said[-1]["sentences"]) == (0.2, 0)
            assert audio == bytes(2 * round(0.2 * said[0]["sample_rate"]))

    run(work())


def test_a_flush_of_marks_alone_is_heard_before_more_comes() -> None:
    """Pipecat flushes each turn, and gives a service up that answers one with no audio."""

    async def work() -> None:
        async with server() as http:
            url = str(http.base_url).replace("http", "ws").rstrip("/") + "/v1/audio/stream"
            async with connect(url) as socket:
                for text in ("\N{GRINNING FACE}", "Hello there, you.", "\N{GRINNING FACE}", " "):
                    await socket.send(json.dumps({"type": "text", "text": text}))
                    await socket.send(json.dumps({"type": "flush"}))
                    if text != " ":
                        while not isinstance(await socket.recv(), bytes):
                            pass
                await socket.send(json.dumps({"type": "end"}))
                frames = [frame async for frame in socket]
            done = json.loads(frames[-1])
            assert (done["type"], done["sentences"]) == ("done", 1)
            assert len([each for each in done["warnings"] if "nothing to say" in each]) == 1

    run(work())


def test_fish_live_text_of_marks_is_silence_with_a_warning() -> None:
    async def work() -> None:
        async with server() as http:
            url = str(http.base_url).replace("http", "ws").rstrip("/") + "/v1/tts/live"
            async with connect(url) as socket:
                for event in (
                    {"event": "start", "request": {"text": "", "format": "pcm"}},
                    {"event": "text", "text": "😀"},
                    {"event": "flush"},
                    {"event": "stop"},
                ):
                    await socket.send(pack(event))
                events = [unpack(frame) async for frame in socket if isinstance(frame, bytes)]
            assert events[-1] == {"event": "finish", "reason": "stop"}
            audio = b"".join(event["audio"] for event in events if event["event"] == "audio")
            logged = [event["message"] for event in events if event["event"] == "log"]
            assert audio
            assert not any(audio)
            assert "nothing to say" in logged[0]

    run(work())
