"""`/voices`: save a recording as a voice, list what is saved, rename it, delete it."""

from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from backend.api.dependencies import Asked, Backend, Origin, read_body, unless_hung_up
from backend.api.listing import Listing, of_voices
from backend.api.openapi import (
    FORMS,
    JSON,
    MULTIPART,
    Schema,
    errors,
    file_in,
    request_body,
)
from backend.api.schemas import UPLOAD_FIELD, LanguageName, parse
from backend.core import RECORDING_FORMATS, ReferenceCodes
from backend.errors import BadField
from backend.languages import one_language
from backend.smart_backend import SmartBackend
from backend.voices.store import Voice, VoiceStore
from backend.voices.threads import in_store
from backend.voices.voice import MAX_DESCRIPTION_CHARACTERS, MAX_TRANSCRIPT_CHARACTERS

router = APIRouter(prefix="/voices", tags=["voices"])

_UPLOAD_FIELDS = ("audio", UPLOAD_FIELD)
_DOCUMENTED = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
_FILE = f"A recording of the voice: {RECORDING_FORMATS}."


class NewVoice(BaseModel):
    """The fields of `POST /voices`, apart from the recording."""

    model_config = _DOCUMENTED

    name: str
    """1 to 64 letters and digits of one script, with spaces, `_`, `-` and `.` between them; upper
    and lower case are not told apart."""
    transcript: str = Field("", max_length=MAX_TRANSCRIPT_CHARACTERS)
    """What is said in the recording, if known."""
    prompt_text: str = Field("", max_length=MAX_TRANSCRIPT_CHARACTERS)
    """The same, as `POST /tts` calls it."""
    description: str = Field("", max_length=MAX_DESCRIPTION_CHARACTERS)
    """Anything worth noting."""
    language: LanguageName = ""
    """In which its texts are read where a request names no language; "auto" is none."""
    lang_code: LanguageName = ""
    """The same, as other servers call it."""


class VoiceChange(BaseModel):
    """The fields of `PATCH /voices/{name}`; what is not sent stays."""

    model_config = _DOCUMENTED

    name: str | None = None
    """What it is called from now on."""
    transcript: str | None = Field(None, max_length=MAX_TRANSCRIPT_CHARACTERS)
    """What is said in its recording; empty if unknown."""
    description: str | None = Field(None, max_length=MAX_DESCRIPTION_CHARACTERS)
    """Anything worth noting."""
    language: LanguageName | None = None
    """In which its texts are read; "auto" takes its language from it."""


class VoiceAnswer(BaseModel):
    """A saved voice."""

    model_config = ConfigDict(from_attributes=True, use_attribute_docstrings=True)

    id: str = Field(examples=["5f1c0b2a9d3e4f605f1c0b2a9d3e4f60"])
    """It outlasts a change of name."""
    name: str = Field(examples=["Anna"])
    transcript: str = Field(examples=["Good evening."])
    """What is said in the recording, empty if unknown."""
    description: str = Field(examples=[""])
    language: str = Field(examples=["de"])
    """In which its texts are read where a request names none, empty where it carries none."""
    audio_s: float = Field(examples=[12.5])
    """Seconds of the recording that are used."""
    frames: int = Field(examples=[293])
    """Code frames those were encoded to."""
    num_codebooks: int = Field(examples=[8])
    codec_id: str = Field(examples=["3c9a1f0e"])
    """The codec it was encoded by: a checkpoint with another cannot speak in it."""
    created_at: str = Field(examples=["2026-11-23T05:00:00.000000+00:00"])
    is_shipped: bool = Field(examples=[False])
    """It came with the checkpoint: it cannot be changed or deleted, only hidden by one of its
    name."""


class CreatedVoice(VoiceAnswer):
    """A voice that was just saved."""

    warnings: list[str] = Field([], examples=[[]])
    """What had to be done to the recording, and what makes it a poor voice."""


class VoiceList(BaseModel):
    """Every voice, the oldest first."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    voices: list[VoiceAnswer]
    damaged: list[str] = Field([], examples=[[]])
    """Ids of files that hold no voice any more; `DELETE /voices/{name}` removes one by its id."""


_LISTING = Listing(msgspec.json.encode)
CREATED: dict[str, Any] = {
    "description": "It is saved.",
    "headers": {
        "Location": {
            "description": "Where it is found.",
            "schema": {"type": "string"},
            "example": "/voices/5f1c0b2a9d3e4f605f1c0b2a9d3e4f60",
        }
    },
}
"""What the OpenAPI page says of a voice that was made."""


def _made_of(kind: str) -> Schema:
    """A new voice's fields and its recording, under either name."""
    schema = NewVoice.model_json_schema()
    both = {
        _UPLOAD_FIELDS[0]: file_in(kind, _FILE),
        _UPLOAD_FIELDS[1]: file_in(kind, "The same, as `POST /tts` calls it."),
    }
    return schema | {
        "properties": schema["properties"] | both,
        "oneOf": [{"required": [name]} for name in _UPLOAD_FIELDS],
    }


@router.post(
    "",
    status_code=201,
    responses={201: CREATED, **errors(409, 413, 422, 503, 504, 507)},
    openapi_extra=request_body(
        (MULTIPART, JSON),
        _made_of,
        {"name": "Anna", "transcript": "Good evening.", _UPLOAD_FIELDS[0]: "UklGRiQAAABX…"},
    ),
)
async def create_voice(
    request: Request, response: Response, backend: Backend, asked: Asked
) -> CreatedVoice:
    """Save the voice of a recording under a name.

    A name that is taken or that cannot be one is refused before anything is computed. What the
    voice says from then on is spoken with `voice`, in `POST /tts` and the other routes.
    """
    values, audio = await read_body(request, backend.settings.max_upload_bytes, _UPLOAD_FIELDS)
    sent = parse(NewVoice, values, (*NewVoice.model_fields, *_UPLOAD_FIELDS))
    if sent.transcript and sent.prompt_text:
        raise BadField("transcript and prompt_text are the same; send one of them.")
    if not audio:
        raise BadField(f"audio is missing; send a recording of the voice: {RECORDING_FORMATS}.")
    voice, codes = await unless_hung_up(
        request,
        save_voice(
            backend,
            asked,
            audio,
            name=sent.name,
            transcript=sent.transcript or sent.prompt_text,
            description=sent.description,
            language=one_language(sent.language, sent.lang_code),
        ),
    )
    response.headers["Location"] = f"{router.prefix}/{voice.id}"
    answer = VoiceAnswer.model_validate(voice)
    return CreatedVoice(**answer.model_dump(), warnings=list(codes.warnings))


async def save_voice(
    backend: SmartBackend,
    asked: Origin,
    audio: bytes,
    *,
    name: str,
    transcript: str,
    description: str,
    language: str = "auto",
) -> tuple[Voice, ReferenceCodes]:
    """A new voice of a recording, and the codes of that with what had to be done to it.

    `language` is one of `core.LANGUAGES`; "auto" gives it none.

    Raises `BadField`, `VoiceConflict` and `StorageFull`, for a name before anything is computed,
    and what encoding raises.
    """
    await in_store(backend.voices.check_name, name)
    codes = await backend.encode_voice(
        audio, asked.client, asked.request_id, asked.timeout_s, asked.arrived_s
    )
    kept = "" if language == "auto" else language
    voice = await in_store(backend.voices.create, name, codes, transcript, description, kept)
    return voice, codes


@router.get("", response_model=VoiceList, responses=errors(503))
async def list_voices(backend: Backend) -> Response:
    """Every voice, saved or shipped with the checkpoint, the oldest first."""
    return Response(
        await of_voices(backend.voices, lambda: _listed(backend.voices)), media_type=JSON
    )


def _listed(store: VoiceStore) -> bytes:
    voices, damaged = msgspec.Raw(_LISTING.of(store)), store.damaged()
    return msgspec.json.encode({"voices": voices, "damaged": damaged})


@router.get("/{name}", responses=errors(404, 503))
async def get_voice(name: str, backend: Backend) -> VoiceAnswer:
    """A voice, by name or id."""
    return VoiceAnswer.model_validate(await in_store(backend.voices.get, name))


@router.patch(
    "/{name}",
    responses=errors(404, 409, 413, 422, 507),
    openapi_extra=request_body((*FORMS, JSON), VoiceChange.model_json_schema(), {"name": "Anja"}),
)
async def change_voice(name: str, request: Request, backend: Backend) -> VoiceAnswer:
    """Rename a voice, or put right what is said of it."""
    values, _ = await read_body(request, 0, ())
    sent = parse(VoiceChange, values, tuple(VoiceChange.model_fields), keeps_empty=True)
    changes = sent.model_dump(exclude_none=True)
    if changes.get("language") == "auto":
        changes["language"] = ""
    if not changes:
        raise BadField(f"Nothing is to be changed; send {', '.join(VoiceChange.model_fields)}.")
    voice = await in_store(backend.voices.update, name, **changes)
    return VoiceAnswer.model_validate(voice)


@router.delete("/{name}", status_code=204, responses=errors(404, 409, 503, 507))
async def delete_voice(name: str, backend: Backend) -> None:
    """Delete a saved voice; what is being spoken in it is spoken to its end.

    A damaged one, as `GET /voices` lists it, is deleted by its id.
    """
    await in_store(backend.voices.delete, name)
