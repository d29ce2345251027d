"""The cluster without Ray: the app in front of replicas that come, die and go."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from tests.replicas import cluster
from tests.scripted import children

TEXT = {"text": "Hello there."}


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)
    assert not children()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20.0):
        while not is_so():
            await asyncio.sleep(0.01)


def test_both_speak_and_are_shown_everywhere() -> None:
    async def work() -> None:
        async with cluster({}, {}) as (http, _, fleet):
            await until(lambda: len(fleet.lanes) == 2)
            answers = await asyncio.gather(*(http.post("/tts", data=TEXT) for _ in range(8)))
            assert {answer.status_code for answer in answers} == {200}
            assert not any("X-Worker-Start-Ms" in answer.headers for answer in answers)
            status = (await http.get("/system-status")).json()["workers"]
            assert {each["replica"] for each in status} == {"r0", "r1"}
            assert {each["state"] for each in status} == {"ready"}
            assert len({each["pid"] for each in status}) == 2
            assert {each["memory_ladder"]["level"] for each in status} == {0}
            text = (await http.get("/metrics/prometheus")).text
            for number in ("0", "1"):
                assert f'shoal_each_worker_up{{device="cpu",worker="{number}"}} 1.0' in text

    run(work())


def test_one_that_dies_costs_no_sentence() -> None:
    async def work() -> None:
        async with cluster({}, {}) as (http, replicas, fleet):
            await until(lambda: len(fleet.lanes) == 2)
            slow = {"text": "slow"}
            posts = [asyncio.create_task(http.post("/tts", data=slow)) for _ in range(8)]
            lane = next(each for each in fleet.lanes if fleet.number(each) == 1)
            await until(lambda: fleet.admission.at_work(lane) > 0)
            await replicas.kill("r1")
            answers = await asyncio.gather(*posts)
            assert {answer.status_code for answer in answers} == {200}
            assert len({len(answer.content) for answer in answers}) == 1
            await until(lambda: len(fleet.lanes) == 1)

    run(work())
