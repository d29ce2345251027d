"""The one place that sees every room: looks at the machine, plans, admits, speaks, keeps count."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict, replace
from types import TracebackType
from typing import Any, Self

from loguru import logger

from backend.core import EngineInfo, Plan, SpeechRequest, TextLimit
from backend.errors import BadReference, BlankText, ShoalError, TextTooLong, UploadTooLarge
from backend.hardware.affinity import CPUAffinityManager
from backend.hardware.live import LiveMachine, memory_pct
from backend.hardware.look import Machine
from backend.hardware.memory import Demand, MemoryBudgetManager, MemoryNow
from backend.hardware.need import MIB, wide_share
from backend.hardware.pressure import (
    LEAST_CHUNK_LENGTH,
    RunningConfig,
    ThrottlingRisk,
    adjusted,
    recommended_action,
    throttling_risk,
)
from backend.hardware.quantization import QuantizationStrategy
from backend.hardware.report import config_json, hardware_json, plan_json
from backend.launch import worker_command, worker_environment
from backend.monitoring.monitoring import Monitoring
from backend.monitoring.synthesis import SynthesisStart
from backend.session import SpeechSession
from backend.settings import Settings
from backend.text.limit import truncate
from backend.text.sentences import fold, split_sentences
from backend.worker.client import Patience, WorkerClient
from backend.worker.messages import OPEN_SEGMENTS, Configure, Speak

__all__ = [
    "CPUAffinityManager",
    "MemoryBudgetManager",
    "QuantizationStrategy",
    "SmartBackend",
]


class SmartBackend:
    """Speaks requests through one supervised worker, as the plan for this machine says.

    Raises what `Machine.look` raises, and `NotEnoughMemory` where the worker would not fit what is
    free now.
    """

    def __init__(
        self,
        settings: Settings,
        command: tuple[str, ...] | None = None,
        start_attempts: int | None = None,
        machine: Machine | None = None,
    ) -> None:
        self.settings = settings
        self._command = command
        self._settling: asyncio.Task[EngineInfo] | None = None
        self._take(machine or Machine.look(settings))
        self.worker = WorkerClient(
            self._worker_command(),
            Patience(
                start_timeout_s=settings.worker_start_timeout_s,
                restart_delay_s=settings.restart_delay_s,
                restart_delay_max_s=settings.restart_delay_max_s,
                unresponsive_s=settings.worker_unresponsive_s,
                shutdown_grace_s=settings.shutdown_grace_s,
                start_attempts=start_attempts,
            ),
            worker_environment(self.plan),
        )
        if settings.engine == "shoal":  # what the published package takes, nobody has worked out
            self.memory.check_load(self.machine.resident_bytes)
        self.monitoring = self._watch()

    def _watch(self) -> Monitoring:
        settings, plan, hardware = self.settings, self.plan, self.machine.hardware
        return Monitoring(
            tier=plan.tier,
            device=plan.device.value,
            device_uuid=plan.device_uuid,
            directory=settings.metrics_dir if settings.metrics else None,
            rotate_bytes=settings.metrics_rotate_bytes,
            hardware_specs=self.describe(),
            is_gpu_expected=bool(hardware.gpus or hardware.gpu_problem),
            # In a container the system's own figure is not the one that counts.
            memory_pct=None if hardware.memory.limit_source == "machine" else memory_pct,
        )

    def _take(self, machine: Machine) -> None:
        self.machine = machine
        self.config = RunningConfig.of(machine.plan)
        """What the plan has become under pressure."""
        self._live = LiveMachine(machine.plan)
        self.memory = MemoryBudgetManager(
            machine.plan, machine.shape, self._memory_now, self.settings.dynamic_text_limit
        )

    @property
    def plan(self) -> Plan:
        """How this machine speaks."""
        return self.machine.plan

    @property
    def running_plan(self) -> Plan:
        """The plan with what has become of it: pressure, and whether compiled code speaks."""
        plan, config, compiled = self.plan, self.config, self.worker.compile_state
        return replace(
            plan,
            compile=replace(plan.compile, value=compiled is not None and compiled.is_active),
            num_threads=replace(plan.num_threads, value=config.num_threads),
            chunk_length=replace(plan.chunk_length, value=config.chunk_length),
        )

    async def __aenter__(self) -> Self:
        for level, line in self.plan.log_lines:
            logger.log(level, "{}", line)
        await self.monitoring.__aenter__()
        self.worker.start()
        self._settling = asyncio.create_task(self._settle(), name="worker settling")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._settling is not None:
            self._settling.cancel()
            await asyncio.gather(self._settling, return_exceptions=True)
        await self.worker.close()
        await self.monitoring.__aexit__(kind, error, trace)
        self._live.close()

    async def ready(self) -> EngineInfo:
        """Wait until the worker can speak; `EngineDown` once it is clear that it never will."""
        assert self._settling is not None, "the backend was not entered"
        return await asyncio.shield(self._settling)

    @asynccontextmanager
    async def speak(self, request: SpeechRequest) -> AsyncIterator[SpeechSession]:
        """Speak `request`; leaving the block early gives it up in the worker.

        Raises before anything is computed what can be said without the worker: a blank or too long
        text, a file that is no recording, memory that is short.
        """
        start = SynthesisStart(
            request.request_id,
            self.running_plan,
            len(request.text),
            trace_parent=request.trace_parent,
        )
        try:
            self._check_text(request.text)
            self._check_reference(request)
            info = self.worker.loaded()
            limit, demand, speak = self._prepare(request, info)
            lease = self.memory.lease(demand)
        except ShoalError as error:
            self.monitoring.refuse(start, error.code, str(error))
            raise
        start = replace(
            start,
            spoken_length=limit.spoken_length,
            text_limit=limit.limit,
            segments=len(speak.segments),
            engine=f"{info.engine}/{info.checkpoint}",
        )
        self._tell_of_worker()
        with lease, self.monitoring.begin(start) as synthesis:
            async with aclosing(self.worker.speak(speak)) as messages:
                session = SpeechSession(
                    messages,
                    info=info,
                    plan=start.plan,
                    text_limit=limit,
                    segments=speak.segments,
                    warnings=_warnings(request, info, limit),
                    timeout_s=self.settings.request_timeout_s,
                )
                yield session
            if session.is_spoken:
                synthesis.finish(
                    session.stats,
                    total_s=session.total_s,
                    first_audio_s=session.first_audio_s,
                    audio_s=session.audio_s,
                )
        session.peak_gpu_util_pct = synthesis.peak_gpu_util_pct
        session.peak_vram_mb = synthesis.peak_vram_mb

    def estimate_memory(self, text: str) -> dict[str, Any]:
        """What speaking `text` would take: the answer of `POST /estimate-memory`."""
        self._check_text(text)
        self.worker.loaded()
        demand = Demand(
            len(text), self.config.chunk_length, OPEN_SEGMENTS, wide_share=wide_share(text)
        )
        estimate = self.memory.estimate(text, demand)
        if estimate.safe:
            return {"status": "ok", "estimate": asdict(estimate)}
        longest = self.memory.longest_safe(demand)
        advice = f"Send at most {longest} characters." if longest else "Close other programs."
        return {"status": "warning", "estimate": asdict(estimate), "recommendation": advice}

    async def system_status(self) -> dict[str, Any]:
        """How busy the machine is: the answer of `GET /system-status`."""
        resources = await asyncio.to_thread(self._live.resources)
        risk = self._risk(resources)
        return {
            "resources": resources,
            "throttling_risk": asdict(risk),
            "memory_budget_safe": self.memory.is_safe,
            "recommended_action": recommended_action(risk),
        }

    async def optimize(self) -> dict[str, Any]:
        """Clear caches, look again, go on with less or, step by step, with as much as planned."""
        before = await asyncio.to_thread(self._live.resources)
        cleared = await self.worker.clear_caches()
        after = await asyncio.to_thread(self._live.resources)
        previous, planned = self.config, RunningConfig.of(self.plan)
        self.config = adjusted(previous, planned, self._risk(after))
        self.worker.use(self._worker_command(), worker_environment(self.plan))
        await self.worker.configure(Configure(self.config.num_threads, self.config.cache_limit_mb))
        return {
            "status": "optimal" if self.config == planned else "adjusted",
            "previous_config": config_json(previous),
            "new_config": config_json(self.config),
            "freed_mb": round(cleared.freed_bytes / MIB, 2),
            "before": before,
            "after": after,
        }

    def describe(self) -> dict[str, Any]:
        """The machine and the plan: the answer of `GET /hardware`."""
        return {
            "hardware_profile": hardware_json(self.machine.hardware),
            "selected_configuration": plan_json(self.plan),
            "running_configuration": config_json(self.config),
        }

    async def health(self) -> dict[str, Any]:
        """What `GET /health` says beside the worker's state; never waits for the worker."""
        load, compiled = self.worker.load, self.worker.compile_state
        return {
            "cache_stats": {
                "kv_cache_mb": round(load.cache_bytes / MIB, 2),
                "reference_cache_mb": round(load.reference_bytes / MIB, 2),
                "cache_limit_mb": self.config.cache_limit_mb,
                "leased_mb": round(self.memory.leased_bytes / MIB, 2),
            },
            "hardware_profile": hardware_json(self.machine.hardware),
            "current_resources": await self._live.load(),
            "smart_insights": [*self.plan.notes, *([compiled.detail] if compiled else [])],
        }

    def metrics(self) -> dict[str, Any]:
        """What was spoken so far: the answer of `GET /metrics`."""
        self._tell_of_worker()
        return self.monitoring.aggregates()

    def prometheus(self) -> tuple[bytes, str]:
        """The same as Prometheus text, and its media type."""
        self._tell_of_worker()
        return self.monitoring.prometheus()

    # -- one request ------------------------------------------------------------------------------

    def _check_text(self, text: str) -> None:
        length, longest = len(text), self.settings.max_text_characters
        if length > longest:
            raise TextTooLong(f"text has {length} characters; send at most {longest} at once.")
        if not fold(text):
            raise BlankText("text is blank; send what is to be spoken.")

    def _check_reference(self, request: SpeechRequest) -> None:
        reference, most_bytes = request.reference, self.settings.max_upload_bytes
        if reference is None:
            return
        if len(reference.audio) > most_bytes:
            raise UploadTooLarge(f"speaker_file is larger than {most_bytes} bytes; shorten it.")
        if not reference.audio:
            raise BadReference("speaker_file is empty; send a wav, flac, ogg or mp3 file.")

    def _prepare(self, request: SpeechRequest, info: EngineInfo) -> tuple[TextLimit, Demand, Speak]:
        """What of the text is spoken, what memory that takes, and what the worker is asked for."""
        chunk_length = min(self.config.chunk_length, info.max_segment_characters)
        open_segments = OPEN_SEGMENTS
        if request.optimize_for_memory:
            chunk_length, open_segments = min(chunk_length, LEAST_CHUNK_LENGTH), 1
        reference = request.reference
        demand = Demand(
            len(request.text),
            chunk_length,
            open_segments,
            # How long it is, the worker will know; it uses no more of it than this.
            info.max_reference_s if reference else 0.0,
            wide_share=wide_share(request.text),
            is_answer_held=True,
        )
        limit, text = self._limited(request, demand)
        speak = Speak(
            request_id=request.request_id,
            segments=split_sentences(text, chunk_length),
            sampling=request.sampling,
            reference_audio=reference.audio if reference else None,
            reference_text=fold(reference.transcript) if reference else "",
            open_segments=open_segments,
        )
        return limit, replace(demand, characters=limit.spoken_length), speak

    def _limited(self, request: SpeechRequest, demand: Demand) -> tuple[TextLimit, str]:
        """The text as far as it is spoken, and why so far."""
        text, length = request.text, len(request.text)
        limit, reason = self.memory.text_limit(self.config, demand)
        long_text = request.long_text or self.settings.long_text
        if length > limit and long_text == "reject":
            raise TextTooLong(
                f"text has {length} characters; this machine speaks at most {limit} at once, "
                f"{reason}. Send less, or long_text=split."
            )
        if length > limit and long_text == "truncate":
            text = truncate(text, limit)
            logger.warning(
                "Text truncated from {} to {} characters: the limit of {} is {}, {}.",
                *(length, len(text), self.plan.tier, limit, reason),
            )
        return TextLimit(limit, reason, length, len(text)), text

    # -- the machine and the worker ---------------------------------------------------------------

    def _memory_now(self) -> MemoryNow:
        return self._live.memory(self.worker.info, self.worker.load.memory_bytes)

    def _risk(self, resources: dict[str, Any]) -> ThrottlingRisk:
        return throttling_risk(
            resources["memory_percent"],
            resources["cpu_percent"],
            self.plan.thermal_throttle_cpu_pct,
            resources["temperatures_c"],
        )

    def _worker_command(self) -> tuple[str, ...]:
        return self._command or worker_command(self.settings, self.plan, self.config)

    async def _settle(self) -> EngineInfo:
        """Wait for the worker; plan again where its torch cannot use the GPU it was given."""
        info = await self.worker.ready()
        if self.plan.device_uuid and info.device == "cpu":
            problem = f"torch {info.torch_version} cannot use {self.plan.device.value}"
            logger.warning("The GPU is not used: {}. Planning for the CPU.", problem)
            without = replace(self.machine.hardware, gpus=(), gpu_problem=problem)
            self._live.close()
            self._take(Machine.look(self.settings, without))
            await self.monitoring.__aexit__(None, None, None)
            self.monitoring = await self._watch().__aenter__()
            self.worker.use(self._worker_command(), worker_environment(self.plan))
            await self.worker.restart("it cannot use the GPU, and is planned for anew")
            info = await self.worker.ready()
        return info

    def _tell_of_worker(self) -> None:
        info = self.worker.info
        self.monitoring.set_worker(
            is_ready=info is not None,
            restarts=self.worker.state.restarts,
            memory_mb=self._memory_now().worker_bytes / MIB,
        )


def _warnings(request: SpeechRequest, info: EngineInfo, limit: TextLimit) -> tuple[str, ...]:
    warnings = []
    if limit.is_truncated:
        warnings.append(
            f"text was cut at {limit.spoken_length} of {limit.original_length} characters; the "
            f"limit is {limit.limit}, {limit.reason}; long_text=split speaks all of it"
        )
    language = request.language
    if language != "auto" and info.languages and language not in info.languages:
        declared = ", ".join(info.languages)
        warnings.append(f"this checkpoint declares {declared}; {language} may not sound right")
    return tuple(warnings)
