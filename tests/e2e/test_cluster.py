"""The shipped voice spoken by replicas of Ray Serve on this machine, which come, die and go: behind
two ingresses and Serve's HAProxy, as `deploy/serve.yaml` has them, and behind `shoal serve`."""

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, nullcontext
from typing import Any

import httpx
import psutil
import pytest
from websockets.asyncio.client import connect
from websockets.frames import CloseCode

from tests.e2e.ray_serve import deploy, free_port, ray_cluster
from tests.e2e.serving import keep_compiled, serving
from tests.redis_server import SERVER as REDIS
from tests.redis_server import redis_server

pytestmark = pytest.mark.timeout(600)  # Ray, and two workers that compile, on two busy cores
TEXT = "The lamp is lit. The ships come home. And the keeper goes to sleep."
LONG = f"{TEXT} " * 60
SHORT = "Good morning."


RATE = 300
"""Requests of a key in a minute: more than all of these tests but one make together."""
ANN, BOB = {"X-API-Key": "key-of-ann"}, {"X-API-Key": "key-of-bob"}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("serve"), free_port()
    url = f"http://127.0.0.1:{port}"
    haproxy = {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
    }
    with (
        redis_server(folder) if REDIS else nullcontext() as store,
        ray_cluster(haproxy) as ray,
    ):
        told = {
            "NUM_THREADS": "1",
            "SHOAL_API_KEYS": "ann:key-of-ann,bob:key-of-bob",
            "SHOAL_RATE_LIMIT_PER_MINUTE": str(RATE),
            "SHOAL_MAX_BATCH_PER_CLIENT": "64",
            "SHOAL_SHARED_DIR": str(folder / "shared"),
        }
        if store is not None:
            told["SHOAL_RATE_STORE"] = store.url
        deploy(ray, folder, port, ingresses=2, settings=told)
        _until(url, lambda workers: len(workers) == 2)
        _both_answer(url)
        keep_compiled(folder)
        yield url


def _of_each(url: str, metric: str) -> dict[str, float]:
    """What each ingress tells of `metric`."""
    text = httpx.get(f"{url}/metrics/prometheus", timeout=30.0, headers=ANN).text
    found = re.findall(rf'^{re.escape(metric)}{{ingress="(\w+)".*}} (\S+)$', text, re.MULTILINE)
    return {name: float(value) for name, value in found}


def _status(url: str) -> dict[str, Any]:
    """What an ingress tells; nothing where none answers yet."""
    try:
        answer = httpx.get(f"{url}/system-status", timeout=30.0, headers=ANN)
    except httpx.TransportError:
        return {}  # Serve's HAProxy is being started
    if not answer.is_success:
        return {}  # Serve has no route there yet
    return dict(answer.json())


def _until_told(url: str, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline_s = time.monotonic() + 240.0  # a replica's start took over 90 s on a busy machine
    while time.monotonic() < deadline_s:
        if is_so(status := _status(url)):
            return status
        time.sleep(0.2)
    raise AssertionError(f"not in time: {status}")


def _both_answer(url: str) -> None:
    """HAProxy knows of the second ingress some time after the first."""
    names = set[str]()

    def is_so(status: dict[str, Any]) -> bool:
        names.update([status["ingress"]] if status else [])
        return len(names) == 2

    _until_told(url, is_so)


def _until(url: str, is_so: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    status = _until_told(url, lambda status: is_so(status.get("workers", [])))
    return list(status.get("workers", []))


def test_it_speaks_streams_and_says_who_is_there(url: str) -> None:
    with httpx.Client(base_url=url, timeout=60.0, headers=ANN) as http:
        whole = http.post("/tts", data={"text": TEXT, "seed": "5"})
        assert whole.status_code == 200
        assert "X-Worker-Start-Ms" not in whole.headers
        told = {"text": TEXT, "seed": "5", "stream": "true", "response_format": "pcm"}
        with http.stream("POST", "/tts", data=told) as answer:
            pieces = list(answer.iter_bytes())
        assert len(pieces) > 2
        assert http.get("/health").json()["worker"]["state"] == "ready"
        metrics = http.get("/metrics/prometheus").text
        up = re.findall(r'shoal_each_worker_up{ingress="(\w+)",.*,replica="(\w+)",.*} 1.0', metrics)
        assert [len(set(names)) for names in zip(*up, strict=True)] == [2, 2], "each of each"
        assert 'shoal_ray_nodes{metrics="told"} 1' in metrics
        assert "\nray_serve_" in metrics, "what Ray tells is in the same scrape"
        assert len(http.get("/hardware").json()["machines"]) == 1


def test_clients_of_both_share_all_rows_and_free_them_when_they_leave(url: str) -> None:
    async def listen(http: httpx.AsyncClient) -> None:
        told = {"text": LONG, "long_text": "split", "stream": "true", "response_format": "pcm"}
        async with http.stream("POST", "/tts", data=told) as answer:
            assert answer.status_code == 200
            async for _ in answer.aiter_bytes():  # with enough in hand nothing is spoken
                pass

    def is_shared(workers: list[dict[str, Any]]) -> bool:
        """As the ingress that answers has it: of each replica's 16 rows both have about half. Some
        are just between two sentences, and of the other's it knows what they were a moment ago."""
        held = [(each["speaking"], each["rows_elsewhere"]) for each in workers]
        return len(held) == 2 and all(min(both) >= 6 and max(both) <= 10 for both in held)

    async def listen_together() -> None:
        limits = httpx.Limits(max_connections=None)
        async with AsyncExitStack() as stack:
            http = httpx.AsyncClient(base_url=url, timeout=240.0, limits=limits, headers=ANN)
            await stack.enter_async_context(http)
            # Where a few more come to one ingress than to the other, both still want all rows.
            listeners = [asyncio.create_task(listen(http)) for _ in range(44)]
            sharing = asyncio.create_task(asyncio.to_thread(_until, url, is_shared))
            await asyncio.wait({*listeners, sharing}, return_when=asyncio.FIRST_COMPLETED)
            assert not any(each.done() for each in listeners)
            sharing.result()
            for each in listeners:
                each.cancel()
            await asyncio.gather(*listeners, return_exceptions=True)

    asyncio.run(listen_together())
    # As the replicas tell it of their workers: nobody computes what nobody hears.
    _until(url, lambda workers: not any(each["rows_at_work"] for each in workers))


def test_two_hundred_streams_at_once_are_whole_or_refused(url: str) -> None:
    async def speak() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=url, timeout=240.0, limits=limits, headers=ANN
        ) as http:
            told = {"text": SHORT, "seed": "5", "stream": "true", "response_format": "pcm"}
            return await asyncio.gather(*(http.post("/tts", data=told) for _ in range(200)))

    answers = asyncio.run(speak())
    whole = {len(each.content) for each in answers if each.status_code == 200}
    assert len(whole) == 1, "what begins, ends"
    refused = [each for each in answers if each.status_code != 200]
    assert len(refused) < 100
    assert {each.status_code for each in refused} <= {503}
    assert all(int(each.headers["Retry-After"]) > 0 for each in refused)
    spoken = _of_each(url, "shoal_audio_seconds_total")
    assert len(spoken) == 2 and all(spoken.values()), "both have spoken"


@pytest.mark.skipif(not REDIS, reason="redis-server is not installed")
def test_the_rate_of_a_key_is_one_for_both(url: str) -> None:
    async def ask() -> list[int]:
        limits = httpx.Limits(max_connections=20)
        async with httpx.AsyncClient(
            base_url=url, timeout=240.0, limits=limits, headers=BOB
        ) as http:
            posts = [http.post("/normalize", data={"text": SHORT}) for _ in range(RATE + 10)]
            return [answer.status_code for answer in await asyncio.gather(*posts)]

    assert Counter(asyncio.run(ask())) == {200: RATE, 429: 10}


def test_one_killed_under_twenty_requests_costs_nobody_an_answer(url: str) -> None:
    async def speak() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=url, timeout=240.0, headers=ANN) as http:
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

    before = _until(url, lambda workers: len(workers) == 2)
    answers = asyncio.run(speak())
    assert {answer.status_code for answer in answers} == {200}
    sizes = {len(answer.content) for answer in answers}
    assert max(sizes) < 1.2 * min(sizes), "nothing of any is missing"
    names = {each["replica"] for each in before}
    after = _until(url, lambda workers: _are_others(workers, names))
    assert len(names & {each["replica"] for each in after}) == 1, "Serve has started another"


def test_text_that_is_still_written_is_spoken_through_the_proxy(url: str) -> None:
    async def work() -> tuple[list[dict[str, Any]], bytes]:
        told, audio = list[dict[str, Any]](), b""
        address = f"{url.replace('http', 'ws')}/v1/audio/stream"
        async with connect(address, additional_headers=ANN) as socket:
            for word in TEXT.split(" "):
                await socket.send(json.dumps({"type": "text", "text": f"{word} "}))
            await socket.send(json.dumps({"type": "end"}))
            async for frame in socket:
                if isinstance(frame, bytes):
                    audio += frame
                else:
                    told.append(json.loads(frame))
        assert socket.close_code == CloseCode.NORMAL_CLOSURE
        return told, audio

    told, audio = asyncio.run(work())
    said = [each["text"] for each in told if each["type"] == "sentence.start"]
    assert " ".join(said) == TEXT
    assert len(audio) / 2 / told[0]["sample_rate"] == pytest.approx(told[-1]["audio_s"], abs=0.01)


def test_an_ingress_that_dies_takes_its_own_clients_streams_alone(url: str) -> None:
    async def listen(http: httpx.AsyncClient) -> int:
        told = {"text": f"{TEXT} " * 12, "seed": "5", "long_text": "split", "stream": "true"}
        async with http.stream("POST", "/tts", data=told | {"response_format": "pcm"}) as answer:
            assert answer.status_code == 200
            return sum([len(piece) async for piece in answer.aiter_bytes()])

    async def speak(dies: psutil.Process) -> list[int | BaseException]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=url, timeout=240, limits=limits, headers=ANN) as http:
            listeners = [asyncio.create_task(listen(http)) for _ in range(12)]
            await asyncio.to_thread(_until_told, url, _both_speak)
            dies.kill()
            return await asyncio.gather(*listeners, return_exceptions=True)

    heard = asyncio.run(speak(_ingress_processes()[0]))
    lost = [each for each in heard if isinstance(each, BaseException)]
    whole = [each for each in heard if isinstance(each, int)]
    assert lost and all(isinstance(each, httpx.RemoteProtocolError) for each in lost)
    assert len(whole) == 12 - len(lost) and max(whole) < 1.1 * min(whole)
    _both_answer(url)
    _until(url, lambda workers: not any(each["rows_at_work"] for each in workers))


def _both_speak(status: dict[str, Any]) -> bool:
    ingresses = status.get("ingresses", [])
    return len(ingresses) == 2 and all(each["inside"] for each in ingresses)


def _ingress_processes() -> list[psutil.Process]:
    ours = psutil.Process().children(recursive=True)
    return [each for each in ours if "ServeReplica" in each.name() and "Ingress" in each.name()]


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
