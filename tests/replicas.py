"""Replicas of the cluster without Ray: engines with scripted workers, in this process."""

import asyncio
import copy
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx

from backend.app import create_app
from backend.cluster.engine import Engine
from backend.cluster.fleet import ClusterFleet
from backend.cluster.told import Described, Pressure, Report
from backend.cluster.wire import said
from backend.errors import EngineDown
from backend.worker.messages import Pcm
from tests.scripted import children, command, settings

Told = Callable[[frozenset[str]], None]


class LocalReplicas:
    """The `told.Replicas` of engines that a test starts, ends and kills, as the ingress `name` has
    it."""

    kind = "Engine"

    def __init__(self, values: dict[str, Any] | None = None, name: str = "i0") -> None:
        self.name = name
        self.engines: dict[str, Engine] = {}
        self.dead: set[str] = set()
        self.mute: set[str] = set()
        """Those that answer no call about how they are."""
        self.pressures: list[Pressure] = []
        self.woken = 0
        self.given_up = 0
        self._values = values or {}
        self._told: list[Told] = []
        self._died: dict[str, asyncio.Event] = {}
        self._numbers = iter(range(100))

    async def start(self, **script: Any) -> str:
        """One more; its name."""
        number = next(self._numbers)
        name, node = f"r{number}", f"n{number}"
        engine = Engine(settings(**self._values), name, node, command(**script))
        await engine.start()
        self.engines[name], self._died[name] = engine, asyncio.Event()
        self._tell()
        return name

    async def kill(self, name: str) -> None:
        """End it as its machine's death would; nothing is told but what a call finds out."""
        self.dead.add(name)
        self._died[name].set()
        await self.engines[name].close()

    def leave(self, name: str) -> None:
        """Ask for nothing more there: it is to end."""
        self._tell({name})

    def _tell(self, leaving: frozenset[str] | set[str] = frozenset()) -> None:
        for told in self._told:
            told(frozenset(self.engines) - self.dead - leaving)

    def watch(self, told: Told) -> None:
        self._told.append(told)
        self._tell()

    def as_of(self, name: str) -> "LocalReplicas":
        """The same ones, as the ingress `name` has them."""
        other = copy.copy(self)
        other.name = name
        return other

    async def wake(self) -> None:
        self.woken += 1
        if not set(self.engines) - self.dead:
            await self.start()

    async def describe(self, replica: str) -> Described:
        return self._of(replica).describe()

    async def report(self, replica: str, pressure: Pressure) -> Report:
        if replica in self.mute:
            await asyncio.Event().wait()
        self.pressures.append(pressure)
        self._of(replica).take(pressure)
        return self._of(replica).report(self.name)

    async def tell(self, replica: str, message: bytes) -> bytes:
        return await self._of(replica).tell(message)

    async def ask(self, replica: str, message: bytes) -> AsyncGenerator[bytes, None]:
        is_over = False
        dying = asyncio.create_task(self._died[replica].wait())
        answer = self._of(replica).ask(message, self.name)
        step: asyncio.Future[bytes] | None = None
        try:
            while True:
                step = asyncio.ensure_future(anext(answer, b""))
                await asyncio.wait({step, dying}, return_when=asyncio.FIRST_COMPLETED)
                if dying.done():
                    raise EngineDown(f"The replica {replica} has died.")
                if not (block := step.result()):
                    return
                is_over = any(not isinstance(each, Pcm) for each in said(block))
                yield block
        finally:
            self.given_up += not (is_over or dying.done())
            for each in (dying, step):
                if each is not None:
                    each.cancel()
                    await asyncio.gather(each, return_exceptions=True)
            await answer.aclose()

    async def close(self) -> None:
        for name, engine in self.engines.items():
            if name not in self.dead:
                await engine.close()

    def _of(self, replica: str) -> Engine:
        if replica in self.dead or not self.engines:
            self._tell()
            raise EngineDown(f"The replica {replica} has died.")
        return self.engines[replica or next(iter(self.engines))]


@asynccontextmanager
async def cluster(
    *scripts: dict[str, Any],
    metrics: Callable[[], Awaitable[bytes]] | None = None,
    **values: Any,
) -> AsyncIterator[tuple[httpx.AsyncClient, LocalReplicas, ClusterFleet]]:
    """A client of the app in front of a replica for each script."""
    async with ingresses(1, *scripts, metrics=metrics, **values) as (replicas, ((http, fleet),)):
        yield http, replicas, fleet


@asynccontextmanager
async def ingresses(
    number: int,
    *scripts: dict[str, Any],
    metrics: Callable[[], Awaitable[bytes]] | None = None,
    **values: Any,
) -> AsyncIterator[tuple[LocalReplicas, list[tuple[httpx.AsyncClient, ClusterFleet]]]]:
    """Clients of so many apps, `i0`, `i1` and so on, in front of one replica for each script."""
    replicas = LocalReplicas(values)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(replicas.close)
        for script in scripts:
            await replicas.start(**script)
        described = await replicas.describe("")
        chosen, fronts = settings(**values), []
        for each in range(number):
            seen = replicas.as_of(f"i{each}") if each else replicas
            fleet = ClusterFleet(chosen, described, [seen], seen.name, metrics)
            app = create_app(chosen, deployment=described.deployment, fleet=fleet)
            await stack.enter_async_context(app.router.lifespan_context(app))
            http = httpx.AsyncClient(
                transport=httpx.ASGITransport(app), base_url="http://localhost", timeout=60.0
            )
            fronts.append((await stack.enter_async_context(http), fleet))
        yield replicas, fronts


def run(work: Coroutine[Any, Any, None]) -> None:
    """Nothing that was started is left."""
    asyncio.run(work)
    assert not children()


async def until(is_so: Callable[[], bool], within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not is_so():
            await asyncio.sleep(0.01)


async def leave(http: httpx.AsyncClient, replicas: LocalReplicas, fleet: ClusterFleet) -> None:
    """Ask for speech that does not end, and go once it is spoken: it is given up."""
    await until(lambda: fleet.lead.is_able)
    post = asyncio.create_task(http.post("/tts", data={"text": "wait"}))
    await until(lambda: fleet.lead.worker.is_at_work)
    post.cancel()
    await asyncio.gather(post, return_exceptions=True)
    await until(lambda: replicas.given_up == 1)
