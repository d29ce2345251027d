"""What routes ask for: the backend, the request's id, and a request to speak read from its body."""

import asyncio
import base64
import binascii
import json
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.types import Message

from backend.api.schemas import UPLOAD_FIELD, parse_fields, parse_text
from backend.core import ReferenceAudio, SpeechRequest
from backend.errors import Aborted, BadField, BadReference, UploadTooLarge
from backend.smart_backend import SmartBackend

_FIELDS_BYTES = 4 * 1024 * 1024
"""Room for all fields but the upload: 100,000 characters are at most 1.2 MB in any encoding."""

T = TypeVar("T")


def get_backend(request: Request) -> SmartBackend:
    """The backend of this app."""
    backend: SmartBackend = request.app.state.backend
    return backend


def get_request_id(request: Request) -> str:
    """The id that `RequestBoundary` gave this request."""
    return str(request.state.request_id)


Backend = Annotated[SmartBackend, Depends(get_backend)]
RequestId = Annotated[str, Depends(get_request_id)]


async def read_speech_request(
    request: Request, backend: Backend, request_id: RequestId
) -> SpeechRequest:
    """The request to speak in a multipart, urlencoded or JSON body."""
    values, audio = await _read_body(request, backend.settings.max_upload_bytes)
    fields = parse_fields(values)
    return SpeechRequest(
        request_id=request_id,
        text=fields.text,
        language=fields.language,
        sampling=fields.sampling,
        reference=ReferenceAudio(audio, fields.prompt_text) if audio else None,
        long_text=fields.long_text,
        optimize_for_memory=fields.optimize_for_memory,
        trace_parent=request.headers.get("traceparent", ""),
    )


async def read_text(request: Request, backend: Backend) -> str:
    """The one field `text` of a form or JSON body."""
    values, audio = await _read_body(request, backend.settings.max_upload_bytes)
    if audio:
        raise BadField("speaker_file is not needed here; send text alone.")
    return parse_text(values)


SpeechBody = Annotated[SpeechRequest, Depends(read_speech_request)]
TextBody = Annotated[str, Depends(read_text)]


async def _read_body(request: Request, max_upload_bytes: int) -> tuple[dict[str, Any], bytes]:
    """The fields of a body and the uploaded file, b"" without one."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        # Base64 takes four bytes for three.
        limited = _Limited(request, _FIELDS_BYTES + max_upload_bytes * 4 // 3, max_upload_bytes)
        return await asyncio.to_thread(_split_json, await limited.body())
    if kind == "multipart/form-data":
        limited = _Limited(request, _FIELDS_BYTES + max_upload_bytes, max_upload_bytes)
        return await _split_form(await limited.form())
    if kind == "application/x-www-form-urlencoded":
        return await _split_form(await _Limited(request, _FIELDS_BYTES).form())
    raise BadField(
        "The body is neither multipart/form-data, application/x-www-form-urlencoded nor "
        f"application/json but {kind or 'of no declared type'}; set Content-Type."
    )


class _Limited:
    """A request's body, refused while it arrives once it is larger than `max_bytes`."""

    def __init__(self, request: Request, max_bytes: int, max_upload_bytes: int = 0) -> None:
        self._max_bytes = max_bytes
        self._advice = (
            f"send at most {max_upload_bytes} bytes of speaker_file"
            if max_upload_bytes
            else "send less text"
        )
        self._received_bytes = 0
        self._source = request.receive
        declared = request.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > max_bytes:
            raise self._too_large()
        self._request = Request(request.scope, self._receive)

    async def body(self) -> bytes:
        return await self._request.body()

    async def form(self) -> FormData:
        """The parsed form; Starlette keeps an upload of more than 1 MB in a file, not in memory."""
        try:
            return await self._request.form(
                max_files=1, max_fields=64, max_part_size=self._max_bytes
            )
        except HTTPException as error:
            raise BadField(f"The form cannot be read: {error.detail}") from None

    async def _receive(self) -> Message:
        message = await self._source()
        self._received_bytes += len(message.get("body", b""))
        if self._received_bytes > self._max_bytes:
            raise self._too_large()
        return message

    def _too_large(self) -> UploadTooLarge:
        return UploadTooLarge(f"The request is larger than the server takes; {self._advice}.")


async def _split_form(form: FormData) -> tuple[dict[str, Any], bytes]:
    values: dict[str, Any] = {}
    audio = b""
    try:
        for name, value in form.multi_items():
            if name in values or (name == UPLOAD_FIELD and audio):
                raise BadField(f"{name} is given twice; send it once.")
            if name == UPLOAD_FIELD:
                audio = await _read_upload(value)
            elif isinstance(value, UploadFile):
                raise BadField(f"{name} is sent as a file; send it as plain text.")
            else:
                values[name] = value
    finally:
        await form.close()
    return values, audio


async def _read_upload(value: UploadFile | str) -> bytes:
    if isinstance(value, UploadFile):
        audio = await value.read()
        if not audio and value.filename:
            raise BadReference("speaker_file is empty; send a wav, flac, ogg or mp3 file.")
        return audio
    if value:
        raise BadField(
            "speaker_file is sent as text; send it as a file (curl: -F speaker_file=@…)."
        )
    return b""


def _split_json(body: bytes) -> tuple[dict[str, Any], bytes]:
    try:
        values = json.loads(body)
    except ValueError:
        raise BadField("The body is not valid JSON; send an object with a field text.") from None
    if not isinstance(values, dict):
        raise BadField("The body is JSON but no object; send an object with a field text.")
    encoded = values.pop(UPLOAD_FIELD, None)
    if encoded in (None, ""):
        return values, b""
    try:
        return values, base64.b64decode(encoded, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise BadField("speaker_file in JSON must be the file in base64.") from None


async def unless_hung_up(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns; if the client hangs up first it is cancelled and `Aborted` raised."""
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_hang_up(request))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Aborted("The client hung up.")
        return task.result()
    finally:
        task.cancel()
        watcher.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
