"""What clients of Fish Audio and of the Fish server call: speech, health, account; and the rest."""

from dataclasses import replace
from typing import Any, get_args

from fastapi import APIRouter, Request, Response

from backend.api.answer import answer
from backend.api.arrival import FIELDS_BYTES, read_bytes
from backend.api.bulk import by_size
from backend.api.dependencies import Asked, Backend, Origin
from backend.api.fish import live, references, voices
from backend.api.fish.body import (
    FishSpeech,
    Wanted,
    decode,
    kind_of,
    speech_schema,
    wanted,
    wire_of,
)
from backend.api.fish.form import read_fields, read_speech_form
from backend.api.headers import add_warnings
from backend.api.openapi import (
    JSON,
    MSGPACK,
    MULTIPART,
    errors,
    example,
    request_body,
)
from backend.api.voice_names import saved_voice
from backend.audio.write import media_type
from backend.core import AudioFormat
from backend.settings import Settings

router = APIRouter(tags=["fish"])
router.include_router(live.router)
router.include_router(voices.router)
router.include_router(references.router)

_UNLIMITED = 1_000_000_000
"""A great number where clients expect what is left to spend: nothing is counted here."""
_ACCOUNT = {
    "_id": "self",
    "user_id": "self",
    "created_at": "1970-01-01T00:00:00Z",
    "updated_at": "1970-01-01T00:00:00Z",
}
_CREDIT = _ACCOUNT | {"credit": str(_UNLIMITED), "has_free_credit": True}
_PACKAGE = _ACCOUNT | {
    "type": "self-hosted",
    "total": _UNLIMITED,
    "balance": _UNLIMITED,
    "finished_at": "",
}
_EXAMPLE = {"text": "Hello from Shoal.", "format": "mp3", "reference_id": "anna", "seed": 7}
_AUDIO = {
    media_type(kind): {"schema": {"type": "string", "format": "binary"}}
    for kind in get_args(AudioFormat)
}


@router.post(
    "/v1/tts",
    response_class=Response,
    responses={
        200: {"description": "The speech, whole or as it is made.", "content": _AUDIO},
        **errors(400, 404, 409, 413, 422, 503, 504),
    },
    openapi_extra=request_body((JSON, MSGPACK, MULTIPART), speech_schema(), _EXAMPLE),
)
async def speak(request: Request, backend: Backend, origin: Asked) -> Response:
    """Speak `text`, as the Fish Audio service and the Fish server do.

    Text past this machine's limit is spoken in pieces. `chunk_length`, `latency`, `mp3_bitrate`,
    `max_new_tokens` and further fields of those servers are accepted and change nothing.
    """
    asked = await _read(request, backend.settings, origin)
    warnings = list(asked.warnings)
    voice = await saved_voice(backend, asked.speech.voice, warnings)
    speech = replace(asked.speech, voice=voice)
    response = await answer(request, backend, speech, asked.output)
    add_warnings(response, warnings)
    return response


async def _read(request: Request, settings: Settings, origin: Origin) -> Wanted:
    upload_bytes = settings.max_upload_bytes
    if kind_of(request.headers) == MULTIPART:
        form = await read_speech_form(request, upload_bytes)
        return await by_size(
            len(form), lambda: wanted(read_fields(form), "msgpack", request.headers, origin)
        )
    wire = wire_of(request.headers)
    # Base64 takes four bytes for three.
    most_bytes = FIELDS_BYTES + (upload_bytes * 4 // 3 if wire == "json" else upload_bytes)
    body = await read_bytes(request, most_bytes)

    def understood() -> Wanted:
        fields = decode(body, wire, FishSpeech)
        return wanted(fields, wire, request.headers, origin)

    return await by_size(len(body), understood)


@router.post("/v1/health", responses=example({"status": "ok"}, "The server lives."))
@router.get("/v1/health", responses=example({"status": "ok"}, "The server lives."))
async def health() -> dict[str, str]:
    """Whether the server lives; `GET /health/ready` says whether it can speak."""
    return {"status": "ok"}


@router.get(
    "/wallet/self/api-credit",
    responses=example(_CREDIT, "As much as one likes: this server is yours."),
)
async def credit() -> dict[str, Any]:
    """What is left to spend."""
    return _CREDIT


@router.get(
    "/wallet/self/package",
    responses=example(_PACKAGE, "Nothing was paid for, and it does not run out."),
)
async def package() -> dict[str, Any]:
    """What was paid for."""
    return _PACKAGE
