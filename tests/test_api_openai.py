import asyncio
import base64
import io
import json
import re
from collections.abc import Coroutine
from datetime import datetime
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
import soundfile

from backend.api.openai.body import BUILT_IN_VOICES, error_body
from backend.api.openai.routes import MODELS
from backend.core import ReferenceCodes
from backend.voices.store import Voice, VoiceStore
from tests.scripted import children, client, server

SPEECH = "/v1/audio/speech"
HELLO = {"model": "tts-1", "input": "Hello from the test.", "voice": "alloy"}
TWO = "This sentence is the first of two, and it is spoken. This one will {} when its turn comes."
MEDIA_TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)
    assert not children()


def save_voice(data_dir: Path, name: str) -> Voice:
    store = VoiceStore(data_dir / "voices", max_voices=10, max_bytes=1 << 20)
    return store.create(name, ReferenceCodes(bytes(20), 1, "scripted", 0.1), f"{name} speaks")


def seconds(audio: bytes) -> float:
    """How long a file is that says itself what it is."""
    with av.open(io.BytesIO(audio), "r") as file:
        return sum(frame.samples / frame.sample_rate for frame in file.decode(audio=0))


def spoken(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = answer.text.split("\n\n")
    assert lines.pop() == ""
    assert all(line.startswith("data: ") for line in lines)
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def assert_refused(
    answer: httpx.Response, status: int, says: str, param: str | None, code: str | None = None
) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error"}
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert re.search(says, error["message"]), error
    assert "\n" not in error["message"]
    assert error["param"] == param
    assert error["type"] == ("server_error" if status >= 500 else "invalid_request_error")
    if code:
        assert error["code"] == code


@pytest.mark.parametrize("name", MEDIA_TYPES)
def test_formats(name: str) -> None:
    async def work() -> None:
        async with client() as http:
            answer = await http.post(SPEECH, json={**HELLO, "response_format": name})
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-type"].partition(";")[0] == MEDIA_TYPES[name]
            if name == "pcm":
                samples = np.frombuffer(answer.content, "<i2")
                assert len(samples) == pytest.approx(0.1 * 24_000, abs=24)
                assert np.abs(samples).max() == pytest.approx(0.5 * 32_767, rel=0.1)
            else:
                assert 0.08 < seconds(answer.content) < 0.3

    run(work())


@pytest.mark.parametrize(
    ("fields", "headers", "is_streamed"),
    [
        ({}, {}, True),
        ({"response_format": "opus"}, {}, True),
        *(({"response_format": kind}, {}, False) for kind in ("wav", "flac", "aac")),
        ({"response_format": "wav", "stream": True}, {}, True),
        ({"stream": False}, {}, False),
        ({"response_format": "wav", "stream_format": "audio"}, {}, True),
        ({"stream_format": "sse"}, {}, True),
        ({"stream": False, "stream_format": "audio"}, {}, False),
        ({"response_format": "pcm"}, {}, True),
        ({"response_format": "pcm", "stream": False}, {}, False),
        ({"response_format": "flac"}, {"X-Stainless-Raw-Response": "stream"}, True),
        ({"response_format": "flac"}, {"X-Stainless-Raw-Response": "raw"}, False),
        ({"stream": False}, {"X-Stainless-Raw-Response": "stream"}, False),
    ],
)
def test_what_has_a_place_for_its_length_is_whole_unless_a_stream_was_asked_for(
    fields: dict[str, Any], headers: dict[str, str], is_streamed: bool
) -> None:
    async def work() -> None:
        async with client() as http:
            answer = await http.post(SPEECH, json={**HELLO, **fields}, headers=headers)
            assert answer.status_code == 200, answer.text
            assert ("content-length" not in answer.headers) == is_streamed
            assert ("X-RTF" in answer.headers) != is_streamed
            assert (answer.headers.get("X-Accel-Buffering") == "no") == is_streamed
            holds_back = answer.headers.get("Cache-Control") == "no-cache, no-transform"
            assert holds_back == is_streamed

    run(work())


def test_what_is_not_said_is_mp3_at_speed_1() -> None:
    async def work() -> None:
        async with client() as http:
            answer = await http.post(SPEECH, json=HELLO)
            assert answer.headers["content-type"] == "audio/mpeg"
            assert answer.headers["X-Engine"]
            assert "X-Warning" not in answer.headers
            pcm = {**HELLO, "response_format": "pcm"}
            slow = await http.post(SPEECH, json={**pcm, "speed": 0.25})
            fast = await http.post(SPEECH, json={**pcm, "speed": 4})
            assert len(slow.content) > 10 * len(fast.content)

    run(work())


def test_fields_that_are_null_change_nothing() -> None:
    async def work() -> None:
        async with client() as http:
            nothing = dict.fromkeys(("instructions", "speed", "seed", "user", "stream", "language"))
            answer = await http.post(SPEECH, json={**HELLO, **nothing, "model": "anything at all"})
            assert answer.status_code == 200
            assert "X-Warning" not in answer.headers

    run(work())


def test_unknown_fields_are_named_within_bounds() -> None:
    async def work() -> None:
        async with client() as http:
            answer = await http.post(SPEECH, json={**HELLO, "user": "u-1", "voise": "ann"})
            assert answer.status_code == 200
            assert answer.headers["X-Warning"] == "unknown fields were ignored: 'user', 'voise'"
            many = {f"{number} {'x' * 10_000}\r\nX-Evil: é": 1 for number in range(100)}
            answer = await http.post(SPEECH, json={**HELLO, **many})
            assert answer.status_code == 200
            assert len(answer.headers["X-Warning"]) <= 1024
            assert "and 92 more" in answer.headers["X-Warning"]

    run(work())


def test_it_is_spoken_as_the_extras_say(tmp_path: Path) -> None:
    log = tmp_path / "spoken"

    async def work() -> None:
        async with client({"spoken_file": str(log)}, max_text_length=30) as http:
            for seed in (7, 7, 8, -1, None):
                body = {**HELLO, "seed": seed, "temperature": 1.1, "top_p": 0.5}
                answer = await http.post(SPEECH, json={**body, "repetition_penalty": 1.3})
                assert answer.status_code == 200, answer.text
            wav = {**HELLO, "response_format": "wav", "sample_rate": 16_000}
            answer = await http.post(SPEECH, json=wav)
            assert soundfile.info(io.BytesIO(answer.content)).samplerate == 16_000
            pcm = {**HELLO, "response_format": "pcm", "sample_rate": 8_000}
            answer = await http.post(SPEECH, json=pcm)
            assert len(answer.content) == 1600
            assert "rate=8000" in answer.headers["content-type"]
            for is_normalized in (True, False):
                body = {**HELLO, "input": "I owe 5 $.", "normalize": is_normalized}
                assert (await http.post(SPEECH, json=body)).status_code == 200
            long = {**HELLO, "input": "Four words are here. " * 3}
            cut = await http.post(SPEECH, json={**long, "long_text": "truncate"})
            assert cut.headers["X-Text-Truncated"] == "true"
            refused = await http.post(SPEECH, json={**long, "long_text": "reject"})
            assert_refused(refused, 413, "at most 30 at once", "input", "text_too_long")
            told = await http.post(SPEECH, json={**HELLO, "language": "de"})
            assert "'de'" in told.headers["X-Warning"] or "de" in told.headers["X-Warning"]
            also = await http.post(SPEECH, json={**HELLO, "lang_code": "de"})
            assert also.headers["X-Warning"] == told.headers["X-Warning"]

    run(work())
    seeded = [each["seed"] for each in spoken(log)[:5]]
    assert seeded[0] == seeded[1]
    assert len({*seeded}) == 4, "-1 is no seed"
    words, figures = [each["text"] for each in spoken(log) if each["text"].startswith("I owe")]
    assert words != figures == "I owe 5 $."


def test_livekits_own_voice_is_the_default_one_and_says_so(tmp_path: Path) -> None:
    log = tmp_path / "spoken"
    theirs = "933563129e564b19a115bedd57b7406a"

    async def work() -> None:
        async with client({"spoken_file": str(log)}, data_dir=tmp_path) as http:
            for voice in (theirs, {"id": theirs}, theirs.upper()):
                answer = await http.post(SPEECH, json={**HELLO, "voice": voice})
                assert answer.status_code == 200
                assert "this is the default voice" in answer.headers["X-Warning"]
            near = await http.post(SPEECH, json={**HELLO, "voice": theirs[:-1] + "b"})
            assert_refused(near, 404, "No voice", "voice", "unknown_voice")

    run(work())
    assert [each["references"] for each in spoken(log)] == [[]] * 3


def test_instructions_are_told_not_to_be_followed() -> None:
    async def work() -> None:
        async with client() as http:
            answer = await http.post(SPEECH, json={**HELLO, "instructions": "Whisper."})
            assert answer.status_code == 200
            assert "instructions" in answer.headers["X-Warning"]

    run(work())


def test_voices(tmp_path: Path) -> None:
    ann, echo = save_voice(tmp_path, "Ann"), save_voice(tmp_path, "echo")
    log = tmp_path / "spoken"

    async def work() -> None:
        async with client({"spoken_file": str(log)}, data_dir=tmp_path) as http:
            for voice in ("alloy", "default", "ann", ann.id, {"id": ann.id}, {"id": "Ann"}, "Echo"):
                answer = await http.post(SPEECH, json={**HELLO, "voice": voice})
                assert answer.status_code == 200, answer.text

    run(work())
    said = [[transcript for transcript, _ in each["references"]] for each in spoken(log)]
    assert said == [[], [], *[["Ann speaks"]] * 4, ["echo speaks"]]
    assert echo.name in BUILT_IN_VOICES, "a saved voice goes before OpenAI's of that name"


def test_long_text_is_split_not_cut(tmp_path: Path) -> None:
    log = tmp_path / "spoken"
    text = "This sentence is about fifty characters long, all told. " * 10

    async def work() -> None:
        async with client({"spoken_file": str(log)}, max_text_length=100) as http:
            answer = await http.post(SPEECH, json={**HELLO, "input": text})
            assert answer.headers["X-Text-Truncated"] == "false"

    run(work())
    assert " ".join(each["text"] for each in spoken(log)) == text.strip()


def test_events() -> None:
    async def work() -> None:
        async with client() as http:
            body = {**HELLO, "stream_format": "sse", "response_format": "wav"}
            answer = await http.post(SPEECH, json=body)
            *deltas, done = events(answer)
            assert deltas
            assert {delta["type"] for delta in deltas} == {"speech.audio.delta"}
            audio = b"".join(base64.b64decode(delta["audio"], validate=True) for delta in deltas)
            assert seconds(audio) == pytest.approx(0.1)
            usage = {"input_tokens": 5, "output_tokens": 11, "total_tokens": 16}
            assert done == {"type": "speech.audio.done", "usage": usage, "text": HELLO["input"]}

    run(work())


def test_what_fails_after_the_first_event_is_an_event() -> None:
    async def work() -> None:
        async with client() as http:
            body = {**HELLO, "input": TWO.format("crash"), "stream_format": "sse"}
            *deltas, last = events(await http.post(SPEECH, json=body))
            assert deltas
            assert last["type"] == "error"
            assert last["error"]["code"] == "engine_down"
            assert "exit code 3" in last["error"]["message"]

    run(work())


def test_what_fails_before_it_keeps_its_status() -> None:
    async def work() -> None:
        async with client() as http:
            body = {**HELLO, "input": "crash", "stream_format": "sse"}
            answer = await http.post(SPEECH, json=body)
            assert_refused(answer, 503, "exit code 3", None, "engine_down")
            assert int(answer.headers["Retry-After"]) > 0

    run(work())


@pytest.mark.parametrize(
    ("fields", "says", "param"),
    [
        ({"input": None}, "input is missing", "input"),
        ({"model": None}, "model is missing", "model"),
        ({"voice": None}, "voice is missing", "voice"),
        ({"input": 5}, "input.*string.*5", "input"),
        ({"model": 5}, "model.*string", "model"),
        ({"voice": 5}, "voice.*string", "voice"),
        ({"voice": {"id": 5}}, "voice.*string", "voice"),
        ({"voice": {"name": "ann"}}, "voice.*string", "voice"),
        ({"speed": 0.2}, "speed.*greater than or equal to 0.25.*0.2", "speed"),
        ({"speed": 4.1}, "speed.*less than or equal to 4.*4.1", "speed"),
        ({"speed": "fast"}, "speed.*number", "speed"),
        ({"speed": True}, "speed.*number", "speed"),
        ({"speed": float("nan")}, "speed.*nan", "speed"),
        ({"response_format": "ogg"}, "response_format.*'mp3'.*'ogg'", "response_format"),
        ({"stream_format": "ws"}, "stream_format.*'sse'", "stream_format"),
        ({"instructions": ["a"]}, "instructions.*string", "instructions"),
        ({"stream": "maybe"}, "stream.*boolean", "stream"),
        ({"seed": "x"}, "seed.*integer", "seed"),
        ({"seed": -2}, "seed.*-1", "seed"),
        ({"temperature": 2.5}, "temperature.*2", "temperature"),
        ({"top_p": 0}, "top_p.*0.1", "top_p"),
        ({"repetition_penalty": 0.5}, "repetition_penalty.*1", "repetition_penalty"),
        ({"sample_rate": 7999}, "sample_rate.*8000", "sample_rate"),
        ({"long_text": "drop"}, "long_text.*'split'", "long_text"),
        ({"normalize": "x"}, "normalize.*boolean", "normalize"),
        ({"input": "a" * 501}, "501 characters.*at most 500", "input"),
        ({"input": " \n\t"}, "blank", "input"),
        ({"input": "\ud83d"}, "blank", "input"),
    ],
)
def test_wrong_fields_are_400_and_named(fields: dict[str, Any], says: str, param: str) -> None:
    async def work() -> None:
        async with client(max_text_characters=500) as http:
            body = json.dumps({**HELLO, **fields})  # httpx refuses NaN, clients do not
            answer = await http.post(SPEECH, content=body)
            assert_refused(answer, 400, says, param)

    run(work())


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_bodies_that_are_none(body: bytes) -> None:
    async def work() -> None:
        async with client() as http:
            assert_refused(await http.post(SPEECH, content=body), 400, "JSON", None)

    run(work())


def test_a_body_past_all_measure_is_refused_while_it_arrives() -> None:
    async def work() -> None:
        sent = 0

        async def endless() -> Any:
            nonlocal sent
            while True:
                sent += 1 << 16
                yield bytes(1 << 16)

        async with client() as http:
            assert_refused(await http.post(SPEECH, content=endless()), 413, "less text", None)
        assert sent < 8_000_000

    run(work())


def test_unknown_voice_is_404_and_near_ones_are_named(tmp_path: Path) -> None:
    save_voice(tmp_path, "Annabel")

    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            answer = await http.post(SPEECH, json={**HELLO, "voice": "anabel"})
            assert_refused(answer, 404, "did you mean Annabel", "voice", "unknown_voice")

    run(work())


def test_a_deadline_that_is_none_is_400() -> None:
    async def work() -> None:
        async with client() as http:
            answer = await http.post(SPEECH, json=HELLO, headers={"X-Timeout-S": "soon"})
            assert_refused(answer, 400, "X-Timeout-S", None)

    run(work())


def test_who_hangs_up_is_spoken_to_no_more(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def work() -> None:
        async with server({"log_file": str(log)}) as http:
            body = {**HELLO, "input": "slow", "stream_format": "sse", "response_format": "pcm"}
            async with http.stream("POST", SPEECH, json=body) as answer:
                async for line in answer.aiter_lines():
                    assert line.startswith("data: ")
                    break
            while "Abort" not in log.read_text():
                await asyncio.sleep(0.01)
            assert (await http.post(SPEECH, json=HELLO)).status_code == 200

    run(work())


def test_models() -> None:
    async def work() -> None:
        async with client() as http:
            models = (await http.get("/v1/models")).json()
            assert models["object"] == "list"
            assert [each["id"] for each in models["data"]] == ["töne", *MODELS]
            for each in models["data"]:
                told = (await http.get(f"/v1/models/{each['id']}")).json()
                assert told.items() >= each.items()
                assert (told["task"], told["sample_rate"]) == ("text-to-speech", 8_000)
                assert {"default", "alloy"} <= {voice["name"] for voice in told["voices"]}
            assert models["models"] == models["data"]
            answer = await http.get("/v1/models/gpt/5")
            assert_refused(answer, 404, "gpt/5.*there are töne", "model", "model_not_found")

    run(work())


def test_models_before_one_is_loaded() -> None:
    async def work() -> None:
        async with client({"start_s": 30}, is_ready=False) as http:
            models = (await http.get("/v1/models")).json()
            assert [each["id"] for each in models["data"]] == list(MODELS)
            assert_refused(await http.post(SPEECH, json=HELLO), 503, "starting", None)

    run(work())


def test_list_of_voices(tmp_path: Path) -> None:
    ann, echo = save_voice(tmp_path, "Ann"), save_voice(tmp_path, "echo")

    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            listed = (await http.get("/v1/audio/voices")).json()
            assert listed["object"] == "list"
            assert [each["id"] for each in listed["data"]] == [ann.id, echo.id]
            created = datetime.fromisoformat(ann.created_at).timestamp()
            assert listed["data"][0] == {
                "id": ann.id,
                "object": "audio.voice",
                "name": "Ann",
                "created_at": int(created),
                "type": "audio_sample",
                "language": None,
                "is_shipped": False,
            }
            names = [each["id"] for each in listed["voices"]]
            assert names[:3] == ["Ann", "echo", "default"]
            assert sorted(names[3:]) == sorted({*BUILT_IN_VOICES} - {"echo"})
            for name in names:
                body = {**HELLO, "voice": name, "response_format": "pcm"}
                assert (await http.post(SPEECH, json=body)).status_code == 200

    run(work())


@pytest.mark.parametrize(
    ("status", "code", "kind", "theirs"),
    [
        (401, "unauthorized", "invalid_request_error", "invalid_api_key"),
        (429, "rate_limited", "rate_limit_error", "rate_limit_exceeded"),
        (503, "over_capacity", "server_error", "over_capacity"),
        (404, "", "invalid_request_error", None),
    ],
)
def test_errors_are_named_as_openai_does(
    status: int, code: str, kind: str, theirs: str | None
) -> None:
    error = {"message": "Why.", "type": kind, "param": None, "code": theirs}
    assert error_body(status, "Why.", code) == {"error": error}


def test_openapi_shows_examples_and_errors() -> None:
    async def work() -> None:
        async with client(is_ready=False) as http:
            paths = (await http.get("/openapi.json")).json()["paths"]
            operation = paths[SPEECH]["post"]
            content = operation["requestBody"]["content"]["application/json"]
            assert content["schema"]["properties"].keys() >= HELLO.keys()
            assert all("description" in each for each in content["schema"]["properties"].values())
            assert content["examples"]
            assert operation["responses"].keys() >= {"200", "400", "401", "404", "503", "504"}
            refused = operation["responses"]["400"]["content"]["application/json"]["example"]
            assert refused["error"]["message"]
            for path in ("/v1/models", "/v1/models/{name}", "/v1/audio/voices"):
                answer = paths[path]["get"]["responses"]["200"]
                assert answer["content"]["application/json"]["example"]

    run(work())
