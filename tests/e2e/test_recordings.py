"""What a phone and a browser record is spoken in, on the routes that take a recording."""

import io

import httpx
import numpy as np
import pytest
import soundfile

from tests.e2e.serving import RATE_HZ, Served
from tests.recordings import encoded
from training.demo_voice.espeak_reader import SAMPLE_RATE_HZ, Speaker, read_aloud
from training.demo_voice.measure import level_dbfs

pytestmark = pytest.mark.timeout(300)

SAID = "The children walked home along the river, and nobody said a word until dark."
RECORDED = {
    "voice.m4a": ("ipod", "aac", SAMPLE_RATE_HZ),
    "voice.webm": ("webm", "libopus", 48_000),
}


def recorded(name: str) -> bytes:
    container, codec, rate_hz = RECORDED[name]
    said = read_aloud([SAID], Speaker("en-us+m3", pitch=60))[0].astype(np.float32)
    if rate_hz != SAMPLE_RATE_HZ:
        places = np.arange(len(said) * rate_hz // SAMPLE_RATE_HZ) * SAMPLE_RATE_HZ / rate_hz
        said = np.interp(places, np.arange(len(said)), said).astype(np.float32)
    return encoded(said, rate_hz, container, codec)


@pytest.mark.parametrize("name", RECORDED)
def test_a_recording_of_a_phone_or_a_browser_is_spoken_in(server: Served, name: str) -> None:
    answer = httpx.post(
        f"{server.url}/tts",
        data={"text": "It is nearly dark.", "prompt_text": SAID, "seed": "3"},
        files={"speaker_file": (name, recorded(name))},
        timeout=240,
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "audio/wav"
    assert "X-Warning" not in answer.headers
    samples, _ = soundfile.read(io.BytesIO(answer.content), dtype="float32")
    assert len(samples) > RATE_HZ // 2
    assert -30 < level_dbfs(samples) < -14


def test_a_playlist_that_calls_itself_m4a_is_refused(server: Served) -> None:
    playlist = b"#EXTM3U\n#EXTINF:9,\n" + server.url.encode() + b"/health\n"
    answer = httpx.post(
        f"{server.url}/tts",
        data={"text": "Hello."},
        files={"speaker_file": ("voice.m4a", playlist)},
        timeout=240,
    )
    assert answer.status_code == 422
    assert "cannot be decoded" in answer.json()["detail"]


def test_a_poor_recording_is_used_and_what_is_poor_is_said(server: Served) -> None:
    said = read_aloud([SAID], Speaker("en-us+m3", pitch=60))[0].astype(np.float32)
    file = io.BytesIO()
    soundfile.write(file, 0.005 * said, SAMPLE_RATE_HZ, format="WAV", subtype="FLOAT")
    spoken = httpx.post(
        f"{server.url}/tts",
        data={"text": "It is nearly dark.", "prompt_text": SAID, "seed": "3"},
        files={"speaker_file": ("voice.wav", file.getvalue())},
        timeout=240,
    )
    assert spoken.status_code == 200, spoken.text
    assert "very quiet" in spoken.headers["X-Warning"]
    kept = httpx.post(
        f"{server.url}/voices",
        data={"name": "Quiet", "transcript": SAID},
        files={"audio": ("voice.wav", file.getvalue())},
        timeout=240,
    )
    assert kept.is_success, kept.text
    assert [each for each in kept.json()["warnings"] if "nearer to the microphone" in each]


def test_a_voice_is_kept_of_what_a_phone_recorded(server: Served) -> None:
    answer = httpx.post(
        f"{server.url}/voices",
        data={"name": "Phone", "transcript": SAID},
        files={"audio": ("voice.m4a", recorded("voice.m4a"))},
        timeout=240,
    )
    assert answer.is_success, answer.text
    assert answer.json()["audio_s"] > 2
