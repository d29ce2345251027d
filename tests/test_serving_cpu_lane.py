"""`force_cpu` beside a GPU: a second worker that is started, shared, ended, or refused."""

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from backend.errors import NotEnoughMemory, OverCapacity
from backend.hardware.deployment import Deployment
from backend.hardware.machine import Memory
from backend.hardware.memory import MemoryBudgetManager
from backend.serving import lane as lane_module
from backend.serving.cpu_lane import CpuLane
from backend.serving.fleet import Fleet
from backend.serving.launch import worker_command
from backend.smart_backend import SmartBackend
from backend.worker.messages import WorkerConfig
from tests.scripted import children, client, settings
from tests.test_hardware_plans_of_machines import HARDWARE

FORCED = {"text": "Hello.", "force_cpu": "true"}
WITH_GPU = HARDWARE["rtx_3060_8gb"]
ON_GPU = {"device": "cuda:0"}


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)
    assert not children()


def test_a_second_worker_is_started_once_and_ended_when_idle(tmp_path: Path) -> None:
    starts = tmp_path / "starts"

    async def work() -> None:
        script = {**ON_GPU, "starts_file": str(starts)}
        async with client(script, found=WITH_GPU, cpu_worker_idle_s=0.3) as http:
            assert (await http.post("/tts", data={"text": "Hello."})).status_code == 200
            assert len(children()) == 1
            posts = [http.post("/tts", data=FORCED) for _ in range(3)]
            answers = await asyncio.gather(*posts)
            assert [answer.status_code for answer in answers] == [200] * 3
            assert {answer.headers["X-Hardware-Tier"] for answer in answers} != {
                (await http.post("/tts", data={"text": "Hello."})).headers["X-Hardware-Tier"]
            }
            assert len(children()) == 2
            assert starts.read_text().split() == ["start"] * 2
            while len(children()) > 1:
                await asyncio.sleep(0.02)
            assert (await http.post("/tts", data=FORCED)).status_code == 200
            assert starts.read_text().split() == ["start"] * 3

    run(work())


def test_without_memory_for_it_the_request_is_refused_and_the_gpu_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def too_little(self: MemoryBudgetManager, resident_bytes: int, _: int = 0) -> None:
        raise NotEnoughMemory(f"{resident_bytes} bytes are not there.")

    async def work() -> None:
        async with client(ON_GPU, found=WITH_GPU) as http:
            monkeypatch.setattr(MemoryBudgetManager, "check_load", too_little)
            answer = await http.post("/tts", data=FORCED)
            assert answer.status_code == 503
            assert "force_cpu" in answer.json()["detail"]
            assert int(answer.headers["Retry-After"]) > 0
            assert (await http.post("/tts", data={"text": "Hello."})).status_code == 200
            assert len(children()) == 1

    run(work())


@pytest.mark.parametrize("is_running", [False, True])
def test_a_server_that_ends_admits_nothing_there(is_running: bool) -> None:
    async def work() -> None:
        async with client(ON_GPU, found=WITH_GPU) as http:
            if is_running:
                assert (await http.post("/tts", data=FORCED)).status_code == 200
            before = len(children())
            backend: SmartBackend = http._transport.app.state.backend  # type: ignore[attr-defined]
            backend.stop_admitting()
            answer = await http.post("/tts", data=FORCED)
            assert answer.status_code == 503
            assert answer.json()["detail"] == "The server is stopping."
            assert len(children()) == before, "none was started for that"

    run(work())


def test_a_server_that_ends_while_it_is_looked_for_memory_starts_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks, goes_on = threading.Event(), threading.Event()
    look = CpuLane._look

    def slowly(lane: CpuLane) -> Deployment:
        looks.set()
        assert goes_on.wait(30)
        return look(lane)

    async def work() -> None:
        async with client(ON_GPU, found=WITH_GPU) as http:
            monkeypatch.setattr(CpuLane, "_look", slowly)
            posting = asyncio.create_task(http.post("/tts", data=FORCED))
            assert await asyncio.to_thread(looks.wait, 30)
            backend: SmartBackend = http._transport.app.state.backend  # type: ignore[attr-defined]
            backend.stop_admitting()
            goes_on.set()
            assert (await posting).status_code == 503
            assert len(children()) == 1

    run(work())


def test_what_is_free_is_looked_at_when_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with client(ON_GPU, found=WITH_GPU) as http:
            little = Memory(16 * 2**30, 16 * 2**30, 2**20, "machine")
            monkeypatch.setattr(lane_module, "read_memory", lambda: little)
            answer = await http.post("/tts", data=FORCED)
            assert answer.status_code == 503
            assert "second worker" in answer.json()["detail"]
            assert len(children()) == 1

    run(work())


@pytest.mark.parametrize(("name", "places"), [("rtx_3060_8gb", 8 * 16), ("h200_141gb", 8 * 128)])
def test_the_queue_is_as_long_as_the_plan_has_rows(name: str, places: int) -> None:
    chosen = settings()
    fleet = Fleet(chosen, Deployment.look(chosen, HARDWARE[name]))
    lane = fleet.lead
    assert WorkerConfig.from_json(worker_command(chosen, lane.plan)[-1]).max_batch == places // 8
    with ExitStack() as inside:
        for _ in range(places):
            inside.enter_context(lane.admission.enter("me", 10))
        with pytest.raises(OverCapacity):
            lane.admission.enter("me", 10)
