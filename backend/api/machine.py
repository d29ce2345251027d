"""What the machine is, how it fares, and what it can be asked to do about it."""

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response

from backend.api import examples
from backend.api.dependencies import Backend, EstimateBody, NormalizeBody
from backend.api.emotions import EMOTIONS
from backend.api.openapi import JSON, MULTIPART, URLENCODED, errors, example, request_body
from backend.api.rates import Rates
from backend.api.schemas import EstimateFields, NormalizeFields, schema_of

router = APIRouter(tags=["machine"])

_PROMETHEUS = {
    "text/plain": {"schema": {"type": "string"}, "example": examples.PROMETHEUS},
}


@router.get("/hardware", responses=example(examples.HARDWARE, "What is, and why."))
async def hardware(backend: Backend) -> dict[str, Any]:
    """What was found of the machine, and what was chosen for it, each choice with its reason."""
    return backend.describe()


@router.get("/system-status", responses=example(examples.SYSTEM_STATUS, "The load now."))
async def system_status(request: Request, backend: Backend) -> dict[str, Any]:
    """How busy the machine is now, whether it is about to throttle, and what to do about it."""
    rates: Rates | None = request.app.state.rates
    return {**await backend.system_status(), "rates": rates.status() if rates else None}


@router.post(
    "/estimate-memory",
    openapi_extra=request_body(
        (URLENCODED, MULTIPART, JSON), schema_of(EstimateFields), {"text": "Hello from Shoal."}
    ),
    responses={
        **example(examples.ESTIMATE, "What it would take, and whether that is safe."),
        **errors(400, 413, 422, 503),
    },
)
async def estimate_memory(backend: Backend, wanted: EstimateBody) -> dict[str, Any]:
    """What speaking `text` would take, before anything is spoken: memory, time, and a mend."""
    return await backend.estimate_memory(wanted)


@router.post(
    "/normalize",
    openapi_extra=request_body(
        (URLENCODED, MULTIPART, JSON),
        schema_of(NormalizeFields),
        {"text": "Dr. Lee paid $5 on May 3."},
    ),
    responses={
        **example(examples.NORMALIZED, "What would be read."),
        **errors(400, 413, 422, 503),
    },
)
async def normalize(backend: Backend, wanted: NormalizeBody) -> dict[str, Any]:
    """What is read of `text`, in words, and the sentences that this machine would speak of it."""
    return await backend.reading(wanted)


@router.post(
    "/optimize-for-hardware",
    responses={
        **example(examples.OPTIMIZED, "What was changed."),
        **example(examples.MEASURING, "It measures, or waits until it may.", 202),
        **errors(422, 503, 504),
    },
)
async def optimize_for_hardware(
    backend: Backend, response: Response, measure: bool = False
) -> dict[str, Any]:
    """Clear caches, look at the load again, and go on with less or more as it demands.

    With `measure` instead: measure what is fastest while nobody is inside, for the next start.
    """
    if not measure:
        return await backend.optimize()
    response.status_code = HTTPStatus.ACCEPTED
    return backend.tuning.start()


@router.post(
    "/cache/clear", responses={**example(examples.CLEARED, "What was freed."), **errors(503, 504)}
)
async def clear_cache(backend: Backend) -> dict[str, Any]:
    """Forget encoded references and give unused memory back."""
    freed_bytes = await backend.clear_caches()
    return {"status": "cleared", "freed_mb": round(freed_bytes / 2**20, 2)}


@router.get("/emotions", responses=example(EMOTIONS, "The same always."))
async def emotions() -> dict[str, Any]:
    """Where emotion comes from, and what to do instead of tags."""
    return EMOTIONS


@router.get(
    "/metrics",
    response_model=None,
    responses={
        200: {
            "description": "JSON, or Prometheus text.",
            "content": {
                JSON: {"schema": {"type": "object"}, "example": examples.METRICS},
                **_PROMETHEUS,
            },
        }
    },
)
async def metrics(request: Request, backend: Backend) -> dict[str, Any] | Response:
    """What was spoken so far: JSON, or Prometheus text where `Accept` asks for it."""
    accepted = request.headers.get("accept", "")
    if "text/plain" in accepted or "openmetrics" in accepted:
        return await _prometheus(backend)
    return backend.metrics()


@router.get(
    "/metrics/prometheus",
    response_class=Response,
    responses={200: {"description": "Prometheus text.", "content": _PROMETHEUS}},
)
async def metrics_prometheus(backend: Backend) -> Response:
    """The same as Prometheus text."""
    return await _prometheus(backend)


async def _prometheus(backend: Backend) -> Response:
    body, media_type = await backend.prometheus()
    return Response(body, headers={"Content-Type": media_type})
