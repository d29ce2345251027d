"""Every example of MDs/API.md is run as it stands, on a real server with the shipped voice."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import httpx
import pytest

from backend.monitoring.rows import SynthesisRow, columns, header
from tests.e2e.serving import Served, serving

API = Path(__file__).parents[2] / "MDs" / "API.md"
BASE = "127.0.0.1:8000"
VOICE = "anna"
LOGGED = "synthesis_generic_cpu_20261123_025440.csv"
"""A file of the request log that the examples ask for."""
SAVING = frozenset({"POST /voices", "POST /model", "POST /v1/references/add"})
MORE = {
    "POST /tts": ("python", "javascript"),
    "WS /v1/audio/stream": ("python", "javascript"),
    "POST /voices": ("python", "javascript"),
    "POST /v1/audio/speech": ("python",),
    "POST /v1/tts": ("python",),
    "WS /v1/tts/live": ("python",),
    "POST /model": ("python",),
}
"""Beside curl: streams, uploads, and the clients that a route is for."""
AUDIO = (".wav", ".mp3", ".flac", ".opus", ".aac")
MIN_AUDIO_S = 0.3
NODE = shutil.which("node") or ""
BASH = shutil.which("bash") or ""
CURL = shutil.which("curl") or ""

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Example:
    routes: tuple[str, ...]
    """Those of its section."""
    language: str
    code: str


def examples() -> list[Example]:
    sections = re.split(r"^## (.*)$", API.read_text(encoding="utf-8"), flags=re.MULTILINE)
    fence = re.compile(r"^```(sh|python|javascript)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [
        Example(tuple(re.findall(r"`(\w+ /[^`]*)`", heading)), language, code)
        for heading, text in zip(sections[1::2], sections[2::2], strict=True)
        for language, code in fence.findall(text)
    ]


EXAMPLES = examples()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    metrics = tmp_path_factory.mktemp("metrics")
    row = b"2026-11-23T02:54:40.481Z".ljust(24 + len(columns(SynthesisRow)) - 1, b",")
    (metrics / LOGGED).write_bytes(header(SynthesisRow) + row + b"\r\n")
    with serving(
        SHOAL_METRICS="true", SHOAL_METRICS_DIR=str(metrics), SHOAL_GET_SPEECH="true"
    ) as served:
        yield served


@pytest.fixture(scope="module")
def recording(server: Served) -> bytes:
    """What the examples call voice.wav."""
    text = {"text": "The children walked home along the river."}
    return httpx.post(f"{server.url}/tts", data=text, timeout=60).raise_for_status().content


def test_every_route_has_its_examples() -> None:
    told = re.findall(r"^\| `((?:GET|POST|PATCH|DELETE|WS) /\S*)` \|", API.read_text("utf-8"), re.M)
    shown = {(route, each.language) for each in EXAMPLES for route in each.routes}
    assert len(told) > 30
    assert set(MORE) <= set(told)
    for route in told:
        # Curl has no WebSockets before 8.11.
        curl = () if route.startswith("WS") else ("sh",)
        for language in (*curl, *MORE.get(route, ())):
            assert (route, language) in shown, f"{route} has no example in {language}"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda each: f"{each.routes[0]} {each.language}")
def test_example_runs(example: Example, server: Served, recording: bytes, tmp_path: Path) -> None:
    (tmp_path / "voice.wav").write_bytes(recording)
    (tmp_path / "book.txt").write_text("A short book. It ends here.", encoding="utf-8")
    prepare_voices(server, recording, is_saved=not set(example.routes) & SAVING)
    if "POST /voices/import" in example.routes:
        exported = httpx.get(f"{server.url}/voices/{VOICE}/export").raise_for_status()
        (tmp_path / f"{VOICE}.voice").write_bytes(exported.content)
    given = set(tmp_path.iterdir())
    done = subprocess.run(
        command_for(example, server, tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    made = [file for file in tmp_path.iterdir() if file not in given and file.stem != "example"]
    for file in made:
        assert file.suffix in (*AUDIO, ".json", ".voice"), file.name
        if file.suffix in AUDIO:
            assert seconds_of(file) > MIN_AUDIO_S, file.name
        elif file.suffix == ".voice":
            assert file.read_bytes().startswith(b"shoal")
        else:
            assert '"sentences": [{"text": "Hello."' in file.read_text(encoding="utf-8")
    named = set(re.findall(r'(?:-o |")([\w-]+\.(?:mp3|json|wav|voice))', example.code))
    assert {file.name for file in made} == named - {file.name for file in given}
    if "print" in example.code or "console.log" in example.code:
        assert done.stdout.strip()


def prepare_voices(server: Served, recording: bytes, is_saved: bool) -> None:
    """One saved voice, or none."""
    voices = f"{server.url}/voices"
    for voice in httpx.get(voices).json()["voices"]:
        if not voice["is_shipped"]:
            httpx.delete(f"{voices}/{voice['id']}").raise_for_status()
    if is_saved:
        answer = httpx.post(voices, data={"name": VOICE}, files={"audio": recording}, timeout=60)
        answer.raise_for_status()


def command_for(example: Example, server: Served, folder: Path) -> list[str]:
    """What runs `example` in `folder`, on `server`; skips where there is no such program."""
    code = example.code.replace(BASE, server.url.removeprefix("http://"))
    assert BASE in example.code
    if example.language == "sh":
        if not (BASH and CURL):
            pytest.skip("no bash and curl on the PATH")
        return [BASH, "-euc", code]
    file = folder / ("example.py" if example.language == "python" else "example.mjs")
    file.write_text(code, encoding="utf-8")
    if example.language == "python":
        return [sys.executable, str(file)]
    if not NODE:
        pytest.skip("no node on the PATH (Debian: apt install nodejs)")
    flags = []
    if "new WebSocket" in code and (version := node_version()) < 22:
        if version < 20:
            pytest.skip("this node has no WebSocket; 22 does")
        flags = ["--experimental-websocket"]
    return [NODE, *flags, str(file)]


def node_version() -> int:
    said = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True).stdout
    return int(said.removeprefix("v").partition(".")[0])


def seconds_of(file: Path) -> float:
    """How long the audio in `file` is, decoded to its end."""
    with av.open(str(file)) as container:
        frames = list(container.decode(audio=0))
    return sum(frame.samples / frame.sample_rate for frame in frames)
