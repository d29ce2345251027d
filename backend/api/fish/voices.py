"""`/model…`: saved voices, as clients of Fish Audio make, list, change and delete them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.datastructures import FormData, UploadFile

from backend.api.arrival import FIELDS_BYTES, read_form
from backend.api.dependencies import Asked, Backend, unless_hung_up
from backend.api.headers import add_warnings
from backend.api.listing import of_voices
from backend.api.openapi import (
    FORMS,
    JSON,
    MULTIPART,
    errors,
    request_body,
)
from backend.api.voices import save_voice
from backend.core import RECORDING_FORMATS
from backend.errors import BadField, BadReference, UploadTooLarge
from backend.languages import one_language
from backend.voices.store import Voice
from backend.voices.threads import in_store

router = APIRouter(prefix="/model")

_MAX_RECORDINGS = 8
_NOT_KEPT = ("tags", "cover_image")
_TEXT = {"type": "string"}
_FILE = {"type": "string", "format": "binary"}
_CHANGES = {
    "title": _TEXT | {"minLength": 1, "description": "What the voice is called."},
    "description": _TEXT,
    "tags": {"type": "array", "items": _TEXT, "description": "Accepted, not kept."},
    "cover_image": _FILE | {"description": "Accepted, not kept."},
    "language": _TEXT
    | {"description": "In which its texts are read where a request names none; auto is none."},
}


class FishAuthor(BaseModel):
    """Whose voice it is."""

    id: str = Field("self", serialization_alias="_id")
    nickname: str = ""
    avatar: str = ""


class FishModel(BaseModel):
    """A voice in the words of Fish Audio. What this server does not know of it is empty or 0."""

    id: str = Field(serialization_alias="_id", examples=["5f1c0b2a9d3e4f605f1c0b2a9d3e4f60"])
    type: Literal["tts"] = "tts"
    title: str = Field(examples=["anna"])
    description: str
    cover_image: str = ""
    train_mode: Literal["fast"] = "fast"
    state: Literal["trained"] = "trained"
    tags: list[str] = []
    samples: list[dict[str, str]] = []
    created_at: str = Field(examples=["2026-11-23T05:00:00.000000+00:00"])
    updated_at: str = Field(examples=["2026-11-23T05:00:00.000000+00:00"])
    languages: list[str] = []
    visibility: Literal["private"] = "private"
    lock_visibility: bool = True
    like_count: int = 0
    mark_count: int = 0
    shared_count: int = 0
    task_count: int = 0
    liked: bool = False
    marked: bool = False
    author: FishAuthor = FishAuthor()


class FishModels(BaseModel):
    """One page of voices."""

    total: int = Field(description="Voices on all pages.", examples=[1])
    items: list[FishModel]


@router.get("", response_model=FishModels, responses=errors(422, 503))
async def list_models(
    backend: Backend,
    page_size: Annotated[int, Query(ge=1, le=1000)] = 10,
    page_number: Annotated[int, Query(ge=1, le=100_000)] = 1,
    title: Annotated[str, Query(max_length=256, description="Part of the title.")] = "",
    tag: Annotated[
        list[str], Query(description="No voice here has tags, so none has these.", max_length=100)
    ] = [],  # noqa: B006 # FastAPI copies it
) -> Response:
    """The voices, saved or shipped with the checkpoint, the newest first.

    `self`, `author_id`, `language`, `title_language` and `sort_by` change nothing.
    """

    def listed() -> str:
        wanted = title.casefold()
        voices = () if tag else reversed(backend.voices.list())
        found = [voice for voice in voices if wanted in voice.name.casefold()]
        page = found[(page_number - 1) * page_size :][:page_size]
        models = FishModels(total=len(found), items=[_model(voice) for voice in page])
        return models.model_dump_json(by_alias=True)

    return Response(await of_voices(backend.voices, listed), media_type=JSON)


@router.post(
    "",
    status_code=201,
    responses=errors(409, 413, 422, 503, 504, 507),
    openapi_extra=request_body(
        (MULTIPART,),
        {
            "type": "object",
            "required": ["title", "voices"],
            "properties": _CHANGES
            | {
                "voices": {
                    "type": "array",
                    "items": _FILE,
                    "minItems": 1,
                    "maxItems": _MAX_RECORDINGS,
                    "description": "Recordings of it; the first is used.",
                },
                "texts": {
                    "type": "array",
                    "items": _TEXT,
                    "description": "What is said in them.",
                },
            },
        },
        {"title": "anna", "texts": ["Good morning."]},
    ),
)
async def create_model(
    request: Request, response: Response, backend: Backend, origin: Asked
) -> FishModel:
    """Save a voice, made of a recording.

    `visibility`, `type`, `train_mode` and `enhance_audio_quality` change nothing.
    """
    most_bytes = backend.settings.max_upload_bytes
    form = await read_form(request, FIELDS_BYTES + 4 * most_bytes, _MAX_RECORDINGS + 1)
    try:
        title, texts = _text(form, "title"), [t for t in form.getlist("texts") if _is_text(t)]
        audio = await _first_recording(form, most_bytes)
        description, warnings = _text(form, "description"), _not_kept(form)
        language = one_language(_text(form, "language") or "", "")
        recordings = len(form.getlist("voices"))
    finally:
        await form.close()
    if recordings > 1:
        warnings.append(f"one voice is made of one recording: the first of {recordings} was used")
    with naming("title"):
        voice, codes = await unless_hung_up(
            request,
            save_voice(
                backend,
                origin,
                audio,
                name=title or "",
                transcript=str(texts[0]) if texts else "",
                description=description or "",
                language=language,
            ),
        )
    add_warnings(response, [*warnings, *codes.warnings])
    return _model(voice)


@router.get("/{model_id}", responses=errors(404, 503))
async def get_model(backend: Backend, model_id: str) -> FishModel:
    """One voice, by id or name."""
    return _model(await in_store(backend.voices.get, model_id))


@router.patch(
    "/{model_id}",
    responses=errors(404, 409, 413, 422, 507),
    openapi_extra=request_body(
        FORMS,
        {"type": "object", "properties": _CHANGES},
        {"title": "anna"},
        is_required=False,
    ),
)
async def update_model(
    request: Request, response: Response, backend: Backend, model_id: str
) -> FishModel:
    """Change a voice's title, description or language.

    What is not sent stays. `visibility` is always private.
    """
    form = await read_form(request, FIELDS_BYTES + backend.settings.max_upload_bytes, 1)
    try:
        title, description = _text(form, "title"), _text(form, "description")
        language, warnings = _text(form, "language"), _not_kept(form)
    finally:
        await form.close()
    with naming("title"):
        voice = await in_store(
            backend.voices.update,
            model_id,
            name=title,
            description=description,
            language=None if language is None else _kept(one_language(language, "")),
        )
    add_warnings(response, warnings)
    return _model(voice)


@router.delete("/{model_id}", status_code=204, responses=errors(404, 409, 503, 507))
async def delete_model(backend: Backend, model_id: str) -> None:
    """Delete a voice, by id or name."""
    await in_store(backend.voices.delete, model_id)


@contextmanager
def naming(field: str) -> Iterator[None]:
    """Let a `BadField` about the name of a voice tell the field that it was sent in."""
    try:
        yield
    except BadField as error:
        raise BadField(f"{field}: {error}") from None


async def _first_recording(form: FormData, most_bytes: int) -> bytes:
    recordings = form.getlist("voices")
    if not recordings:
        raise BadField("voices is missing; send a recording of the voice as a file.")
    first = recordings[0]
    if not isinstance(first, UploadFile):
        raise BadField("voices is sent as text; send the recording as a file.")
    if (first.size or 0) > most_bytes:
        raise UploadTooLarge(f"voices is larger than {most_bytes} bytes; shorten it.")
    audio = await first.read()
    if not audio:
        raise BadReference(f"voices is empty; send a {RECORDING_FORMATS} file.")
    return audio


def _text(form: FormData, name: str) -> str | None:
    """A field of text, None if it is not sent."""
    value = form.get(name)
    if isinstance(value, UploadFile):
        raise BadField(f"{name} is sent as a file; send it as plain text.")
    return value


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _not_kept(form: FormData) -> list[str]:
    return [f"{name} is not kept" for name in _NOT_KEPT if form.get(name)]


def _model(voice: Voice) -> FishModel:
    return FishModel(
        id=voice.id,
        title=voice.name,
        description=voice.description,
        created_at=voice.created_at,
        updated_at=voice.created_at,
        languages=[voice.language] if voice.language else [],
    )


def _kept(language: str) -> str:
    """As a voice carries it."""
    return "" if language == "auto" else language
