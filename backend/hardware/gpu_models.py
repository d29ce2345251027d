"""Rows of the tier table for single cards: the changelog's, and what follows for others. Data only.

A card that has no row here gets the row of its VRAM (`tiers.GPU_TIERS`).
"""

from typing import Final

from backend.hardware.tiers import Budget, CpuUse, Estimate, Expected, Text, Tier, Weights

SMALL_GPU: Final = "any card of 4 GB"
"""Told by its VRAM, not by its name."""
SMALL_VRAM_GIB: Final = 4

_HOST: Final = CpuUse(max_threads=4, affinity="none", thermal_throttle_pct=None)
"""The GPU computes: a few threads read recordings and prepare prompts, wherever there is room."""

# Cache limits follow the VRAM: about a quarter of it on 16 GB, near half of it on the largest.
# RTF 0.8 is the changelog's for its whole tier; of the cards it does not name, it is a bound that
# nobody measured, and the row says so.
GPU_MODEL_TIERS: Final = (
    Tier(
        name="gpu_high",
        card="V100",
        text=Text(limit=2000, ceiling=4000, chunk=400),
        expected=Expected(rtf=0.8, memory_gb=6.0),
        weights=Weights("fp16", "none", calibration_samples=64),
        cpu=_HOST,
        budget=Budget(safety_margin_mb=1024, cache_limit_mb=4096),
        estimate=Estimate(base_mb=4000, per_100_tokens_mb=75, cache_overhead_mb=512),
        reason="the changelog's V100: FP16 (Volta has no BF16), no quantization, 2000 characters",
    ),
    Tier(
        name="gpu_high",
        card="A100",
        text=Text(limit=2000, ceiling=4000, chunk=400),
        expected=Expected(rtf=0.8, memory_gb=6.0),
        weights=Weights("fp16", "none", calibration_samples=64),
        cpu=_HOST,
        budget=Budget(safety_margin_mb=1024, cache_limit_mb=16384),
        estimate=Estimate(base_mb=4000, per_100_tokens_mb=75, cache_overhead_mb=512),
        reason="the changelog's A100: FP16, no quantization, 2000 characters; cache for 40 GB",
    ),
    Tier(
        name="gpu_high",
        card="RTX 4090",
        text=Text(limit=2000, ceiling=4000, chunk=400),
        expected=Expected(rtf=0.8, memory_gb=6.0),
        weights=Weights("bf16", "none", calibration_samples=64),
        cpu=_HOST,
        budget=Budget(safety_margin_mb=1024, cache_limit_mb=8192),
        estimate=Estimate(base_mb=4000, per_100_tokens_mb=75, cache_overhead_mb=512),
        reason="the changelog's RTX 4090: BF16, no quantization, 2000 characters; cache for 24 GB",
    ),
    Tier(
        name="gpu_high",
        card="RTX 3090",
        text=Text(limit=2000, ceiling=4000, chunk=400),
        expected=Expected(rtf=0.8, memory_gb=6.0),
        weights=Weights("fp16", "none", calibration_samples=64),
        cpu=_HOST,
        budget=Budget(safety_margin_mb=1024, cache_limit_mb=8192),
        estimate=Estimate(base_mb=4000, per_100_tokens_mb=75, cache_overhead_mb=512),
        reason="the changelog's RTX 3090: FP16, no quantization, 2000 characters; cache for 24 GB",
    ),
    Tier(
        name="gpu_mid",
        card="RTX 3060",
        text=Text(limit=1000, ceiling=2000, chunk=300),
        expected=Expected(rtf=1.2, memory_gb=4.0),
        weights=Weights("fp16", "int8", calibration_samples=64),
        cpu=_HOST,
        budget=Budget(safety_margin_mb=512, cache_limit_mb=1024),
        estimate=Estimate(base_mb=3000, per_100_tokens_mb=75, cache_overhead_mb=256),
        reason="the changelog's RTX 3060 of 8 GB: FP16, INT8, 1000 characters; the one of 12 GB "
        "is gpu_high by its memory",
    ),
    Tier(
        name="gpu_entry",
        card="GTX 1660",
        text=Text(limit=600, ceiling=1200, chunk=200),
        expected=Expected(rtf=2.0, memory_gb=3.0),
        weights=Weights("fp16", "int8", calibration_samples=64),
        cpu=_HOST,
        budget=Budget(safety_margin_mb=256, cache_limit_mb=512),
        estimate=Estimate(base_mb=2500, per_100_tokens_mb=60, cache_overhead_mb=128),
        reason="the changelog's GTX 1660: FP16 (Turing has no BF16), INT8, 600 characters",
    ),
    Tier(
        name="gpu_entry",
        card=SMALL_GPU,
        text=Text(limit=300, ceiling=600, chunk=150),
        expected=Expected(rtf=3.0, memory_gb=3.0),
        weights=Weights("bf16", "int8", calibration_samples=64),
        cpu=_HOST,
        budget=Budget(safety_margin_mb=256, cache_limit_mb=256),
        estimate=Estimate(base_mb=2500, per_100_tokens_mb=60, cache_overhead_mb=64),
        reason="derived for 4 GB, down to a GTX 1050 Ti: half the GTX 1660's text and cache, two "
        "thirds of its bandwidth; half precision of the card's generation",
    ),
    Tier(
        name="gpu_high",
        card="T4",
        text=Text(limit=2000, ceiling=4000, chunk=400),
        expected=Expected(rtf=1.2, memory_gb=6.0),
        weights=Weights("fp16", "none", calibration_samples=64),
        cpu=_HOST,
        budget=Budget(safety_margin_mb=1024, cache_limit_mb=4096),
        estimate=Estimate(base_mb=4000, per_100_tokens_mb=75, cache_overhead_mb=512),
        reason="derived: 16 GB, so no quantization; Turing, so FP16; 320 GB/s, so the RTF of an "
        "RTX 3060",
    ),
    Tier(
        name="gpu_high",
        card="L4",
        text=Text(limit=2000, ceiling=4000, chunk=400),
        expected=Expected(rtf=1.2, memory_gb=6.0),
        weights=Weights("bf16", "none", calibration_samples=64),
        cpu=_HOST,
        budget=Budget(safety_margin_mb=1024, cache_limit_mb=8192),
        estimate=Estimate(base_mb=4000, per_100_tokens_mb=75, cache_overhead_mb=512),
        reason="derived: 24 GB, so no quantization; Ada, so BF16; 300 GB/s, so the RTF of an "
        "RTX 3060",
    ),
    Tier(
        name="gpu_high",
        card="RTX 5090",
        text=Text(limit=2000, ceiling=4000, chunk=400),
        expected=Expected(rtf=0.8, memory_gb=6.0),
        weights=Weights("bf16", "none", calibration_samples=64),
        cpu=_HOST,
        budget=Budget(safety_margin_mb=1024, cache_limit_mb=12288),
        estimate=Estimate(base_mb=4000, per_100_tokens_mb=75, cache_overhead_mb=512),
        reason="derived from the RTX 4090: Blackwell, so BF16; cache for 32 GB; RTF a bound",
    ),
    Tier(
        name="gpu_high",
        card="L40S",
        text=Text(limit=2000, ceiling=4000, chunk=400),
        expected=Expected(rtf=0.8, memory_gb=6.0),
        weights=Weights("bf16", "none", calibration_samples=64),
        cpu=_HOST,
        budget=Budget(safety_margin_mb=1024, cache_limit_mb=16384),
        estimate=Estimate(base_mb=4000, per_100_tokens_mb=75, cache_overhead_mb=512),
        reason="derived from the RTX 4090, the same chip: BF16; cache for 48 GB; RTF a bound",
    ),
    Tier(
        name="gpu_high",
        card="H100",
        text=Text(limit=2000, ceiling=4000, chunk=400),
        expected=Expected(rtf=0.8, memory_gb=6.0),
        weights=Weights("bf16", "none", calibration_samples=64),
        cpu=_HOST,
        budget=Budget(safety_margin_mb=2048, cache_limit_mb=32768),
        estimate=Estimate(base_mb=4000, per_100_tokens_mb=75, cache_overhead_mb=512),
        reason="derived: 80 GB, so no quantization; Hopper, so BF16; RTF a bound",
    ),
    Tier(
        name="gpu_high",
        card="H200",
        text=Text(limit=2000, ceiling=4000, chunk=400),
        expected=Expected(rtf=0.8, memory_gb=6.0),
        weights=Weights("bf16", "none", calibration_samples=64),
        cpu=_HOST,
        budget=Budget(safety_margin_mb=2048, cache_limit_mb=65536),
        estimate=Estimate(base_mb=4000, per_100_tokens_mb=75, cache_overhead_mb=512),
        reason="derived: 141 GB, so no quantization; Hopper, so BF16; RTF a bound",
    ),
    Tier(
        name="gpu_high",
        card="B200",
        text=Text(limit=2000, ceiling=4000, chunk=400),
        expected=Expected(rtf=0.8, memory_gb=6.0),
        weights=Weights("bf16", "none", calibration_samples=64),
        cpu=_HOST,
        budget=Budget(safety_margin_mb=2048, cache_limit_mb=81920),
        estimate=Estimate(base_mb=4000, per_100_tokens_mb=75, cache_overhead_mb=512),
        reason="derived: 180 GB, so no quantization; Blackwell, so BF16; RTF a bound",
    ),
)
