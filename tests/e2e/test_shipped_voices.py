"""Voices that a checkpoint ships, made by its maker's command, spoken by name by a real server."""

import asyncio
import io
import json
import shutil
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import soundfile
from websockets.asyncio.client import connect

from backend.settings import SHIPPED_VOICE_DIR
from backend.voices.shipped import VOICES_FOLDER
from tests.e2e.serving import Served, serving
from tests.recordings import speech_like
from training.demo_voice import voices

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parent.parent.parent
RATE_HZ = 16_000
SAID = "What is said in it."
VOICES = {"Low": 110.0, "High": 220.0}
"""Pitches in Hz."""
TEXT = "The rain has stopped."


def recording(pitch_hz: float) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, speech_like(4.0, RATE_HZ, pitch_hz), RATE_HZ, "PCM_16", format="WAV")
    return file.getvalue()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped one with two voices, made as a checkpoint's maker does, and a torn file."""
    folder = tmp_path_factory.mktemp("checkpoint") / "with-voices"
    shutil.copytree(SHIPPED_VOICE_DIR, folder, ignore=shutil.ignore_patterns(VOICES_FOLDER))
    recordings = tmp_path_factory.mktemp("recordings")
    for name, pitch_hz in VOICES.items():
        (recordings / f"{name}.wav").write_bytes(recording(pitch_hz))
        (recordings / f"{name}.txt").write_text(f"{SAID}\n\nA {name.lower()} one.\n", "utf-8")
    (folder / VOICES_FOLDER).mkdir()
    (folder / VOICES_FOLDER / "Older.voice").write_bytes(b"of another codec")
    command = (sys.executable, "-m", voices.__name__)
    given = ("--recordings", str(recordings), "--checkpoint", str(folder))
    made = subprocess.run((*command, *given), check=False, cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    files = sorted((folder / VOICES_FOLDER).iterdir())
    assert [file.name for file in files] == ["High.voice", "Low.voice"]
    assert [line.partition(":")[0] for line in made.stdout.splitlines()] == ["High", "Low"]
    (folder / VOICES_FOLDER / "Torn.voice").write_bytes(files[0].read_bytes()[:-9])
    return folder


@pytest.fixture(scope="module")
def server(checkpoint: Path) -> Iterator[Served]:
    with serving(SHOAL_MODEL_DIR=str(checkpoint)) as served:
        yield served


def spoken(server: Served, path: str = "/tts", **sent: Any) -> bytes:
    body = {"seed": 1, "response_format": "wav", **sent}
    answer = httpx.post(f"{server.url}{path}", json=body, timeout=240)
    assert answer.status_code == 200, answer.text
    return answer.content


def frames(audio: bytes) -> bytes:
    with wave.open(io.BytesIO(audio)) as file:
        return bytes(file.readframes(file.getnframes()))


def test_they_are_listed_and_a_torn_one_is_told(server: Served) -> None:
    listed = httpx.get(f"{server.url}/voices").json()
    assert listed["damaged"] == []
    found = {voice["name"]: voice for voice in listed["voices"]}
    assert found.keys() == VOICES.keys()
    assert all(voice["is_shipped"] for voice in found.values())
    assert found["Low"]["transcript"] == SAID
    assert found["Low"]["description"] == "A low one."
    told = [line for line in server.log if "left out" in line]
    assert len(told) == 1
    assert "Torn.voice: its digest is another's" in told[0]
    openai = httpx.get(f"{server.url}/v1/audio/voices").json()
    assert {each["name"] for each in openai["data"] if each["is_shipped"]} == VOICES.keys()
    assert VOICES.keys() <= {each["id"] for each in openai["voices"]}
    fish = httpx.get(f"{server.url}/model").json()
    assert {each["title"] for each in fish["items"]} == VOICES.keys()
    wanted = {"Accept": "application/json"}
    references = httpx.get(f"{server.url}/v1/references/list", headers=wanted).json()
    assert set(references["reference_ids"]) == VOICES.keys()


@pytest.mark.parametrize("name", VOICES)
def test_one_speaks_as_its_recording_does(server: Served, name: str) -> None:
    files = {"speaker_file": ("voice.wav", recording(VOICES[name]))}
    fields = {"text": TEXT, "seed": "1", "prompt_text": SAID}
    sent = httpx.post(f"{server.url}/tts", data=fields, files=files, timeout=240)
    by_name = spoken(server, text=TEXT, voice=name)
    assert by_name == sent.raise_for_status().content
    assert by_name != spoken(server, text=TEXT)


def test_every_route_speaks_in_it(server: Served) -> None:
    low = frames(spoken(server, text=TEXT, voice="Low"))
    openai = {"model": "tts-1", "input": TEXT, "voice": "low"}
    assert frames(spoken(server, "/v1/audio/speech", **openai)) == low
    voice_id = httpx.get(f"{server.url}/voices/Low").json()["id"]
    assert frames(spoken(server, "/v1/audio/speech", **openai | {"voice": {"id": voice_id}})) == low
    fish = {"text": TEXT, "reference_id": "Low", "format": "wav", "seed": 1}
    answer = httpx.post(f"{server.url}/v1/tts", json=fish, timeout=240).raise_for_status()
    plain = frames(spoken(server, text=TEXT))
    assert len(answer.content) > len(plain) / 4
    lines = [{"text": TEXT, "voice": "Low"}, {"text": TEXT, "voice": "High"}]
    dialogue = frames(spoken(server, dialogue=lines))
    assert dialogue[: len(low) // 2] == low[: len(low) // 2]
    assert len(dialogue) > 1.3 * len(low)
    sample = httpx.get(f"{server.url}/voices/High/audio", timeout=60).raise_for_status()
    assert len(frames(sample.content)) > 2 * RATE_HZ


def test_live_text_is_spoken_in_it(server: Served) -> None:
    async def work() -> tuple[dict[str, Any], int]:
        heard, done = 0, {}
        async with connect(f"{server.url.replace('http', 'ws')}/v1/audio/stream") as socket:
            await socket.send(json.dumps({"type": "session.start", "voice": "High", "seed": 1}))
            await socket.send(json.dumps({"type": "text", "text": TEXT}))
            await socket.send(json.dumps({"type": "end"}))
            async for frame in socket:
                if isinstance(frame, bytes):
                    heard += len(frame)
                else:
                    done = json.loads(frame)
        return done, heard

    done, heard = asyncio.run(work())
    assert done["type"] == "done", done
    assert heard > RATE_HZ


def test_it_stays_and_a_saved_one_goes_before_it(server: Served) -> None:
    url = f"{server.url}/voices"
    for answer in (
        httpx.delete(f"{url}/low"),
        httpx.patch(f"{url}/Low", json={"name": "Mine"}),
        httpx.delete(f"{server.url}/model/Low"),
        httpx.request("DELETE", f"{server.url}/v1/references/delete", json={"reference_id": "Low"}),
    ):
        assert answer.status_code == 409
        assert "The voice Low ships with the checkpoint and stays as it is" in answer.text
    shipped = spoken(server, text=TEXT, voice="Low")
    form: dict[str, Any] = {"data": {"name": "LOW"}, "files": {"audio": recording(300.0)}}
    own = httpx.post(url, **form, timeout=60)
    assert own.status_code == 201, own.text
    assert spoken(server, text=TEXT, voice="Low") != shipped
    names = [voice["name"] for voice in httpx.get(url).json()["voices"]]
    assert names == ["High", "LOW"]
    assert httpx.delete(f"{url}/low").status_code == 204
    assert spoken(server, text=TEXT, voice="Low") == shipped


def test_it_can_be_the_default_and_they_can_be_left_out(server: Served, checkpoint: Path) -> None:
    wanted = spoken(server, text=TEXT, voice="Low")
    folder = str(checkpoint)
    with serving(SHOAL_MODEL_DIR=folder, SHOAL_DEFAULT_VOICE="Low") as other:
        assert spoken(other, text=TEXT) == wanted
    with serving(SHOAL_MODEL_DIR=folder, SHOAL_SHIPPED_VOICES="false") as other:
        assert httpx.get(f"{other.url}/voices").json()["voices"] == []
        unknown = httpx.post(f"{other.url}/tts", json={"text": TEXT, "voice": "Low"})
        assert unknown.status_code == 404
