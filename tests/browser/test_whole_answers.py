"""A whole answer has a whole header: each format of each route that sends one, by each reader."""

import base64
import io
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import av
import httpx
import pytest
import soundfile
from playwright.sync_api import Browser, Page

from backend.core import AudioFormat
from tests.e2e.serving import Served

pytestmark = pytest.mark.timeout(300)

FFPROBE = shutil.which("ffprobe") or ""
TEXT = (
    "The children walked home along the river. Nobody said a word until it was dark.\n\n"
    "Then it began to rain, and all of them ran. Yes. No! The dog was the first at the door."
)
SHORT = "Then it began to rain."
FORMATS = [name for name in get_args(AudioFormat) if name != "pcm"]  # which has no header
EXTRA_S = {"mp3": 0.08, "aac": 0.2}
"""What encoders put before and after the sound; only mp3's header tells it, and not all listen."""
DURATION = """([audio, type]) => new Promise((tell) => {
  const bytes = Uint8Array.from(atob(audio), (c) => c.charCodeAt(0));
  const player = new Audio(URL.createObjectURL(new Blob([bytes], {type})));
  player.onloadedmetadata = () => tell(player.duration);
  player.onerror = () => tell(player.error.message);
})"""


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    yield page
    page.close()


@pytest.fixture(scope="module")
def http(server: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=240) as http:
        spoken = http.post("/tts", data={"text": TEXT, "response_format": "wav"})
        voice = {"name": "Ann", "transcript": TEXT}
        saved = http.post("/voices", data=voice, files={"audio": ("a.wav", spoken.content)})
        assert saved.status_code == 201, saved.text
        yield http


def tts(http: httpx.Client, kind: str) -> httpx.Response:
    return http.post("/tts", data={"text": TEXT, "response_format": kind, "seed": 1})


def create(http: httpx.Client, kind: str) -> httpx.Response:
    """What OpenAI's clients send for `create`."""
    body = {"model": "tts-1", "voice": "alloy", "input": SHORT, "response_format": kind}
    return http.post("/v1/audio/speech", json=body)


def fish(http: httpx.Client, kind: str) -> httpx.Response:
    return http.post("/v1/tts", json={"text": SHORT, "format": kind, "streaming": False})


def sample(http: httpx.Client, kind: str) -> httpx.Response:
    return http.get("/voices/Ann/audio", params={"response_format": kind})


def readings(audio: bytes, kind: str, media: str, page: Page, folder: Path) -> dict[str, Any]:
    """Seconds that each reader finds in the header, without decoding."""
    file = folder / f"speech.{'ogg' if kind == 'opus' else kind}"
    file.write_bytes(audio)
    with av.open(str(file), "r") as container:
        found = {"PyAV": (container.duration or 0) / av.time_base}
    found["chromium"] = page.evaluate(DURATION, [base64.b64encode(audio).decode(), media])
    if kind != "aac":  # libsndfile knows none
        found["soundfile"] = soundfile.info(io.BytesIO(audio)).duration
    if FFPROBE:
        command = [FFPROBE, "-v", "error", "-show_format", "-of", "json", str(file)]
        told = subprocess.run(command, check=True, capture_output=True, text=True)
        found["ffprobe"] = float(json.loads(told.stdout)["format"]["duration"])
    return found


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("ask", [tts, create, fish, sample])
def test_every_reader_finds_the_duration(
    ask: Callable[[httpx.Client, str], httpx.Response],
    kind: str,
    http: httpx.Client,
    page: Page,
    tmp_path: Path,
) -> None:
    answer = ask(http, kind)
    assert answer.status_code == 200, answer.text
    if ask is create and kind in ("mp3", "opus"):
        assert "content-length" not in answer.headers, "what has no length is sent as it is made"
    else:
        assert int(answer.headers["content-length"]) == len(answer.content)
    with av.open(io.BytesIO(answer.content), "r") as container:
        rate_hz = container.streams.audio[0].rate
        samples = sum(frame.samples for frame in container.decode(audio=0))
    long_s = float(answer.headers.get("X-Audio-Duration-S", samples / rate_hz))
    extra_s = EXTRA_S.get(kind, 0.01)
    media = answer.headers["content-type"]
    for reader, found_s in readings(answer.content, kind, media, page, tmp_path).items():
        assert found_s == pytest.approx(long_s, abs=extra_s), f"{reader} of {kind}"


def test_flac_tells_its_samples_and_their_digest(http: httpx.Client) -> None:
    answer = create(http, "flac")
    header = answer.content[8:42]
    samples = int.from_bytes(header[13:18]) & 0xFFFFFFFFF
    with av.open(io.BytesIO(answer.content), "r") as container:
        assert samples == sum(frame.samples for frame in container.decode(audio=0))
    assert any(header[18:34])


def test_timestamps_hold_a_whole_file(http: httpx.Client) -> None:
    fields = {"text": "Hello there.", "response_format": "flac", "timestamps": "true"}
    told = http.post("/tts", data=fields).json()
    audio = base64.b64decode(told["audio"])
    assert soundfile.info(io.BytesIO(audio)).duration == pytest.approx(
        told["duration_s"], abs=0.001
    )
