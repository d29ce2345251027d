"""The policy table: one row a tier, every column filled, and why. Data only.

Figures that the changelog gives are the changelog's; what it leaves open is derived, and the row
says how. Expectations are of a checkpoint of openaudio-s1-mini's size. Rows that name a card refine
the row of their tier for that card. `hardware.classify` says which row a machine gets.
"""

from dataclasses import dataclass
from typing import Final, Literal

from backend.core import Quantization

TierName = Literal[
    "raspberry_pi",
    "m1_air",
    "m1_pro",
    "intel_i5",
    "amd_ryzen5",
    "intel_high_end",
    "amd_high_end",
    "generic_cpu",
    "gpu_entry",
    "gpu_mid",
    "gpu_high",
]
Precision = Literal["fp32", "bf16", "fp16"]
AffinityRule = Literal["performance_cores", "even_cores", "one_per_core", "log_intent", "none"]
"""Which logical CPUs the worker is pinned to: one of each performance core, where the topology is
told. Where it is not: the even ones (performance_cores for Intel, even_cores for AMD), or none
(one_per_core). On a Mac nobody can pin, so it is only logged. "none" leaves it to the system."""


@dataclass(frozen=True, slots=True)
class Text:
    """Characters: of a request, how far free memory may raise that, and of one segment."""

    limit: int
    ceiling: int
    """The limit itself where heat decides, else at most twice."""
    chunk: int


@dataclass(frozen=True, slots=True)
class Expected:
    """Seconds of work a second of speech, and memory in GB, on openaudio-s1-mini."""

    rtf: float
    memory_gb: float


@dataclass(frozen=True, slots=True)
class Weights:
    """How weights are stored; "bf16" is "fp16" on a card that lacks it."""

    precision: Precision
    quantization: Quantization
    calibration_samples: int


@dataclass(frozen=True, slots=True)
class CpuUse:
    """One thread a performance core up to `max_threads`, where they run, and what is too hot."""

    max_threads: int
    affinity: AffinityRule
    thermal_throttle_pct: float | None
    """CPU load above which the tier throttles; None where load alone does not tell."""


@dataclass(frozen=True, slots=True)
class Budget:
    """MiB left to everybody else, and MiB for keys, values and encoded references."""

    safety_margin_mb: int
    cache_limit_mb: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """The changelog's formula: base + tokens / 100 x per_100_tokens + cache overhead, in MiB."""

    base_mb: float
    per_100_tokens_mb: float
    cache_overhead_mb: float


@dataclass(frozen=True, slots=True)
class Tier:
    """One row. Nothing has a default: a row borrows from no other."""

    name: TierName
    card: str
    """The GPU that this row is for, as its name says it ("RTX 3060"); "" is any of the tier."""
    text: Text
    expected: Expected
    weights: Weights
    cpu: CpuUse
    budget: Budget
    estimate: Estimate
    reason: str


# What is derived, where a row says so:
# - RTF of CPUs: int8 on two cores at 50 GB/s made 12.3 frames/s, its codec took 50-112 ms a frame
#   (the facts page), RTF 3 to 5; then by bandwidth and cores.
# - Memory of CPUs: weights as int8 (2.8 GB with the float32 codec), a Python with torch, a request.
# - Cache limits of CPUs: 1.5 GB for 300 characters (the changelog's i5), in proportion.
# - Cache overhead: a quarter of the cache limit on CPUs, an eighth on GPUs of 12 GB.
# - MB per 100 tokens: 100 tokens are 27 s of speech, about 700 positions of 0.11 MB in 16 bits;
#   the changelog's 50 and 60 are kept for the tiers near those that it measured.
CPU_TIERS: Final = (
    Tier(
        name="raspberry_pi",
        card="",
        text=Text(limit=100, ceiling=100, chunk=80),
        expected=Expected(rtf=15.0, memory_gb=3.5),
        weights=Weights("fp32", "int8", calibration_samples=16),
        cpu=CpuUse(max_threads=4, affinity="none", thermal_throttle_pct=None),
        budget=Budget(safety_margin_mb=512, cache_limit_mb=512),
        estimate=Estimate(base_mb=2000, per_100_tokens_mb=40, cache_overhead_mb=128),
        reason="100 characters by the changelog, never raised because the board throttles; the "
        "rest derived: 5 to 15 GB/s of memory for four equal cores, boards of 4 or 8 GB",
    ),
    Tier(
        name="m1_air",
        card="",
        text=Text(limit=150, ceiling=150, chunk=100),
        expected=Expected(rtf=2.5, memory_gb=3.5),
        weights=Weights("fp32", "int8", calibration_samples=32),
        cpu=CpuUse(max_threads=4, affinity="log_intent", thermal_throttle_pct=70.0),
        budget=Budget(safety_margin_mb=1536, cache_limit_mb=1024),
        estimate=Estimate(base_mb=2000, per_100_tokens_mb=50, cache_overhead_mb=256),
        reason="the changelog's M1 Air: 150 characters (no fan, never raised), INT8 with 32 "
        "samples, 1.5 GB margin, 1 GB cache, 2000 + 50 MB, hot above 70 % CPU; fp32 because "
        "16-bit kernels on MPS are incomplete; RTF derived from 68 GB/s",
    ),
    Tier(
        name="m1_pro",
        card="",
        text=Text(limit=400, ceiling=800, chunk=200),
        expected=Expected(rtf=1.5, memory_gb=4.0),
        weights=Weights("fp32", "int8", calibration_samples=64),
        cpu=CpuUse(max_threads=8, affinity="log_intent", thermal_throttle_pct=None),
        budget=Budget(safety_margin_mb=2048, cache_limit_mb=2048),
        estimate=Estimate(base_mb=2000, per_100_tokens_mb=50, cache_overhead_mb=512),
        reason="400 characters and INT8 by the changelog; the rest derived: a fan, 200 GB/s and "
        "16 GB or more; the M1 Air's estimate, for the same system and weights",
    ),
    Tier(
        name="intel_i5",
        card="",
        text=Text(limit=300, ceiling=600, chunk=150),
        expected=Expected(rtf=3.0, memory_gb=3.5),
        weights=Weights("fp32", "int8", calibration_samples=64),
        cpu=CpuUse(max_threads=6, affinity="performance_cores", thermal_throttle_pct=None),
        budget=Budget(safety_margin_mb=2048, cache_limit_mb=1536),
        estimate=Estimate(base_mb=2500, per_100_tokens_mb=60, cache_overhead_mb=384),
        reason="the changelog's Intel i5: 300 characters, INT8 with 64 samples, 2 GB margin, "
        "1.5 GB cache, 2500 + 60 MB, P-cores only; RTF derived from two channels of DDR4",
    ),
    Tier(
        name="amd_ryzen5",
        card="",
        text=Text(limit=350, ceiling=700, chunk=175),
        expected=Expected(rtf=2.5, memory_gb=3.5),
        weights=Weights("fp32", "int8", calibration_samples=64),
        cpu=CpuUse(max_threads=6, affinity="even_cores", thermal_throttle_pct=None),
        budget=Budget(safety_margin_mb=2048, cache_limit_mb=1792),
        estimate=Estimate(base_mb=2500, per_100_tokens_mb=60, cache_overhead_mb=448),
        reason="350 characters, INT8 and even cores by the changelog; margin and estimate as "
        "measured there on the other 8 GB x86 machine; six equal cores, so a lower RTF",
    ),
    Tier(
        name="intel_high_end",
        card="",
        text=Text(limit=500, ceiling=1000, chunk=250),
        expected=Expected(rtf=1.5, memory_gb=4.0),
        weights=Weights("fp32", "int8", calibration_samples=64),
        cpu=CpuUse(max_threads=16, affinity="performance_cores", thermal_throttle_pct=None),
        budget=Budget(safety_margin_mb=2048, cache_limit_mb=2560),
        estimate=Estimate(base_mb=2500, per_100_tokens_mb=60, cache_overhead_mb=640),
        reason="500 characters by the changelog (i7, i9), INT8 as on every CPU; cache in "
        "proportion to the text, RTF derived from six or more cores and faster memory",
    ),
    Tier(
        name="amd_high_end",
        card="",
        text=Text(limit=500, ceiling=1000, chunk=250),
        expected=Expected(rtf=1.5, memory_gb=4.0),
        weights=Weights("fp32", "int8", calibration_samples=64),
        cpu=CpuUse(max_threads=16, affinity="even_cores", thermal_throttle_pct=None),
        budget=Budget(safety_margin_mb=2048, cache_limit_mb=2560),
        estimate=Estimate(base_mb=2500, per_100_tokens_mb=60, cache_overhead_mb=640),
        reason="not in the changelog: what i7 and i9 get, for as many cores and as much memory; "
        "AMD's even cores, INT8 as on every CPU",
    ),
    Tier(
        name="generic_cpu",
        card="",
        text=Text(limit=200, ceiling=400, chunk=120),
        expected=Expected(rtf=4.0, memory_gb=3.5),
        weights=Weights("fp32", "int8", calibration_samples=32),
        cpu=CpuUse(max_threads=8, affinity="one_per_core", thermal_throttle_pct=None),
        budget=Budget(safety_margin_mb=1024, cache_limit_mb=1024),
        estimate=Estimate(base_mb=2500, per_100_tokens_mb=60, cache_overhead_mb=256),
        reason="not in the changelog: a CPU of which little is known, or a small virtual machine; "
        "between Raspberry Pi and i5, cache in proportion, RTF as measured on two cores",
    ),
)

GPU_TIERS: Final = (
    Tier(
        name="gpu_entry",
        card="",
        text=Text(limit=600, ceiling=1200, chunk=200),
        expected=Expected(rtf=2.0, memory_gb=3.0),
        weights=Weights("bf16", "int8", calibration_samples=64),
        cpu=CpuUse(max_threads=4, affinity="none", thermal_throttle_pct=None),
        budget=Budget(safety_margin_mb=256, cache_limit_mb=512),
        estimate=Estimate(base_mb=2500, per_100_tokens_mb=60, cache_overhead_mb=128),
        reason="under 8 GB: INT8, RTF 2.0 and 3 GB by the changelog, 600 characters as its "
        "GTX 1660; half precision of the card's generation",
    ),
    Tier(
        name="gpu_mid",
        card="",
        text=Text(limit=1000, ceiling=2000, chunk=300),
        expected=Expected(rtf=1.2, memory_gb=4.0),
        weights=Weights("bf16", "int8", calibration_samples=64),
        cpu=CpuUse(max_threads=4, affinity="none", thermal_throttle_pct=None),
        budget=Budget(safety_margin_mb=512, cache_limit_mb=1024),
        estimate=Estimate(base_mb=3000, per_100_tokens_mb=75, cache_overhead_mb=256),
        reason="8 to 12 GB: INT8, RTF 1.2 and 4 GB by the changelog, 1000 characters as its "
        "RTX 3060; half precision of the card's generation",
    ),
    Tier(
        name="gpu_high",
        card="",
        text=Text(limit=2000, ceiling=4000, chunk=400),
        expected=Expected(rtf=0.8, memory_gb=6.0),
        weights=Weights("bf16", "none", calibration_samples=64),
        cpu=CpuUse(max_threads=4, affinity="none", thermal_throttle_pct=None),
        budget=Budget(safety_margin_mb=1024, cache_limit_mb=4096),
        estimate=Estimate(base_mb=4000, per_100_tokens_mb=75, cache_overhead_mb=512),
        reason="12 GB or more: no quantization, RTF 0.8 and 6 GB by the changelog, 2000 "
        "characters as its cards; half precision of the card's generation",
    ),
)
