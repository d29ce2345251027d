"""A worker whose torch cannot use the GPU that was planned for: planned anew, or ended with why."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import httpx
import pytest

from backend.errors import BadCheckpoint, EngineDown, NotEnoughMemory, ShoalError
from backend.hardware.deployment import Deployment
from backend.smart_backend import SmartBackend
from tests.monitored import logged
from tests.scripted import children, client
from tests.test_hardware_plans_of_machines import HARDWARE

WITH_GPU = HARDWARE["rtx_3060_8gb"]
SENTENCE = {"text": "Hello."}


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)
    assert not children()


def backend_of(http: httpx.AsyncClient) -> SmartBackend:
    backend: SmartBackend = http._transport.app.state.backend  # type: ignore[attr-defined]
    return backend


class Looks:
    """In the place of `Deployment.look`: the second look raises `error`, if there is one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: ShoalError | None = None) -> None:
        self._look, self._error = Deployment.look, error
        self.threads: list[int] = []
        monkeypatch.setattr(Deployment, "look", self)

    def __call__(self, *arguments: Any) -> Deployment:
        self.threads.append(threading.get_ident())
        if len(self.threads) > 1 and self._error is not None:
            raise self._error
        return self._look(*arguments)


def test_it_is_planned_for_the_cpu_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Looks(monkeypatch)

    async def work() -> None:
        async with client({"device": "cpu"}, found=WITH_GPU, is_ready=False) as http:
            backend = backend_of(http)
            assert backend.plan.device_uuid
            await backend.ready()
            assert backend.plan.device.value == "cpu"
            assert "torch none cannot use cuda" in backend.lane.deployment.hardware.gpu_problem
            assert backend.lane.usage.card is None
            assert (await http.post("/tts", data=SENTENCE)).status_code == 200
            assert (await http.get("/metrics")).json()["since_start"]["requests"] == 1

    run(work())
    start, again = looks.threads
    assert start == threading.get_ident() != again


@pytest.mark.parametrize(
    "error", [NotEnoughMemory("It takes 7000 MB."), BadCheckpoint("config.json is gone.")]
)
def test_why_it_cannot_be_planned_anew_is_told(
    error: ShoalError, monkeypatch: pytest.MonkeyPatch
) -> None:
    Looks(monkeypatch, error)
    unseen: list[dict[str, Any]] = []

    async def work() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: unseen.append(what))
        with logged("ERROR") as lines:
            async with client({"device": "cpu"}, found=WITH_GPU, is_ready=False) as http:
                with pytest.raises(EngineDown, match=str(error)):
                    await backend_of(http).ready()
                worker = (await http.get("/health")).json()["worker"]
                assert worker["state"] == "stopped"
                assert "cannot use cuda" in worker["reason"]
                assert str(error).rstrip(".") in worker["reason"]
                answer = await http.post("/tts", data=SENTENCE)
                assert answer.status_code == 503
                assert str(error) in answer.json()["detail"]
                assert not children(), "it holds its memory, and speaks no more"
        assert [line.startswith("ERROR The worker is ended: torch none") for line in lines] == [
            True
        ]

    run(work())
    assert unseen == []
