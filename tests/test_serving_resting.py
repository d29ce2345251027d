"""A worker that nobody asks ends; the next request starts it, and says so."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.errors import NotEnoughMemory
from backend.hardware.memory import MemoryBudgetManager
from backend.smart_backend import SmartBackend
from tests.scripted import children, client, server
from tests.test_api_voices import GOOD, UPLOAD
from ui.words import state_of

HELLO = {"text": "Hello."}
AT_ONCE: dict[str, Any] = {"unload_after_s": 0.01}


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)
    assert not children()


async def unloaded(http: httpx.AsyncClient) -> dict[str, Any]:
    """Wait until the worker has ended; what `/health` says then."""
    while (health := (await http.get("/health")).json())["worker"]["state"] != "unloaded":
        await asyncio.sleep(0)
    assert not children(), "its memory is the system's"
    told: dict[str, Any] = health
    return told


def test_an_idle_worker_ends_and_the_next_request_starts_it(tmp_path: Path) -> None:
    starts = tmp_path / "starts"

    async def work() -> None:
        async with server({"starts_file": str(starts)}, **AT_ONCE) as http:
            health = await unloaded(http)
            assert health["status"] == "ok"
            assert health["model"] is None
            reason = health["worker"]["reason"]
            assert reason == "nobody has asked for 0.01 s; it starts with the next request"
            assert state_of(health)[1].endswith("is unloaded, and starts with the next request")
            status = (await http.get("/system-status")).json()
            assert status["worker"] == {"state": "unloaded", "reason": reason}
            assert status["memory_ladder"]["level"] == 0
            ready = await http.get("/health/ready")
            assert (ready.status_code, ready.json()) == (200, {"status": "unloaded"})
            answer = await http.post("/tts", data=HELLO)
            assert answer.status_code == 200
            assert float(answer.headers["X-Worker-Start-Ms"]) > 0
            await unloaded(http)
            assert starts.read_text().split() == ["start"] * 2
            assert (await http.get("/health")).json()["worker"]["restarts"] == 0

    run(work())


def test_a_worker_that_is_there_needs_no_start() -> None:
    async def work() -> None:
        async with client() as http:
            answer = await http.post("/tts", data=HELLO)
            assert "X-Worker-Start-Ms" not in answer.headers
            assert (await http.get("/health")).json()["worker"]["state"] == "ready"

    run(work())


def test_it_does_not_end_under_a_request() -> None:
    async def work() -> None:
        async with client({"log_file": ""}, unload_after_s=0.05) as http:
            answer = await http.post("/tts", data={"text": "It is a slow one."})
            assert answer.status_code == 200, "which takes 2 s"

    run(work())


def test_requests_that_come_together_start_one(tmp_path: Path) -> None:
    starts = tmp_path / "starts"

    async def work() -> None:
        script = {"starts_file": str(starts), "start_s": 0.2}
        async with client(script, **AT_ONCE) as http:
            await unloaded(http)
            posts = [http.post("/tts", data=HELLO) for _ in range(6)]
            answers = await asyncio.gather(*posts)
            assert [answer.status_code for answer in answers] == [200] * 6
            assert all("X-Worker-Start-Ms" in answer.headers for answer in answers)
            assert starts.read_text().split() == ["start"] * 2

    run(work())


def test_one_that_leaves_meanwhile_harms_no_other(tmp_path: Path) -> None:
    starts = tmp_path / "starts"

    async def work() -> None:
        script = {"starts_file": str(starts), "start_s": 0.3}
        async with client(script, **AT_ONCE) as http:
            await unloaded(http)
            impatient = asyncio.create_task(http.post("/tts", data=HELLO))
            while not children():
                await asyncio.sleep(0)
            other = asyncio.create_task(http.post("/tts", data=HELLO))
            late = await http.post("/tts", data=HELLO, headers={"X-Timeout-S": "0.05"})
            assert late.status_code == 504
            impatient.cancel()
            await asyncio.gather(impatient, return_exceptions=True)
            assert (await other).status_code == 200
            assert starts.read_text().split() == ["start"] * 2

    run(work())


@pytest.mark.parametrize("route", ["/estimate-memory", "/normalize"])
def test_what_is_asked_of_a_text_starts_it_too(route: str) -> None:
    async def work() -> None:
        async with client(**AT_ONCE) as http:
            await unloaded(http)
            assert (await http.post(route, data=HELLO)).status_code == 200

    run(work())


def test_a_voice_can_be_saved_and_heard(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(data_dir=tmp_path, **AT_ONCE) as http:
            await unloaded(http)
            made = await http.post("/voices", data=GOOD, files=UPLOAD)
            assert made.status_code == 201
            await unloaded(http)
            assert (await http.get("/voices/Anna/audio")).status_code == 200

    run(work())


def test_what_only_a_running_worker_can_do_is_done_without_one() -> None:
    async def work() -> None:
        async with client(**AT_ONCE) as http:
            await unloaded(http)
            assert (await http.post("/cache/clear")).json()["freed_mb"] == 0
            assert (await http.post("/optimize-for-hardware")).status_code == 200
            assert not children()

    run(work())


def test_where_others_have_the_memory_now_the_request_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def too_little(self: MemoryBudgetManager, resident_bytes: int, _: int = 0) -> None:
        raise NotEnoughMemory("It is not there.")

    async def work() -> None:
        async with client(**AT_ONCE) as http:
            await unloaded(http)
            with monkeypatch.context() as patch:
                patch.setattr(MemoryBudgetManager, "check_load", too_little)
                answer = await http.post("/tts", data=HELLO)
            assert (answer.status_code, answer.json()["detail"]) == (503, "It is not there.")
            assert not children()
            assert (await http.post("/tts", data=HELLO)).status_code == 200

    run(work())


def test_a_server_ends_while_its_worker_rests() -> None:
    async def work() -> None:
        async with client(**AT_ONCE) as http:
            await unloaded(http)
            backend: SmartBackend = http._transport.app.state.backend  # type: ignore[attr-defined]
            backend.stop_admitting()
            answer = await http.post("/tts", data=HELLO)
            assert (answer.status_code, answer.json()["detail"]) == (
                503,
                "The server is stopping.",
            )

    run(work())
