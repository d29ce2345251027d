"""The shipped voice spoken by replicas of Ray Serve on this machine, which come, die and go."""

import asyncio
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e.serving import Served, serving

pytestmark = pytest.mark.timeout(400)  # Ray, and two workers that compile, on two cores
TEXT = "The lamp is lit. The ships come home. And the keeper goes to sleep."
LONG = f"{TEXT} " * 60
SHORT = "Good morning."


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving("--cluster", SHOAL_WORKERS="2", NUM_THREADS="1") as server:
        _until(server.url, lambda workers: len(workers) == 2)
        yield server


def _workers(url: str) -> list[dict[str, Any]]:
    return list(httpx.get(f"{url}/system-status", timeout=30.0).json()["workers"])


def _until(url: str, is_so: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    deadline_s = time.monotonic() + 90.0
    while time.monotonic() < deadline_s:
        if is_so(workers := _workers(url)):
            return workers
        time.sleep(0.2)
    raise AssertionError(f"not in time: {workers}")


def test_it_speaks_streams_and_says_who_is_there(served: Served) -> None:
    with httpx.Client(base_url=served.url, timeout=60.0) as http:
        whole = http.post("/tts", data={"text": TEXT, "seed": "5"})
        assert whole.status_code == 200
        assert "X-Worker-Start-Ms" not in whole.headers
        told = {"text": TEXT, "seed": "5", "stream": "true", "response_format": "pcm"}
        with http.stream("POST", "/tts", data=told) as answer:
            pieces = list(answer.iter_bytes())
        assert len(pieces) > 2
        assert http.get("/health").json()["worker"]["state"] == "ready"
        metrics = http.get("/metrics/prometheus").text
        up = re.findall(r'shoal_each_worker_up{device="cpu",.*,worker="(\d)"} 1.0', metrics)
        assert sorted(up) == ["0", "1"]
        assert 'shoal_ray_nodes{metrics="told"} 1' in metrics
        assert "\nray_serve_" in metrics, "what Ray tells is in the same scrape"
        assert len(http.get("/hardware").json()["machines"]) == 1


def test_a_client_that_leaves_frees_its_row(served: Served) -> None:
    told = {"text": LONG, "long_text": "split", "stream": "true", "response_format": "pcm"}
    with (
        httpx.Client(base_url=served.url, timeout=60.0) as http,
        http.stream("POST", "/tts", data=told) as answer,
    ):
        # Read on: with enough in hand nothing is spoken for a client that does not.
        assert any(
            any(each["speaking"] for each in _workers(served.url)) for _ in answer.iter_bytes()
        )
    # As the replicas tell it of their workers: nobody computes what nobody hears.
    _until(served.url, lambda workers: not any(each["rows_at_work"] for each in workers))


def test_two_hundred_streams_at_once_are_whole_or_refused(served: Served) -> None:
    async def speak() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=served.url, timeout=240.0, limits=limits) as http:
            told = {"text": SHORT, "seed": "5", "stream": "true", "response_format": "pcm"}
            return await asyncio.gather(*(http.post("/tts", data=told) for _ in range(200)))

    answers = asyncio.run(speak())
    whole = {len(each.content) for each in answers if each.status_code == 200}
    assert len(whole) == 1, "what begins, ends"
    refused = [each for each in answers if each.status_code != 200]
    assert len(refused) < 100
    assert {each.status_code for each in refused} <= {503}
    assert all(int(each.headers["Retry-After"]) > 0 for each in refused)


def test_one_killed_under_twenty_requests_costs_nobody_an_answer(served: Served) -> None:
    async def speak() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=served.url, timeout=240.0) as http:
            told = {"text": TEXT, "seed": "5"}
            posts = [asyncio.create_task(http.post("/tts", data=told)) for _ in range(20)]
            while True:
                workers = (await http.get("/system-status")).json()["workers"]
                if len(workers) == 2 and all(each["speaking"] for each in workers):
                    break
                await asyncio.sleep(0.02)
            replica = psutil.Process(workers[1]["pid"]).parent()
            assert replica is not None
            replica.kill()
            return await asyncio.gather(*posts)

    before = _until(served.url, lambda workers: len(workers) == 2)
    answers = asyncio.run(speak())
    assert {answer.status_code for answer in answers} == {200}
    sizes = {len(answer.content) for answer in answers}
    assert max(sizes) < 1.2 * min(sizes), "nothing of any is missing"
    names = {each["replica"] for each in before}
    after = _until(served.url, lambda workers: _are_others(workers, names))
    assert len(names & {each["replica"] for each in after}) == 1, "Serve has started another"


def _are_others(workers: list[dict[str, Any]], before: set[str]) -> bool:
    now = {each["replica"] for each in workers if each["state"] == "ready"}
    return len(now) == 2 and now != before


def test_none_is_left_where_nobody_asks_and_two_come_to_those_who_do() -> None:
    with serving(
        "--cluster", SHOAL_WORKERS="auto", NUM_THREADS="1", SHOAL_UNLOAD_AFTER_S="2"
    ) as server:
        _until(server.url, lambda workers: workers[0]["state"] == "unloaded")

        async def speak() -> list[httpx.Response]:
            answers, are_two = list[httpx.Response](), asyncio.Event()

            async def listen(http: httpx.AsyncClient) -> None:
                while not are_two.is_set():
                    told = {"text": f"{TEXT} " * 4, "seed": "5", "long_text": "split"}
                    answers.append(await http.post("/tts", data=told))

            async with httpx.AsyncClient(base_url=server.url, timeout=240.0) as http:
                listeners = [asyncio.create_task(listen(http)) for _ in range(12)]
                await asyncio.to_thread(_until, server.url, _are_two_at_work)
                are_two.set()
                await asyncio.gather(*listeners)
            return answers

        answers = asyncio.run(speak())
        assert {answer.status_code for answer in answers} == {200}
        assert {len(answer.content) for answer in answers} == {len(answers[0].content)}
        started_ms = [float(each.headers.get("X-Worker-Start-Ms", 0)) for each in answers]
        assert max(started_ms) > 500.0, "a cold one says so"
        _until(server.url, lambda workers: workers[0]["state"] == "unloaded")


def _are_two_at_work(workers: list[dict[str, Any]]) -> bool:
    return len(workers) == 2 and all(each["rows_at_work"] for each in workers)


def test_more_replicas_than_cores_are_refused_at_once() -> None:
    told = r"SHOAL_WORKERS=99: .* Set SHOAL_WORKERS=\d+, or auto"
    with (
        pytest.raises(RuntimeError, match=told),
        serving("--cluster", SHOAL_WORKERS="99", NUM_THREADS="1"),
    ):
        pass
