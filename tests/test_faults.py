"""Workers that die or stall while many speak, on a real server: nothing unheard is lost."""

import asyncio
import io
import wave
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

import backend.nvml
from backend.worker.process import oom_kills
from tests.scripted import children, client, server
from tests.test_hardware_plans_of_machines import HARDWARE
from tests.test_hardware_usage import Driver

pytestmark = pytest.mark.timeout(180)

BEAT_S = 0.05
SLOW_S = 40 * 0.1
"""Of audio, of a sentence that comes in forty pieces."""


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)
    assert not children()


async def health(http: httpx.AsyncClient) -> dict[str, Any]:
    told: dict[str, Any] = (await http.get("/health")).json()
    return told


async def worker_of(http: httpx.AsyncClient, other_than: int = 0) -> psutil.Process:
    """The worker that is ready, another than that one."""
    while True:
        worker = (await health(http))["worker"]
        if worker["state"] == "ready" and worker["pid"] not in (None, other_than):
            return psutil.Process(worker["pid"])
        await asyncio.sleep(0.01)


def audio_s(answer: httpx.Response) -> float:
    assert answer.status_code == 200, answer.text
    with wave.open(io.BytesIO(answer.content)) as file:
        return float(file.getnframes() / file.getframerate())


async def speak(http: httpx.AsyncClient, text: str, **fields: Any) -> httpx.Response:
    return await http.post("/tts", json={"text": text, **fields}, timeout=150)


def test_ten_killed_workers_lose_nothing_that_was_not_heard(tmp_path: Path) -> None:
    """Thirty requests are inside; whenever one is done, the worker dies under those at work."""

    async def work() -> None:
        starts = tmp_path / "starts"
        script = {"starts_file": str(starts), "pause_s": 0.01}
        async with server(script, max_batch=16) as http:
            texts = [f"Number {number} is slow." for number in range(30)]
            asked = [asyncio.create_task(speak(http, text)) for text in texts]
            last = 0
            for _ in range(10):
                worker = await worker_of(http, other_than=last)
                waiting = [each for each in asked if not each.done()]
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                last = worker.pid
                worker.kill()
            assert len(waiting) >= 10, "they were not at work when it died"
            answers = await asyncio.gather(*asked)
            assert len(starts.read_text().splitlines()) == 11
            lengths = [audio_s(answer) for answer in answers]
            assert lengths == pytest.approx([SLOW_S] * 30, abs=0.05), "a sentence came in part"
            assert {each["queue"]["speaking"] for each in [await health(http)]} == {0}

    run(work())


@pytest.mark.skipif(oom_kills() is None, reason="no kernel tells who was killed for memory")
def test_ten_workers_killed_at_their_first_word_lose_nothing(tmp_path: Path) -> None:
    """Fewer rows than kills, so that each sentence is hit again and again; recordings are, too."""

    async def work() -> None:
        starts = tmp_path / "starts"
        script = {"starts_file": str(starts), "killed_starts": 10}
        async with server(script, max_batch=4) as http:

            async def in_a_voice() -> httpx.Response:
                files = {"speaker_file": ("a.wav", b"RIFF")}
                return await http.post("/tts", data={"text": "Hello."}, files=files, timeout=150)

            asked = [speak(http, f"Number {number}.") for number in range(28)]
            asked += [in_a_voice() for _ in range(2)]
            answers = await asyncio.gather(*asked)
            assert [audio_s(answer) for answer in answers] == pytest.approx([0.1] * 30, abs=0.05)
            assert len(starts.read_text().splitlines()) == 11

    run(work())


def test_a_worker_that_makes_no_progress_is_replaced_and_takes_nobody_along() -> None:
    """It beats all the while, and says that it gets no further."""

    async def work() -> None:
        values = {"worker_unresponsive_s": 1.0, "worker_silent_s": 1.0}
        async with server({"beat_s": BEAT_S}, **values) as http:
            first = await worker_of(http)
            slow = [asyncio.create_task(speak(http, f"{n} is slow.")) for n in range(4)]
            while (await health(http))["queue"]["speaking"] < len(slow):
                await asyncio.sleep(0.01)
            stuck = await speak(http, "stuck")
            assert stuck.status_code == 503
            assert "it has got no further for 1 s while speaking" in stuck.json()["detail"]
            assert "Retry-After" in stuck.headers
            assert [audio_s(await each) for each in slow] == pytest.approx([SLOW_S] * 4, abs=0.05)
            again = await worker_of(http)
            assert again.pid != first.pid and not first.is_running()
            assert audio_s(await speak(http, "Hello.")) > 0

    run(work())


def test_what_was_heard_in_part_ends_with_a_clean_error() -> None:
    async def work() -> None:
        async with server() as http:
            worker = await worker_of(http)
            body = {"text": "This is slow.", "stream": "events"}
            async with http.stream("POST", "/tts", json=body) as answer:
                lines = answer.aiter_lines()
                async for line in lines:
                    if '"type":"audio"' in line.replace(" ", ""):
                        break
                worker.kill()
                rest = [line async for line in lines if line.startswith("data:")]
            assert '"error"' in rest[-1] and "The worker is down" in rest[-1]
            assert audio_s(await speak_when_ready(http)) > 0

    run(work())


async def speak_when_ready(http: httpx.AsyncClient) -> httpx.Response:
    await worker_of(http)
    return await speak(http, "Hello.")


NVML_CALLS = frozenset(
    {"nvmlInit", "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetMemoryInfo"}
    | {"nvmlDeviceGetUtilizationRates", "nvmlDeviceGetCount"}
)


def test_a_driver_that_is_lost_midway_costs_nobody_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after a driver's update, or a card that fell off its bus."""
    found, driver = HARDWARE["rtx_3060_8gb"], Driver()
    driver.cards = ({"uuid": found.gpus[0].uuid, "used": 1 << 30},)
    monkeypatch.setattr(backend.nvml, "pynvml", driver)
    monkeypatch.setattr(backend.nvml, "INTERVAL_S", 0.0)

    async def free_mb(http: httpx.AsyncClient) -> float | None:
        told: float | None = (await health(http))["current_resources"]["gpu_memory_free_mb"]
        return told

    async def work() -> None:
        async with client({"device": "cuda:0"}, found=found) as http:
            while await free_mb(http) is None:
                await asyncio.sleep(0.01)
            slow = asyncio.create_task(speak(http, "This is slow."))
            while not (await health(http))["queue"]["speaking"]:
                await asyncio.sleep(0.01)
            driver.fails = set(NVML_CALLS)
            assert audio_s(await slow) == pytest.approx(SLOW_S, abs=0.05)
            while await free_mb(http) is not None:
                await asyncio.sleep(0.01)
            assert audio_s(await speak(http, "Hello.")) > 0
            assert (await http.get("/system-status")).status_code == 200
            assert (await http.post("/optimize-for-hardware")).status_code == 200
            driver.fails = set()
            while await free_mb(http) is None:
                await asyncio.sleep(0.01)
            assert (await health(http))["worker"]["restarts"] == 0

    run(work())
