import base64
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import soundfile

from backend.api.fish.body import FishSpeech
from tests.fish_requests import (
    HELLO,
    HOSTED,
    assert_is_error,
    run,
    save,
    speak,
    spoken,
    wav_seconds,
)
from tests.scripted import client


def test_speech_in_json_and_msgpack(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            for answer in (await speak(http), await http.post("/v1/tts", json=HELLO)):
                assert answer.status_code == 200, answer.text
                assert answer.headers["content-type"] == "audio/wav"
                assert "X-RTF" in answer.headers
                assert wav_seconds(answer.content) == pytest.approx(0.1)
            streamed = await speak(http, HOSTED)
            assert streamed.headers["content-type"] == "audio/mpeg"
            assert "content-length" not in streamed.headers
            whole = await speak(http, HOSTED, streaming=False, format="wav", sample_rate=16_000)
            assert int(whole.headers["content-length"]) == len(whole.content)
            assert soundfile.info(io.BytesIO(whole.content)).samplerate == 16_000

    run(work())


@pytest.mark.parametrize("audio_format", ["wav", "mp3", "opus", "flac", "aac", "pcm"])
@pytest.mark.parametrize("streaming", [True, False])
def test_every_format(audio_format: str, streaming: bool, tmp_path: Path) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            answer = await speak(http, format=audio_format, streaming=streaming)
            assert answer.status_code == 200, answer.text
            assert len(answer.content) > 100

    run(work())


def test_what_sdks_send_beside_our_fields_changes_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            answer = await speak(
                http,
                chunk_length=200,
                format="wav",
                sample_rate=None,
                mp3_bitrate=128,
                opus_bitrate=-1000,
                references=[],
                reference_id=None,
                seed=None,
                normalize=True,
                latency="balanced",
                prosody=None,
                top_p=0.7,
                temperature=0.7,
                max_new_tokens=1024,
                repetition_penalty=1.2,
                min_chunk_length=50,
                condition_on_previous_chunks=True,
                early_stop_threshold=1.0,
                use_memory_cache="off",
                something={"else": [{"nested": b"\xff"}]},
            )
            assert answer.status_code == 200, answer.text
            assert "X-Warning" not in answer.headers

    run(work())


def test_long_text_is_split_whatever_the_settings_say(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path, max_text_length=40, long_text="reject") as http:
            answer = await speak(http, text="This is one of a few sentences here. " * 4)
            assert answer.headers["X-Text-Truncated"] == "false"
            assert answer.headers["X-Segments"] == "4"

    run(work())


def test_references_and_seed_reach_the_worker(tmp_path: Path) -> None:
    log = tmp_path / "spoken"
    one, two = b"RIFF one", b"RIFF two"

    async def work() -> None:
        async with client({"spoken_file": str(log)}, data_dir=tmp_path) as http:
            given = [{"audio": one, "text": "first"}, {"audio": two, "text": "second"}]
            assert (await speak(http, references=given, seed=7)).status_code == 200
            encoded = [
                {"audio": base64.b64encode(audio).decode(), "text": text}
                for audio, text in ((one, "first"), (two, "second"))
            ]
            assert (await speak(http, references=encoded, seed=7)).status_code == 200
            answer = await http.post("/v1/tts", json={**HELLO, "references": encoded, "seed": 7})
            assert answer.status_code == 200, answer.text
            assert (await speak(http, seed=8)).status_code == 200

    run(work())
    packed, packed_text, in_json, other = spoken(log)
    assert packed == packed_text == in_json
    assert packed["seed"] != other["seed"]
    assert [transcript for transcript, _ in packed["references"]] == ["first", "second"]


def test_reference_id_goes_before_references(tmp_path: Path) -> None:
    log = tmp_path / "spoken"

    async def work() -> None:
        async with client({"spoken_file": str(log)}, data_dir=tmp_path) as http:
            voice = (await save(http, texts=["I am Anna."])).json()
            for reference_id in (voice["_id"], "anna"):
                answer = await speak(
                    http, reference_id=reference_id, references=[{"audio": b"RIFF", "text": "no"}]
                )
                assert answer.status_code == 200, answer.text
                assert "references were not used" in answer.headers["X-Warning"]

    run(work())
    for line in spoken(log):
        assert [transcript for transcript, _ in line["references"]] == ["I am Anna."]


def test_of_too_many_references_those_that_fit_are_used(tmp_path: Path) -> None:
    log = tmp_path / "spoken"

    async def work() -> None:
        async with client({"spoken_file": str(log)}, data_dir=tmp_path) as http:
            given = [{"audio": b"RIFF %d" % number, "text": str(number)} for number in range(5)]
            answer = await speak(http, references=given)
            assert answer.status_code == 200, answer.text
            assert "of 5 references the first 4 were used" in answer.headers["X-Warning"]

    run(work())
    assert [transcript for transcript, _ in spoken(log)[0]["references"]] == list("0123")


def test_a_seed_of_minus_one_is_none(tmp_path: Path) -> None:
    log = tmp_path / "spoken"

    async def work() -> None:
        async with client({"spoken_file": str(log)}, data_dir=tmp_path) as http:
            for _ in range(2):
                assert (await speak(http, seed=-1)).status_code == 200

    run(work())
    one, other = spoken(log)
    assert one["seed"] != other["seed"]


@pytest.mark.parametrize("headers", [{}, HOSTED])
@pytest.mark.parametrize(("kind", "rate_hz"), [("wav", 44_100), ("pcm", 44_100), ("flac", 8_000)])
def test_without_a_rate_wav_and_pcm_are_as_clients_assume(
    kind: str, rate_hz: int, headers: dict[str, str], tmp_path: Path
) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            answer = await speak(http, headers, format=kind, streaming=False)
            if kind == "pcm":
                assert len(answer.content) == pytest.approx(2 * 0.1 * rate_hz, abs=100)
            else:
                assert soundfile.info(io.BytesIO(answer.content)).samplerate == rate_hz

    run(work())


def test_clients_of_the_service_are_known_by_either_header(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            for headers in (HOSTED, {"developer-id": "d"}):
                answer = await speak(http, headers)
                assert answer.headers["content-type"] == "audio/mpeg"
                assert "content-length" not in answer.headers

    run(work())


def test_livekits_own_voice_is_the_default_one_and_says_so(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            answer = await speak(http, reference_id="933563129e564b19a115bedd57b7406a")
            assert answer.status_code == 200, answer.text
            assert "this is the default voice" in answer.headers["X-Warning"]

    run(work())


def test_speech_as_a_form(tmp_path: Path) -> None:
    log = tmp_path / "spoken"

    async def work() -> None:
        async with client({"spoken_file": str(log)}, data_dir=tmp_path) as http:
            fields = {
                "text": "Hello from a form.",
                "format": "wav",
                "sample_rate": "16000",
                "seed": "7",
                "temperature": "0.5",
                "normalize": "true",
                "streaming": "false",
                "prosody": '{"speed": 2.0, "volume": 0}',
                "latency": "normal",
                "reference_id": "",
            }
            given = [("references", ("a.wav", b"RIFF one")), ("references", ("b.wav", b"RIFF two"))]
            said = {"texts": ["first", "second"]}
            answer = await http.post("/v1/tts", data=fields | said, files=given)
            assert answer.status_code == 200, answer.text
            assert soundfile.info(io.BytesIO(answer.content)).samplerate == 16_000
            assert wav_seconds(answer.content) == pytest.approx(0.05, abs=0.02)
            encoded = [{"audio": base64.b64encode(b"RIFF one").decode(), "text": "first"}]
            in_json = fields | {"references": json.dumps(encoded)}
            body, kind = _multipart(in_json)
            answer = await http.post("/v1/tts", content=body, headers={"Content-Type": kind})
            assert answer.status_code == 200, answer.text

    run(work())
    first, second = spoken(log)
    assert [transcript for transcript, _ in first["references"]] == ["first", "second"]
    assert [transcript for transcript, _ in second["references"]] == ["first"]
    assert first["references"][0] == second["references"][0]
    assert first["seed"] == second["seed"]


def _multipart(fields: dict[str, str]) -> tuple[bytes, str]:
    """A form without any file, which httpx would send urlencoded."""
    parts = (
        f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    )
    return ("".join(parts) + "--x--\r\n").encode(), "multipart/form-data; boundary=x"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"format": "wav"}, "text"),
        ({"text": "Hi.", "seed": "seven"}, "seed"),
        ({"text": "Hi.", "temperature": "9"}, "temperature"),
        ({"text": "Hi.", "references": "[{]"}, "references is no JSON"),
        ({"text": "Hi.", "references": "false"}, "references: expected array"),
        ({"text": "Hi.", "references": '"x"', "texts": "x"}, "references: expected array"),
        ({"text": "Hi.", "references": "[1]"}, "references.0: expected object"),
        ({"text": "Hi.", "references": "[" * 100_000}, "references is no JSON"),
        ({"text": "Hi.", "references": '[{"audio": "/etc/passwd!"}]'}, "references.0.audio"),
        ({"text": "Hi.", "prosody": "fast"}, "prosody is no JSON"),
        ({"text": "Hi.", "prosody": '{"speed": 9}'}, "prosody.speed"),
    ],
)
def test_bad_forms(fields: dict[str, str], says: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            body, kind = _multipart(fields)
            answer = await http.post("/v1/tts", content=body, headers={"Content-Type": kind})
            assert_is_error(answer, 422, says)

    run(work())


def test_what_is_past_the_engines_limits_is_moved_to_them_with_a_warning(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            prosody = {"speed": 2.0, "volume": 3.0}
            answer = await speak(
                http, top_p=0.0, repetition_penalty=0.9, prosody=prosody, format="wav"
            )
            assert answer.status_code == 200, answer.text
            for part in ("top_p was taken as 0.1", "repetition_penalty was taken as 1", "volume"):
                assert part in answer.headers["X-Warning"]
            assert wav_seconds(answer.content) == pytest.approx(0.05, abs=0.02)

    run(work())


@pytest.mark.parametrize(
    ("fields", "status", "says"),
    [
        ({"text": " \n"}, 400, "blank"),
        ({"text": 3}, 422, "text: expected str"),
        ({"text": "a" * 100_001}, 413, "100000"),
        ({"format": "ogg"}, 422, "format: 'ogg' is not known"),
        ({"sample_rate": 7999}, 422, "sample_rate: expected int >= 8000"),
        ({"temperature": 2.1}, 422, "temperature"),
        ({"temperature": "hot"}, 422, "temperature: expected float"),
        ({"top_p": -0.1}, 422, "top_p"),
        ({"seed": -2}, 422, "seed"),
        ({"prosody": {"speed": 3.0}}, 422, "prosody.speed"),
        ({"prosody": {"volume": 21.0}}, 422, "prosody.volume"),
        ({"references": [{"audio": "https://example.org/a.wav", "text": "x"}]}, 422, "URLs"),
        ({"references": [{"audio": "/etc/passwd!", "text": "x"}]}, 422, "references.0.audio"),
        ({"references": [{"audio": 7, "text": "x"}]}, 422, "references.0.audio"),
        ({"references": [{"audio": "", "text": "x"}]}, 422, "references.0.audio is empty"),
        ({"references": [{"text": "x"}]}, 422, "audio"),
        ({"references": [{"audio": "UklGRg==", "text": 1}]}, 422, "references.0.text"),
        ({"references": [{"audio": "UklGRg==", "text": "x"}] * 65}, 422, "length <= 64"),
        ({"references": [{"audio": "YmFkIGF1ZGlv", "text": "x"}]}, 422, "cannot be decoded"),
        ({"reference_id": "nobody"}, 404, "nobody"),
        ({"reference_id": "n" * 300}, 422, "reference_id"),
    ],
)
def test_bad_fields(fields: dict[str, Any], status: int, says: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            for answer in (
                await speak(http, **fields),
                await http.post("/v1/tts", json=HELLO | fields),
            ):
                assert_is_error(answer, status, says)

    run(work())


@pytest.mark.parametrize(
    ("body", "kind", "status", "says"),
    [
        (b"", "application/msgpack", 422, "not valid msgpack"),
        (b"\xc1", "application/msgpack", 422, "not valid msgpack"),
        (b"\x91\xc0", "application/msgpack", 422, "The body is wrong: expected object"),
        (b"\x80", "application/msgpack", 422, "missing required field text"),
        (b"\x81\xa4text\xa2\xff\xfe", "application/msgpack", 422, "not valid msgpack"),
        (b"\x81\xa1x" + b"\x91" * 100_000 + b"\xc0", "application/msgpack", 422, "not valid"),
        (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "application/json", 422, "not valid"),
        (b"{}", "application/json; charset=utf-8", 422, "missing required field text"),
        (b"text=hello", "application/x-www-form-urlencoded", 422, "Content-Type"),
        (bytes(6 << 20), "application/msgpack", 413, "larger than the server takes"),
    ],
)
def test_bad_bodies(body: bytes, kind: str, status: int, says: str, tmp_path: Path) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path, max_upload_bytes=1 << 20) as http:
            answer = await http.post("/v1/tts", content=body, headers={"Content-Type": kind})
            assert_is_error(answer, status, says)

            async def in_pieces() -> AsyncIterator[bytes]:
                for start in range(0, len(body), 1 << 16):
                    yield body[start : start + (1 << 16)]

            headers = {"Content-Type": kind}
            answer = await http.post("/v1/tts", content=in_pieces(), headers=headers)
            assert_is_error(answer, status, says)

    run(work())


def test_health_and_account(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            for answer in (await http.get("/v1/health"), await http.post("/v1/health")):
                assert answer.json() == {"status": "ok"}
            credit = (await http.get("/wallet/self/api-credit")).json()
            assert float(credit["credit"]) > 0
            package = (await http.get("/wallet/self/package")).json()
            assert package["balance"] == package["total"] > 0

    run(work())


def test_fields_are_documented(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            paths = (await http.get("/openapi.json")).json()["paths"]
            body = paths["/v1/tts"]["post"]["requestBody"]["content"]
            for kind in ("application/json", "application/msgpack", "multipart/form-data"):
                fields = body[kind]["schema"]["properties"]
                assert set(fields) == set(FishSpeech.__struct_fields__)
                assert body[kind]["example"].keys() <= fields.keys()
            assert "$ref" not in json.dumps(body)
            assert "audio/mpeg" in paths["/v1/tts"]["post"]["responses"]["200"]["content"]

    run(work())
