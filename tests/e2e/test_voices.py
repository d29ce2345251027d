"""Saved voices with a real server and the shipped voice: they outlive `kill -9`."""

import io
import wave
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import psutil
import pytest
import soundfile

from backend.voices import sealed
from tests.e2e.serving import Served, serving
from training.demo_voice.measure import Samples, level_dbfs
from training.demo_voice.pitch import median_pitch_hz

pytestmark = pytest.mark.timeout(300)

SAID = "The children walked home along the river, and nobody said a word until dark."


def speak(server: Served, text: str, files: Any = None, **fields: str) -> httpx.Response:
    answer = httpx.post(
        f"{server.url}/tts", data={"text": text, "seed": "1", **fields}, files=files, timeout=240
    )
    assert answer.status_code == 200, answer.text
    return answer


def encoded(server: Served) -> int:
    """Recordings that this process has had to encode."""
    stats = httpx.get(f"{server.url}/health").json()["cache_stats"]
    return int(stats["references_encoded"])


def seconds(audio: bytes) -> float:
    with wave.open(io.BytesIO(audio)) as file:
        return float(file.getnframes() / file.getframerate())


def kill_9(server: Served) -> None:
    """End the server and its worker as an out-of-memory killer would."""
    processes = [server.process, *server.process.children(recursive=True)]
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, 20)


def test_a_voice_outlives_kill_9_and_is_encoded_once(tmp_path: Path) -> None:
    data_dir = str(tmp_path)
    with serving(SHOAL_DATA_DIR=data_dir, SHOAL_SHIPPED_VOICES="false") as server:
        recording = speak(server, SAID).content
        upload = {"audio": ("voice.wav", recording)}
        made = httpx.post(
            f"{server.url}/voices",
            data={"name": "Anna", "transcript": SAID},
            files=upload,
            timeout=120,
        )
        assert made.status_code == 201, made.text
        voice = made.json()
        assert 0 < voice["audio_s"] <= seconds(recording) + 0.1
        assert encoded(server) == 1
        again = {"speaker_file": ("voice.wav", recording)}
        from_file = speak(server, "The rain has stopped.", again, prompt_text=SAID).content
        speak(server, "The rain has stopped.", again, prompt_text=SAID)
        assert encoded(server) == 1, "the same recording was encoded again"
        saved = speak(server, "The rain has stopped.", voice="anna").content
        assert saved == from_file  # the same codes, the same transcript, the same seed
        kill_9(server)

    with serving(SHOAL_DATA_DIR=data_dir, SHOAL_SHIPPED_VOICES="false") as server:
        assert httpx.get(f"{server.url}/voices").json() == {
            "voices": [{k: v for k, v in voice.items() if k != "warnings"}],
            "damaged": [],
        }
        assert speak(server, "The rain has stopped.", voice=voice["id"]).content == saved
        speak(server, "The rain has stopped.", again, prompt_text=SAID)
        assert encoded(server) == 0, "what is on disk was encoded again"
        renamed = httpx.patch(f"{server.url}/voices/Anna", json={"name": "Anja"})
        assert renamed.status_code == 200
        kill_9(server)

    with serving(SHOAL_DATA_DIR=data_dir, SHOAL_SHIPPED_VOICES="false") as server:
        assert httpx.get(f"{server.url}/voices/anja").json()["id"] == voice["id"]
        assert httpx.delete(f"{server.url}/voices/anja").status_code == 204
        assert httpx.get(f"{server.url}/voices").json() == {"voices": [], "damaged": []}


def sound(audio: bytes) -> tuple[Samples, int]:
    samples, rate_hz = soundfile.read(io.BytesIO(audio), dtype="float32")
    return samples, rate_hz


def save(server: Served, name: str, recording: bytes) -> None:
    files = {"audio": ("voice.wav", recording)}
    fields = {"name": name, "transcript": SAID}
    httpx.post(f"{server.url}/voices", data=fields, files=files, timeout=120).raise_for_status()


def test_a_voice_is_heard_taken_along_and_brought_back(server: Served) -> None:
    url = f"{server.url}/voices"
    recording = speak(server, SAID).content
    save(server, "小明", recording)
    voice = httpx.get(f"{url}/小明").json()
    first = speak(server, "The rain has stopped.", voice="小明").content

    heard = httpx.get(f"{url}/小明/audio", timeout=60).raise_for_status()
    (sample, rate_hz), (said, _) = sound(heard.content), sound(recording)
    assert len(sample) / rate_hz == pytest.approx(voice["audio_s"], abs=0.01)
    assert len(sample) / rate_hz > 0.5
    assert np.abs(sample).max() < 0.999
    assert level_dbfs(sample) == pytest.approx(level_dbfs(said), abs=3)
    pitch_hz = median_pitch_hz(said, rate_hz)
    assert median_pitch_hz(sample, rate_hz) == pytest.approx(pitch_hz, rel=0.1)
    again = httpx.get(f"{url}/{voice['id']}/audio", timeout=60).raise_for_status()
    assert again.content == heard.content

    file = httpx.get(f"{url}/小明/export").raise_for_status()
    assert "filename*=UTF-8''%E5%B0%8F%E6%98%8E.voice" in file.headers["Content-Disposition"]
    assert httpx.delete(f"{url}/小明").status_code == 204
    assert httpx.get(f"{url}/小明/audio").status_code == 404
    upload = {"file": ("a.voice", file.content)}
    back = httpx.post(f"{url}/import", files=upload).raise_for_status()
    assert back.json() == voice | {"id": back.json()["id"], "warnings": []}
    assert back.json()["id"] != voice["id"]
    assert speak(server, "The rain has stopped.", voice="小明").content == first
    assert httpx.get(f"{url}/小明/audio", timeout=60).content == heard.content


def test_a_long_voice_is_heard_for_ten_seconds_while_others_speak(server: Served) -> None:
    recording = speak(server, " ".join([SAID] * 5), long_text="split").content
    assert seconds(recording) > 12
    save(server, "Long", recording)
    with ThreadPoolExecutor(4) as pool:
        speaking = [pool.submit(speak, server, SAID) for _ in range(2)]
        hearing = [
            pool.submit(httpx.get, f"{server.url}/voices/Long/audio", timeout=120) for _ in range(2)
        ]
        samples = [task.result().raise_for_status().content for task in hearing]
        spoken = [task.result() for task in speaking]
    assert samples[0] == samples[1]
    assert 9.9 < seconds(samples[0]) <= 10.0
    assert all(seconds(answer.content) > 2 for answer in spoken)


def test_codes_that_no_codec_knows_do_no_harm(server: Served) -> None:
    save(server, "Odd", speak(server, SAID).content)
    file = httpx.get(f"{server.url}/voices/Odd/export").raise_for_status().content
    raw = msgspec.msgpack.decode(file[22:])
    raw["codes"] = b"\xff" * len(raw["codes"])
    upload = {"file": ("a.voice", sealed.seal(raw))}
    hostile = httpx.post(f"{server.url}/voices/import", files=upload, data={"name": "Hostile"})
    assert hostile.status_code == 201
    pid = server.worker().pid
    heard = httpx.get(f"{server.url}/voices/Hostile/audio")
    spoken = httpx.post(f"{server.url}/tts", data={"text": SAID, "voice": "Hostile"})
    for answer in (heard, spoken):
        assert answer.status_code == 422
        assert "codes that this checkpoint does not know" in answer.json()["detail"]
    assert server.worker().pid == pid
