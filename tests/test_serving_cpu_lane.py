"""`force_cpu` beside a GPU: a second worker that is started, shared, ended, or refused."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from backend.errors import NotEnoughMemory
from backend.hardware.memory import MemoryBudgetManager
from tests.scripted import children, client
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
    def too_little(self: MemoryBudgetManager, resident_bytes: int) -> None:
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
