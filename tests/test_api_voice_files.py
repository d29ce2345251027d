"""A saved voice heard, exported and imported over HTTP; the worker is scripted, the store real."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import msgspec
import numpy as np
import pytest

from backend.core import AudioFormat
from backend.voices import sealed
from backend.voices.voice import MAX_FILE_BYTES
from tests.heard import FORMATS, heard, pitch_of
from tests.scripted import client, server

AUDIO = b"RIFF a recording"
UPLOAD = {"audio": ("voice.wav", AUDIO)}
GOOD = {"name": "Anna", "transcript": "Good evening."}
RATE_HZ, FRAME_SAMPLES, FRAMES = 8_000, 80, 10
HEAD_BYTES = 22


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


async def made(http: httpx.AsyncClient, name: str = "Anna") -> dict[str, Any]:
    answer = await http.post("/voices", data=GOOD | {"name": name}, files=UPLOAD)
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def exported(http: httpx.AsyncClient, name: str = "Anna") -> bytes:
    return (await http.get(f"/voices/{name}/export")).raise_for_status().content


async def imported(http: httpx.AsyncClient, file: bytes, **fields: str) -> httpx.Response:
    upload = {"file": ("a.voice", file)}
    return await http.post("/voices/import", files=upload, data=fields)


async def saved(http: httpx.AsyncClient, codes: bytes, name: str, **fields: Any) -> None:
    """A voice of those codes, which may hold a command for the scripted worker."""
    await made(http, "template")
    raw = msgspec.msgpack.decode((await exported(http, "template"))[HEAD_BYTES:])
    frames = len(codes) // 2
    raw["codes"] = codes
    raw["voice"] |= {"frames": frames, "audio_s": frames / 100, **fields}
    answer = await imported(http, sealed.seal(raw), name=name)
    assert answer.status_code == 201, answer.text
    await http.delete("/voices/template")


# -- a sample --------------------------------------------------------------------------------------


@pytest.mark.parametrize("audio_format", FORMATS)
def test_a_voice_is_heard_in_every_format(tmp_path: Path, audio_format: AudioFormat) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            await saved(http, b"." * 2 * 100, "Anna")
            url = f"/voices/ANNA/audio?response_format={audio_format}"
            answer = await http.get(url)
            assert answer.status_code == 200, answer.text
            sound, rate_hz = heard(answer.content, audio_format, RATE_HZ)
            assert len(sound) / rate_hz == pytest.approx(1.0, abs=0.2)
            assert np.abs(sound).max() > 0.3
            assert pitch_of(sound, rate_hz) == pytest.approx(440, abs=15)
            assert int(answer.headers["Content-Length"]) == len(answer.content)
            assert answer.headers["Cache-Control"] == "private, max-age=60"
            spoken = await http.post(
                "/tts", data={"text": "Hello.", "response_format": audio_format}
            )
            assert answer.headers["Content-Type"] == spoken.headers["Content-Type"]

    run(work())


def test_a_sample_is_wav_by_name_or_id_and_ten_seconds_at_most(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def work() -> None:
        async with client({"log_file": str(log)}, data_dir=tmp_path / "data") as http:
            told = await made(http)
            for name in ("Anna", "aNNA", told["id"]):
                answer = await http.get(f"/voices/{name}/audio")
                assert answer.headers["Content-Type"] == "audio/wav"
                assert len(heard(answer.content, "wav", RATE_HZ)[0]) == FRAMES * FRAME_SAMPLES
            # A minute, which the worker refuses behind its first ten seconds.
            await saved(http, b"." * 2 * 1000 + b"bad" * 2000 + b"." * 4000, "Long")
            long = await http.get("/voices/Long/audio")
            assert len(heard(long.content, "wav", RATE_HZ)[0]) == 10 * RATE_HZ
            await http.get("/voices/Anna/audio", headers={"X-Timeout-S": "5"})

    run(work())
    assert log.read_text().split().count("DecodeCodes") == 5


def test_who_cannot_be_heard(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def work() -> None:
        async with client({"log_file": str(log)}, data_dir=tmp_path / "data") as http:
            await made(http)
            await saved(http, bytes(20), "Other", codec_id="another")
            asked = [
                ("/voices/Ana/audio", 404, "did you mean Anna?"),
                ("/voices/Other/audio", 409, "another codec"),
                ("/voices/Anna/audio?response_format=midi", 422, "response_format"),
                ("/voices/Anna/audio?response_format=", 422, "response_format"),
            ]
            for path, status, says in asked:
                answer = await http.get(path)
                assert answer.status_code == status, answer.text
                assert says in answer.json()["detail"]
            wrong = await http.get("/voices/Anna/audio", headers={"X-Timeout-S": "soon"})
            assert wrong.status_code == 422
            assert (await http.delete("/voices/Anna/audio")).status_code == 405

    run(work())
    assert "DecodeCodes" not in log.read_text()


def test_a_worker_that_is_down_or_goes_down_is_503(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            await made(http)
            await saved(http, b"crash".ljust(20, b"."), "Crash")
            await saved(http, b"bad".ljust(20, b"."), "Bad")
            unknown = await http.get("/voices/Bad/audio")
            assert (unknown.status_code, unknown.json()["detail"][:20]) == (
                *(422, "The reference voice "),
            )
            crashed = await http.get("/voices/Crash/audio")
            assert crashed.status_code == 503
            assert "Retry-After" in crashed.headers

    async def starting() -> None:
        async with client({"start_s": 30.0}, is_ready=False, data_dir=tmp_path) as http:
            answer = await http.get("/voices/Anna/audio")
            assert answer.status_code == 503
            assert "Retry-After" in answer.headers
            assert (await http.get("/voices/Anna/export")).status_code == 200

    run(work())
    run(starting())


def test_a_sample_waits_its_turn_up_to_its_deadline(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path, max_batch=1, queue_limit=1) as http:
            await made(http)
            await saved(http, b"wait".ljust(20, b"."), "Slow")
            late = await http.get("/voices/Slow/audio", headers={"X-Timeout-S": "0.2"})
            assert late.status_code == 504
            assert (await http.get("/voices/Anna/audio")).status_code == 200, "the codec is free"

            async def slow() -> httpx.Response:
                return await http.get("/voices/Slow/audio", headers={"X-Timeout-S": "3"})

            busy = [asyncio.create_task(slow()) for _ in range(2)]
            while (await http.get("/health")).json()["queue"]["waiting"] != 2:
                await asyncio.sleep(0)  # neither is a sentence: the other waits for the one decoded
            full = await http.get("/voices/Anna/audio")
            assert full.status_code == 503
            assert "queue is full" in full.json()["detail"]
            leased = (await http.get("/health")).json()["cache_stats"]["leased_mb"]
            assert leased > 0
            for task in busy:
                assert (await task).status_code == 504
            assert (await http.get("/health")).json()["cache_stats"]["leased_mb"] == 0

    run(work())


def test_who_hangs_up_while_it_is_decoded_gives_it_up(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def work() -> None:
        async with server({"log_file": str(log)}, data_dir=tmp_path / "data", max_batch=1) as http:
            await saved(http, b"wait".ljust(20, b"."), "Slow")
            await made(http)
            with pytest.raises(httpx.ReadTimeout):
                await http.get("/voices/Slow/audio", timeout=httpx.Timeout(30, read=0.5))
            while "Abort" not in log.read_text():
                await asyncio.sleep(0.02)
            assert (await http.get("/voices/Anna/audio")).status_code == 200

    run(work())


# -- a file ----------------------------------------------------------------------------------------


def test_a_voice_moves_to_another_server(tmp_path: Path) -> None:
    spoken = tmp_path / "spoken"

    async def work() -> None:
        async with client({"spoken_file": str(spoken)}, data_dir=tmp_path / "a") as http:
            told = await made(http)
            assert (await http.patch("/voices/Anna", json={"description": "Calm."})).is_success
            answer = await http.get("/voices/anna/export")
            assert answer.status_code == 200
            assert answer.headers["Content-Type"] == "application/octet-stream"
            (file,) = (tmp_path / "a" / "voices").iterdir()
            assert answer.content == file.read_bytes()
            assert (await http.get(f"/voices/{told['id']}/export")).content == answer.content
            await http.post("/tts", data={"text": "Hello.", "voice": "Anna", "seed": "1"})
        async with client({"spoken_file": str(spoken)}, data_dir=tmp_path / "b") as http:
            moved = await imported(http, answer.content)
            assert moved.status_code == 201, moved.text
            here = moved.json()
            assert here == told | {"id": here["id"], "description": "Calm."}
            assert here["id"] != told["id"]
            assert moved.headers["Location"] == f"/voices/{here['id']}"
            found = await http.get(moved.headers["Location"])
            assert found.json() == {k: v for k, v in here.items() if k != "warnings"}
            again = await imported(http, answer.content)
            assert again.status_code == 409
            renamed = await imported(http, answer.content, name="小明")
            assert renamed.json()["name"] == "小明"
            empty = await imported(http, answer.content, name="")
            assert empty.status_code == 409, "as it was called there"
            await http.post("/tts", data={"text": "Hello.", "voice": "Anna", "seed": "1"})

    run(work())
    first, second = spoken.read_text().splitlines()
    assert first == second
    assert "Good evening." in first


@pytest.mark.parametrize("name", ["Anna", "Anna M. 2", "Zoë", "小明", "हिन्दी", "Анна-Мария_2"])
def test_the_file_is_named_after_the_voice(tmp_path: Path, name: str) -> None:
    async def work() -> None:
        async with server(data_dir=tmp_path) as http:
            await made(http, name)
            answer = await http.get(f"/voices/{name}/export")
            plain, extended = answer.headers["Content-Disposition"].split("; ")[1:]
            assert extended.startswith("filename*=UTF-8''")
            assert unquote(extended.removeprefix("filename*=UTF-8''")) == f"{name}.voice"
            assert plain.startswith('filename="') and plain.endswith('.voice"')
            assert plain.count('"') == 2
            if name.isascii():
                assert plain == f'filename="{name}.voice"'

    run(work())


def test_a_voice_may_be_called_import(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            told = await made(http, "import")
            for name in ("import", told["id"]):
                assert (await http.get(f"/voices/{name}")).json()["id"] == told["id"]
            assert (await http.get("/voices/import/audio")).status_code == 200
            file = await exported(http, "import")
            assert (await http.patch("/voices/import", json={"name": "export"})).status_code == 200
            assert (await imported(http, file)).status_code == 201
            assert (await http.delete("/voices/import")).status_code == 204
            assert len((await http.get("/voices")).json()["voices"]) == 1

    run(work())


def test_another_codecs_voice_is_imported_with_a_warning(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path / "a") as http:
            await made(http)
            file = await exported(http)
            raw = msgspec.msgpack.decode(file[HEAD_BYTES:])
            raw["voice"]["codec_id"] = "another"
            answer = await imported(http, sealed.seal(raw), name="Other")
            assert answer.status_code == 201
            (warning,) = answer.json()["warnings"]
            assert "Other was made under a checkpoint with another codec" in warning
            refused = await http.post("/tts", data={"text": "Hello.", "voice": "Other"})
            assert refused.status_code == 409
        async with client({"start_s": 30.0}, is_ready=False, data_dir=tmp_path / "b") as http:
            answer = await imported(http, file)
            assert answer.status_code == 201
            assert "not ready" in answer.json()["warnings"][0]

    run(work())


def test_what_cannot_be_imported(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path, max_voices=2) as http:
            await made(http)
            file = await exported(http)
            nan = msgspec.msgpack.decode(file[HEAD_BYTES:])
            nan["voice"]["audio_s"] = float("nan")
            flipped = bytearray(file)
            flipped[-1] ^= 1
            part = ("a.voice", file)
            asked: list[tuple[Any, int, str]] = [
                ([("file", ("a", b""))], 422, "damaged"),
                ([("file", ("a", file[:-1]))], 422, "damaged"),
                ([("file", ("a", bytes(flipped)))], 422, "damaged"),
                ([("file", ("a", AUDIO))], 422, "no exported voice"),
                ([("file", ("a", sealed.seal(nan)))], 422, "audio_s"),
                ([("file", ("a", bytes(MAX_FILE_BYTES + 1)))], 413, "larger than any voice"),
                ([("file", ("a", bytes(MAX_FILE_BYTES + (1 << 17))))], 413, "larger"),
                ([("file", part), ("file", part)], 422, ""),
                ([("file", part), ("name", (None, b"a")), ("name", (None, b"b"))], 422, "once"),
                ([("file", part), ("name", ("a", b"Beth"))], 422, ""),
                ([("file", part), ("nam", (None, b"Beth"))], 422, "Unknown field 'nam'"),
                ([("file", part), ("name", (None, b"../Beth"))], 422, "letters and digits"),
                ([("file", (None, file[:20]))], 422, "file is missing"),
                ([("name", (None, b"Beth"))], 422, "file is missing"),
                ([("file", part)], 409, "called Anna already"),
            ]
            for parts, status, says in asked:
                answer = await http.post("/voices/import", files=parts)
                assert answer.status_code == status, (says, answer.text)
                assert says in answer.json()["detail"]
            for head, body in (
                ("application/json", b"{}"),
                ("application/octet-stream", file),
                ("multipart/form-data", file),
                ("multipart/form-data; boundary=x", file),
                ("application/x-www-form-urlencoded", b"file=5"),
            ):
                headers = {"Content-Type": head}
                answer = await http.post("/voices/import", content=body, headers=headers)
                assert answer.status_code == 422, answer.text
            assert len((await http.get("/voices")).json()["voices"]) == 1
            assert (await imported(http, file, name="Beth")).status_code == 201
            full = await imported(http, file, name="Cleo")
            assert full.status_code == 507
            assert "SHOAL_MAX_VOICES" in full.json()["detail"]

    run(work())


def test_an_unknown_voice_is_not_exported(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path) as http:
            await made(http)
            answer = await http.get("/voices/Ana/export")
            assert answer.status_code == 404
            assert "did you mean Anna?" in answer.json()["detail"]
            (file,) = (tmp_path / "voices").iterdir()
            file.write_bytes(file.read_bytes()[:-1])
            damaged = await http.get("/voices/Anna/export")
            assert damaged.status_code == 404

    run(work())
