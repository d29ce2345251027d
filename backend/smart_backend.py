"""The one place that sees every room: looks at the machine, plans, admits, speaks, keeps count."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from types import MappingProxyType, TracebackType
from typing import Any, Self

from loguru import logger

from backend.core import MIB, EngineInfo, Plan, ReferenceCodes, SpeechRequest
from backend.errors import Aborted, BadCheckpoint, BadSetting, NotEnoughMemory, ShoalError
from backend.hardware.affinity import CPUAffinityManager
from backend.hardware.deployment import Deployment
from backend.hardware.memory import MemoryBudgetManager
from backend.hardware.pressure import (
    RunningConfig,
    ThrottlingRisk,
    adjusted,
    recommended_action,
    throttling_risk,
)
from backend.hardware.quantization import QuantizationStrategy
from backend.hardware.report import config_json
from backend.monitoring.gpu import busiest
from backend.monitoring.monitor import INTERVAL_S
from backend.monitoring.monitoring import Monitoring
from backend.monitoring.retention import Retention
from backend.monitoring.sample import Observed
from backend.monitoring.synthesis import SynthesisStart
from backend.serving.cpu_lane import CpuLane
from backend.serving.estimate import estimate_json
from backend.serving.fleet import Fleet
from backend.serving.intake import Intake
from backend.serving.lane import Lane
from backend.serving.outlook import OnQueued
from backend.serving.references import References
from backend.serving.session import SpeechSession
from backend.serving.tasks import end
from backend.settings import Settings
from backend.shown import health_json, machine_json, worker_now
from backend.tuning.server import BackgroundTuning
from backend.voices.store import VoiceStore
from backend.worker.client import WorkerClient

__all__ = [
    "CPUAffinityManager",
    "MemoryBudgetManager",
    "QuantizationStrategy",
    "SmartBackend",
]


class SmartBackend:
    """Speaks requests through one supervised worker, as the plan for this machine says.

    `statuses` is what each error's code is answered with, for the log. Raises what
    `Deployment.look` raises, and `NotEnoughMemory` where the worker would not fit what is free now.
    """

    def __init__(
        self,
        settings: Settings,
        command: tuple[str, ...] | None = None,
        start_attempts: int | None = None,
        deployment: Deployment | None = None,
        statuses: Mapping[str, int] = MappingProxyType({}),
        fleet: Fleet | None = None,
    ) -> None:
        self.settings = settings
        self._statuses = statuses
        self._settling: asyncio.Task[EngineInfo] | None = None
        self._told_s = -math.inf
        """When monitoring was told how the workers are, by the monotonic clock."""
        self.deployment = deployment or Deployment.look(settings)
        self.fleet = fleet or Fleet(settings, self.deployment, command, start_attempts)
        self._cpu_lane = CpuLane(settings, self.deployment.hardware, command, self.fleet.quiet)
        self.tuning = BackgroundTuning(settings, self.fleet)
        self.references = References(settings)
        self._intake = Intake(settings, self.fleet, self._cpu_lane, self.references)
        self.monitoring = self._watch()

    def _watch(self) -> Monitoring:
        settings, plan, live = self.settings, self.plan, self.lane.usage
        hardware = self.lane.deployment.hardware
        return Monitoring(
            tier=plan.tier,
            device=plan.device.value,
            device_uuid=plan.device_uuid,
            directory=settings.metrics_dir if settings.metrics else None,
            rotate_bytes=settings.metrics_rotate_bytes,
            retention=Retention(settings.metrics_keep_days, settings.metrics_limit_mb * MIB),
            hardware_specs=self.describe(),
            is_gpu_expected=bool(hardware.gpus or hardware.gpu_problem),
            statuses=self._statuses,
            # In a container the system's own figure is not the one that counts.
            memory_pct=None if hardware.memory.limit_source == "machine" else live.memory_pct,
            card=busiest(lane.usage.card for lane in self.fleet.lanes),
        )

    @property
    def lane(self) -> Lane:
        """The worker that stands for all, with its plan and memory."""
        return self.fleet.lead

    @property
    def plan(self) -> Plan:
        """How this machine speaks."""
        return self.lane.plan

    @property
    def worker(self) -> WorkerClient:
        """The worker that speaks, and its supervision."""
        return self.lane.worker

    @property
    def info(self) -> EngineInfo | None:
        """What the worker has loaded; None unless it is ready."""
        return self.lane.worker.info

    @property
    def voices(self) -> VoiceStore:
        """The saved voices."""
        return self.references.voices

    async def __aenter__(self) -> Self:
        lines = (line for one in self.deployment.each() for line in one.plan.log_lines)
        for level, line in dict.fromkeys(lines):
            logger.log(level, "{}", line)
        if self.deployment.more:
            workers = self.deployment.workers
            logger.info("{} workers speak: {}.", workers.value, workers.reason)
        await self.monitoring.__aenter__()
        self.fleet.start()
        self._settling = asyncio.create_task(self._settle(), name="worker settling")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await end(self._settling)
        self._intake.close()
        await self.tuning.close()
        await self._cpu_lane.close()
        await self.fleet.close()
        await self.monitoring.__aexit__(kind, error, trace)

    def stop_admitting(self) -> None:
        """Refuse what has not begun to be spoken; the rest may finish. For a graceful end."""
        self.fleet.stop_admitting()
        self._cpu_lane.stop_admitting()

    async def ready(self) -> EngineInfo:
        """Wait until the worker can speak; `EngineDown` once it is clear that it never will."""
        assert self._settling is not None, "the backend was not entered"
        return await asyncio.shield(self._settling)

    @asynccontextmanager
    async def speak(
        self,
        request: SpeechRequest,
        texts: AsyncIterator[str] | None = None,
        on_queued: OnQueued | None = None,
    ) -> AsyncIterator[SpeechSession]:
        """Speak `request` once it is its turn; leaving the block early gives it up in the worker.

        `texts` is text that is still being written, in pieces; `request.text` is "" then. Raises
        before anything is computed what can be said without the worker: a blank or too long text,
        an unknown voice, a queue that is full. `on_queued` is told what is known of a text that is
        there as soon as it is in the queue.
        """
        span = self.monitoring.arrive(request.trace_parent)
        # What other processes make of it is a part of it; without a span of ours, nobody asks.
        if span is not None or request.trace_parent:
            request = replace(request, trace_parent=span.trace_parent if span else "")
        start = SynthesisStart(
            request.request_id,
            self.lane.running_plan,
            len(request.text),
            language=request.language,
            span=span,
        )
        observed, is_admitted = Observed(), False
        try:
            async with self._intake.admit(request, texts, observed, on_queued) as session:
                is_admitted = True
                self._tell_now_and_then()
                start = _admitted(start, request, session)
                with self.monitoring.begin(start, observed) as synthesis:
                    try:
                        yield session
                    finally:  # what was spoken whole is a success, whatever is sent of it
                        if session.is_spoken:
                            synthesis.finish(
                                session.stats,
                                total_s=session.total_s,
                                first_audio_s=session.first_audio_s,
                                audio_s=session.audio_s,
                            )
        except ShoalError as error:
            if not is_admitted:
                self._refuse(start, error.code, str(error))
            raise
        except asyncio.CancelledError:
            if not is_admitted:
                told = "the client left while it waited"
                self._refuse(start, Aborted.code, told, is_answered=False)
            raise

    def _refuse(
        self, start: SynthesisStart, code: str, reason: str, *, is_answered: bool = True
    ) -> None:
        """Remember a request of which nothing was computed."""
        self._tell_now_and_then()
        self.monitoring.refuse(start, code, reason, is_answered=is_answered)

    async def encode_voice(
        self,
        audio: bytes,
        client: str,
        request_id: str,
        timeout_s: float | None = None,
        arrived_s: float | None = None,
    ) -> ReferenceCodes:
        """A recording as codes, remembered; waits its turn as speech does."""
        return await self._intake.encode_voice(audio, client, request_id, timeout_s, arrived_s)

    async def decode_voice(
        self, voice: str, client: str, request_id: str, timeout_s: float | None = None
    ) -> tuple[bytes, int]:
        """The first seconds of a saved voice as float32 samples, and their rate in Hz."""
        return await self._intake.decode_voice(voice, client, request_id, timeout_s)

    async def reading(self, request: SpeechRequest) -> dict[str, Any]:
        """How the text of `request` is read: the answer of `POST /normalize`."""
        return asdict(await self._intake.reading(request))

    async def estimate_memory(self, request: SpeechRequest) -> dict[str, Any]:
        """What speaking `request` would take: the answer of `POST /estimate-memory`."""
        return await estimate_json(request, self._intake, self.lane, self._cpu_lane)

    async def system_status(self) -> dict[str, Any]:
        """How busy the machine is: the answer of `GET /system-status`."""
        resources = await asyncio.to_thread(self.lane.usage.resources)
        risk = self._risk(resources)
        return {
            "resources": resources,
            "throttling_risk": asdict(risk),
            "worker": {"state": self.worker.state.phase, "reason": self.worker.state.reason},
            "workers": self.fleet.status(),
            **self.fleet.beside(),
            "thermal": self.lane.cooling.status(),
            "memory_budget_safe": self.lane.memory.is_safe,
            "memory_ladder": self.lane.shortage.status(),
            "recommended_action": recommended_action(risk),
        }

    async def optimize(self) -> dict[str, Any]:
        """Clear caches, look again, go on with less or, step by step, with as much as planned."""
        before = await asyncio.to_thread(self.lane.usage.resources)
        freed_bytes = await self.clear_caches()
        after = await asyncio.to_thread(self.lane.usage.resources)
        previous, planned = self.lane.config, RunningConfig.of(self.plan)
        risk = self._risk(after)
        await self.fleet.configure(
            lambda lane: adjusted(lane.asked, RunningConfig.of(lane.plan), risk)
        )
        config = self.lane.config
        return {
            "status": "optimal" if config == planned else "adjusted",
            "previous_config": config_json(previous),
            "new_config": config_json(config),
            "freed_mb": round(freed_bytes / MIB, 2),
            "before": before,
            "after": after,
        }

    async def clear_caches(self) -> int:
        """Forget encoded references, give unused memory back; the bytes that became free."""
        return self.references.cache.clear() + await self.fleet.clear_caches()

    def describe(self) -> dict[str, Any]:
        """The machine and the plan: the answer of `GET /hardware`."""
        return machine_json(self.fleet, self.deployment) | {"measurement": self.tuning.status()}

    def health(self) -> dict[str, Any]:
        """What `GET /health` says beside the worker's state; waits for nothing."""
        return health_json(self.fleet, self.plan, self.references)

    def metrics(self) -> dict[str, Any]:
        """What was spoken so far: the answer of `GET /metrics`."""
        self._tell()
        return self.monitoring.aggregates()

    async def prometheus(self) -> tuple[bytes, str]:
        """The same as Prometheus text, a cluster's own metrics with it, and its media type."""
        ours, media_type = self.exposition()
        return await self.fleet.exposition(ours), media_type

    def exposition(self) -> tuple[bytes, str]:
        """What this server alone tells Prometheus, and its media type."""
        self._tell()
        return self.monitoring.prometheus()

    # -- the machine and the worker ---------------------------------------------------------------

    def _risk(self, resources: dict[str, Any]) -> ThrottlingRisk:
        return throttling_risk(
            resources["memory_percent"],
            resources["cpu_percent"],
            self.plan.thermal_throttle_cpu_pct,
            resources["temperatures_c"],
            self.lane.cooling.warning(),
        )

    async def _settle(self) -> EngineInfo:
        """Wait for the worker; plan again where its torch cannot use the GPU it was given.

        Raises `EngineDown` where that cannot be done either; the worker is ended then.
        """
        info = await self.fleet.ready()
        if self.plan.device_uuid and info.device == "cpu":
            problem = f"torch {info.torch_version} cannot use {self.plan.device.value}"
            logger.warning("The GPU is not used: {}. Planning for the CPU.", problem)
            without = replace(self.lane.deployment.hardware, gpus=(), gpu_problem=problem)
            alone = self.settings.model_copy(update={"workers": "1"})
            try:
                deployment = await asyncio.to_thread(Deployment.look, alone, without)
            except (BadCheckpoint, BadSetting, NotEnoughMemory) as error:
                reason = f"{problem}, and without it: {error}"
                logger.error("The worker is ended: {}", reason)
                await self.worker.close(reason.rstrip("."))
                return self.worker.loaded()
            info = await self.lane.change_plan(
                deployment, "it cannot use the GPU, and is planned anew"
            )
            self.deployment = deployment
            await self.monitoring.__aexit__(None, None, None)
            self.monitoring = await self._watch().__aenter__()
        return info

    def _tell_now_and_then(self) -> None:
        """For the samples: who asks for metrics has it told anew."""
        if time.monotonic() >= self._told_s + INTERVAL_S:
            self._tell()

    def _tell(self) -> None:
        self._told_s = time.monotonic()
        lanes = self.fleet.lanes
        self.monitoring.set_queue_depth(self.fleet.admission.waiting)
        self.monitoring.set_thermal(
            max(lane.cooling.level for lane in lanes),
            sum(lane.cooling.steps_back for lane in lanes),
        )
        self.monitoring.set_ladder(
            max(lane.shortage.level for lane in lanes),
            sum(lane.shortage.steps_down for lane in lanes),
        )
        self.monitoring.set_workers([worker_now(lane, self.fleet) for lane in lanes])


def _admitted(
    start: SynthesisStart, request: SpeechRequest, session: SpeechSession
) -> SynthesisStart:
    """What is known of a request once its first turn has come."""
    return replace(
        start,
        plan=session.plan,
        spoken_length=session.text_limit.spoken_length,
        text_limit=session.text_limit.limit,
        queue_s=session.queue_s,
        foreseen=session.foreseen,
        engine=f"{session.info.engine}/{session.info.checkpoint}",
        device=session.info.device if request.force_cpu else None,
    )
