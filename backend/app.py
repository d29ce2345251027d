"""The HTTP app: lifespan, routers, guards, and what becomes of each error."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from loguru import logger
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from backend.api import (
    docs,
    document,
    guard,
    live,
    log_files,
    system,
    tts,
    voice_files,
    voices,
)
from backend.api import machine as machine_api
from backend.api.boundary import RequestBoundary
from backend.api.fish import routes as fish
from backend.api.head import HeadAsGet
from backend.api.live_connection import LiveClients
from backend.api.openai import routes as openai
from backend.api.schemas import describe_problem
from backend.api.shape import error_response
from backend.api.status import STATUS, retry_headers, status_of
from backend.errors import BadField, EngineDown, ShoalError
from backend.hardware.deployment import Deployment
from backend.listening import local_url
from backend.serving.fleet import Fleet
from backend.settings import Settings
from backend.smart_backend import SmartBackend
from backend.version import shoal_version


def create_app(
    settings: Settings,
    worker_command: tuple[str, ...] | None = None,
    deployment: Deployment | None = None,
    fleet: Fleet | None = None,
) -> FastAPI:
    """The app; `worker_command` puts another program in the worker's place, `deployment` another
    machine in that of this one, `fleet` other workers in that of this machine's.

    Raises what `Deployment.look` raises: `BadSetting`, `BadCheckpoint`, `NotEnoughMemory`.
    """
    statuses = {kind.code: int(status) for kind, status in STATUS.items()}
    backend = SmartBackend(
        settings, worker_command, deployment=deployment, statuses=statuses, fleet=fleet
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with backend:
            announcement = asyncio.create_task(_announce(backend), name="announcement")
            try:
                yield
            finally:
                announcement.cancel()
                if app.state.rates is not None:
                    await app.state.rates.close()

    app = FastAPI(
        title="Shoal",
        summary="Fish Speech over HTTP.",
        version=shoal_version(),
        lifespan=lifespan,
        docs_url=None,  # ours needs no internet
        redoc_url=None,
        redirect_slashes=False,  # `paths` takes them away
    )
    app.state.backend = backend
    app.state.live_clients = LiveClients(settings.max_live_per_client)
    app.include_router(tts.router)
    if settings.get_speech:
        app.include_router(tts.by_link)
    app.include_router(voices.router)
    app.include_router(voice_files.router)
    app.include_router(openai.router)
    app.include_router(live.router)
    app.include_router(fish.router)
    app.include_router(machine_api.router)
    app.include_router(log_files.router)
    app.include_router(system.router)
    app.add_exception_handler(ShoalError, _answer_domain_error)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(ClientDisconnect, _answer_nobody)
    docs.add_docs(app)
    guard.protect(app, settings)
    app.add_middleware(HeadAsGet)
    app.add_middleware(RequestBoundary)
    document.describe(app)
    return app


async def _announce(backend: SmartBackend) -> None:
    """Say how to try it once it can speak."""
    try:
        await backend.ready()
    except EngineDown:
        return  # the supervisor has logged why
    url = local_url(backend.settings.host, backend.settings.port) + "/tts"
    logger.info(
        'Ready to speak. Try:\n\n    curl -f -F "text=Hello from Shoal." {} -o hello.wav\n', url
    )


async def _answer_domain_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ShoalError)
    status = status_of(error)
    logger.info("Request {} refused, {}: {}", request.state.request_id, status, error)
    return _error(request, status, str(error), error.code, retry_headers(error))


async def _answer_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problem = describe_problem(error.errors()[0])
    return _error(request, HTTPStatus.UNPROCESSABLE_ENTITY, problem, BadField.code)


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail, path = str(error.detail), request.url.path
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.NOT_FOUND:
        detail = f"There is nothing at {path}; GET / lists the routes."
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        methods = ", ".join(_methods_at(request))
        headers["Allow"] = methods
        detail = f"{path} does not take {request.method}; use {methods}."
    return _error(request, error.status_code, detail, "", headers)


def _methods_at(request: Request) -> list[str]:
    """The methods of the request's path: as it is documented, else of each route it matches."""
    documented = request.app.openapi()["paths"].get(request.url.path)
    if documented:  # `/voices/import` is a `/voices/{name}`, too, which few voices are called
        methods = [method.upper() for method in documented]
    else:
        methods = [
            method
            for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
            if any(
                route.matches({**request.scope, "method": method})[0] is Match.FULL
                for route in request.app.routes
            )
        ]
    if "GET" in methods:
        methods.insert(methods.index("GET") + 1, "HEAD")
    return methods


async def _answer_nobody(request: Request, error: Exception) -> Response:
    """The client left while it was sending; the answer goes nowhere."""
    return _error(request, HTTPStatus.BAD_REQUEST, "The request ended before its body did.")


def _error(
    request: Request,
    status: int,
    detail: str,
    code: str = "",
    headers: dict[str, str] | None = None,
) -> Response:
    return error_response(request.url.path, status, detail, code, headers)
