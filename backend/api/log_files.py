"""`/metrics/files`: the request log, for pages that may be on another machine."""

import asyncio
from contextlib import closing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from loguru import logger
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from backend.api.dependencies import Backend, unless_hung_up
from backend.api.headers import add_warnings
from backend.api.openapi import JSON, errors
from backend.core import MIB
from backend.errors import Aborted, BadField
from backend.monitoring.files import (
    MAX_LAST_BYTES,
    WHOLE_BYTES,
    Excerpt,
    LogFile,
    kind_of,
    list_files,
    open_file,
)

router = APIRouter(prefix="/metrics/files", tags=["machine"])

CSV = "text/csv"
_STALLED_S = 60.0
"""A client that takes no piece for so long is given up, or it would hold the file open."""
_WRITTEN_S = 0.5
"""Rows of requests that were answered just now get so long to be written before a file is read."""
_DOCUMENTED = ConfigDict(use_attribute_docstrings=True)


class LogFileAnswer(BaseModel):
    """A file of the request log."""

    model_config = _DOCUMENTED

    name: str = Field(examples=["synthesis_generic_cpu_20261123_025440.csv"])
    kind: Literal["synthesis", "realtime", "hardware"] = Field(examples=["synthesis"])
    """synthesis has a row for each request, realtime for each sample, hardware is the machine."""
    tier: str = Field(examples=["generic_cpu"])
    bytes: int = Field(examples=[1893])
    modified_at: str = Field(examples=["2026-11-23T02:55:43.734Z"])
    """UTC, ISO 8601."""
    started_at: str | None = Field(examples=["2026-11-23T02:54:40.000Z"])
    """When its first row was written; null for hardware."""


class LogFileList(BaseModel):
    """The newest files of the request log, newest first."""

    model_config = _DOCUMENTED

    directory: str | None = Field(examples=["metrics"])
    """Where they are; null where nothing is logged."""
    files: list[LogFileAnswer]
    total: int = Field(examples=[1])
    """How many there are; 200 are listed at most."""


_LastBytes = Annotated[
    int | None,
    Query(
        ge=1,
        le=MAX_LAST_BYTES,
        description="Of a CSV file only its header and the last whole lines within so many bytes.",
        examples=[65_536],
    ),
]
_CONTENT: dict[str, Any] = {
    CSV: {
        "schema": {"type": "string"},
        "example": "timestamp,request_id,tier,outcome\r\n"
        "2026-11-23T02:54:40.481Z,c1515508ab1cc9f7,generic_cpu,success\r\n",
    },
    JSON: {"schema": {"type": "object"}, "example": {"hardware_profile": {"system": "Linux"}}},
}


@router.get("", responses=errors(503))
async def list_log_files(backend: Backend) -> LogFileList:
    """The newest files of the request log, newest first."""
    directory = backend.monitoring.directory
    await backend.monitoring.written(_WRITTEN_S)
    listing = await asyncio.to_thread(list_files, directory)
    return LogFileList(
        directory=str(directory) if directory else None,
        files=[_answer(file) for file in listing.files],
        total=listing.total,
    )


def _answer(file: LogFile) -> LogFileAnswer:
    return LogFileAnswer(
        name=file.name,
        kind=file.kind,
        tier=file.tier,
        bytes=file.size_bytes,
        modified_at=file.modified_at,
        started_at=file.started_at,
    )


@router.get(
    "/{name}",
    response_class=Response,
    responses={
        200: {"description": "Its whole lines; hardware is JSON.", "content": _CONTENT},
        **errors(404),
    },
)
async def get_log_file(name: str, backend: Backend, last_bytes: _LastBytes = None) -> Response:
    """A file of the request log, as far as its lines are whole.

    Of a file of more than 64 MiB the header and the last lines are sent, and a warning says so.
    """
    is_csv = kind_of(name) != "hardware"
    if last_bytes is not None and not is_csv:
        raise BadField(f"last_bytes: {name} is JSON and is sent whole; leave it out.")
    await backend.monitoring.written(_WRITTEN_S)
    excerpt = await asyncio.to_thread(
        open_file, backend.monitoring.directory, name, last_bytes or WHOLE_BYTES
    )
    response = LogFileResponse(excerpt, CSV if is_csv else JSON, name)
    if excerpt.is_cut and last_bytes is None:
        advice = f"The file is longer than {WHOLE_BYTES // MIB} MiB; its last lines are sent."
        add_warnings(response, (advice,))
    return response


class LogFileResponse(Response):
    """Sends an excerpt in pieces, and closes it."""

    def __init__(self, excerpt: Excerpt, media: str, name: str) -> None:
        self._excerpt = excerpt
        super().__init__(
            media_type=media, headers={"Content-Disposition": f'attachment; filename="{name}"'}
        )
        self.headers["Content-Length"] = str(excerpt.length_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; the response stays incomplete where it cannot be sent whole."""
        with closing(self._excerpt):
            try:
                await unless_hung_up(Request(scope, receive), self._send(send))
            except (Aborted, TimeoutError, OSError) as error:
                logger.info("A file of the log was not sent whole: {}", error or "nobody reads it")

    async def _send(self, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        left = self._excerpt.length_bytes
        while left and (piece := await asyncio.to_thread(self._excerpt.read)):
            left -= len(piece)
            async with asyncio.timeout(_STALLED_S):
                await send({"type": "http.response.body", "body": piece, "more_body": left > 0})
        if not self._excerpt.length_bytes:
            await send({"type": "http.response.body", "body": b""})
