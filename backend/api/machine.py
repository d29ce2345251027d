"""What the machine is, how it fares, and what it can be asked to do about it."""

from typing import Any

from fastapi import APIRouter, Request, Response

from backend.api.dependencies import Backend, TextBody
from backend.api.emotions import EMOTIONS
from backend.api.schemas import TextField

router = APIRouter(tags=["machine"])

_TEXT_SCHEMA = TextField.model_json_schema()
_TEXT_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        kind: {"schema": _TEXT_SCHEMA}
        for kind in (
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "application/json",
        )
    },
}
_NOT_READY: dict[int | str, dict[str, Any]] = {
    503: {"description": "The worker is not ready; try again after `Retry-After` seconds."}
}


@router.get("/hardware")
async def hardware(backend: Backend) -> dict[str, Any]:
    """What was found of the machine, and what was chosen for it, each choice with its reason."""
    return backend.describe()


@router.get("/system-status")
async def system_status(backend: Backend) -> dict[str, Any]:
    """How busy the machine is now, whether it is about to throttle, and what to do about it."""
    return await backend.system_status()


@router.post(
    "/estimate-memory",
    openapi_extra={"requestBody": _TEXT_BODY},
    responses={
        400: {"description": "The text is blank."},
        413: {"description": "The text is too large."},
        422: {"description": "A field is wrong; `detail` says which and how to put it right."},
        **_NOT_READY,
    },
)
async def estimate_memory(backend: Backend, text: TextBody) -> dict[str, Any]:
    """What speaking `text` would take, before anything is spoken."""
    return backend.estimate_memory(text)


@router.post("/optimize-for-hardware", responses=_NOT_READY)
async def optimize_for_hardware(backend: Backend) -> dict[str, Any]:
    """Clear caches, look at the load again, and go on with less or more as it demands."""
    return await backend.optimize()


@router.post("/cache/clear", responses=_NOT_READY)
async def clear_cache(backend: Backend) -> dict[str, Any]:
    """Forget encoded references and give unused memory back."""
    cleared = await backend.worker.clear_caches()
    return {"status": "cleared", "freed_mb": round(cleared.freed_bytes / 2**20, 2)}


@router.get("/emotions")
async def emotions() -> dict[str, Any]:
    """Where emotion comes from, and what to do instead of tags."""
    return EMOTIONS


@router.get(
    "/metrics",
    response_model=None,
    responses={200: {"content": {"text/plain": {}}, "description": "JSON, or Prometheus text."}},
)
async def metrics(request: Request, backend: Backend) -> dict[str, Any] | Response:
    """What was spoken so far: JSON, or Prometheus text where `Accept` asks for it."""
    accepted = request.headers.get("accept", "")
    if "text/plain" in accepted or "openmetrics" in accepted:
        return _prometheus(backend)
    return backend.metrics()


@router.get("/metrics/prometheus", response_class=Response)
async def metrics_prometheus(backend: Backend) -> Response:
    """The same as Prometheus text."""
    return _prometheus(backend)


def _prometheus(backend: Backend) -> Response:
    body, media_type = backend.prometheus()
    return Response(body, headers={"Content-Type": media_type})
