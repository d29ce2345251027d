"""The HTTP app: lifespan, routers, and the one table of domain error to HTTP status."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from loguru import logger
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from backend.api import machine as machine_api
from backend.api import system, tts
from backend.api.boundary import RequestBoundary
from backend.api.schemas import describe_problem
from backend.errors import (
    Aborted,
    BadCheckpoint,
    BadField,
    BadReference,
    BadSetting,
    BlankText,
    EngineDown,
    EngineFailed,
    NotEnoughMemory,
    OverCapacity,
    PromptTooLong,
    ShoalError,
    TextTooLong,
    TimedOut,
    UploadTooLarge,
)
from backend.hardware.look import Machine
from backend.settings import Settings
from backend.smart_backend import SmartBackend

STATUS: dict[type[ShoalError], HTTPStatus] = {
    BlankText: HTTPStatus.BAD_REQUEST,
    TextTooLong: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    PromptTooLong: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UploadTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    BadField: HTTPStatus.UNPROCESSABLE_ENTITY,
    BadReference: HTTPStatus.UNPROCESSABLE_ENTITY,
    EngineFailed: HTTPStatus.INTERNAL_SERVER_ERROR,
    EngineDown: HTTPStatus.SERVICE_UNAVAILABLE,
    OverCapacity: HTTPStatus.SERVICE_UNAVAILABLE,
    NotEnoughMemory: HTTPStatus.SERVICE_UNAVAILABLE,
    BadCheckpoint: HTTPStatus.SERVICE_UNAVAILABLE,
    BadSetting: HTTPStatus.SERVICE_UNAVAILABLE,
    Aborted: HTTPStatus.SERVICE_UNAVAILABLE,  # by a shutdown; a client that left reads nothing
    TimedOut: HTTPStatus.GATEWAY_TIMEOUT,
}
"""What each domain error is over HTTP; a test holds it complete."""

RETRY_AFTER_S = 5


def create_app(
    settings: Settings,
    worker_command: tuple[str, ...] | None = None,
    machine: Machine | None = None,
) -> FastAPI:
    """The app; `worker_command` puts another program in the worker's place, `machine` another
    machine in that of this one.

    Raises what `Machine.look` raises: `BadSetting`, `BadCheckpoint`, `NotEnoughMemory`.
    """
    backend = SmartBackend(settings, worker_command, machine=machine)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with backend:
            announcement = asyncio.create_task(_announce(backend), name="announcement")
            try:
                yield
            finally:
                announcement.cancel()

    app = FastAPI(
        title="Shoal",
        summary="Fish Speech over HTTP.",
        version=system.shoal_version(),
        lifespan=lifespan,
        # Unknown paths are 404 with or without the slash, not redirected.
        redirect_slashes=False,
    )
    app.state.backend = backend
    app.include_router(tts.router)
    app.include_router(machine_api.router)
    app.include_router(system.router)
    app.add_exception_handler(ShoalError, _answer_domain_error)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    app.add_middleware(RequestBoundary)
    return app


async def _announce(backend: SmartBackend) -> None:
    """Say how to try it once it can speak."""
    try:
        await backend.ready()
    except EngineDown:
        return  # the supervisor has logged why
    settings = backend.settings
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::", "localhost") else settings.host
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}/tts"
    logger.info(
        'Ready to speak. Try:\n\n    curl -f -F "text=Hello from Shoal." {} -o hello.wav\n', url
    )


def _error(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers)


async def _answer_domain_error(request: Request, error: Exception) -> Response:
    status = STATUS[type(error)] if isinstance(error, ShoalError) else HTTPStatus(500)
    is_temporary = status is HTTPStatus.SERVICE_UNAVAILABLE
    logger.info("Request {} refused, {}: {}", request.state.request_id, status, error)
    return _error(status, str(error), {"Retry-After": str(RETRY_AFTER_S)} if is_temporary else None)


async def _answer_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _error(HTTPStatus.UNPROCESSABLE_ENTITY, describe_problem(error.errors()[0]))


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail, path = str(error.detail), request.url.path
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.NOT_FOUND:
        detail = f"There is nothing at {path}; GET / lists what there is."
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        methods = ", ".join(
            method.upper() for method in request.app.openapi()["paths"].get(path, {})
        )
        headers["Allow"] = methods
        detail = f"{path} does not take {request.method}; use {methods or 'another method'}."
    return _error(error.status_code, detail, headers)


async def _answer_nobody(request: Request, error: Exception) -> Response:
    """The client left while it was sending; the answer goes nowhere."""
    return _error(HTTPStatus.BAD_REQUEST, "The request ended before its body did.")
