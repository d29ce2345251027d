import asyncio
import threading
import time
from collections.abc import Coroutine
from typing import Any

import pytest

import backend.nvml
from backend.worker.client import WorkerClient
from backend.worker.messages import WayState
from tests.scripted import children, client
from tests.test_hardware_plans_of_machines import HARDWARE
from tests.test_hardware_usage import Driver


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)
    assert not children()


def test_health_of_a_ready_server() -> None:
    async def work() -> None:
        async with client() as http:
            health = (await http.get("/health")).json()
            assert health["status"] == "ok"
            assert health["engine"] == "scripted"
            assert health["device"] == "cpu"
            assert health["worker"]["state"] == "ready"
            assert health["worker"]["pid"]
            assert health["system_info"]["memory_total_mb"] > 0
            assert health["system_info"]["precision"] == "fp32"
            assert health["system_info"]["quantization"] == "none"
            assert health["system_info"]["compile_enabled"] is False
            cpu = health["hardware_profile"]["cpu"]
            assert health["system_info"]["cpu_model"] == (cpu["model"] or None)
            assert health["cache_stats"]["leased_mb"] == 0
            assert health["hardware_profile"]["cpu"]["logical_cores"] >= 1
            assert health["current_resources"]["memory_available_mb"] > 0
            assert any("precision" in insight for insight in health["smart_insights"])
            assert (await http.get("/health/ready")).status_code == 200

    run(work())


def test_health_does_not_wait_for_the_worker() -> None:
    async def work() -> None:
        async with client({"start_s": 30}, is_ready=False) as http:
            start_s = time.perf_counter()
            health = await http.get("/health")
            ready = await http.get("/health/ready")
            assert time.perf_counter() - start_s < 1.0
            assert health.status_code == 200
            assert health.json()["status"] == "degraded"
            assert health.json()["worker"]["state"] == "starting"
            told = health.json()["system_info"]
            for name in ("precision", "quantization", "compile_enabled"):
                assert told[name] is None
            assert "cpu_model" in told
            assert ready.status_code == 503
            assert "loading" in ready.json()["detail"]
            assert ready.headers["X-Request-ID"]

    run(work())


def test_health_tells_whether_compiled_code_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with client() as http:
            for is_active in (True, False):
                state = WayState("fused" if is_active else "eager", "for the test")
                monkeypatch.setattr(WorkerClient, "way_state", state)
                told = (await http.get("/health")).json()["system_info"]
                assert told["compile_enabled"] is is_active

    run(work())


def test_ready_says_why_a_checkpoint_does_not_load() -> None:
    async def work() -> None:
        async with client({"fail_code": "bad_checkpoint"}, is_ready=False) as http:
            while "empty" not in (answer := await http.get("/health/ready")).json()["detail"]:
                await asyncio.sleep(0.02)
            assert answer.status_code == 503
            health = (await http.get("/health")).json()
            assert health["worker"]["state"] == "stopped"

    run(work())


def test_index_names_docs_and_routes() -> None:
    async def work() -> None:
        async with client(is_ready=False) as http:
            index = (await http.get("/")).json()
            assert index["docs"] == "/docs"
            assert {"POST /tts", "GET /health", "GET /health/ready"} <= set(index["routes"])
            assert (await http.get("/docs")).status_code == 200

    run(work())


def test_unknown_path_and_method_are_json() -> None:
    async def work() -> None:
        async with client(is_ready=False) as http:
            answer = await http.get("/nothing")
            assert answer.status_code == 404
            assert "/nothing" in answer.json()["detail"]
            assert answer.headers["X-Request-ID"]
            answer = await http.get("/tts")
            assert answer.status_code == 405
            assert "POST" in answer.json()["detail"]
            assert answer.headers["Allow"] == "POST"

    run(work())


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/voices", "GET, HEAD, POST"),
        ("PUT", "/voices/Anna", "GET, HEAD, PATCH, DELETE"),
        ("PUT", "/voices/import", "POST"),
        ("DELETE", "/voices/Anna/audio", "GET, HEAD"),
        ("POST", "/v1/models/some/model", "GET, HEAD"),
        ("POST", "/model/5f1c0b2a9d3e4f605f1c0b2a9d3e4f60", "GET, HEAD, PATCH, DELETE"),
        ("HEAD", "/cache/clear", "POST"),
        ("OPTIONS", "/tts", "POST"),
        ("POST", "/docs", "GET, HEAD"),
        ("TRACE", "/health", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(method: str, path: str, allowed: str) -> None:
    async def work() -> None:
        async with client(is_ready=False) as http:
            answer = await http.request(method, path)
            assert answer.status_code == 405
            assert answer.headers["Allow"] == allowed
            assert method == "HEAD" or f"use {allowed}" in answer.text

    run(work())


def test_a_driver_that_hangs_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver()
    monkeypatch.setattr(backend.nvml, "pynvml", driver)
    monkeypatch.setattr(backend.nvml, "_FIRST_S", 0.01)
    driver.goes_on.clear()

    async def work() -> None:
        async with client({"device": "cuda:0"}, found=HARDWARE["rtx_3060_8gb"]) as http:
            assert await asyncio.to_thread(driver.hangs.wait, 30)
            await http.post("/tts", data={"text": "Hello."})
            threads = threading.active_count()
            for _ in range(50):
                told = (await http.get("/health")).json()["current_resources"]
                assert told["gpu_memory_free_mb"] is None
                assert told["memory_available_mb"] > 0
            assert threading.active_count() <= threads
            assert (await http.post("/tts", data={"text": "Hello."})).status_code == 200
            assert (await http.get("/system-status")).status_code == 200
        assert len(driver.threads) == 1

    try:
        run(work())  # which ends although the driver does not
    finally:
        driver.goes_on.set()
    assert threading.get_ident() not in driver.threads
