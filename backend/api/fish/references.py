"""`/v1/references/…`: saved voices, as clients of the Fish server keep them by name."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from msgspec import Meta

from backend.api.arrival import read_bytes
from backend.api.dependencies import Asked, Backend, read_body, unless_hung_up
from backend.api.fish.body import decode, wire_of
from backend.api.fish.voices import naming
from backend.api.headers import add_warnings
from backend.api.listing import of_voices
from backend.api.openapi import (
    JSON,
    MSGPACK,
    MULTIPART,
    Responses,
    Schema,
    errors,
    file_in,
    request_body,
)
from backend.api.voices import save_voice
from backend.errors import BadField
from backend.languages import one_language
from backend.voices.threads import in_store

router = APIRouter(prefix="/v1/references")

_KINDS = (JSON, MSGPACK)
_BODY_BYTES = 64 * 1024
_Name = Annotated[str, Meta(min_length=1, max_length=256)]


class _Deletion(msgspec.Struct, frozen=True):
    reference_id: _Name


class _Renaming(msgspec.Struct, frozen=True):
    old_reference_id: _Name
    new_reference_id: _Name


def _answers(value: dict[str, Any]) -> Responses:
    content = {kind: {"schema": _schema(value), "example": value} for kind in _KINDS}
    description = "msgpack, or JSON for `?format=json` or where `Accept` has JSON alone."
    return {200: {"description": description, "content": content}}


def _schema(value: dict[str, Any]) -> dict[str, Any]:
    kinds = {str: "string", bool: "boolean"}
    properties = {
        name: {"type": kinds[type(each)]}
        if type(each) in kinds
        else {"type": "array", "items": {"type": "string"}}
        for name, each in value.items()
    }
    return {"type": "object", "properties": properties, "required": list(value)}


def _body(example: dict[str, str]) -> dict[str, Any]:
    schema = _schema(example)
    for field in schema["properties"].values():
        field["minLength"] = 1
    return request_body(_KINDS, schema, example)


_DONE = {"success": True, "message": "Done.", "reference_id": "anna"}
_LISTED = {"success": True, "reference_ids": ["anna"], "message": "1 voice is saved."}
_RENAMED = {
    "success": True,
    "message": "It is called anja now.",
    "old_reference_id": "anna",
    "new_reference_id": "anja",
}


def _new(kind: str) -> Schema:
    return {
        "type": "object",
        "required": ["id", "audio"],
        "properties": {
            "id": {"type": "string", "minLength": 1, "description": "What the voice is called."},
            "audio": file_in(kind),
            "text": {"type": ["string", "null"], "description": "What is said in it."},
            "language": {
                "type": ["string", "null"],
                "description": "In which its texts are read where a request names none.",
            },
        },
    }


def _new_example(kind: str) -> dict[str, str]:
    sent = {"id": "anna", "text": "Good morning."}
    return sent | {"audio": "UklGRiQAAABXQVZF"} if kind == JSON else sent


@router.post(
    "/add",
    response_class=Response,
    responses=_answers(_DONE) | errors(409, 413, 422, 503, 504, 507),
    openapi_extra=request_body((MULTIPART, JSON), _new, _new_example),
)
async def add(request: Request, backend: Backend, origin: Asked) -> Response:
    """Save a voice, made of a recording."""
    fields, audio = await read_body(
        request, backend.settings.max_upload_bytes, upload_fields=("audio",)
    )
    name, transcript, language = fields.get("id"), fields.get("text"), fields.get("language")
    transcript = "" if transcript is None else transcript
    if not isinstance(name, str) or not isinstance(transcript, str):
        raise BadField("id and text are plain text, and id is needed; send both as such.")
    if not isinstance(language, str | None):
        raise BadField("language is plain text; send it as such.")
    if not audio:
        raise BadField("audio is missing; send a recording of the voice as a file.")
    with naming("id"):
        voice, codes = await unless_hung_up(
            request,
            save_voice(
                *(backend, origin, audio),
                name=name,
                transcript=transcript,
                description="",
                language=one_language(language or "", ""),
            ),
        )
    said = {"success": True, "message": f"{voice.name} is saved.", "reference_id": voice.name}
    response = _answer(request, said)
    add_warnings(response, codes.warnings)
    return response


@router.get("/list", response_class=Response, responses=_answers(_LISTED) | errors(503))
async def list_references(request: Request, backend: Backend) -> Response:
    """The names of the saved voices."""

    def listed() -> Response:
        names = [voice.name for voice in backend.voices.list()]
        message = f"{len(names)} {'voice is' if len(names) == 1 else 'voices are'} saved."
        return _answer(request, {"success": True, "reference_ids": names, "message": message})

    return await of_voices(backend.voices, listed)


@router.delete(
    "/delete",
    response_class=Response,
    responses=_answers(_DONE) | errors(404, 409, 413, 422, 507),
    openapi_extra=_body({"reference_id": "anna"}),
)
async def delete(request: Request, backend: Backend) -> Response:
    """Delete a voice, by name or id."""
    asked: _Deletion = await _read(request, _Deletion)
    name = asked.reference_id
    await in_store(backend.voices.delete, name)
    return _answer(
        request, {"success": True, "message": f"{name} is deleted.", "reference_id": name}
    )


@router.post(
    "/update",
    response_class=Response,
    responses=_answers(_RENAMED) | errors(404, 409, 413, 422, 507),
    openapi_extra=_body({"old_reference_id": "anna", "new_reference_id": "anja"}),
)
async def update(request: Request, backend: Backend) -> Response:
    """Give a voice another name."""
    asked: _Renaming = await _read(request, _Renaming)
    old, new = asked.old_reference_id, asked.new_reference_id
    with naming("new_reference_id"):
        voice = await in_store(backend.voices.update, old, name=new)
    message = f"It is called {voice.name} now."
    return _answer(
        request,
        {
            "success": True,
            "message": message,
            "old_reference_id": old,
            "new_reference_id": voice.name,
        },
    )


async def _read(request: Request, kind: Any) -> Any:
    wire = wire_of(request.headers)
    return decode(await read_bytes(request, _BODY_BYTES), wire, kind)


def _answer(request: Request, said: dict[str, Any]) -> Response:
    """`said` as the Fish server would say it: its clients rely on msgpack where they ask for
    nothing."""
    wanted = request.query_params.get("format", "").strip().lower()
    accepted = request.headers.get("accept", "").lower()
    is_json = JSON in accepted and MSGPACK not in accepted
    if wanted in ("json", JSON) or (wanted not in ("msgpack", MSGPACK) and is_json):
        return JSONResponse(said)
    return Response(msgspec.msgpack.encode(said), media_type=MSGPACK)
