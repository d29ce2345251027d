"""Hardware made by hand, and shapes of checkpoints, for the tests of plans."""

from dataclasses import dataclass
from typing import Any

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from backend.bench.random_checkpoint import S1_MINI
from backend.core import MIB, Plan, Quantization
from backend.hardware.machine import GIB, Core, Cpu, CpuFeature, Gpu, Hardware, Memory
from backend.hardware.need import CheckpointShape
from backend.hardware.plan import make_plan
from backend.model.config import CheckpointInfo, CodecConfig, DualARConfig
from backend.settings import SHIPPED_VOICE_DIR, Settings


class Given(Settings):
    """Settings as the test says, whatever the environment of the tests does."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


S1 = CheckpointShape(
    DualARConfig.from_json(S1_MINI), CodecConfig(), CheckpointInfo("openaudio-s1-mini")
)
DEMO = CheckpointShape.from_folder(SHIPPED_VOICE_DIR)


@dataclass(frozen=True)
class Sized(CheckpointShape):
    """A checkpoint that needs exactly what the test says, in MiB by quantization."""

    resident_mb: tuple[int, int, int] = (4000, 3000, 2000)
    request_mb: int = 500

    def resident_bytes(
        self, precision: str, quantization: Quantization, device: str, rows: int
    ) -> int:
        return self.resident_mb[("none", "int8", "int4").index(quantization)] * MIB

    def request_bytes(
        self,
        characters: int,
        precision: str,
        chunk_length: int,
        open_segments: int = 3,
        reference_s: float = 0.0,
        *,
        quantization: Quantization = "none",
    ) -> int:
        return self.request_mb * MIB


SIZED = Sized(S1.model, S1.codec, CheckpointInfo("sized"))


def cpu_of(
    model: str,
    cores: int = 8,
    *,
    vendor: str = "intel",
    efficiency: int = 0,
    smt: bool = True,
    topology: bool = True,
    siblings_apart: bool = False,
    allowed: tuple[int, ...] | None = None,
    quota: float | None = None,
    features: frozenset[CpuFeature] = frozenset(),
) -> Cpu:
    """A CPU of `cores` performance cores, two logical CPUs each with `smt`, then efficiency cores.

    Siblings are neighbours (0 and 1), or half the CPUs apart as Linux counts AMD's.
    """
    performance = cores - efficiency
    logical = performance * (2 if smt else 1) + efficiency
    pairs: list[tuple[int, ...]]
    if not smt:
        pairs = [(core,) for core in range(performance)]
    elif siblings_apart:
        pairs = [(core, core + performance) for core in range(performance)]
    else:
        pairs = [(2 * core, 2 * core + 1) for core in range(performance)]
    strong = [Core(pair) for pair in pairs]
    weak = [Core((logical - efficiency + one,), "efficiency") for one in range(efficiency)]
    return Cpu(
        vendor=vendor,
        model=model,
        generation=None,
        physical_cores=cores,
        logical_cores=logical,
        performance_cores=performance,
        efficiency_cores=efficiency,
        topology=(*strong, *weak) if topology else (),
        allowed=tuple(range(logical)) if allowed is None else allowed,
        quota_cpus=quota,
        features=features,
    )


I5 = cpu_of("12th Gen Intel(R) Core(TM) i5-1235U", 10, efficiency=8)
I7 = cpu_of("Intel(R) Core(TM) i7-11700 @ 2.50GHz", 8)
M1 = cpu_of("Apple M1", 8, vendor="apple", efficiency=4, smt=False, topology=False, allowed=())


def gpu_of(
    name: str,
    total_gib: float,
    free_gib: float | None = None,
    *,
    index: int = 0,
    capability: tuple[int, int] | None = (8, 6),
) -> Gpu:
    free = total_gib - 0.5 if free_gib is None else free_gib
    return Gpu(
        index=index,
        uuid=f"GPU-{index}",
        name=name,
        total_bytes=int(total_gib * GIB),
        free_bytes=int(free * GIB),
        capability=capability,
        driver="580.65.06",
    )


V100 = gpu_of("Tesla V100-SXM2-16GB", 16, capability=(7, 0))
A100 = gpu_of("NVIDIA A100-SXM4-40GB", 40, capability=(8, 0))
RTX_3060 = gpu_of("NVIDIA GeForce RTX 3060", 8)


def computer(
    cpu: Cpu = I7,
    memory_gib: float = 32.0,
    *gpus: Gpu,
    limit_gib: float | None = None,
    system: str = "Linux",
    board: str = "",
    is_wsl: bool = False,
    has_mps: bool = False,
    torch_version: str = "2.9.0+cu126",
    gpu_problem: str = "",
) -> Hardware:
    """A machine that runs on nothing but what it is given."""
    total, limit = int(memory_gib * GIB), int((limit_gib or memory_gib) * GIB)
    source = "cgroup v2" if limit_gib else "machine"
    return Hardware(
        system=system,  # type: ignore[arg-type]
        machine="x86_64",
        board=board,
        is_wsl=is_wsl,
        cpu=cpu,
        memory=Memory(total, limit, limit // 2, source),  # type: ignore[arg-type]
        gpus=gpus,
        gpu_problem=gpu_problem,
        has_mps=has_mps,
        torch_version=torch_version,
        thermal_sensors=(),
    )


def mac(cpu: Cpu = M1, memory_gib: float = 16.0, board: str = "Mac mini (Macmini9,1)") -> Hardware:
    return computer(
        cpu, memory_gib, system="Darwin", board=board, has_mps=True, torch_version="2.13.0"
    )


def plan_for(hardware: Hardware, shape: CheckpointShape = S1, **settings: Any) -> Plan:
    """The plan with `settings`, all others at their defaults."""
    return make_plan(hardware, Given(**settings), shape)
