"""`/voices` over HTTP; the worker is scripted, the store is real."""

import asyncio
import base64
import json
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.scripted import client, server

AUDIO = b"RIFF a recording"
UPLOAD = {"audio": ("voice.wav", AUDIO)}
GOOD = {"name": "Anna", "transcript": "Good evening."}


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def encodings(log: Path) -> int:
    """Recordings that the worker was asked to encode."""
    return log.read_text().split().count("EncodeVoice") if log.exists() else 0


def test_a_voice_lives_from_creation_to_deletion(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            assert (await http.get("/voices")).json() == {"voices": [], "damaged": []}
            made = await http.post("/voices", data=GOOD, files=UPLOAD)
            assert made.status_code == 201, made.text
            told = made.json()
            assert told.pop("warnings") == []
            assert (told["name"], told["transcript"], told["description"]) == (
                *("Anna", "Good evening.", ""),
            )
            assert (told["codec_id"], told["frames"], told["num_codebooks"]) == ("scripted", 10, 1)
            assert told["audio_s"] == pytest.approx(0.1)
            age = datetime.now(UTC) - datetime.fromisoformat(told["created_at"])
            assert timedelta(0) <= age < timedelta(minutes=1)
            assert made.headers["Location"] == f"/voices/{told['id']}"
            for path in (made.headers["Location"], "/voices/Anna", "/voices/aNNA"):
                assert (await http.get(path)).json() == told
            second = await http.post("/voices", data=GOOD | {"name": "小明"}, files=UPLOAD)
            assert (await http.get("/voices/小明")).json()["id"] == second.json()["id"]
            listed = (await http.get("/voices")).json()["voices"]
            assert [voice["name"] for voice in listed] == ["Anna", "小明"]

            changed = await http.patch("/voices/anna", json={"name": "Anja", "transcript": ""})
            assert changed.status_code == 200
            assert changed.json() == told | {"name": "Anja", "transcript": ""}
            noted = await http.patch(f"/voices/{told['id']}", data={"description": "Calm."})
            assert noted.json()["description"] == "Calm."
            assert (await http.get("/voices/Anna")).status_code == 404

            gone = await http.delete("/voices/ANJA")
            assert (gone.status_code, gone.content) == (204, b"")
            assert (await http.delete("/voices/Anja")).status_code == 404
            assert len((await http.get("/voices")).json()["voices"]) == 1

    run(work())


def test_a_damaged_voice_is_listed_and_deleted(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            for name in ("Anna", "Ben"):
                made = await http.post("/voices", data=GOOD | {"name": name}, files=UPLOAD)
            damaged = made.json()["id"]
            (tmp_path / "voices" / f"{damaged}.voice").write_bytes(b"damaged")
            listed = (await http.get("/voices")).json()
            assert [voice["name"] for voice in listed["voices"]] == ["Anna"]
            assert listed["damaged"] == [damaged]
            refused = await http.get(f"/voices/{damaged}")
            assert refused.status_code == 404
            assert "damaged; delete it" in refused.json()["detail"]
            assert (await http.delete(f"/voices/{damaged}")).status_code == 204
            assert (await http.get("/voices")).json()["damaged"] == []
            assert not (tmp_path / "voices" / f"{damaged}.voice").exists()

    run(work())


@pytest.mark.parametrize("field", ["audio", "speaker_file"])
@pytest.mark.parametrize("is_json", [False, True])
def test_every_kind_of_body_saves(tmp_path: Path, field: str, is_json: bool) -> None:
    fields = {"name": "Anna", "prompt_text": "Good evening.", "description": "Calm."}

    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            body: dict[str, Any] = {"data": fields, "files": {field: ("voice.wav", AUDIO)}}
            if is_json:
                body = {"json": fields | {field: base64.b64encode(AUDIO).decode()}}
            made = await http.post("/voices", **body)
            assert made.status_code == 201, made.text
            assert made.json()["transcript"] == "Good evening."
            assert made.json()["description"] == "Calm."

    run(work())


@pytest.mark.parametrize(
    ("fields", "files", "status", "says"),
    [
        ({}, UPLOAD, 422, "name is missing"),
        (GOOD, {}, 422, "audio is missing"),
        (GOOD | {"nam": "b"}, UPLOAD, 422, "did you mean name?"),
        (GOOD | {"prompt_text": "b"}, UPLOAD, 422, "send one of them"),
        (GOOD | {"name": "../../etc/passwd"}, UPLOAD, 422, "letters and digits"),
        (GOOD | {"name": "a\0b"}, UPLOAD, 422, "letters and digits"),
        (GOOD | {"name": "x" * 65}, UPLOAD, 422, "1 to 64"),
        (GOOD | {"name": "😀"}, UPLOAD, 422, "letters and digits"),
        (GOOD | {"transcript": "a" * 5001}, UPLOAD, 422, "transcript"),
        (GOOD, {"audio": ("voice.wav", b"")}, 422, "audio is empty"),
        (GOOD, {"audio": ("a", AUDIO), "speaker_file": ("b", AUDIO)}, 422, ""),
        (GOOD, {"audio": ("a", bytes(9000))}, 413, "larger than 2048 bytes"),
        (GOOD, {"audio": ("a", bytes(5 << 20))}, 413, "larger"),
    ],
)
def test_what_cannot_be_saved_is_refused_before_it_is_encoded(
    tmp_path: Path, fields: dict[str, str], files: dict[str, Any], status: int, says: str
) -> None:
    log = tmp_path / "log"

    async def work() -> None:
        async with client(
            {"log_file": str(log)}, data_dir=tmp_path / "data", max_upload_bytes=2048
        ) as http:
            # A multipart body, with or without a file.
            parts = [(name, (None, text.encode())) for name, text in fields.items()]
            answer = await http.post("/voices", files=[*parts, *files.items()])
            assert answer.status_code == status, answer.text
            assert says in answer.json()["detail"]
            assert (await http.get("/voices")).json() == {"voices": [], "damaged": []}

    run(work())
    assert encodings(log) == 0


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"{", b'{"name": 5}', b'{"name": "\\ud800", "audio": "UklGRg=="}'),
        *(b'{"name": "b", "audio": "?"}', b'{"name": "b", "audio": 5}'),
        b'{"name": "b", "transcript": "\\ud800", "audio": "UklGRg=="}',
    ],
)
def test_other_json_is_refused(tmp_path: Path, body: bytes) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            await http.post("/voices", data=GOOD, files=UPLOAD)
            head = {"Content-Type": "application/json"}
            for method, path in (("POST", "/voices"), ("PATCH", "/voices/anna")):
                answer = await http.request(method, path, content=body, headers=head)
                assert answer.status_code == 422, answer.text
                assert answer.json()["detail"].endswith(".")

    run(work())


def test_a_taken_name_is_refused_before_it_is_encoded(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def work() -> None:
        async with client({"log_file": str(log)}, data_dir=tmp_path / "data") as http:
            await http.post("/voices", data=GOOD, files=UPLOAD)
            other = {"audio": ("voice.wav", b"another")}
            again = await http.post("/voices", data=GOOD | {"name": "ANNA"}, files=other)
            assert again.status_code == 409
            assert "called Anna already" in again.json()["detail"]
            await http.post("/voices", data=GOOD | {"name": "Beth"}, files=UPLOAD)
            renamed = await http.patch("/voices/Beth", json={"name": "anna"})
            assert renamed.status_code == 409

    run(work())
    assert encodings(log) == 1


def test_of_two_that_save_one_name_at_once_one_wins(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            answers = await asyncio.gather(
                *(
                    http.post("/voices", data=GOOD, files={"audio": ("a", b"%d" % number)})
                    for number in range(6)
                )
            )
            assert sorted(answer.status_code for answer in answers) == [201, *[409] * 5]
            assert len((await http.get("/voices")).json()["voices"]) == 1

    run(work())


def test_a_recording_that_cannot_be_decoded_saves_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            bad = {"audio": ("voice.wav", b"bad")}
            answer = await http.post("/voices", data=GOOD, files=bad)
            assert answer.status_code == 422
            assert "decoded" in answer.json()["detail"]
            assert (await http.get("/voices")).json() == {"voices": [], "damaged": []}
            assert (await http.post("/voices", data=GOOD, files=UPLOAD)).status_code == 201

    run(work())


def test_one_recording_is_encoded_once(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def work(expected: int, name: str) -> None:
        async with client({"log_file": str(log)}, data_dir=tmp_path / "data") as http:
            for name_ in (name, f"{name} again"):
                await http.post("/voices", data=GOOD | {"name": name_}, files=UPLOAD)
            spoken = await http.post(
                "/tts", data={"text": "Hello."}, files={"speaker_file": ("v", AUDIO)}
            )
            assert spoken.status_code == 200, spoken.text
            health = (await http.get("/health")).json()
            assert health["cache_stats"]["references_encoded"] == expected

    run(work(1, "Anna"))
    run(work(0, "Beth"))  # a new process finds it on disk
    assert encodings(log) == 1


def test_a_saved_voice_speaks(tmp_path: Path) -> None:
    spoken = tmp_path / "spoken"

    async def work() -> None:
        async with client({"spoken_file": str(spoken)}, data_dir=tmp_path / "data") as http:
            made = (await http.post("/voices", data=GOOD, files=UPLOAD)).json()
            for voice in ("anna", made["id"]):
                answer = await http.post("/tts", data={"text": "Hello.", "voice": voice})
                assert answer.status_code == 200, answer.text
            unknown = await http.post("/tts", data={"text": "Hello.", "voice": "anne"})
            assert unknown.status_code == 404
            assert "did you mean Anna?" in unknown.json()["detail"]

    run(work())
    first, second = (json.loads(line)["references"] for line in spoken.read_text().splitlines())
    assert first == second
    assert first[0][0] == "Good evening."
    assert len(first[0][1]) == 40  # the scripted worker's ten codes


def test_limits_of_number_are_507(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def work() -> None:
        async with client({"log_file": str(log)}, data_dir=tmp_path / "data", max_voices=1) as http:
            await http.post("/voices", data=GOOD, files=UPLOAD)
            other = {"audio": ("voice.wav", b"another")}
            full = await http.post("/voices", data=GOOD | {"name": "Beth"}, files=other)
            assert full.status_code == 507
            assert "SHOAL_MAX_VOICES" in full.json()["detail"]

    run(work())
    assert encodings(log) == 1


def test_voices_are_there_before_the_worker_is(tmp_path: Path) -> None:
    async def saved() -> None:
        async with client(data_dir=tmp_path) as http:
            await http.post("/voices", data=GOOD, files=UPLOAD)

    async def starting() -> None:
        async with client({"start_s": 30.0}, is_ready=False, data_dir=tmp_path) as http:
            assert len((await http.get("/voices")).json()["voices"]) == 1
            assert (await http.patch("/voices/Anna", json={"name": "Beth"})).status_code == 200
            other = await http.post("/voices", data=GOOD, files=UPLOAD)
            assert other.status_code == 503
            assert "Retry-After" in other.headers
            assert (await http.delete("/voices/Beth")).status_code == 204

    run(saved())
    run(starting())


@pytest.mark.parametrize(
    "name",
    [
        "Bob",
        "%2e%2e",
        "%2e%2e%2fvoices",
        "a%00b",
        "%ff",
        "x" * 3000,
        "%f0%9f%98%80",
        "a;b",
        "%252f",
    ],
)
def test_any_name_may_be_asked_for(tmp_path: Path, name: str) -> None:
    async def work() -> None:
        async with server(data_dir=tmp_path) as http:
            await http.post("/voices", data=GOOD, files=UPLOAD)
            for method in ("GET", "DELETE", "PATCH"):
                body = {"json": {"name": "Beth"}} if method == "PATCH" else {}
                url = httpx.URL(http.base_url, raw_path=b"/voices/" + name.encode())
                answer = await http.request(method, url, **body)  # type: ignore[arg-type]
                assert answer.status_code == 404, (method, answer.text)
                assert answer.json()["detail"].startswith(("No voice '", "There is nothing at /"))
            assert len((await http.get("/voices")).json()["voices"]) == 1

    run(work())


def test_a_change_says_what_is_changed(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            await http.post("/voices", data=GOOD, files=UPLOAD)
            for body, says in (
                ({}, "Nothing is to be changed"),
                ({"name": None}, "Nothing is to be changed"),
                ({"transcrip": "a"}, "did you mean transcript?"),
                ({"name": ""}, "name is empty"),
                ({"audio": "UklGRg=="}, "Unknown field"),
            ):
                answer = await http.patch("/voices/Anna", json=body)
                assert answer.status_code == 422
                assert says in answer.json()["detail"]
            file = {"name": ("a", b"Beth")}
            assert (await http.patch("/voices/Anna", files=file)).status_code == 422
            assert (await http.get("/voices")).json()["voices"][0]["name"] == "Anna"

    run(work())


def test_who_hangs_up_while_it_is_encoded_saves_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def work() -> None:
        async with server({"log_file": str(log)}, data_dir=tmp_path / "data") as http:
            with pytest.raises(httpx.ReadTimeout):
                waiting = {"audio": ("voice.wav", b"wait")}
                await http.post(
                    "/voices", data=GOOD, files=waiting, timeout=httpx.Timeout(30, read=0.5)
                )
            while "Abort" not in log.read_text():
                await asyncio.sleep(0.02)
            assert (await http.get("/voices")).json() == {"voices": [], "damaged": []}
            assert (await http.post("/voices", data=GOOD, files=UPLOAD)).status_code == 201

    run(work())


def test_the_document_shows_it_all(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(is_ready=False, data_dir=tmp_path) as http:
            paths = (await http.get("/openapi.json")).json()["paths"]
            create = paths["/voices"]["post"]
            assert {"201", "409", "413", "422", "503", "504", "507"} <= create["responses"].keys()
            assert "Location" in create["responses"]["201"]["headers"]
            for content in create["requestBody"]["content"].values():
                assert {"name", "audio", "transcript"} <= content["schema"]["properties"].keys()
                assert content["example"]["name"]
            one = paths["/voices/{name}"]
            assert {"404", "409", "422"} <= one["patch"]["responses"].keys()
            assert "404" in one["get"]["responses"]
            assert {"204", "404"} <= one["delete"]["responses"].keys()

    run(work())
