"""`POST /tts`: text in, speech out; and `GET /tts`, the same by a link, where that is let."""

from collections.abc import Callable
from typing import Any, get_args

from fastapi import APIRouter, Request, Response

from backend.api.answer import answer, answer_json, media_of
from backend.api.dependencies import Backend, SpeechBody, SpeechLink
from backend.api.events import answer_events
from backend.api.examples import EVENTS
from backend.api.headers import STREAMED
from backend.api.openapi import (
    FORMS,
    JSON,
    URLENCODED,
    Schema,
    errors,
    event_stream,
    file_in,
    request_body,
)
from backend.api.paths import GET_SPEECH
from backend.api.schemas import (
    UPLOAD_FIELD,
    DialogueLine,
    SpeechFields,
    link_parameters,
    schema_of,
)
from backend.audio.write import media_type
from backend.core import RECORDING_FORMATS, AudioFormat

router = APIRouter(tags=["speech"])


_FORM_EXAMPLE = {"text": "Hello from Shoal.", "response_format": "mp3", "speed": 1.1}
_JSON_EXAMPLE = {
    "dialogue": [
        {"voice": "Anna", "text": "Is it raining?"},
        {"voice": "Ben", "text": "Not any more."},
    ],
    "seed": 7,
}
_TIMESTAMPS_EXAMPLE = {
    "format": "wav",
    "media_type": "audio/wav",
    "duration_s": 1.25,
    "text": "Hello from Shoal.",
    "sentences": [{"text": "Hello from Shoal.", "start_s": 0.0, "end_s": 1.25}],
    "audio": "UklGRv////9XQVZF…",
}


def _schema() -> Callable[[str], Schema]:
    fields = schema_of(SpeechFields)
    # References into the schema lead nowhere from within the document.
    del fields["$defs"]
    fields["properties"]["dialogue"]["anyOf"][0]["items"] = DialogueLine.model_json_schema()

    def of(kind: str) -> Schema:
        if kind == URLENCODED:
            return fields
        upload = file_in(kind, f"A recording of the voice to speak in: {RECORDING_FORMATS}.")
        return fields | {"properties": fields["properties"] | {UPLOAD_FIELD: upload}}

    return of


def _example(kind: str) -> dict[str, Any]:
    return _JSON_EXAMPLE if kind == JSON else _FORM_EXAMPLE


_AUDIO: dict[str, Any] = {media_type(name): {} for name in get_args(AudioFormat)}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The speech; with `timestamps` JSON of it, with `stream=events` events.",
        "content": {
            **_AUDIO,
            JSON: {"example": _TIMESTAMPS_EXAMPLE},
            **event_stream(EVENTS, is_named=True),
        },
    },
    **errors(400, 404, 409, 413, 422, 500, 503, 504),
}


@router.post(
    GET_SPEECH,
    response_class=Response,
    responses=_RESPONSES,
    openapi_extra=request_body((*FORMS, JSON), _schema(), _example),
)
async def tts(request: Request, backend: Backend, order: SpeechBody) -> Response:
    """Speak `text`: in a saved voice, in that of `speaker_file`, or in the default voice."""
    fields = order.fields
    if fields.stream == "events":
        return await answer_events(request, backend, order.speech, fields.output)
    if fields.timestamps:
        return await answer_json(request, backend, order.speech, fields.output, fields.subtitles)
    return await answer(request, backend, order.speech, fields.output)


by_link = APIRouter(tags=["speech"])


@by_link.get(
    GET_SPEECH,
    response_class=Response,
    responses={
        200: {"description": "The speech.", "content": _AUDIO},
        **errors(400, 404, 409, 413, 422, 500, 503, 504),
    },
    openapi_extra={"parameters": link_parameters()},
)
async def tts_by_link(request: Request, backend: Backend, order: SpeechLink) -> Response:
    """Speak the `text` of a link, for players that can do no more than open one.

    Audio is sent as it is made, unless `stream` is false.
    """
    if getattr(request.state, "is_head", False):
        media = media_of(backend.worker.loaded(), order.fields.output)
        return Response(media_type=media, headers=STREAMED if order.speech.is_streamed else None)
    return await answer(request, backend, order.speech, order.fields.output)
