"""One worker on one device, with the plan it follows, the memory it may promise, and its queue."""

from dataclasses import replace

from backend.admission import Admission
from backend.core import EngineInfo, Plan
from backend.hardware.live import LiveMachine
from backend.hardware.look import Machine
from backend.hardware.memory import MemoryBudgetManager, MemoryNow
from backend.hardware.pressure import RunningConfig
from backend.launch import worker_command, worker_environment
from backend.settings import Settings
from backend.speed import CHARACTERS_PER_AUDIO_S
from backend.worker.client import Patience, WorkerClient
from backend.worker.messages import Configure


class Lane:
    """Everything that a request passes on its way to one worker.

    Raises `NotEnoughMemory` where the worker would not fit what is free now.
    """

    def __init__(
        self,
        settings: Settings,
        machine: Machine,
        command: tuple[str, ...] | None = None,
        start_attempts: int | None = None,
    ) -> None:
        self._settings, self._command = settings, command
        self._take(machine)
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
        if settings.engine == "shoal":  # what the published package takes, nobody has worked out
            self.memory.check_load(self.machine.resident_bytes)

    def _take(self, machine: Machine) -> None:
        self.machine = machine
        self.config = RunningConfig.of(machine.plan)
        """What the plan has become under pressure."""
        self.live = LiveMachine(machine.plan)
        settings = self._settings
        self.memory = MemoryBudgetManager(
            machine.plan, machine.shape, self.memory_now, settings.dynamic_text_limit
        )
        self.admission = Admission(
            self.memory,
            # The published package speaks one sentence after another: fairness is decided here.
            rows=settings.max_batch if settings.engine == "shoal" else 1,
            queue_limit=settings.queue_limit,
            characters_per_s=CHARACTERS_PER_AUDIO_S / machine.plan.expected_rtf,
        )

    @property
    def plan(self) -> Plan:
        """How this worker speaks."""
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

    async def ready(self) -> EngineInfo:
        """Wait until the worker can speak, and expect what it took to try; `EngineDown`."""
        info = await self.worker.ready()
        if info.trial_rtf:
            self.admission.speed.expect(CHARACTERS_PER_AUDIO_S / info.trial_rtf)
        return info

    def memory_now(self) -> MemoryNow:
        """Memory of the device that computes, now."""
        return self.live.memory(self.worker.info, self.worker.load.memory_bytes)

    async def change_plan(self, machine: Machine, reason: str) -> EngineInfo:
        """Restart the worker with the plan of another `machine`; what it has loaded then."""
        self.live.close()
        self._take(machine)
        self.worker.use(self._worker_command(), worker_environment(self.plan))
        await self.worker.restart(reason)
        return await self.ready()

    async def configure(self, config: RunningConfig) -> None:
        """Go on with `config`, in this worker and in any that follows it."""
        self.config = config
        self.worker.use(self._worker_command(), worker_environment(self.plan))
        await self.worker.configure(Configure(config.num_threads, config.cache_limit_mb))

    async def close(self) -> None:
        """End the worker; who still waits is told."""
        self.admission.close()
        await self.worker.close()
        self.live.close()

    def _worker_command(self) -> tuple[str, ...]:
        return self._command or worker_command(self._settings, self.plan, self.config)
