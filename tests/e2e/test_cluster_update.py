"""Another version takes the place of one that speaks: whoever asks meanwhile is answered."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from tests.e2e.ray_serve import deploy, free_port, ray_cluster
from tests.e2e.serving import serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
TEXT = "The lamp is lit. The ships come home. And the keeper goes to sleep. " * 3


@asynccontextmanager
async def asked_all_the_time(http: httpx.AsyncClient) -> AsyncIterator[list[httpx.Response]]:
    """Eight clients, each of whom asks again once it has heard; in the end, all answers."""
    answers, is_over = list[httpx.Response](), asyncio.Event()

    async def listen(stream: str) -> None:
        while not is_over.is_set():
            told = {"text": TEXT, "seed": "5", "long_text": "split", "response_format": "pcm"}
            answers.append(await http.post("/tts", data=told | {"stream": stream}))

    listeners = [asyncio.create_task(listen(("true", "false")[k % 2])) for k in range(8)]
    try:
        yield answers
    finally:
        is_over.set()
        await asyncio.gather(*listeners)


async def replicas(http: httpx.AsyncClient) -> set[str]:
    """The names of those that can speak."""
    answer = await http.get("/system-status")
    if not answer.is_success:
        return set()  # Serve has no route there yet
    return {each["replica"] for each in answer.json()["workers"] if each["state"] == "ready"}


async def are_two_others(http: httpx.AsyncClient, before: set[str]) -> None:
    """Asked again and again: neither Serve nor a server that is not there yet tells by itself."""
    async with asyncio.timeout(240.0):
        while len(now := await replicas(http)) != 2 or now & before:
            await asyncio.sleep(0.5)


def none_is_missing(answers: list[httpx.Response]) -> None:
    assert {answer.status_code for answer in answers} == {200}
    sizes = {len(answer.content) for answer in answers}
    assert max(sizes) < 1.1 * min(sizes), "every sentence of every text is there"


def client(url: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, timeout=240.0)


def test_serve_replaces_ingress_and_replicas_and_fails_no_request(tmp_path: Path) -> None:
    async def work(ray: dict[str, str], port: int) -> list[httpx.Response]:
        await asyncio.to_thread(deploy, ray, tmp_path, port)
        async with client(f"http://127.0.0.1:{port}") as http:
            await are_two_others(http, set())
            before = await replicas(http)
            async with asked_all_the_time(http) as answers:
                await asyncio.to_thread(
                    deploy, ray, tmp_path, port, settings={"SHOAL_LOG_LEVEL": "WARNING"}
                )
                await are_two_others(http, before)
        return answers

    with ray_cluster() as ray:
        none_is_missing(asyncio.run(work(ray, free_port())))


def test_a_server_that_follows_another_replaces_its_replicas_and_outlives_it() -> None:
    with ray_cluster() as ray, ExitStack() as later:

        async def follow(url: str) -> str:
            async with client(url) as old:
                await are_two_others(old, set())
                before = await replicas(old)
                async with asked_all_the_time(old) as answers:
                    following = serving("--cluster", SHOAL_WORKERS="2", NUM_THREADS="1", **ray)
                    new = await asyncio.to_thread(later.enter_context, following)
                    await are_two_others(old, before)
            none_is_missing(answers)
            return new.url

        with serving("--cluster", SHOAL_WORKERS="2", NUM_THREADS="1", **ray) as first:
            url = asyncio.run(follow(first.url))
        answer = httpx.post(f"{url}/tts", data={"text": "Good morning."}, timeout=60.0)
        assert answer.status_code == 200
        assert "X-Worker-Start-Ms" not in answer.headers, "its replicas are there"
