"""Saved voices with a real server and the shipped voice: they outlive `kill -9`."""

import io
import wave
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.serving import Served, serving

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
    with serving(SHOAL_DATA_DIR=data_dir) as server:
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

    with serving(SHOAL_DATA_DIR=data_dir) as server:
        assert httpx.get(f"{server.url}/voices").json() == {
            "voices": [{k: v for k, v in voice.items() if k != "warnings"}]
        }
        assert speak(server, "The rain has stopped.", voice=voice["id"]).content == saved
        speak(server, "The rain has stopped.", again, prompt_text=SAID)
        assert encoded(server) == 0, "what is on disk was encoded again"
        renamed = httpx.patch(f"{server.url}/voices/Anna", json={"name": "Anja"})
        assert renamed.status_code == 200
        kill_9(server)

    with serving(SHOAL_DATA_DIR=data_dir) as server:
        assert httpx.get(f"{server.url}/voices/anja").json()["id"] == voice["id"]
        assert httpx.delete(f"{server.url}/voices/anja").status_code == 204
        assert httpx.get(f"{server.url}/voices").json() == {"voices": []}
