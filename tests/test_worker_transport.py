"""A client speaks over whatever carries its messages: here no pipe and no process at all."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from backend.core import EngineInfo
from backend.errors import EngineDown, WorkerKilled
from backend.worker.client import Patience, WorkerClient
from backend.worker.messages import Abort, Done, FromWorker, Pcm, Speak, ToWorker
from backend.worker.transport import Ear, WorkerState, loaded
from tests.monitored import stats
from tests.scripted import speak
from tests.test_serving_session import info


class Loopback:
    """A `Transport` whose worker answers in the same breath, or not at all where it `hangs`."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.hangs = hangs
        self.state = WorkerState("stopped", "not started")
        self.info: EngineInfo | None = None
        self.pid: int | None = None
        self.said: list[ToWorker] = []
        self.killed: list[str] = []
        self._ear: Ear | None = None

    def attach(self, ear: Ear) -> None:
        self._ear = ear

    def use(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        raise NotImplementedError("nothing is started here")

    def start(self) -> None:
        self.state, self.info = WorkerState("ready"), info()

    async def ready(self) -> EngineInfo:
        return loaded(self)

    async def restart(self, reason: str) -> None:
        self.die(reason)

    async def unload(self, reason: str) -> None:
        self.state, self.info = WorkerState("unloaded", reason), None

    async def close(self, reason: str = "over") -> None:
        self.state, self.info = WorkerState("stopped", reason), None

    def send(self, message: ToWorker) -> None:
        self.said.append(message)
        if isinstance(message, Speak) and not self.hangs:
            self.hears(Pcm(message.request_id, b"\0" * 8), Done(message.request_id, stats()))

    async def drain(self) -> None:
        await asyncio.sleep(0)

    def kill(self, reason: str) -> None:
        self.killed.append(reason)

    def hears(self, *messages: FromWorker) -> None:
        assert self._ear is not None
        for message in messages:
            self._ear.hear(message)

    def die(self, reason: str) -> None:
        assert self._ear is not None
        self.state, self.info = WorkerState("restarting", reason), None
        self._ear.lose(WorkerKilled(f"The worker is down: {reason}."))


def test_what_is_asked_is_answered() -> None:
    async def work() -> None:
        client = WorkerClient(Loopback())
        with pytest.raises(EngineDown, match="stopped: not started"):
            await client.speak(speak(), lambda _: None)
        client.start()
        assert await client.ready() == info()
        pieces: list[bytes] = []
        done = await client.speak(speak("hello"), pieces.append)
        assert (done.stats, pieces) == (stats(), [b"\0" * 8])
        assert not client.is_at_work

    asyncio.run(work())


def test_who_waits_when_it_is_lost_is_told() -> None:
    async def work() -> None:
        way = Loopback(hangs=True)
        client = WorkerClient(way)
        client.start()
        lost: list[Exception] = []
        client.on_lost = lost.append
        speaking = asyncio.create_task(client.speak(speak("hello"), lambda _: None))
        asking = asyncio.create_task(client.clear_caches())
        while len(way.said) < 2:
            await asyncio.sleep(0)
        way.die("gone")
        for task in (speaking, asking):
            with pytest.raises(WorkerKilled, match="gone"):
                await task
        assert len(lost) == 1
        assert not client.is_at_work

    asyncio.run(work())


def test_what_it_does_not_give_up_it_is_killed_for() -> None:
    async def work() -> None:
        way = Loopback(hangs=True)
        client = WorkerClient(way, Patience(unresponsive_s=0.01))
        client.start()
        speaking = asyncio.create_task(client.speak(speak("hello"), lambda _: None))
        while not way.said:
            await asyncio.sleep(0)
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)
        assert isinstance(way.said[-1], Abort)
        while not way.killed:
            await asyncio.sleep(0.005)
        assert "cannot be aborted" in way.killed[0]

    asyncio.run(work())
