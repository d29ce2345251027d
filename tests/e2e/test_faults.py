"""A real server: a checkpoint damaged while it serves, a disk full for all, a clock that leaps."""

import asyncio
import csv
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from backend.serving.sentence import WORKERS
from backend.settings import SHIPPED_VOICE_DIR
from backend.worker.process import oom_kills
from tests.e2e.serving import Served, serving
from tests.monitored import logged
from tests.test_monitoring_csv_log import largest_file_bytes
from ui.client import Shoal
from ui.setup import Setup
from ui.speaking.shelf import Shelf
from ui.speaking.speaker import Speaker

pytestmark = pytest.mark.timeout(300)

SAID = "The rain has stopped."


def speak(server: Served, **fields: Any) -> httpx.Response:
    data = {"text": SAID, "seed": "1", **fields}
    files = {"speaker_file": data.pop("recording")} if "recording" in data else None
    return httpx.post(f"{server.url}/tts", data=data, files=files, timeout=120)


def told_is(server: Served, path: str, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait until what the server tells at `path` is so."""
    never = threading.Event()
    for _ in range(1200):
        told: dict[str, Any] = httpx.get(f"{server.url}{path}").json()
        if is_so(told):
            return told
        never.wait(0.05)
    raise AssertionError(told)


def health_is(server: Served, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait until what `/health` says is so."""
    return told_is(server, "/health", is_so)


def worker_is(server: Served, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait until what `/health` says of the worker is so."""
    worker: dict[str, Any] = health_is(server, lambda health: is_so(health["worker"]))["worker"]
    return worker


def ready_after(restarts: int) -> Callable[[dict[str, Any]], bool]:
    """The worker is ready again, for so many times."""
    return lambda worker: worker["state"] == "ready" and worker["restarts"] == restarts


# -- the worker -----------------------------------------------------------------------------------


@pytest.mark.skipif(oom_kills() is None, reason="no kernel tells who was killed for memory")
def test_a_request_outlives_more_kills_than_a_sentence_has_lives() -> None:
    """Each worker dies as soon as it is heard to speak; what it said was sent to nobody."""
    text = " ".join(SAID for _ in range(12))
    with serving(SHOAL_MAX_BATCH="1", SHOAL_RESTART_DELAY_S="0.1") as server:
        before = speak(server, text=text).content
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(speak, server, text=text)
            for kills in range(WORKERS + 1):
                worker_is(server, ready_after(kills))
                health_is(server, lambda health: bool(health["queue"]["speaking"]) or asked.done())
                assert not asked.done(), asked.result().text
                server.worker().kill()
            answer = asked.result()
        assert answer.status_code == 200 and answer.content == before
        worker_is(server, ready_after(WORKERS + 1))


# -- the checkpoint -------------------------------------------------------------------------------


class _Harm:
    """Pickled, this makes a folder when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def truncated(folder: Path) -> str:
    os.truncate(folder / "model.safetensors", 1_000_000)
    return "cannot be read as weights"


def of_wrong_shapes(folder: Path) -> str:
    weights = load_file(folder / "model.safetensors")
    name = next(name for name, tensor in weights.items() if tensor.ndim == 2)
    weights[name] = weights[name][:-1].clone()
    save_file(weights, folder / "new")
    (folder / "new").replace(folder / "model.safetensors")
    return name


def with_a_pickle(folder: Path) -> str:
    (folder / "model.safetensors").unlink()
    torch.save({"norm.weight": _Harm(folder / "harm")}, folder / "model.pth")
    return "cannot be read as weights"


@pytest.mark.slow  # the supervision's part of it is in tests/test_worker_supervisor.py
def test_a_checkpoint_that_is_damaged_while_it_serves(tmp_path: Path) -> None:
    """It speaks on; a worker that is started anew says what is wrong, until the files are whole."""
    folder = tmp_path / "voice"

    def restore() -> None:
        for file in filter(Path.is_file, SHIPPED_VOICE_DIR.iterdir()):
            shutil.copyfile(file, folder / f"{file.name}.new")
            (folder / f"{file.name}.new").replace(folder / file.name)
        (folder / "model.pth").unlink(missing_ok=True)

    folder.mkdir()
    restore()
    with serving(MODEL_DIR=str(folder), RESTART_DELAY_MAX_S="1") as server:
        before = speak(server).content
        for damage in (truncated, of_wrong_shapes, with_a_pickle):
            complaint = damage(folder)
            assert speak(server).content == before
            worker = server.worker()
            worker.kill()
            told = worker_is(server, lambda worker: "checkpoint" in worker["reason"])
            assert complaint in told["reason"]
            refused = speak(server)
            assert refused.status_code == 503 and complaint in refused.json()["detail"]
            restore()
            worker_is(server, lambda worker: worker["state"] == "ready")
            assert speak(server).content == before
        assert not (folder / "harm").exists()


def test_a_checkpoint_that_is_replaced_while_it_serves(tmp_path: Path) -> None:
    folder = tmp_path / "voice"
    shutil.copytree(SHIPPED_VOICE_DIR, folder)
    with serving(MODEL_DIR=str(folder)) as server:
        before = speak(server).content
        weights = load_file(folder / "model.safetensors")
        for name in [name for name in weights if name.startswith("fast_layers")]:
            weights[name] = weights[name] * 0.5
        save_file(weights, folder / "new")
        (folder / "new").replace(folder / "model.safetensors")
        assert speak(server).content == before
        old = server.worker().pid
        server.worker().kill()
        worker_is(server, lambda worker: worker["state"] == "ready" and worker["pid"] != old)
        after = speak(server)
        assert after.status_code == 200 and after.content != before


# -- the disk -------------------------------------------------------------------------------------


@contextmanager
def full(process: psutil.Process) -> Iterator[None]:
    """No file of the process may grow: as with a full disk, each write is refused."""
    _, hard = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, (hard, hard))


def voice(server: Served, recording: bytes, name: str = "Anna") -> httpx.Response:
    files = {"audio": ("voice.wav", recording)}
    data = {"name": name, "transcript": SAID}
    return httpx.post(f"{server.url}/voices", data=data, files=files, timeout=120)


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_FSIZE"), reason="file sizes are limited on Linux")
def test_a_disk_that_is_full_for_the_log_voices_recordings_and_takes(tmp_path: Path) -> None:
    logs = tmp_path / "metrics"
    environment = {"SHOAL_METRICS_DIR": str(logs), "SHOAL_DATA_DIR": str(tmp_path / "data")}
    environment |= {"SHOAL_METRICS": "true", "SHOAL_SHIPPED_VOICES": "false"}
    with serving(**environment) as server:
        long = " ".join([SAID] * 4)
        recording = speak(server, text=long).content
        # A row is written once its answer is out.
        told_is(server, "/metrics/files", lambda told: "synthesis" in _kinds(told))
        (log,) = logs.glob("synthesis_*.csv")
        rows = log.read_bytes()
        for encoding in (tmp_path / "data/compiled").glob("wide-*"):
            encoding.unlink()  # it is compiled when something is first encoded
        with full(server.process), full(server.worker()):
            refused = voice(server, recording)
            assert refused.status_code == 507 and refused.json()["detail"]
            for _ in range(2):  # the recording cannot be kept on disk, and is in memory
                assert speak(server, recording=("a.wav", recording)).status_code == 200
            assert httpx.get(f"{server.url}/voices").json() == {"voices": [], "damaged": []}
            told = httpx.get(f"{server.url}/metrics").json()
            assert told["log"]["problem"] and told["since_start"]["requests"] >= 3
            assert httpx.get(f"{server.url}/health").json()["status"] == "ok"
            assert log.read_bytes() == rows, "a row was written in part"
            asyncio.run(a_take(server.url, tmp_path, long))
        assert voice(server, recording).status_code == 201
        assert speak(server, voice="Anna").status_code == 200
    assert sum("encoded slowly" in line for line in server.log) == 1


def _kinds(listing: dict[str, Any]) -> set[str]:
    return {file["kind"] for file in listing["files"]}


async def a_take(url: str, folder: Path, text: str) -> None:
    """One that the page's disk, full as well, does not take."""
    async with Shoal(Setup(api_url=url)) as client:
        speaker = Speaker(client, Shelf(Setup(data_dir=folder)))
        take = speaker.begin("me", {"text": text})
        with largest_file_bytes(20_000), logged("WARNING") as lines:
            await speaker.wait(take)
        assert take.view()["state"] == "failed" and "kept on disk" in take.record.detail
        assert len(lines) == 1
        speaker.again(take)
        await speaker.wait(take)
        assert take.view()["state"] == "done" and take.audio_s > 2


# -- the clock ------------------------------------------------------------------------------------


def test_a_clock_that_leaps_an_hour_ahead_and_back(tmp_path: Path) -> None:
    """In the middle of speech too: what lasts is counted, and names and dates do no harm."""
    clock, logs = tmp_path / "clock", tmp_path / "metrics"

    def leap(seconds: int) -> None:
        (tmp_path / "new").write_text(str(seconds), "ascii")
        (tmp_path / "new").replace(clock)

    leap(0)
    command = (sys.executable, "-m", "tests.leaping_server", str(clock))
    with serving(*command, SHOAL_METRICS="true", SHOAL_METRICS_DIR=str(logs)) as server:
        worker = server.worker().pid
        recording = speak(server, text=" ".join([SAID] * 4)).content
        form = {"text": " ".join([SAID] * 12), "stream": "true", "long_text": "split"}
        for number, seconds in enumerate((3600, -3600, 0)):
            with httpx.stream("POST", f"{server.url}/tts", data=form, timeout=120) as answer:
                pieces = answer.iter_bytes()
                next(pieces)
                leap(seconds)
                assert sum(map(len, pieces)) > 100_000
            saved = voice(server, recording, f"Anna {number}")
            assert saved.status_code == 201
            hour = datetime.fromisoformat(saved.json()["created_at"]).timestamp() - time.time()
            assert hour == pytest.approx(seconds, abs=60), "the clock did not leap"
            assert speak(server, voice=f"Anna {number}").status_code == 200
            told = httpx.get(f"{server.url}/metrics").json()
            assert 0 < told["uptime_s"] < 600 and not told["log"]["problem"]
            assert httpx.get(f"{server.url}/health").json()["status"] == "ok"
        voices = httpx.get(f"{server.url}/voices").json()["voices"]
        names = [voice["name"] for voice in voices if not voice["is_shipped"]]
        assert sorted(names) == ["Anna 0", "Anna 1", "Anna 2"]
        assert server.worker().pid == worker
    rows = [
        row
        for file in logs.glob("synthesis_*.csv")
        for row in csv.DictReader(file.read_text("utf-8").splitlines())
    ]
    assert [row["outcome"] for row in rows] == ["success"] * 7
    for row in rows:
        for name in ("total_duration_s", "queue_s", "first_audio_s"):
            assert 0 <= float(row.get(name) or 0) < 300, (name, row[name])
