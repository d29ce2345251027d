"""Another version takes the place of one that speaks: whoever asks meanwhile is answered."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.e2e.serving import serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]
TEXT = "The lamp is lit. The ships come home. And the keeper goes to sleep. " * 3
RAY = """
import ray, sys
print(ray.init(include_dashboard=False, num_cpus=6, object_store_memory=2**28,
    _node_ip_address="127.0.0.1").address_info["gcs_address"], flush=True)
sys.stdin.read()
"""


@contextmanager
def ray_cluster() -> Iterator[dict[str, str]]:
    """A cluster of Ray on this machine; what says where it is."""
    open_to_all = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    with subprocess.Popen(
        (sys.executable, "-c", RAY),
        env=os.environ | open_to_all,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as head:
        assert head.stdout is not None
        yield open_to_all | {"RAY_ADDRESS": head.stdout.readline().strip()}
        head.communicate(timeout=60)  # closes its stdin, at which it ends


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


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def deploy(ray: dict[str, str], folder: Path, port: int, level: str) -> None:
    """`deploy/serve.yaml` with two replicas, as a user deploys it."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "deploy/serve.yaml").read_text("utf-8"))
    config["http_options"]["port"] = port
    (shoal,) = config["applications"]
    shoal["runtime_env"]["env_vars"] |= {
        "SHOAL_WORKERS": "2",
        "SHOAL_LOG_LEVEL": level,
        "SHOAL_DATA_DIR": str(folder),
    }
    shoal["deployments"][1].pop("autoscaling_config")
    file = folder / "serve.yaml"
    file.write_text(yaml.safe_dump(config), "utf-8")
    command = (sys.executable, "-m", "ray.serve.scripts", "run", "--non-blocking", str(file))
    subprocess.run(command, env=os.environ | ray, cwd=ROOT, check=True, capture_output=True)


def test_serve_replaces_ingress_and_replicas_and_fails_no_request(tmp_path: Path) -> None:
    async def work(ray: dict[str, str], port: int) -> list[httpx.Response]:
        await asyncio.to_thread(deploy, ray, tmp_path, port, "INFO")
        async with client(f"http://127.0.0.1:{port}") as http:
            await are_two_others(http, set())
            before = await replicas(http)
            async with asked_all_the_time(http) as answers:
                await asyncio.to_thread(deploy, ray, tmp_path, port, "WARNING")
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
