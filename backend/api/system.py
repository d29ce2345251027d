"""How the server is: `/health`, `/health/ready`, and `/`, which points to the rest."""

import os
import platform
from dataclasses import asdict
from typing import Any

import psutil
from fastapi import APIRouter, Request

from backend.api import examples
from backend.api.dependencies import Backend
from backend.api.openapi import errors, example
from backend.core import MIB, EngineInfo
from backend.smart_backend import SmartBackend
from backend.version import shoal_version

router = APIRouter(tags=["system"])


@router.get("/health", responses=example(examples.HEALTH, "How it is, ready or not."))
async def health(backend: Backend) -> dict[str, Any]:
    """Whether the server lives and what is loaded; it never waits for the worker."""
    worker = backend.worker
    info, state, load = worker.info, worker.state, worker.load
    return {
        "status": "ok" if state.phase in ("ready", "unloaded") else "degraded",
        "version": shoal_version(),
        "device": info.device if info else None,
        "engine": info.engine if info else None,
        "checkpoint": info.checkpoint if info else str(backend.settings.checkpoint_dir),
        "model": _model(info) if info else None,
        "worker": {
            "state": state.phase,
            "reason": state.reason,
            "restarts": state.restarts,
            "pid": info.pid if info else None,
            "running": load.running,
            "waiting": load.waiting,
        },
        "system_info": _system_info(backend),
        **backend.health(),
    }


def _model(info: EngineInfo) -> dict[str, Any]:
    return {
        "precision": info.precision,
        "codec_precision": info.codec_precision,
        "quantization": info.quantization,
        "unquantized_weight_mb": round(info.unquantized_weight_bytes / MIB, 1),
        "quality_cost": info.quality_cost and asdict(info.quality_cost),
        "num_threads": info.num_threads,
        "parameters": info.parameters,
        "weight_mb": round(info.weight_bytes / MIB, 1),
        "memory_mb": round(info.memory_mb, 1),
        "load_s": round(info.load_s, 3),
        "sample_rate_hz": info.sample_rate_hz,
        "frame_rate_hz": round(info.frame_rate_hz, 3),
        "context_tokens": info.context_tokens,
        "max_segment_characters": info.max_segment_characters,
        "max_reference_s": info.max_reference_s,
        "languages": list(info.languages),
    }


def _system_info(backend: SmartBackend) -> dict[str, Any]:
    info, memory = backend.info, psutil.virtual_memory()
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "torch": info.torch_version if info else None,
        "precision": info.precision if info else None,
        "quantization": info.quantization if info else None,
        "compile_enabled": backend.lane.running_plan.compile.value if info else None,
        "way": backend.lane.running_plan.way or None,
        "cpu_model": backend.lane.deployment.hardware.cpu.model or None,
        "cpu_logical": os.cpu_count(),
        "cpu_physical": psutil.cpu_count(logical=False),
        "memory_total_mb": round(memory.total / MIB),
        "memory_available_mb": round(memory.available / MIB),
    }


@router.get(
    "/health/ready", responses={**example({"status": "ready"}, "It can speak."), **errors(503)}
)
async def ready(backend: Backend) -> dict[str, str]:
    """200 only when it can speak, at once or, where its worker was unloaded, once that is back."""
    if backend.worker.state.phase == "unloaded":
        return {"status": "unloaded"}
    backend.worker.loaded()
    return {"status": "ready"}


@router.get("/", responses=example(examples.INDEX, "Every route."))
async def index(request: Request) -> dict[str, Any]:
    """Where to read on, and every route."""
    paths: dict[str, dict[str, Any]] = request.app.openapi()["paths"]
    routes = [f"{method.upper()} {path}" for path in sorted(paths) for method in paths[path]]
    return {"name": "shoal", "version": shoal_version(), "docs": "/docs", "routes": routes}
