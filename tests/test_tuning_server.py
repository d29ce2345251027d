"""Measuring beside a server that speaks: when nobody is inside, giving way to whoever comes."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.core import Plan
from backend.errors import StorageFull
from backend.hardware.measurements import Measurements
from backend.hardware.memory import MemoryNow
from backend.hardware.usage import MachineUsage
from backend.serving import launch
from backend.settings import Settings
from backend.smart_backend import SmartBackend
from backend.tuning import server as module
from tests.scripted import children, client, command, hardware

ROUTE = "/optimize-for-hardware?measure=true"
TEXT = {"text": "Hello there."}
Script = Callable[[Plan], dict[str, Any]]


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)
    assert not children()


def scripted(monkeypatch: pytest.MonkeyPatch, script: Script) -> None:
    """The server's own worker does as it is told; those that are measured follow `script`."""
    monkeypatch.setattr(module, "QUIET_S", 0.01)
    is_first = iter([True])

    def worker_command(settings: Settings, plan: Plan, *become: Any) -> tuple[str, ...]:
        return command() if next(is_first, False) else command(**script(plan))

    monkeypatch.setattr(launch, "worker_command", worker_command)


def backend_of(http: httpx.AsyncClient) -> SmartBackend:
    backend: SmartBackend = http._transport.app.state.backend  # type: ignore[attr-defined]
    return backend


async def measurement(http: httpx.AsyncClient) -> dict[str, Any]:
    told: dict[str, Any] = (await http.get("/hardware")).json()["measurement"]
    return told


async def until(http: httpx.AsyncClient, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    while not is_so(told := await measurement(http)):
        await asyncio.sleep(0.01)
    return told


def is_over(told: dict[str, Any]) -> bool:
    return told["state"] in ("done", "failed")


def test_it_measures_keeps_and_leaves_the_running_worker_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def script(plan: Plan) -> dict[str, Any]:
        return {"decode_s": 0.1 * plan.num_threads.value}

    scripted(monkeypatch, script)

    async def work() -> None:
        async with app(tmp_path) as http:
            assert await measurement(http) == {"state": "none", "problem": ""}
            pid = backend_of(http).worker.loaded().pid
            answer = await http.post(ROUTE)
            assert answer.status_code == 202
            assert answer.json()["state"] in ("waiting", "measuring")
            assert (answer.json()["measured"], answer.json()["reason"]) == ([], "")
            told = await until(http, is_over)
            assert (told["state"], told["problem"]) == ("done", "")
            assert told["chosen"]["num_threads"] == 1
            assert len(told["measured"]) >= 3 and told["not_reached"] == []
            assert backend_of(http).worker.loaded().pid == pid
            kept = Measurements(tmp_path).find(hardware(), backend_of(http).settings.checkpoint_dir)
            assert len(kept) == len(told["measured"])
        async with app(tmp_path) as http:
            choices = (await http.get("/hardware")).json()["selected_configuration"]["choices"]
            assert choices["num_threads"]["source"] == "measured"
            assert choices["num_threads"]["reason"].startswith("measured 100 frames/s (RTF ")

    run(work())


def app(folder: Path, **values: Any) -> Any:
    """A server whose worker is started by `worker_command`, as in use."""
    return client(data_dir=folder, is_commanded=False, **values)


def test_a_request_ends_the_measured_worker_which_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    starts = tmp_path / "starts"
    slow = {"start_s": 60.0, "starts_file": str(starts)}
    is_slow = True
    scripted(monkeypatch, lambda _: slow if is_slow else {"starts_file": str(starts)})

    async def started(times: int) -> None:
        while not starts.exists() or len(starts.read_text().split()) < times:
            await asyncio.sleep(0.01)

    async def work() -> None:
        nonlocal is_slow
        async with app(tmp_path) as http:
            await http.post(ROUTE)
            await started(1)
            assert len(children()) == 2
            backend = backend_of(http)
            speaking = asyncio.create_task(http.post("/tts", data={"text": "wait"}))
            await until(http, lambda told: told["state"] == "waiting")
            assert len(children()) == 1
            again = (await http.post(ROUTE)).json()
            assert (again["state"], again["measured"]) == ("waiting", [])
            assert backend.lane.admission.speaking == 1
            is_slow = False
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)
            await started(2)
            told = await until(http, is_over)
            assert told["state"] == "done" and told["chosen"]
            first, *_ = told["measured"]
            assert first["outcome"] == "measured", "it was measured in the end"

    run(work())


def test_nothing_is_measured_while_somebody_is_inside(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scripted(monkeypatch, lambda _: {})

    async def work() -> None:
        async with app(tmp_path) as http:
            speaking = asyncio.create_task(http.post("/tts", data={"text": "wait"}))
            while not backend_of(http).lane.admission.speaking:
                await asyncio.sleep(0.01)
            assert (await http.post(ROUTE)).json()["state"] == "waiting"
            assert (await http.post("/tts", data=TEXT)).status_code == 200
            assert (await measurement(http))["state"] == "waiting"
            assert len(children()) == 1
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)
            assert (await until(http, is_over))["state"] == "done"

    run(work())


def test_a_setup_that_does_not_fit_beside_the_running_worker_is_not_started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scripted(monkeypatch, lambda _: {})

    async def work() -> None:
        async with app(tmp_path) as http:
            now = MemoryNow(100 * 2**20, 0)
            monkeypatch.setattr(MachineUsage, "memory", lambda _: now)
            await http.post(ROUTE)
            told = await until(http, is_over)
            assert {row["outcome"] for row in told["measured"]} == {"skipped"}
            assert all("MB are free" in row["reason"] for row in told["measured"])
            assert (told["state"], told["chosen"]) == ("done", None)
            assert not (tmp_path / "measured.json").exists()
            assert len(children()) == 1

    run(work())


def test_the_end_of_the_server_ends_it_and_keeps_the_old_choice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    starts = tmp_path / "starts"
    scripted(monkeypatch, lambda _: {"start_s": 60.0, "starts_file": str(starts)})

    async def work() -> None:
        async with app(tmp_path) as http:
            await http.post(ROUTE)
            while not starts.exists():
                await asyncio.sleep(0.01)
        assert not children()
        assert not (tmp_path / "measured.json").exists()

    run(work())


def test_what_cannot_be_kept_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    scripted(monkeypatch, lambda _: {})

    def full(*_: Any) -> None:
        raise StorageFull("The disk is full.")

    monkeypatch.setattr(Measurements, "keep", full)

    async def work() -> None:
        async with app(tmp_path) as http:
            await http.post(ROUTE)
            told = await until(http, is_over)
            assert (told["state"], told["problem"]) == ("failed", "The disk is full.")
            assert (await http.post("/tts", data=TEXT)).status_code == 200

    run(work())


def test_what_it_needs() -> None:
    async def work() -> None:
        async with client({"start_s": 30.0}, is_ready=False) as http:
            assert (await http.post(ROUTE)).status_code == 503
        async with client(engine="fish-speech", quantization="none") as http:
            answer = await http.post(ROUTE)
            assert answer.status_code == 503
            assert "ENGINE=fish-speech" in answer.json()["detail"]
        async with client() as http:
            answer = await http.post("/optimize-for-hardware?measure=perhaps")
            assert answer.status_code == 422

    run(work())
