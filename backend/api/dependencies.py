"""What routes ask for: the backend, the request's id, and a request to speak read from its body."""

import asyncio
import math
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from starlette.datastructures import FormData, UploadFile
from starlette.requests import HTTPConnection

from backend.api.arrival import FIELDS_BYTES, check_fields, read_bytes, read_form
from backend.api.bulk import by_size
from backend.api.json_body import from_base64, read_object, with_buffers_in_base64
from backend.api.openapi import JSON, MULTIPART, URLENCODED
from backend.api.schemas import (
    UPLOAD_FIELD,
    SpeechFields,
    parse_estimate,
    parse_fields,
    parse_link,
    parse_normalize,
)
from backend.core import RECORDING_FORMATS, Line, ReferenceAudio, SpeechRequest
from backend.errors import Aborted, BadField, BadReference, quoted
from backend.languages import one_language
from backend.smart_backend import SmartBackend

TIMEOUT_HEADER = "X-Timeout-S"
_MAX_NUMBER_CHARACTERS = 32

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SpeechOrder:
    """What `POST /tts` was asked for."""

    speech: SpeechRequest
    fields: SpeechFields


@dataclass(frozen=True, slots=True)
class Origin:
    """Which client it is, and what the headers say of the request."""

    request_id: str
    client: str
    """Name of its key, or its address."""
    timeout_s: float | None
    arrived_s: float
    """When its headers had arrived, in the event loop's time."""
    trace_parent: str


# What FastAPI calls is async, though it waits for nothing: the rest would be sent through a thread.


async def get_backend(connection: HTTPConnection) -> SmartBackend:
    """The backend of this app."""
    backend: SmartBackend = connection.app.state.backend
    return backend


async def get_request_id(connection: HTTPConnection) -> str:
    """The id that `RequestBoundary` gave this request."""
    return request_id_of(connection)


def request_id_of(connection: HTTPConnection) -> str:
    """The same."""
    return str(connection.state.request_id)


def client_of(connection: HTTPConnection) -> str:
    """The client: as the guard has found, else its address."""
    named = getattr(connection.state, "client", "")
    return str(named) or (connection.client.host if connection.client else "")


async def get_origin(connection: HTTPConnection) -> Origin:
    """Where the request comes from; `BadField` where its deadline is none."""
    return origin_of(connection)


def origin_of(connection: HTTPConnection) -> Origin:
    """The same."""
    headers = connection.headers
    return Origin(
        request_id=request_id_of(connection),
        client=client_of(connection),
        timeout_s=_timeout_s(headers.get(TIMEOUT_HEADER, "")),
        arrived_s=connection.state.arrived_s,
        trace_parent=headers.get("traceparent", ""),
    )


Backend = Annotated[SmartBackend, Depends(get_backend)]
RequestId = Annotated[str, Depends(get_request_id)]
Asked = Annotated[Origin, Depends(get_origin)]


async def read_speech_order(request: Request, backend: Backend, asked: Asked) -> SpeechOrder:
    """What to speak and how, in a multipart, urlencoded or JSON body."""
    values, audio = await read_body(request, backend.settings.max_upload_bytes)
    return _order(parse_fields(values), audio, asked)


async def read_speech_link(request: Request, asked: Asked) -> SpeechOrder:
    """The same in the query of a link."""
    values: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        if name in values:
            raise BadField(f"{quoted(name)} is given twice; send it once.")
        values[name] = value
    return _order(parse_link(values), b"", asked)


def _order(fields: SpeechFields, audio: bytes, asked: Origin) -> SpeechOrder:
    speech = SpeechRequest(
        request_id=asked.request_id,
        text=fields.text or "\n\n".join(line.text for line in fields.dialogue or ()),
        dialogue=tuple(
            Line(line.text, line.voice or fields.voice) for line in fields.dialogue or ()
        ),
        language=one_language(fields.language, fields.lang_code),
        sampling=fields.sampling,
        references=(ReferenceAudio(audio, fields.prompt_text),) if audio else (),
        voice=fields.voice,
        long_text=fields.long_text,
        normalize=fields.normalize,
        pauses=fields.pauses,
        speed=fields.speed,
        is_streamed=bool(fields.stream),
        optimize_for_memory=fields.optimize_for_memory,
        force_cpu=fields.force_cpu,
        timeout_s=asked.timeout_s,
        arrived_s=asked.arrived_s,
        client=asked.client,
        trace_parent=asked.trace_parent,
    )
    return SpeechOrder(speech, fields)


async def read_estimate_order(request: Request, backend: Backend) -> SpeechRequest:
    """What might be spoken, in a form or JSON body."""
    fields = parse_estimate(await _read_text(request, backend))
    return SpeechRequest(
        request_id=request_id_of(request),
        text=fields.text,
        language=one_language(fields.language, fields.lang_code),
        long_text=fields.long_text,
        normalize=fields.normalize,
        optimize_for_memory=fields.optimize_for_memory,
        client=client_of(request),
    )


async def read_normalize_order(request: Request, backend: Backend) -> SpeechRequest:
    """What would be read, in a form or JSON body."""
    fields = parse_normalize(await _read_text(request, backend))
    return SpeechRequest(
        request_id=request_id_of(request),
        text=fields.text,
        language=one_language(fields.language, fields.lang_code),
        client=client_of(request),
    )


async def _read_text(request: Request, backend: SmartBackend) -> dict[str, Any]:
    """The fields of a route that wants no recording."""
    values, audio = await read_body(request, backend.settings.max_upload_bytes)
    if audio:
        raise BadField("speaker_file is not needed here; leave it out.")
    return values


SpeechBody = Annotated[SpeechOrder, Depends(read_speech_order)]
SpeechLink = Annotated[SpeechOrder, Depends(read_speech_link)]
EstimateBody = Annotated[SpeechRequest, Depends(read_estimate_order)]
NormalizeBody = Annotated[SpeechRequest, Depends(read_normalize_order)]


def _timeout_s(said: str) -> float | None:
    if not said:
        return None
    try:
        timeout_s = float(said) if len(said) <= _MAX_NUMBER_CHARACTERS else math.nan
    except ValueError:
        timeout_s = math.nan
    if not 0 < timeout_s < math.inf:
        raise BadField(f"{TIMEOUT_HEADER}: send a number of seconds greater than 0.")
    return timeout_s


async def read_body(
    request: Request, max_upload_bytes: int, upload_fields: tuple[str, ...] = (UPLOAD_FIELD,)
) -> tuple[dict[str, Any], bytes]:
    """The fields of a form or JSON body, and the file in one of `upload_fields`, b"" without one.

    In JSON a file is base64, or Node's Buffer. Raises `UploadTooLarge` while too much arrives,
    `BadField` and `BadReference` for what is no such body.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    advice = f"send at most {max_upload_bytes} bytes of audio and {FIELDS_BYTES} of all else"
    if kind == JSON:
        # Base64 takes four bytes for three.
        max_bytes = FIELDS_BYTES + max_upload_bytes * 4 // 3
        body = await read_bytes(request, max_bytes, advice)
        return await by_size(len(body), lambda: _split_json(body, upload_fields))
    if kind == MULTIPART:
        form = await read_form(request, FIELDS_BYTES + max_upload_bytes, advice=advice)
        return await _split_form(form, upload_fields)
    if kind == URLENCODED:
        form = await read_form(request, FIELDS_BYTES, advice="send less text")
        return await _split_form(form, upload_fields)
    raise BadField(
        "The body is neither multipart/form-data, application/x-www-form-urlencoded nor "
        f"application/json but {quoted(kind) if kind else 'of no declared type'}; set Content-Type."
    )


async def _split_form(
    form: FormData, upload_fields: tuple[str, ...]
) -> tuple[dict[str, Any], bytes]:
    values: dict[str, Any] = {}
    audio = b""
    try:
        for name, value in form.multi_items():
            if name in values or (name in upload_fields and audio):
                raise BadField(f"{quoted(name)} is given twice; send it once.")
            if name in upload_fields:
                audio = await _read_upload(name, value)
            elif isinstance(value, UploadFile):
                raise BadField(f"{quoted(name)} is sent as a file; send it as plain text.")
            else:
                values[name] = value
    finally:
        await form.close()
    return values, audio


async def _read_upload(name: str, value: UploadFile | str) -> bytes:
    if isinstance(value, UploadFile):
        audio = await value.read()
        if not audio and value.filename:
            raise BadReference(f"{name} is empty; send a {RECORDING_FORMATS} file.")
        return audio
    if value:
        raise BadField(f"{name} is sent as text; send it as a file (curl: -F {name}=@…).")
    return b""


def _split_json(body: bytes, upload_fields: tuple[str, ...]) -> tuple[dict[str, Any], bytes]:
    body = with_buffers_in_base64(body)
    values = read_object(body)
    sent = [name for name in upload_fields if values.get(name) not in (None, "")]
    encoded = [values.pop(name, None) for name in upload_fields]
    check_fields(len(body) - sum(len(each) for each in encoded if isinstance(each, str)))
    if not sent:
        return values, b""
    if len(sent) > 1:
        raise BadField(f"{' and '.join(sent)} are the same; send one of them.")
    try:
        audio = from_base64(next(each for each in encoded if each not in (None, "")))
    except ValueError:
        raise BadField(f"{sent[0]} in JSON must be the file in base64.") from None
    if not audio:
        raise BadReference(f"{sent[0]} is empty; send a {RECORDING_FORMATS} file.")
    return values, audio


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
