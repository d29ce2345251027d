"""One look at the machine, and what a request saw of it from its beginning to its end."""

from dataclasses import dataclass
from typing import Literal

GpuUtilSource = Literal["nvml", "estimate", "none"]


@dataclass(frozen=True, slots=True)
class Sample:
    """The machine at one moment; None is what nobody tells."""

    at_s: float
    """Seconds since 1970."""
    cpu_pct: float | None
    """Of all cores together, since the sample before."""
    memory_pct: float
    gpu_memory_mb: float | None = None
    """MiB in use on the card, by everybody."""
    gpu_util_pct: float | None = None
    gpu_util_source: GpuUtilSource = "none"
    temperature_c: float | None = None
    """Of what computes: the GPU, else the CPU."""


@dataclass(frozen=True, slots=True)
class WorkerNow:
    """One of the workers at one moment."""

    worker: int
    """Its number, from 0."""
    device: str
    ready: bool
    restarts: int
    """Since the server's start."""
    memory_mb: float
    """MiB, device memory on a GPU."""
    speaking: int
    """Sentences and recordings that it has at work."""
    rows: int
    """Sentences that it speaks together, at most."""
    cache_mb: float
    """MiB of keys and values that it holds."""
    leased_mb: float
    """MiB promised to sentences."""
    thermal_level: int
    memory_level: int
    """Steps below its plan, because of heat and because memory ran short."""
    replica: str = ""
    node: str = ""
    """Its name in a cluster, and its machine's."""


@dataclass(slots=True)
class Observed:
    """What the samples taken during one request say."""

    samples: int = 0
    beside: int = 0
    """Requests that were spoken beside it, at most."""
    peak_gpu_util_pct: float = 0.0
    peak_vram_mb: float = 0.0
    gpu_util_source: GpuUtilSource = "none"
    peak_cpu_pct: float | None = None
    peak_memory_pct: float | None = None
    peak_temperature_c: float | None = None
    _cpu_samples: int = 0
    _cpu_pct_sum: float = 0.0
    _gpu_samples: int = 0
    _gpu_util_pct_sum: float = 0.0

    def add(self, sample: Sample) -> None:
        """Count `sample` in."""
        self.samples += 1
        self.peak_cpu_pct = _larger(self.peak_cpu_pct, sample.cpu_pct)
        self.peak_memory_pct = _larger(self.peak_memory_pct, sample.memory_pct)
        self.peak_temperature_c = _larger(self.peak_temperature_c, sample.temperature_c)
        self.peak_vram_mb = max(self.peak_vram_mb, sample.gpu_memory_mb or 0.0)
        if sample.cpu_pct is not None:
            self._cpu_samples += 1
            self._cpu_pct_sum += sample.cpu_pct
        if sample.gpu_util_pct is not None:
            self.gpu_util_source = sample.gpu_util_source
            self.peak_gpu_util_pct = max(self.peak_gpu_util_pct, sample.gpu_util_pct)
            self._gpu_samples += 1
            self._gpu_util_pct_sum += sample.gpu_util_pct

    @property
    def mean_cpu_pct(self) -> float | None:
        """Mean over the samples."""
        return self._cpu_pct_sum / self._cpu_samples if self._cpu_samples else None

    @property
    def mean_gpu_util_pct(self) -> float:
        """Mean over the samples; 0 without a GPU."""
        return self._gpu_util_pct_sum / self._gpu_samples if self._gpu_samples else 0.0


def _larger(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return one if other is None else other
    return max(one, other)
