"""Servers that share voices in a bucket, over HTTP, and what becomes of them when it is gone."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from backend.voices import remote, store
from backend.voices.voice import VOICE_SUFFIX
from tests.s3 import S3, SECRET, local_s3
from tests.scripted import client

AUDIO = {"audio": ("voice.wav", b"RIFF a recording")}


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    monkeypatch.setattr(remote, "PATIENCE_S", 60.0)
    monkeypatch.setattr(store, "MISSED_S", 0.0)  # nothing here is asked for in vain
    with local_s3(monkeypatch) as found:
        yield found


def test_what_is_saved_at_one_server_is_spoken_at_another(s3: S3, tmp_path: Path) -> None:
    where, log = f"s3://{s3.bucket()}/ours", tmp_path / "log"

    async def work() -> None:
        async with (
            client(data_dir=tmp_path / "1", shared_dir=where) as one,
            client({"log_file": str(log)}, data_dir=tmp_path / "2", shared_dir=where) as other,
        ):
            made = await one.post("/voices", data={"name": "Anna"}, files=AUDIO)
            assert made.status_code == 201, made.text
            spoken = await other.post("/tts", data={"text": "Hello.", "voice": "anna"})
            assert spoken.status_code == 200, spoken.text
            again = await other.post("/voices", data={"name": "ANNA"}, files=AUDIO)
            assert again.status_code == 409
            # The recording was encoded by the first: the worker of the second is not asked.
            assert (await other.post("/voices", data={"name": "Ben"}, files=AUDIO)).is_success
            assert (await one.get("/voices/ben")).json()["name"] == "Ben"
        assert "EncodeVoice" not in log.read_text().split()
        assert not list((tmp_path / "1").rglob(f"*{VOICE_SUFFIX}"))

    asyncio.run(work())


def test_speech_goes_on_without_it(s3: S3, tmp_path: Path) -> None:
    bucket = s3.bucket()
    s3.stop()

    async def work() -> None:
        async with client(data_dir=tmp_path, shared_dir=f"s3://{bucket}/ours") as http:
            for voice in ({}, {"voice": ""}):
                assert (await http.post("/tts", data={"text": "Hello.", **voice})).is_success
            assert (
                await http.post(
                    "/tts",
                    data={"text": "Hello."},
                    files={"speaker_file": ("voice.wav", b"RIFF another recording")},
                )
            ).is_success
            built_in = {"input": "Hello.", "voice": "alloy", "model": "tts-1"}
            assert (await http.post("/v1/audio/speech", json=built_in)).is_success
            refused = [
                await http.post("/tts", data={"text": "Hello.", "voice": "Anna"}),
                await http.post("/voices", data={"name": "Anna"}, files=AUDIO),
                await http.get("/voices"),
                await http.get("/voices/Anna"),
                await http.delete("/voices/Anna"),
                await http.get("/v1/audio/voices"),
                await http.get("/model"),
                await http.get("/v1/references/list"),
            ]
            for answer in refused:
                assert answer.status_code == 503, (answer.url, answer.text)
                assert "SHOAL_SHARED_DIR" in answer.text and "Without voice" in answer.text
                assert SECRET not in answer.text and s3.url not in answer.text
                assert int(answer.headers["Retry-After"]) > 0

    asyncio.run(work())
