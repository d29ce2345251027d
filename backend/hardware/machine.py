"""What is known of the machine: the frozen nouns that detection fills in and the plan reads."""

from dataclasses import dataclass
from typing import Literal

CoreKind = Literal["performance", "efficiency"]
CpuFeature = Literal["avx2", "avx512", "vnni", "amx", "bf16", "neon", "dotprod"]
GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Core:
    """One physical core: the logical CPUs that share it, ascending, and what kind it is."""

    logical: tuple[int, ...]
    kind: CoreKind = "performance"


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processor, as far as the system tells."""

    vendor: str
    """intel, amd, apple, arm, broadcom …; "unknown" where the system does not say."""
    model: str
    """The model's name as the system writes it."""
    generation: int | None
    """Core i5-1235U: 12; Ryzen 5 5600X: 5; Apple M2: 2; Raspberry Pi 5: 5. Core Ultra counts anew:
    155H is 1."""
    physical_cores: int
    logical_cores: int
    performance_cores: int
    """Equal to `physical_cores` on a CPU whose cores are all alike."""
    efficiency_cores: int
    topology: tuple[Core, ...]
    """Empty where the system does not tell which logical CPUs share a core."""
    allowed: tuple[int, ...]
    """Logical CPUs this process may run on, ascending; empty where the system cannot say."""
    quota_cpus: float | None
    """CPUs' worth of time that a container's limit grants; None is no limit."""
    features: frozenset[CpuFeature]


@dataclass(frozen=True, slots=True)
class Memory:
    """Main memory, in bytes."""

    total_bytes: int
    limit_bytes: int
    """What this process may ever have: the total, or a container's smaller limit."""
    available_bytes: int
    """Free for new allocations now, the limit considered."""
    limit_source: Literal["machine", "cgroup v1", "cgroup v2"] = "machine"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One CUDA device that this process may use, in the order of the PCI bus."""

    index: int
    uuid: str
    name: str
    total_bytes: int
    free_bytes: int
    capability: tuple[int, int] | None
    driver: str

    @property
    def vram_gib(self) -> int:
        """Total rounded to GiB: cards of "8 GB" report a little less."""
        return round(self.total_bytes / GIB)


@dataclass(frozen=True, slots=True)
class Hardware:
    """One machine, looked at once."""

    system: Literal["Linux", "Darwin", "Windows"]
    machine: str
    """x86_64, arm64, aarch64, AMD64 …, as the system writes it."""
    board: str
    """Model of a single-board computer or a Mac, else "": "Raspberry Pi 5 Model B Rev 1.0",
    "MacBook Air (Mac14,2)", or "Mac14,2" alone where its name is not told."""
    is_wsl: bool
    cpu: Cpu
    memory: Memory
    gpus: tuple[Gpu, ...]
    gpu_problem: str
    """Why no GPU can be read although one may be there, with the fix; "" if there is none."""
    has_mps: bool
    torch_version: str
    """Version of the installed torch with its tag ("2.13.0+cpu"), unimported; "" if none."""
    thermal_sensors: tuple[str, ...]
    """Names of the temperature sensors that can be read."""
