"""One worker on one device, with its plan, its memory and its queue; a second one on the CPU."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from loguru import logger

from backend.core import EngineInfo, Plan
from backend.errors import Aborted, BadCheckpoint, BadSetting, NotEnoughMemory, OverCapacity
from backend.fish_worker.install import fish_worker_command
from backend.hardware.deployment import Deployment
from backend.hardware.detect import read_memory
from backend.hardware.machine import Hardware
from backend.hardware.memory import Demand, MemoryBudgetManager, MemoryNow
from backend.hardware.pressure import RunningConfig
from backend.hardware.usage import MachineUsage
from backend.serving.admission import Admission
from backend.serving.cooling import Cooling
from backend.serving.quiet import Quiet
from backend.serving.speed import CHARACTERS_PER_AUDIO_S
from backend.settings import Settings
from backend.worker.client import Patience, WorkerClient
from backend.worker.messages import Configure, WorkerConfig

_WAITING, _WAITING_FOR_EACH = 112, 7
"""Requests that may wait, where no setting says how many; more where so many for each row are."""


class Lane:
    """Everything that a request passes on its way to one worker.

    Raises `NotEnoughMemory` where the worker would not fit what is free now.
    """

    def __init__(
        self,
        settings: Settings,
        deployment: Deployment,
        command: tuple[str, ...] | None = None,
        start_attempts: int | None = None,
        quiet: Quiet | None = None,
    ) -> None:
        self._settings, self._command = settings, command
        self.quiet = quiet or Quiet()
        """Whether a request is inside, here or in a lane that shares it."""
        self._take(deployment)
        self.worker = WorkerClient(
            self._worker_command(),
            Patience(
                start_timeout_s=settings.worker_start_timeout_s,
                restart_delay_s=settings.restart_delay_s,
                restart_delay_max_s=settings.restart_delay_max_s,
                unresponsive_s=settings.worker_unresponsive_s,
                silent_s=settings.worker_silent_s,
                answer_s=settings.worker_answer_s,
                shutdown_grace_s=settings.shutdown_grace_s,
                start_attempts=start_attempts,
            ),
            worker_environment(self.plan),
        )
        if settings.engine == "shoal":  # what the published package takes is not known
            self.memory.check_load(self.deployment.resident_bytes)

    def _take(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.asked = RunningConfig.of(deployment.plan)
        """What `configure` has made of the plan."""
        self.usage = MachineUsage(deployment.plan, deployment.hardware, self._worker_now)
        settings = self._settings
        # The published package speaks one sentence after another: fairness is decided here.
        rows = deployment.plan.max_batch.value if settings.engine == "shoal" else 1
        waiting = max(_WAITING, _WAITING_FOR_EACH * deployment.plan.max_batch.value)
        self.memory = MemoryBudgetManager(
            deployment.plan, deployment.shape, self.memory_now, settings.dynamic_text_limit
        )
        self.admission = Admission(
            self.memory,
            rows=rows,
            queue_limit=waiting if settings.queue_limit is None else settings.queue_limit,
            rows_per_client=settings.max_batch_per_client or max(1, rows // 2),
            characters_per_s=CHARACTERS_PER_AUDIO_S / deployment.plan.expected_rtf,
            quiet=self.quiet,
        )
        self.cooling = Cooling(
            self.usage.heat,
            deployment.plan.num_threads.value,
            is_busy=lambda: self.admission.speaking > 0,
            changed=self._apply,
            may_lower=settings.thermal_control and deployment.plan.device.value == "cpu",
            throttles_at_c=settings.throttles_at_c,
        )

    @property
    def plan(self) -> Plan:
        """How this worker speaks."""
        return self.deployment.plan

    @property
    def config(self) -> RunningConfig:
        """What the plan has become under pressure and for heat."""
        threads = min(self.asked.num_threads, self.cooling.threads)
        return replace(self.asked, num_threads=threads)

    @property
    def running_plan(self) -> Plan:
        """The plan with what has become of it: pressure, and the way in which frames are made."""
        plan, config, way = self.plan, self.config, self.worker.way_state
        return replace(
            plan,
            compile=replace(plan.compile, value=way is not None and way.is_compiled),
            way="" if way is None else way.name,
            num_threads=replace(plan.num_threads, value=config.num_threads),
            chunk_length=replace(plan.chunk_length, value=config.chunk_length),
        )

    def start(self) -> None:
        """Start the worker, and looking at what it leaves; returns at once."""
        self.usage.start()
        self.cooling.start()
        self.worker.start()

    async def ready(self) -> EngineInfo:
        """Wait until the worker can speak, and expect what it took to try; `EngineDown`."""
        info = await self.worker.ready()
        self.memory_now()  # has memory read again, now that the worker has taken its part
        if info.trial_rtf:
            self.admission.speed.expect(CHARACTERS_PER_AUDIO_S / info.trial_rtf)
        return info

    def memory_now(self) -> MemoryNow:
        """Memory of the device that computes, now."""
        return self.usage.memory()

    async def change_plan(self, deployment: Deployment, reason: str) -> EngineInfo:
        """Restart the worker as another `deployment` plans; what it has loaded then."""
        await self.cooling.close()
        self.usage.close()
        self._take(deployment)
        self.usage.start()
        self.cooling.start()
        self.worker.use(self._worker_command(), worker_environment(self.plan))
        await self.worker.restart(reason)
        return await self.ready()

    async def configure(self, config: RunningConfig) -> None:
        """Go on with `config`, with fewer threads where heat wants it so, in this worker and in any
        that follows it."""
        self.asked = config
        await self._apply()

    async def _apply(self) -> None:
        config = self.config
        self.worker.use(self._worker_command(), worker_environment(self.plan))
        await self.worker.configure(Configure(config.num_threads, config.cache_limit_mb))

    async def close(self) -> None:
        """End the worker; requests that still wait are told."""
        self.admission.close()
        await self.cooling.close()
        await self.worker.close()
        self.usage.close()

    def _worker_now(self) -> tuple[EngineInfo | None, int]:
        return self.worker.info, self.worker.load.memory_bytes

    def _worker_command(self) -> tuple[str, ...]:
        return self._command or worker_command(self._settings, self.plan, self.config)


class CpuLane:
    """The lane that `force_cpu` asks for, on the CPU beside one that computes on a GPU.

    Its worker is started by the first request for it, and ended when it was idle for a while.
    """

    def __init__(
        self,
        settings: Settings,
        hardware: Hardware,
        command: tuple[str, ...] | None = None,
        quiet: Quiet | None = None,
    ) -> None:
        # What was set for the GPU's weights need not be possible on the CPU.
        on_cpu = {"device": "cpu", "precision": "auto", "quantization": "auto"}
        self._settings = settings.model_copy(update=on_cpu)
        self._hardware, self._command, self._quiet = hardware, command, quiet
        self._lane: Lane | None = None
        self._users = 0
        self._is_closed = False
        self._idle: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Lane]:
        """The lane, ready to speak.

        Raises `OverCapacity` where there is no memory for it now, `Aborted` after
        `stop_admitting`.
        """
        self._users += 1
        try:
            async with self._lock:
                lane = self._lane = self._lane or await self._start()
            await lane.ready()
            yield lane
        finally:
            self._users -= 1
            if not self._users:
                self._end_later()

    async def fits(self, demand: Demand) -> bool:
        """Whether `demand` could be spoken there now; nothing is started for that."""
        if (running := self._lane) is not None:
            return running.memory.admits(demand)
        try:
            lane = await self._make()
            lane.memory.check_load(lane.deployment.resident_bytes + lane.memory.need_bytes(demand))
        except (BadCheckpoint, BadSetting, NotEnoughMemory):
            return False
        return True

    def stop_admitting(self) -> None:
        """Start it no more, and refuse what has not begun to be spoken there."""
        self._is_closed = True
        if self._lane is not None:
            self._lane.admission.close()

    async def close(self) -> None:
        """End it now."""
        self.stop_admitting()
        if self._idle is not None:
            self._idle.cancel()
        async with self._lock:
            lane, self._lane = self._lane, None
        if lane is not None:
            await lane.close()

    async def _start(self) -> Lane:
        try:
            lane = await self._make()
        except (BadCheckpoint, BadSetting, NotEnoughMemory) as error:
            raise OverCapacity(f"force_cpu needs a second worker: {error}") from None
        if self._is_closed:
            raise Aborted("The server is stopping.")
        logger.info("A second worker is started, on the CPU.")
        lane.start()
        return lane

    async def _make(self) -> Lane:
        """A lane whose worker is not started."""
        deployment = await asyncio.to_thread(self._look)
        return Lane(self._settings, deployment, self._command, quiet=self._quiet)

    def _look(self) -> Deployment:
        free_bytes = read_memory().available_bytes  # what was free at the start says nothing now
        memory = replace(self._hardware.memory, available_bytes=free_bytes)
        return Deployment.look(self._settings, replace(self._hardware, memory=memory))

    def _end_later(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.create_task(self._end_idle(), name="idle CPU worker")

    async def _end_idle(self) -> None:
        await asyncio.sleep(self._settings.cpu_worker_idle_s)
        async with self._lock:
            if self._users:
                return
            lane, self._lane = self._lane, None
        if lane is not None:
            logger.info("The CPU worker was idle for a while and is ended.")
            await lane.close()


def worker_config(
    settings: Settings, plan: Plan, config: RunningConfig | None = None
) -> WorkerConfig:
    """What a worker is told; `config` is what the plan has become."""
    config = config or RunningConfig.of(plan)
    device, _, _ = plan.device.value.partition(":")
    is_quantized = plan.quantization.value != "none"
    return WorkerConfig(
        model_dir=str(settings.checkpoint_dir),
        device=device,  # which GPU, CUDA_VISIBLE_DEVICES says: the worker sees no other
        precision=plan.precision.value,
        may_fall_back=plan.device.source != "user",
        num_threads=config.num_threads,
        cpus=plan.cpu_affinity.value,
        quantization=plan.quantization.value,
        calibration_samples=plan.calibration_samples if is_quantized else 0,
        try_compile=plan.compile.value,
        compile_dir=str(settings.data_dir / "compiled"),
        has_room_for_graphs=plan.fast_mb > 0,
        cache_limit_mb=config.cache_limit_mb,
        max_batch=plan.max_batch.value,
        log_level=settings.log_level,
    )


def worker_command(
    settings: Settings, plan: Plan, config: RunningConfig | None = None
) -> tuple[str, ...]:
    """The command line that starts a worker; `config` is what the plan has become."""
    told = worker_config(settings, plan, config)
    if settings.engine == "fish-speech":
        return fish_worker_command(settings, told)
    # -P: a folder called backend where the server is started must not stand in for ours.
    module = ("-P", "-m", "backend.worker.main")
    return (str(settings.worker_python), *module, "--config", told.to_json())


def worker_environment(plan: Plan) -> dict[str, str]:
    """What the worker's environment has beside ours: the one GPU it may see."""
    return {"CUDA_VISIBLE_DEVICES": plan.device_uuid} if plan.device_uuid else {}
