import asyncio
import base64
import io
import json
import re
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from backend.api.status import STATUS
from backend.core import LANGUAGES
from backend.errors import ShoalError
from backend.text.sentences import SENTENCE_PAUSE_S
from tests.scripted import children, client, server

TEXT = {"text": "Hello from the test."}
HEADERS = (
    *("X-Request-ID", "X-Latency-Ms", "X-Time-To-First-Audio-Ms", "X-Audio-Duration-S", "X-RTF"),
    *("X-Generated-Tokens", "X-Tokens-Per-Second", "X-Engine", "X-Segments", "X-Queue-Ms"),
)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)
    assert not children()


def assert_is_speech(answer: httpx.Response, seconds: float = 0.1) -> None:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "audio/wav"
    samples, rate_hz = soundfile.read(io.BytesIO(answer.content))
    assert rate_hz == 8_000
    assert len(samples) / rate_hz == pytest.approx(seconds)
    assert np.abs(samples).max() == pytest.approx(0.5, abs=0.01)


def test_every_kind_of_body_speaks() -> None:
    async def work() -> None:
        async with client() as http:
            all_fields = {**TEXT, "language": "en", "temperature": "0", "top_p": "1", "seed": "7"}
            assert_is_speech(await http.post("/tts", data=all_fields))
            assert_is_speech(await http.post("/tts", json={**TEXT, "repetition_penalty": 1.5}))
            audio = b"RIFF" + bytes(3_000_000)  # more than Starlette keeps in memory
            files = {"speaker_file": ("voice.wav", audio)}
            assert_is_speech(
                await http.post("/tts", data={**TEXT, "prompt_text": "hi"}, files=files)
            )
            encoded = base64.b64encode(b"RIFF").decode()
            assert_is_speech(await http.post("/tts", json={**TEXT, "speaker_file": encoded}))
            empty = {"speaker_file": ("", b"")}
            assert_is_speech(await http.post("/tts", data={**TEXT, "seed": ""}, files=empty))

    run(work())


def test_headers() -> None:
    async def work() -> None:
        async with client() as http:
            answer = await http.post("/tts", data=TEXT, headers={"X-Request-ID": "mine-1"})
            assert all(name in answer.headers for name in HEADERS)
            assert answer.headers["X-Request-ID"] == "mine-1"
            assert answer.headers["X-Engine"] == "scripted/t?ne"
            assert answer.headers["X-Audio-Duration-S"] == "0.100"
            assert answer.headers["X-Generated-Tokens"] == "11"
            assert "X-Warning" not in answer.headers
            assert float(answer.headers["X-RTF"]) > 0
            bad_id = {"X-Request-ID": "a b" * 40}
            answer = await http.post("/tts", data={**TEXT, "language": "de"}, headers=bad_id)
            assert len(answer.headers["X-Request-ID"]) == 16
            assert "de" in answer.headers["X-Warning"]

    run(work())


def test_long_text_is_spoken_in_segments() -> None:
    async def work() -> None:
        async with client() as http:
            text = "This sentence is about fifty characters long, all told. " * 10
            answer = await http.post("/tts", data={"text": text, "long_text": "split"})
            assert answer.headers["X-Segments"] == "10"
            assert answer.headers["X-Text-Truncated"] == "false"
            assert_is_speech(answer, seconds=10 * 0.1 + 9 * SENTENCE_PAUSE_S)

    run(work())


def test_text_past_the_limit_is_cut_at_a_word_and_the_headers_say_so() -> None:
    async def work() -> None:
        async with client(max_text_length=100) as http:
            text = "This sentence is about fifty characters long, all told. " * 10
            answer = await http.post("/tts", data={"text": text})
            headers = answer.headers
            assert headers["X-Text-Truncated"] == "true"
            assert headers["X-Original-Text-Length"] == str(len(text))
            assert headers["X-Max-Text-Length"] == "100"
            assert headers["X-Hardware-Tier"]
            kept = int(headers["X-Truncated-Text-Length"])
            assert 80 <= kept <= 100
            assert text[kept] == " "
            assert "long_text=split" in headers["X-Warning"]
            whole = await http.post("/tts", data={"text": text[:100]})
            assert whole.headers["X-Text-Truncated"] == "false"
            assert whole.headers["X-Truncated-Text-Length"] == "100"

    run(work())


def test_text_past_the_limit_can_be_rejected() -> None:
    async def work() -> None:
        async with client(max_text_length=50, long_text="reject") as http:
            answer = await http.post("/tts", data={"text": "word " * 20})
            assert answer.status_code == 413
            assert "at most 50" in answer.json()["detail"]
            answer = await http.post("/tts", data={"text": "word " * 20, "long_text": "truncate"})
            assert answer.headers["X-Text-Truncated"] == "true"

    run(work())


def test_memory_optimized_requests_are_spoken_in_small_pieces() -> None:
    async def work() -> None:
        async with client() as http:
            text = "A sentence, not a short one, with a clause or two. And another one like it."
            usual = await http.post("/tts", data={"text": text})
            small = await http.post("/tts", data={"text": text, "optimize_for_memory": "true"})
            assert int(small.headers["X-Segments"]) > int(usual.headers["X-Segments"])

    run(work())


@pytest.mark.parametrize(
    ("fields", "status", "says"),
    [
        ({}, 422, "text is missing"),
        ({"text": " \n\t"}, 400, "blank"),
        ({"text": "\x00\ud83d"}, 400, "blank"),
        ({"text": 5}, 422, "text: "),
        ({"text": "a" * 100_001}, 413, "100000"),
        ({**TEXT, "temperature": 2.1}, 422, "temperature.*less than or equal to 2.*2.1"),
        ({**TEXT, "temperature": -0.1}, 422, "temperature"),
        ({**TEXT, "temperature": float("nan")}, 422, "temperature.*nan"),
        ({**TEXT, "temperature": float("inf")}, 422, "temperature"),
        ({**TEXT, "top_p": 0.05}, 422, "top_p"),
        ({**TEXT, "repetition_penalty": 2.5}, 422, "repetition_penalty"),
        ({**TEXT, "seed": -1}, 422, "seed"),
        ({**TEXT, "seed": 2**64}, 422, "seed"),
        ({**TEXT, "seed": "x"}, 422, "seed"),
        ({**TEXT, "language": "xx"}, 422, "language: 'xx' is not known.*, en,"),
        ({**TEXT, "temprature": 1}, 422, "'temprature'.*did you mean temperature"),
        ({**TEXT, "qqqq": 1}, 422, "'qqqq'.*the fields are text"),
        ({**TEXT, "speaker_file": "not base64!"}, 422, "base64"),
        ({**TEXT, "speaker_file": 5}, 422, "base64"),
        ({"text": "bad reference"}, 422, "cannot be decoded"),
    ],
)
def test_refusals_say_what_and_how(fields: dict[str, Any], status: int, says: str) -> None:
    async def work() -> None:
        async with client() as http:
            body = json.dumps(fields)  # httpx refuses NaN, clients do not
            headers = {"Content-Type": "application/json"}
            await assert_refused(http, status, says, content=body, headers=headers)

    run(work())


async def assert_refused(http: httpx.AsyncClient, status: int, says: str, **post: Any) -> None:
    answer = await http.post("/tts", **post)
    assert answer.status_code == status, answer.text
    assert answer.headers["X-Request-ID"]
    assert answer.json().keys() == {"detail"}
    detail = answer.json()["detail"]
    assert re.search(says, detail), detail
    assert "\n" not in detail
    assert "Traceback" not in detail


def test_bodies_that_are_none() -> None:
    async def work() -> None:
        async with client(max_upload_bytes=4096) as http:
            as_json = {"Content-Type": "application/json"}
            await assert_refused(http, 422, "not valid JSON", content=b"{", headers=as_json)
            await assert_refused(http, 422, "no object", content=b"[]", headers=as_json)
            await assert_refused(http, 422, "not valid JSON", content=b"\xff", headers=as_json)
            await assert_refused(http, 422, "Content-Type")
            multipart = {"Content-Type": "multipart/form-data"}
            await assert_refused(http, 422, "form", content=b"x", headers=multipart)
            twice = b"text=a&text=b"
            urlencoded = {"Content-Type": "application/x-www-form-urlencoded"}
            await assert_refused(http, 422, "twice", content=twice, headers=urlencoded)
            empty = {"speaker_file": ("a.wav", b"")}
            await assert_refused(http, 422, "empty", data=TEXT, files=empty)
            as_text = {**TEXT, "speaker_file": "a.wav"}
            await assert_refused(http, 422, "as a file", data=as_text)
            as_file = {"text": ("a.txt", b"hello")}
            await assert_refused(http, 422, "plain text", files=as_file)
            unknown = {"voice_file": ("a.wav", b"1")}
            await assert_refused(http, 422, "voice_file", data=TEXT, files=unknown)

    run(work())


def test_upload_over_the_limit() -> None:
    async def work() -> None:
        async with client(max_upload_bytes=4096) as http:
            a_little = {"speaker_file": ("a.wav", bytes(5000))}
            await assert_refused(http, 413, "4096", data=TEXT, files=a_little)
            much = {"speaker_file": ("a.wav", bytes(5_000_000))}
            await assert_refused(http, 413, "4096", data=TEXT, files=much)

            sent = 0

            async def endless() -> Any:
                nonlocal sent
                while True:
                    sent += 1 << 16
                    yield bytes(1 << 16)

            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            await assert_refused(http, 413, "less text", content=endless(), headers=headers)
            assert sent < 8_000_000, "refused while it arrives"

    run(work())


def test_worker_down_is_503_and_health_goes_on() -> None:
    async def work() -> None:
        async with client({"start_s": 30}, is_ready=False) as http:
            answer = await http.post("/tts", data=TEXT)
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) > 0
            assert "starting" in answer.json()["detail"]

    run(work())


def test_worker_that_dies_while_speaking_is_503_then_back() -> None:
    async def work() -> None:
        async with client() as http:
            await assert_refused(http, 503, "exit code 3", data={"text": "crash"})
            while (await http.get("/health/ready")).status_code != 200:
                await asyncio.sleep(0.02)
            assert_is_speech(await http.post("/tts", data=TEXT))

    run(work())


def test_deadline_is_504() -> None:
    async def work() -> None:
        async with client(request_timeout_s=0.2) as http:
            await assert_refused(http, 504, "in time", data={"text": "wait"})

    run(work())


def test_bug_is_500_without_its_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object) -> None:
        raise ZeroDivisionError("secret")

    async def work() -> None:
        async with client() as http:
            monkeypatch.setattr("backend.api.answer.AudioWriter", bug)
            await assert_refused(http, 500, "mistake", data=TEXT)
            assert "secret" not in (await http.post("/tts", data=TEXT)).text

    run(work())


def test_client_that_hangs_up_aborts_its_request(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def work() -> None:
        async with server({"log_file": str(log)}) as http:
            with pytest.raises(httpx.ReadTimeout):
                await http.post("/tts", data={"text": "slow"}, timeout=0.3)
            while "Abort" not in log.read_text():
                await asyncio.sleep(0.01)
            assert_is_speech(await http.post("/tts", data=TEXT))

    run(work())


def test_real_server_speaks_ten_at_once_and_health_answers() -> None:
    async def work() -> None:
        async with server() as http:
            posts = [http.post("/tts", data=TEXT) for _ in range(10)]
            *answers, health = await asyncio.gather(*posts, http.get("/health"))
            for answer in answers:
                assert_is_speech(answer)
            assert health.status_code == 200

    run(work())


def test_every_domain_error_has_a_status() -> None:
    def deep(kind: type[ShoalError]) -> set[type[ShoalError]]:
        return {kind}.union(*(deep(sub) for sub in kind.__subclasses__()))

    assert STATUS.keys() == deep(ShoalError) - {ShoalError}


def test_openapi_names_every_field() -> None:
    async def work() -> None:
        async with client(is_ready=False) as http:
            operation = (await http.get("/openapi.json")).json()["paths"]["/tts"]["post"]
            content = operation["requestBody"]["content"]
            schema = content["multipart/form-data"]["schema"]
            assert schema["properties"].keys() == {
                *(
                    "text",
                    "dialogue",
                    "voice",
                    "speaker_file",
                    "prompt_text",
                    "language",
                    "lang_code",
                ),
                *("temperature", "top_p", "repetition_penalty", "seed", "speed", "pauses"),
                "long_text",
                *("optimize_for_memory", "force_cpu", "normalize", "timestamps", "subtitles"),
                *("response_format", "sample_rate", "stream"),
            }
            named, _ = schema["properties"]["language"]["anyOf"]
            assert named["examples"] == list(LANGUAGES)
            assert all("description" in each for each in schema["properties"].values())

    run(work())
