"""One worker on one device, with its plan and its memory: a station of the queue."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from backend.core import MIB, EngineInfo, Plan
from backend.errors import (
    EngineDown,
    NotEnoughMemory,
    TimedOut,
)
from backend.hardware.deployment import Deployment
from backend.hardware.detect import read_memory
from backend.hardware.ladder import Footing, footings
from backend.hardware.machine import Hardware
from backend.hardware.memory import Demand, MemoryBudgetManager, MemoryNow, part_of
from backend.hardware.pressure import LEAST_CHUNK_LENGTH, RunningConfig
from backend.hardware.quantization import is_small
from backend.hardware.usage import MachineUsage
from backend.serving import launch
from backend.serving.admission import Admission
from backend.serving.cooling import Cooling
from backend.serving.foresight import Foresight
from backend.serving.quiet import Quiet
from backend.serving.resting import Resting
from backend.serving.shortage import Shortage, until
from backend.serving.slots import Speaker
from backend.serving.speed import CHARACTERS_PER_AUDIO_S
from backend.serving.spoken_voices import SpokenVoices
from backend.settings import Settings
from backend.worker.client import WorkerClient
from backend.worker.messages import Configure, WayState

_MadeOf = tuple[Footing, RunningConfig, WayState | None]
_A_FEW_WORDS = Demand(LEAST_CHUNK_LENGTH, LEAST_CHUNK_LENGTH, open_segments=1)


class Lane:
    """Everything that a sentence passes on its way to one worker.

    Raises `NotEnoughMemory` where the worker would not fit what is free now.
    """

    def __init__(
        self,
        settings: Settings,
        deployment: Deployment,
        worker: WorkerClient,
        admission: Admission,
        foresight: Foresight,
        quiet: Quiet,
        command: tuple[str, ...] | None = None,
        *,
        is_alone: bool = True,
    ) -> None:
        """`worker` is told what it is to be, and is not started yet; `command` starts it in place
        of what the plan says. It joins `admission`. `foresight` tells what requests take, `quiet`
        whether one is inside. One that is not `is_alone` never leaves its GPU: another has a GPU of
        its own.
        """
        self._settings, self._command, self._is_alone = settings, command, is_alone
        self.admission, self.foresight, self.quiet = admission, foresight, quiet
        self.name = ""
        """What its worker is called in the log of requests."""
        self.beside: Sequence[Lane] = ()
        """Others whose workers take the same memory."""
        self.elsewhere = 0
        """Of its rows, those that another queue has: none, but in a cluster."""
        self._voices = SpokenVoices()
        self._planned, self.worker = deployment, worker
        self._running: tuple[_MadeOf, Plan] | None = None
        """The plan as it was last asked for, and what it was made of."""
        self._gpu_usage: MachineUsage | None = None
        """Of the GPU that was planned, while memory is too short to compute there."""
        self._take(deployment)
        self._instruct()
        self.shortage = self._ladder()
        self.resting = Resting(
            self.worker,
            self.quiet,
            settings.unload_after_s,
            self.ready,
            self.check_load,
        )

    def _ladder(self) -> Shortage:
        settings, plan = self._settings, self._planned.plan
        steps = footings(
            plan,
            may_quantize=settings.quantization == "auto" and not is_small(self._planned.shape),
            may_leave_gpu=settings.device == "auto" and self._is_alone,
        )
        has_steps = settings.memory_control and settings.engine == "shoal"
        return Shortage(self.worker, steps if has_steps else steps[:1], self)

    def check_load(self) -> None:
        """Raise `NotEnoughMemory` unless its worker would fit now."""
        self.memory.check_load(self.deployment.resident_bytes, self.deployment.starting_bytes)

    async def awake(self) -> float:
        """Have the worker started where it was ended for want of requests; seconds that took."""
        return await self.resting.awake()

    def _take(self, deployment: Deployment, usage: MachineUsage | None = None) -> None:
        self.deployment = deployment
        self.footing = Footing(deployment.plan, worker_rows=deployment.plan.max_batch.value)
        """What has become of the plan for want of memory."""
        self.asked = RunningConfig.of(deployment.plan)
        """What `configure` has made of the plan."""
        told = (self._worker_now, lambda: self.worker.pid)
        self.usage = usage or MachineUsage(deployment.plan, deployment.hardware, *told)
        settings = self._settings
        # The published package speaks one sentence after another: fairness is decided here.
        most_rows = deployment.plan.max_batch.value
        self.rows = most_rows if settings.engine == "shoal" else 1
        self.memory = MemoryBudgetManager(
            deployment.plan,
            deployment.shape,
            self.memory_now,
            settings.dynamic_text_limit,
            is_bounded=settings.memory_control,
            foresee=lambda: self.foresight.peaks(lambda: self.running_plan),
        )
        self.admission.join(
            self,
            rows=self.rows,
            most_rows=most_rows,
            characters_per_s=CHARACTERS_PER_AUDIO_S / deployment.plan.expected_rtf,
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
        asked, plan = self.asked, self.footing.plan
        return replace(
            asked,
            num_threads=min(asked.num_threads, self.cooling.threads),
            chunk_length=min(asked.chunk_length, plan.chunk_length.value),
            cache_limit_mb=min(asked.cache_limit_mb, plan.cache_limit_mb.value),
        )

    @property
    def running_plan(self) -> Plan:
        """The plan with what has become of it: pressure, want of memory, and the way in which
        frames are made."""
        made_of = (self.footing, self.config, self.worker.way_state)
        if self._running is None or self._running[0] != made_of:  # each request asks several times
            self._running = made_of, _running_plan(*made_of)
        return self._running[1]

    def start(self) -> None:
        """Start the worker, and looking at what it leaves; returns at once."""
        self.usage.start()
        self.cooling.start()
        self.worker.start()
        self.shortage.start()
        self.resting.start()

    async def ready(self) -> EngineInfo:
        """Wait until the worker can speak, and expect what it took to try; `EngineDown`."""
        info = await self.worker.ready()
        self.memory_now()  # has memory read again, now that the worker has taken its part
        if info.trial_rtf:
            self.admission.expect(self, CHARACTERS_PER_AUDIO_S / info.trial_rtf)
        return info

    def memory_now(self) -> MemoryNow:
        """Memory of the device that computes, now; of what several workers share, this one's
        part."""
        own = self.usage.memory()
        return part_of(own, [lane.usage.memory() for lane in self.beside]) if self.beside else own

    async def change_plan(self, deployment: Deployment, reason: str) -> EngineInfo:
        """Restart the worker as another `deployment` plans; what it has loaded then."""
        await self.shortage.close()
        self._planned = deployment
        self.usage.close()
        await self._change(deployment)
        self.shortage = self._ladder()
        self.shortage.start()
        self._instruct()
        await self.worker.restart(reason)
        return await self.ready()

    async def _change(self, deployment: Deployment, usage: MachineUsage | None = None) -> None:
        await self.cooling.close()
        self._take(deployment, usage)
        self.usage.start()
        self.cooling.start()

    # -- what the queue asks of it: `slots.Station` -----------------------------------------------

    @property
    def is_able(self) -> bool:
        """Its worker can speak now, and is not about to be loaded anew."""
        return self.worker.state.phase == "ready" and not self.shortage.is_moving

    @property
    def speaker(self) -> Speaker:
        """Its worker, which goes on with less where memory runs short."""
        return self.shortage

    @property
    def rtf(self) -> float:
        """Seconds for one of speech, as planned."""
        return self.plan.expected_rtf

    def has_voice(self, voice: int) -> bool:
        """Its worker has spoken in that voice lately."""
        return self._voices.has(voice, self.worker.info)

    def use_voice(self, voice: int) -> None:
        """A sentence in that voice is spoken by its worker."""
        self._voices.add(voice, self.worker.info)

    # -- what stands on the ladder: `shortage.Ground` ---------------------------------------------

    async def stand_on(self, footing: Footing, reason: str) -> None:
        """Go on with `footing`.

        A worker that must be loaded anew for it is let finish what it speaks. Raises what the
        look at the CPU raises.
        """
        was = self.footing
        if footing.plan.device.value != was.plan.device.value:
            footing = await self._move_to(footing)
        self.footing = footing
        self.rows = footing.plan.max_batch.value
        self.admission.look()
        if footing.is_loaded_as(was):
            # A worker that is down, or does not answer, starts with what is right then.
            with suppress(EngineDown, TimedOut):
                await self._apply()
            return
        self._instruct()
        await until(lambda: not self.worker.is_at_work)
        await self.worker.restart(reason)

    async def _move_to(self, footing: Footing) -> Footing:
        """To the CPU, or back to the GPU that was planned."""
        if footing.plan.device.value != "cpu":
            self.usage.close()
            usage, self._gpu_usage = self._gpu_usage, None
            await self._change(self._planned, usage)
            return footing
        settings, usage = on_cpu(self._settings), self.usage
        deployment = await asyncio.to_thread(look_again, settings, self._planned.hardware)
        await self._change(deployment)
        self._gpu_usage = usage
        return replace(self.footing, step=footing.step)

    def is_short(self) -> bool:
        """Less memory is free than was promised, or not enough for a few words."""
        memory = self.memory
        if self.worker.info is None:
            return False
        return not memory.is_safe or memory.need_bytes(_A_FEW_WORDS) > memory.room_bytes

    def fits(self, footing: Footing) -> bool:
        """Whether a worker that is loaded so would fit what is free."""
        resident = self._planned.resident_bytes_as(footing.plan, footing.worker_rows)
        if self._gpu_usage is not None:
            free = self._gpu_usage.memory().free_bytes
            return resident + self._planned.plan.safety_margin_mb * MIB <= free
        try:
            self.memory.check_load(resident)
        except NotEnoughMemory:
            return False
        return True

    async def configure(self, config: RunningConfig) -> None:
        """Go on with `config`, with fewer threads where heat wants it so, in this worker and in any
        that follows it."""
        self.asked = config
        await self._apply()

    async def _apply(self) -> None:
        config = self.config
        self._instruct()
        if self.worker.state.phase != "unloaded":
            await self.worker.configure(Configure(config.num_threads, config.cache_limit_mb))

    async def close(self) -> None:
        """End the worker."""
        await self.resting.close()
        await self.shortage.close()
        await self.cooling.close()
        await self.worker.close()
        self.usage.close()
        if self._gpu_usage is not None:
            self._gpu_usage.close()

    def _worker_now(self) -> tuple[EngineInfo | None, int]:
        return self.worker.info, self.worker.load.memory_bytes

    def _instruct(self) -> None:
        """Tell the worker what it is to be from its next start on."""
        told = (self._settings, self.plan, self.config, self.footing)
        command = self._command or launch.worker_command(*told)
        self.worker.use(command, launch.worker_environment(self.plan))


def _running_plan(footing: Footing, config: RunningConfig, way: WayState | None) -> Plan:
    plan = footing.plan
    return replace(
        plan,
        compile=replace(plan.compile, value=way is not None and way.is_compiled),
        way="" if way is None else way.name,
        memory_step=footing.step,
        num_threads=replace(plan.num_threads, value=config.num_threads),
        chunk_length=replace(plan.chunk_length, value=config.chunk_length),
    )


def on_cpu(settings: Settings) -> Settings:
    """The same for a worker on the CPU beside or instead of one on a GPU."""
    # What was set for the GPU's weights need not be possible on the CPU.
    there = {"device": "cpu", "precision": "auto", "quantization": "auto", "workers": "1"}
    return settings.model_copy(update=there)


def look_again(settings: Settings, hardware: Hardware) -> Deployment:
    """What follows for `hardware` from the memory that is free now; blocks, and raises what
    `Deployment.look` raises."""
    free_bytes = read_memory().available_bytes  # what was free at the start says nothing now
    memory = replace(hardware.memory, available_bytes=free_bytes)
    return Deployment.look(settings, replace(hardware, memory=memory))
