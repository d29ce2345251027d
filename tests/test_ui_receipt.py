"""How a take was made: its figures, and commands that really make it again."""

import asyncio
import base64
import json
import os
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request, Response

from tests.pages import plan, setup_in
from tests.scripted import server
from ui.setup import Setup
from ui.speaking.receipt import commands, figures
from ui.speaking.take import Take
from ui.wire import Event

KEY = "sk-very-secret"
AWKWARD = """It's "10 %" of $HOME; `id` \\n
ünd {so} -- @file <weiter> 🐟"""
FIELDS: dict[str, Any] = {
    "text": AWKWARD,
    "voice": "Ann's voice",
    "language": "de",
    "temperature": 0.5,
    "top_p": 0.8,
    "repetition_penalty": 1.2,
    "speed": 1.25,
    "normalize": False,
    "long_text": "split",
    "sample_rate": 16_000,
}
DIALOGUE = {"dialogue": [{"text": AWKWARD, "voice": "a"}, {"text": "Yes.", "voice": ""}]}


def made(folder: Path, fields: dict[str, Any], recording: bytes | None = None) -> Take:
    take = Take.create(folder, "me", fields, recording)
    take.take_in(Event("plan", plan("x")))
    take.take_in(Event("done", {"seed": 1234, "rtf": 0.5, "request_id": "r1", "latency_s": 130.4}))
    return take


@asynccontextmanager
async def recorder(asked: list[dict[str, Any]]) -> AsyncIterator[str]:
    """A server that notes what it is asked for; gives its address."""
    app = FastAPI()

    @app.post("/tts")
    async def tts(request: Request) -> Response:
        if request.headers["content-type"].startswith("application/json"):
            fields = await request.json()
        else:
            async with request.form() as form:
                fields = {
                    name: value if isinstance(value, str) else await value.read()
                    for name, value in form.items()
                }
        asked.append({"key": request.headers.get("authorization"), **fields})
        return Response(b"sound")

    serving = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    task = asyncio.create_task(serving.serve())
    while not serving.started:
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{serving.servers[0].sockets[0].getsockname()[1]}"
    finally:
        serving.should_exit = True
        await task


def execute(command: str, language: str, folder: Path, **environment: str) -> None:
    """Run what a user pasted, in a folder with a recording."""
    (folder / "voice.wav").write_bytes(b"RIFF\0voice")
    program = ("bash", "-c") if language == "curl" else (sys.executable, "-c")
    subprocess.run(
        [*program, command],
        cwd=folder,
        env={**os.environ, **environment},
        check=True,
        timeout=60,
        capture_output=True,
    )


@pytest.mark.parametrize("fields", [FIELDS, {"text": "Hi."}, DIALOGUE], ids=["all", "few", "scene"])
@pytest.mark.parametrize("has_recording", [False, True])
@pytest.mark.parametrize("language", ["curl", "Python"])
def test_a_pasted_command_asks_for_the_same(
    tmp_path: Path, fields: dict[str, Any], has_recording: bool, language: str
) -> None:
    if has_recording and "dialogue" in fields:
        pytest.skip("a scene has saved voices")
    take = made(tmp_path, fields, b"RIFF" if has_recording else None)

    async def work() -> None:
        asked: list[dict[str, Any]] = []
        async with recorder(asked) as url:
            setup = Setup(api_url=url, api_key=KEY)
            command = commands(take, setup, "mp3")[language]
            assert KEY not in command
            await asyncio.to_thread(execute, command, language, tmp_path, API_KEY=KEY)
        (got,) = asked
        assert got.pop("key") == f"Bearer {KEY}"
        wanted = {**fields, "seed": 1234, "response_format": "mp3"}
        if has_recording:
            voice = got.pop("speaker_file")
            voice = voice if isinstance(voice, bytes) else base64.b64decode(voice)
            assert voice == b"RIFF\0voice"
        if language == "curl" and "dialogue" not in fields:
            wanted = {
                name: value if isinstance(value, str) else json.dumps(value)
                for name, value in wanted.items()
            }
        assert got == wanted
        assert (tmp_path / "speech.mp3").read_bytes() == b"sound"

    asyncio.run(work())


def test_a_server_of_ours_speaks_the_same_again_when_it_is_pasted(tmp_path: Path) -> None:
    fields = {"text": "Hello, it's me.", "temperature": 0.5, "normalize": False, "speed": 1.25}
    take = made(tmp_path, fields)
    log = tmp_path / "spoken.json"

    async def work() -> None:
        async with server({"spoken_file": str(log)}) as http:
            (await http.post("/tts", json={**fields, "seed": 1234})).raise_for_status()
            setup = Setup(api_url=str(http.base_url).rstrip("/"))
            for language in ("curl", "Python"):
                command = commands(take, setup, "wav")[language]
                await asyncio.to_thread(execute, command, language, tmp_path)
                sound = tmp_path / "speech.wav"
                assert sound.read_bytes()[:4] == b"RIFF"
                sound.unlink()

    asyncio.run(work())
    spoken, *pasted = [json.loads(line) for line in log.read_text().splitlines()]
    assert pasted == [spoken, spoken]


def test_without_a_key_the_commands_name_none(tmp_path: Path) -> None:
    told = commands(made(tmp_path, FIELDS), Setup(), "wav")
    assert set(told) == {"curl", "Python", "shoal say"}
    assert "API_KEY" not in str(told) and "Authorization" not in str(told)


def test_the_line_for_shoal_say_is_one_line_of_words(tmp_path: Path) -> None:
    told = commands(made(tmp_path, FIELDS, b"RIFF"), Setup(), "opus")["shoal say"]
    words = shlex.split(told)
    assert words[:3] == ["shoal", "say", AWKWARD]
    assert words[words.index("--voice") + 1] == "Ann's voice"
    assert words[words.index("--seed") + 1] == "1234"
    assert words[words.index("--speaker-file") + 1] == "voice.wav"
    assert words[-2:] == ["-o", "speech.opus"]


def test_a_scene_has_no_line_for_shoal_say(tmp_path: Path) -> None:
    assert set(commands(made(tmp_path, DIALOGUE), Setup(), "wav")) == {"curl", "Python"}


def test_the_seed_of_the_plan_counts_where_it_never_was_done(tmp_path: Path) -> None:
    take = Take.create(tmp_path, "me", {"text": "x"})
    assert "seed" not in commands(take, Setup(), "wav")["curl"]
    take.take_in(Event("plan", plan("x", seed=88)))
    assert "seed=88" in commands(take, Setup(), "wav")["curl"]
    assert dict(figures(take))["Seed"] == "88"


def test_figures_tell_what_was_measured_and_nothing_else(tmp_path: Path) -> None:
    told = dict(figures(made(tmp_path, {"text": "x"})))
    assert told["Seed"] == "1234" and told["RTF"] == "0.50" and told["Latency"] == "130 s"
    assert told["Voice"] == "default" and told["Request"] == "r1"
    assert "GPU memory" not in told and "Tokens/s" not in told
    assert dict(figures(made(tmp_path, {"text": "x"}, b"R")))["Voice"] == "a recording"
    assert dict(figures(made(tmp_path, {"text": "x", "voice": "anna"})))["Voice"] == "anna"


def test_the_key_is_in_no_receipt(tmp_path: Path) -> None:
    setup = setup_in(tmp_path, api_key=KEY)
    for fields in (FIELDS, DIALOGUE):
        take = made(tmp_path, fields)
        assert KEY not in str(commands(take, setup, "wav")) + str(figures(take))
