"""What the OpenAPI page shows as answers about the machine; a test compares their fields."""

from typing import Any

_PROFILE: dict[str, Any] = {
    "system": "Linux",
    "machine": "x86_64",
    "board": "",
    "is_wsl": False,
    "cpu": {
        "vendor": "amd",
        "model": "AMD EPYC",
        "generation": None,
        "physical_cores": 2,
        "logical_cores": 2,
        "performance_cores": 2,
        "efficiency_cores": 0,
        "allowed": "0-1",
        "quota_cpus": None,
        "features": ["avx2", "avx512", "bf16", "vnni"],
    },
    "memory": {
        "total_gib": 23.54,
        "limit_gib": 23.54,
        "limit_source": "machine",
        "available_gib": 22.82,
    },
    "gpus": [],
    "gpu_problem": "",
    "has_mps": False,
    "torch_version": "2.13.0+cpu",
    "thermal_sensors": [],
}
_RESOURCES: dict[str, Any] = {
    "cpu_percent": 12.5,
    "memory_percent": 3.7,
    "memory_total_mb": 24105,
    "memory_limit_mb": 24105,
    "memory_available_mb": 23201,
    "gpu_memory_total_mb": None,
    "gpu_memory_free_mb": None,
}
_RUNNING: dict[str, Any] = {
    "chunk_length": 200,
    "num_threads": 2,
    "cache_limit": 1024,
    "max_text_length": 200,
}
_NOTES = ["CPU-only with FP32 precision, no quantization (torch.compile disabled)"]
_OUTCOMES = {"success": 4, "failed": 0, "refused": 2, "aborted": 0}

_SETUP: dict[str, Any] = {
    "device": "cpu",
    "precision": "fp32",
    "quantization": "none",
    "num_threads": 1,
}
MEASURING: dict[str, Any] = {
    "state": "measuring",
    "problem": "",
    "checkpoint": "shoal-demo",
    "seconds": 60.0,
    "spent_s": 4.2,
    "chosen": _SETUP,
    "reason": "Chosen: cpu fp32, 1 thread, 77.2 frames/s (RTF 0.38); the tier expected RTF 4; "
    "int8 was not measured; int4 was not measured.",
    "measured": [
        _SETUP
        | {
            "outcome": "measured",
            "reason": "",
            "way": "eager",
            "way_detail": "",
            "codec_precision": "fp32",
            "frames_per_s": 77.2,
            "rtf": 0.38,
            "prefill_s": 0.019,
            "codec_ms_per_frame": 4.5,
            "first_audio_s": 0.063,
            "peak_mb": 370.0,
            "load_s": 1.1,
            "kept_codes": None,
        }
    ],
    "not_reached": [_SETUP | {"quantization": "int8"}],
}
HARDWARE: dict[str, Any] = {
    "hardware_profile": _PROFILE,
    "selected_configuration": {
        "tier": "generic_cpu",
        "strategy": "generic_cpu cpu fp32",
        "device": "cpu",
        "precision": "fp32",
        "quantization": "none",
        "torch_compile": False,
        "num_threads": 2,
        "max_text_length": 200,
        "notes": _NOTES,
        "choices": {"device": {"value": "cpu", "reason": "no GPU is seen", "source": "machine"}},
    },
    "workers": {
        "count": 1,
        "reason": "one device computes",
        "source": "tier",
        "each": [{"worker": 0, "device": "cpu", "device_uuid": "", "num_threads": 2}],
    },
    "running_configuration": _RUNNING,
    "measurement": {"state": "none", "problem": ""},
}
SYSTEM_STATUS: dict[str, Any] = {
    "resources": _RESOURCES | {"temperatures_c": {}},
    "throttling_risk": {
        "memory_critical": False,
        "cpu_maxed": False,
        "thermal_likely": False,
        "reasons": [],
    },
    "thermal": {
        "sensor": "coretemp",
        "temperature_c": 93.0,
        "throttles_at_c": 100.0,
        "pressure": None,
        "seconds_until_throttling": 41.5,
        "is_controlled": True,
        "lowered": {},
        "steps_back": 0,
    },
    "memory_budget_safe": True,
    "memory_ladder": {
        "level": 1,
        "step": "fewer_rows",
        "says": "a quarter of the rows",
        "reason": "other programs have taken the memory",
        "steps": ["fewer_rows", "one_row", "small_windows", "small_cache"],
        "steps_down": 1,
        "steps_up": 0,
    },
    "worker": {"state": "ready", "reason": ""},
    "workers": [{"worker": 0, "device": "cpu", "state": "ready", "speaking": 3, "rows": 16}],
    "recommended_action": "OK",
    "rates": {"per_minute": 60, "counted": "shared", "store": "redis", "problem": ""},
}
_TEXT_LIMIT = {
    "limit": 400,
    "reason": "the tier's figure",
    "original_length": 17,
    "spoken_length": 17,
    "is_truncated": False,
}
ESTIMATE: dict[str, Any] = {
    "status": "ok",
    "estimate": {
        "estimated_mb": 369.6,
        "formula_mb": 2766.2,
        "available_mb": 13341.3,
        "safe": True,
        "text_tokens": 17,
        "text_length": 17,
    },
    "sentences": 1,
    "expected_s": 0.34,
    "expected_audio_s": 1.133,
    "wait_s": 0.0,
    "speed": "expected",
    "text_limit": _TEXT_LIMIT,
    "mends": [],
}
NORMALIZED: dict[str, Any] = {
    "text": "Doctor Lee paid five dollars on May third.",
    "language": "en",
    "sentences": ["Doctor Lee paid five dollars on May third."],
}
_ENGINE = {
    "engine": "shoal/shoal-demo",
    "tier": "generic_cpu",
    "strategy": "generic_cpu cpu fp32",
}
EVENTS: tuple[dict[str, Any], ...] = (
    {
        "type": "plan",
        "request_id": "5f1c0b2a9d3e4f60",
        "seed": 7,
        "script": [{"text": "Hello from Shoal.", "voice": ""}],
        **{
            name: ESTIMATE[name]
            for name in ("sentences", "expected_s", "expected_audio_s", "wait_s", "speed")
        },
        "text_limit": _TEXT_LIMIT,
        "format": "mp3",
        "media_type": "audio/mpeg",
        "sample_rate": 24000,
        "has_default_voice": True,
        **_ENGINE,
    },
    {"type": "queue", "wait_s": 1.4},
    {"type": "sentence.start", "index": 0, "text": "Hello from Shoal.", "voice": ""},
    {"type": "audio", "index": 0, "audio": "SUQzBA=="},
    {
        "type": "sentence.end",
        "index": 0,
        "text": "Hello from Shoal.",
        "start_s": 0.0,
        "end_s": 1.254,
        "audio_s": 1.254,
        "total_s": 0.3631,
        "first_audio_s": 0.0712,
        "rtf": 0.2895,
        "generated_tokens": 28,
        "tokens_per_s": 77.11,
        "retries": 0,
    },
    {"type": "warning", "detail": "this checkpoint declares en; de may not sound right"},
    {
        "type": "done",
        "request_id": "5f1c0b2a9d3e4f60",
        "seed": 7,
        "text": "Hello from Shoal.",
        "latency_s": 0.3662,
        "first_audio_s": 0.0741,
        "queue_s": 1.3012,
        "audio_s": 1.254,
        "rtf": 0.292,
        "compute_rtf": 0.2811,
        "generated_tokens": 28,
        "tokens_per_s": 76.46,
        "peak_vram_mb": 0.0,
        "gpu_util_pct": 0.0,
        "worker_peak_memory_mb": 402.3,
        "segments": 1,
        "retries": 0,
        "finish_reasons": ["end"],
        "text_limit": _TEXT_LIMIT,
        **_ENGINE,
        "device": "cpu",
        "precision": "fp32",
        "quantization": "none",
        "warnings": ["this checkpoint declares en; de may not sound right"],
    },
)
OPTIMIZED: dict[str, Any] = {
    "status": "adjusted",
    "previous_config": _RUNNING,
    "new_config": _RUNNING | {"num_threads": 1},
    "freed_mb": 0.55,
    "before": SYSTEM_STATUS["resources"] | {"cpu_percent": 100.0},
    "after": SYSTEM_STATUS["resources"],
}
CLEARED: dict[str, Any] = {"status": "cleared", "freed_mb": 0.24}
METRICS: dict[str, Any] = {
    "uptime_s": 249.539,
    "in_flight": 0,
    "queue_depth": 0,
    "sampling": False,
    "worker": {"ready": True, "restarts": 0, "memory_mb": 448.8},
    "workers": [{"worker": 0, "device": "cpu", "ready": True, "restarts": 0, "speaking": 0}],
    "thermal": {"level": 0, "steps_back": 0},
    "memory_ladder": {"level": 0, "steps_down": 0},
    "since_start": {
        "requests": 6,
        "outcomes": _OUTCOMES,
        "refusals": {"blank_text": 1, "text_too_long": 1},
        "truncated": 1,
        "generated_tokens": 2400,
        "audio_s": 116.242,
    },
    "recent": {
        "requests": 6,
        "of_last": 1000,
        "outcomes": _OUTCOMES,
        "first_audio_s": {"mean": 0.3827, "p50": 0.3679, "p95": 0.4717, "p99": 0.4833},
    },
    "log": {"directory": "metrics", "problem": ""},
}
PROMETHEUS = (
    "# HELP shoal_requests_total Requests by how they ended.\n"
    "# TYPE shoal_requests_total counter\n"
    'shoal_requests_total{outcome="success"} 4.0\n'
)
HEALTH: dict[str, Any] = {
    "status": "ok",
    "version": "0.1.0",
    "device": "cpu",
    "engine": "shoal",
    "checkpoint": "shoal-demo",
    "model": {"precision": "fp32", "quantization": "none", "sample_rate_hz": 24000},
    "worker": {
        "state": "ready",
        "reason": "",
        "restarts": 0,
        "pid": 29412,
        "running": 0,
        "waiting": 0,
    },
    "system_info": {
        "system": "Linux",
        "machine": "x86_64",
        "python": "3.11.7",
        "precision": "fp32",
        "quantization": "none",
        "compile_enabled": False,
        "way": "eager",
        "cpu_model": "AMD EPYC",
    },
    "queue": {"speaking": 0, "waiting": 0, "characters_ahead": 0, "characters_per_s": 12.5},
    "cache_stats": {
        "kv_cache_mb": 0.0,
        "cache_limit_mb": 1024,
        "leased_mb": 0.0,
        "reference_cache_mb": 0.1,
        "references_encoded": 3,
    },
    "hardware_profile": _PROFILE,
    "current_resources": _RESOURCES,
    "smart_insights": _NOTES,
}
INDEX: dict[str, Any] = {
    "name": "shoal",
    "version": "0.1.0",
    "docs": "/docs",
    "routes": ["GET /", "GET /health", "POST /tts"],
}
