import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import soundfile
from typer.testing import CliRunner

from backend.cli import app
from backend.core import Plan
from backend.serving import launch
from tests.scripted import children, command

ROOT = Path(__file__).parent.parent
SERVE = """
from backend import cli
from backend.serving import launch
from tests.scripted import command
launch.worker_command = lambda *_: command()
cli.app(["serve", "--port", "0"])
"""
TUNE = """
import sys
from backend import cli
from backend.serving import launch
from tests.scripted import command
launch.worker_command = lambda *_: command(start_s=60)
cli.app(["tune", *sys.argv[1:]])
"""
QUIET = {**os.environ, "SHOAL_METRICS": "false"}


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CliRunner:
    monkeypatch.setattr(launch, "worker_command", lambda *_: command())
    monkeypatch.setenv("SHOAL_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(ROOT)
    return CliRunner()


def test_say(scripted: CliRunner, tmp_path: Path) -> None:
    out = tmp_path / "out.wav"
    result = scripted.invoke(app, ["say", "Hello there.", "-o", str(out), "--language", "de"])
    assert result.exit_code == 0, result.output
    assert "0.10 s of speech" in result.output
    assert "RTF" in result.output
    samples, rate_hz = soundfile.read(out)
    assert (len(samples), rate_hz) == (800, 8_000)
    assert not children()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["say", " "], "text is blank"),
        (["say", "a", "--temperature", "3"], "use 0 to 2"),
        (["say", "a", "--temperature", "nan"], "use 0 to 2"),
        (["say", "a", "--language", "xx"], "--language: 'xx'"),
        (["say", "a", "--speaker-file", "nowhere.wav"], "cannot be read"),
        (["say", "a", "--device", "tpu"], "SHOAL_DEVICE"),
        (["say", "a", "-o", "nowhere/out.wav"], "cannot be written"),
        (["say", "crash"], "exit code 3"),
        (["serve", "--port", "-1"], "SHOAL_PORT"),
        (["serve", "--host", "0.0.0.0"], "SHOAL_ALLOW_OPEN=true"),
        (["serve", "--device", "cuda:7"], "DEVICE=cuda:7"),
        (["serve", "--model-dir", "nowhere"], "there is no checkpoint folder nowhere"),
        (["plan", "--device", "cuda:7"], "DEVICE=cuda:7"),
        (["report", "nowhere"], "nowhere"),
        (["engine", "add", "espeak"], "fish-speech"),
        (["tune", "--model-dir", "nowhere"], "there is no checkpoint folder nowhere"),
    ],
)
def test_errors_are_one_line(scripted: CliRunner, arguments: list[str], says: str) -> None:
    result = scripted.invoke(app, arguments)
    assert result.exit_code == 1
    message = result.stderr.strip().splitlines()[-1]
    assert message.startswith("shoal: ")
    assert says in message
    assert "Traceback" not in result.output
    assert not children()


def test_port_in_use_is_one_line(scripted: CliRunner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = scripted.invoke(app, ["serve", "--port", str(taken.getsockname()[1])])
    assert result.exit_code == 1
    assert "cannot be listened on" in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a child on Windows")
def test_serve_says_how_to_try_it_and_stops_in_order() -> None:
    arguments = [sys.executable, "-c", SERVE]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=QUIET)
    assert process.stderr is not None
    try:
        lines: list[str] = []
        while not lines or "curl" not in lines[-1]:
            lines.append(process.stderr.readline())
            assert lines[-1], "".join(lines)
        url = next(word for word in lines[-1].split() if word.startswith("http"))
        answer = httpx.post(url, data={"text": "Hello."})
        assert answer.content.startswith(b"RIFF")
        process.send_signal(signal.SIGINT)
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.communicate()
    assert process.returncode in (0, 130), "130 is what a shell expects after Ctrl-C"
    assert not children()


def test_plan_is_a_table_with_reasons(scripted: CliRunner) -> None:
    result = scripted.invoke(app, ["plan"], env={"COLUMNS": "200", "NUM_THREADS": "1"})
    assert result.exit_code == 0, result.output
    assert "shoal-demo" in result.stdout
    row = next(line for line in result.stdout.splitlines() if "num_threads" in line)
    assert "user" in row
    assert "NUM_THREADS asks for it" in row


def test_plan_as_json(scripted: CliRunner) -> None:
    result = scripted.invoke(app, ["plan", "--json"])
    told = json.loads(result.stdout)
    assert told["selected_configuration"]["choices"]["device"]["reason"]
    assert told["hardware_profile"]["memory"]["limit_gib"] > 0


def test_tune_tells_the_winner_and_why_and_plans_go_by_it(
    scripted: CliRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def by_threads(_: object, made: Plan) -> tuple[str, ...]:
        return command(decode_s=0.3 / made.num_threads.value, greedy_agreement=0.5)

    monkeypatch.setattr(launch, "worker_command", by_threads)
    wide = {"COLUMNS": "100", "NUM_THREADS": "2"}
    result = scripted.invoke(app, ["tune"], env=wide)
    assert result.exit_code == 0, result.output
    (row,) = [line for line in result.stdout.splitlines() if line.startswith(" * ")]
    assert row.split()[1:6] == ["cpu", "fp32", "×2", "eager", "66.7"]
    told = " ".join(result.stdout.split())
    assert "Chosen: cpu fp32, 2 threads, 66.7 frames/s (RTF 2.50); the tier expected RTF" in told
    assert "int8 is not faster: 66.7 frames/s" in told
    assert f"Kept in {tmp_path / 'measured.json'}" in result.stdout
    assert "measuring cpu fp32 int8, 2 threads" in result.stderr
    planned = scripted.invoke(app, ["plan", "--json"], env=wide)
    choices = json.loads(planned.stdout)["selected_configuration"]["choices"]
    assert (choices["precision"]["source"], choices["num_threads"]["source"]) == (
        "measured",
        "user",
    )
    assert choices["quantization"]["reason"].startswith("measured 66.7 frames/s (RTF 2.50), the")
    shown = scripted.invoke(app, ["plan"], env={**wide, "COLUMNS": "200"})
    assert "one sentence of this checkpoint, here" in shown.stdout
    assert "Chosen by measurement: cpu fp32, 2 threads" in shown.stderr
    assert not children()


def test_tune_as_json(scripted: CliRunner, tmp_path: Path) -> None:
    result = scripted.invoke(app, ["tune", "--json"], env={"NUM_THREADS": "1"})
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["kept_in"] == str(tmp_path / "measured.json")
    assert told["chosen"]["quantization"] == "none"
    assert {row["quantization"] for row in told["measured"]} == {"none", "int8", "int4"}
    assert told["measured"][0]["way"] == "eager"


def test_tune_that_measures_nothing_keeps_nothing(
    scripted: CliRunner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(launch, "worker_command", lambda *_: command(exit_at_start=True))
    result = scripted.invoke(app, ["tune"])
    assert result.exit_code == 1
    assert "Nothing was measured that could be chosen." in result.stdout
    assert "No module named 'nothing'" in " ".join(result.stdout.split())
    assert not (tmp_path / "measured.json").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a child on Windows")
def test_ctrl_c_ends_tune_and_keeps_the_old_choice(scripted: CliRunner, tmp_path: Path) -> None:
    kept = tmp_path / "measured.json"
    assert scripted.invoke(app, ["tune", "--json"]).exit_code == 0
    before = kept.read_bytes()
    process = subprocess.Popen(
        [sys.executable, "-c", TUNE, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**QUIET, "SHOAL_DATA_DIR": str(tmp_path)},
    )
    assert process.stderr is not None
    try:
        assert process.stderr.readline().startswith("measuring cpu ")
        process.send_signal(signal.SIGINT)
        out, told = process.communicate()
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out) == (1, "")
    assert told.splitlines()[-1] == "shoal: stopped; what was chosen before stays"
    assert "Traceback" not in told
    assert kept.read_bytes() == before
    assert not children()


def test_engines_are_listed(scripted: CliRunner, tmp_path: Path) -> None:
    result = scripted.invoke(app, ["engine", "list"], env={"SHOAL_DATA_DIR": str(tmp_path)})
    assert result.exit_code == 0, result.output
    assert "fish-speech: missing" in result.stdout
