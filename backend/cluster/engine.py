"""A replica of the cluster: a worker of this machine, as the plan for it says, and its queue.

It is what the plain server has beneath its requests, and asked for one sentence at a time. Needs no
Ray: `deployments` makes a deployment of it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from loguru import logger

from backend.cluster.told import Described, Pressure, Report
from backend.cluster.wire import asked, saying
from backend.errors import Aborted, EngineDown, EngineFailed, ShoalError, SteppedDown
from backend.hardware.deployment import Deployment
from backend.logs import log_fault
from backend.serving.demand import demand_of, voice_of
from backend.serving.fleet import Fleet
from backend.serving.lane import Lane
from backend.serving.slots import Work
from backend.serving.tasks import end
from backend.settings import Settings
from backend.spans import open_spans
from backend.worker.asked_span import begin
from backend.worker.messages import (
    Asked,
    ClearCaches,
    Cleared,
    Configure,
    Configured,
    DecodeCodes,
    Decoded,
    Done,
    Encoded,
    EncodeVoice,
    Failed,
    FromWorker,
    Pcm,
    Speak,
)

_ALL_ROWS, _ALL_WAIT = 1024, 10_000
PRESSURE_S = 10.0
"""What an ingress told earlier counts no more: it may be gone."""
_NOBODY = ""
"""Asks what the replica is before it has a name here."""

Say = Callable[[FromWorker], None]
"""Hands a message on, without waiting."""


class Engine:
    """Speaks sentences, encodes and decodes voices, each call a request of Serve.

    Raises what `Deployment.look` raises, and `NotEnoughMemory` where its worker would not fit.
    """

    def __init__(
        self, settings: Settings, replica: str, node: str, command: tuple[str, ...] | None = None
    ) -> None:
        """`command` starts another program in the worker's place."""
        told = {
            "workers": "1",
            "max_batch_per_client": _ALL_ROWS,
            "queue_limit": _ALL_WAIT,
            "unload_after_s": 0.0,  # Serve ends replicas that nobody needs
        }
        settings = settings.model_copy(update=told)
        self._replica, self._node = replica, node
        self._deployment = Deployment.look(settings)
        for level, line in self._deployment.plan.log_lines:
            logger.log(level, "{}", line)
        self._fleet = Fleet(settings, self._deployment, command)
        self._spans = open_spans()
        self._told: dict[str, tuple[Pressure, float]] = {}
        """Of each ingress what it told last, and when."""
        self._sentences: Counter[str] = Counter()
        """Of each ingress, that are spoken or wait for a row."""

    async def start(self) -> None:
        """Wait until it can speak; `EngineDown` once it is clear that it never will."""
        self._fleet.start()
        info = await self._fleet.ready()
        plan = self._lane.plan
        if plan.device_uuid and info.device == "cpu":
            raise EngineDown(f"torch {info.torch_version} cannot use {plan.device.value}")

    async def close(self) -> None:
        """End the worker."""
        await self._fleet.close()
        if self._spans is not None:
            await asyncio.to_thread(self._spans.close)

    def check_health(self) -> None:
        """Raise where it will never speak again."""
        state = self._lane.worker.state
        if state.phase == "stopped":
            raise EngineDown(f"The worker is stopped: {state.reason}.")

    @property
    def _lane(self) -> Lane:
        return self._fleet.lead

    # -- what it is asked -------------------------------------------------------------------------

    async def ask(self, message: bytes, ingress: str) -> AsyncGenerator[bytes, None]:
        """Speak, encode or decode; what the worker says to it, in blocks, and how busy it is.

        Rows and memory are given here, whatever the ingresses know of each other: where they have
        sent more than fits, they take turns.
        Closing this before its end gives it up in the worker.
        """
        made, waiting = asyncio.Event(), list[FromWorker]()

        def say(said: FromWorker) -> None:
            waiting.append(said)
            made.set()

        task = asyncio.create_task(self._answer(message, ingress, say), name="asked")
        task.add_done_callback(lambda _: made.set())
        try:
            while True:
                await made.wait()
                made.clear()
                is_over = task.done()  # looked at before the block is taken, which may take a while
                if waiting:
                    block = saying(self._lane.worker.load, *waiting)
                    waiting.clear()
                    yield block
                if is_over:
                    return
        finally:
            await end(task)

    async def tell(self, message: bytes) -> bytes:
        """Change how the worker goes on, or clear its caches; its answer."""
        match asked(message):
            case Configure(num_threads, cache_limit_mb):
                lane = self._lane
                config = replace(lane.asked, num_threads=num_threads, cache_limit_mb=cache_limit_mb)
                await self._fleet.configure(lambda _: config)
                now = lane.config
                return saying(Configured(now.num_threads, now.cache_limit_mb))
            case ClearCaches():
                return saying(Cleared(await self._fleet.clear_caches()))
            case other:
                raise TypeError(f"{type(other).__name__} is no question")

    def describe(self) -> Described:
        """What it is."""
        return Described(self._replica, self._node, self._deployment, self.report(_NOBODY))

    def report(self, ingress: str) -> Report:
        """How it is now, as `ingress` is told it."""
        lane = self._lane
        worker, cooling, shortage = lane.worker, lane.cooling, lane.shortage
        return Report(
            state=worker.state,
            info=worker.info,
            way=worker.way_state,
            load=worker.load,
            pid=worker.pid,
            rows=lane.rows,
            elsewhere=self._sentences.total() - self._sentences[ingress],
            ingresses=self._pressures(),
            memory=lane.memory_now(),
            machine=lane.usage.load(),
            heat=lane.usage.heat(),
            config=lane.config,
            footing=lane.footing,
            thermal={**cooling.status(), "level": cooling.level, "warning": cooling.warning()},
            ladder=shortage.status(),
        )

    def take(self, pressure: Pressure) -> None:
        """Know how much an ingress has to do."""
        self._told[pressure.ingress] = pressure, time.monotonic()

    def stats(self) -> dict[str, float]:
        """What the autoscaler goes by, see `scaling`."""
        told = self._pressures()
        return {
            "rows": float(self._lane.rows),
            "inside": float(sum(each.inside for each in told)),
            "wait_s": max((each.wait_s for each in told), default=0.0),
        }

    def _pressures(self) -> tuple[Pressure, ...]:
        earliest_s = time.monotonic() - PRESSURE_S
        self._told = {name: told for name, told in self._told.items() if told[1] > earliest_s}
        return tuple(pressure for pressure, _ in self._told.values())

    # -- what it does -----------------------------------------------------------------------------

    async def _answer(self, message: bytes, ingress: str, say: Say) -> None:
        request = asked(message)
        assert isinstance(request, Asked)
        request_id = request.request_id
        if self._spans is None or not request.trace_parent:
            await self._answer_to(request, ingress, say)
            return
        request, span = begin(self._spans, request, "replica", self._replica)

        def traced(message: FromWorker) -> None:
            span.tell(message)
            say(message)

        try:
            await self._answer_to(request, ingress, traced)
        except asyncio.CancelledError:
            span.tell(Failed(request_id, Aborted.code, "It was given up."))
            raise

    async def _answer_to(self, request: Asked, ingress: str, say: Say) -> None:
        request_id = request.request_id
        try:
            say(await self._work(request, ingress, say))
        except SteppedDown as error:
            say(Failed(request_id, error.code, str(error), error.step))
        except ShoalError as error:
            say(Failed(request_id, error.code, str(error)))
        except Exception as error:  # noqa: BLE001 - the boundary of a call: it is answered
            log_fault("A call has failed.", error=error)
            say(Failed(request_id, EngineFailed.code, f"{type(error).__name__}: {error}"))

    async def _work(self, request: Asked, ingress: str, say: Say) -> FromWorker:
        info = await self._lane.speaker.ready()
        demand = demand_of(request, info)
        queue = self._fleet.admission
        with (
            self._counted(request, ingress),
            queue.enter(ingress, demand.characters) as admitted,
        ):
            work, voice = _turn(request)
            with await admitted.slot(demand, work, voice) as slot:
                speaker = slot.station.speaker
                match request:
                    case Speak():
                        done = await speaker.speak(request, _pcm(request.request_id, say))
                        slot.done(demand.characters, done.stats.audio_s)
                        return Done(request.request_id, done.stats, done.codes)
                    case EncodeVoice():
                        return Encoded(request.request_id, await speaker.encode(request))
                    case DecodeCodes():
                        _pcm(request.request_id, say)(await speaker.decode(request))
                        return Decoded(request.request_id)

    @contextmanager
    def _counted(self, request: Asked, ingress: str) -> Iterator[None]:
        """A sentence of `ingress` is here, as long as this is entered."""
        sentences = int(isinstance(request, Speak))
        self._sentences[ingress] += sentences
        try:
            yield
        finally:
            self._sentences[ingress] -= sentences
            if not self._sentences[ingress]:
                del self._sentences[ingress]


def _turn(request: Asked) -> tuple[Work, int | None]:
    """In whose turn it is, and the voice whose prompt has to be read."""
    return ("speak", voice_of(request)) if isinstance(request, Speak) else ("encode", None)


def _pcm(request_id: str, say: Say) -> Callable[[bytes], None]:
    return lambda samples: say(Pcm(request_id, samples))
