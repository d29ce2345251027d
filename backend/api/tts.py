"""`POST /tts`: text in, speech out."""

from typing import Any, get_args

from fastapi import APIRouter, Request, Response

from backend.api.answer import answer, answer_json
from backend.api.dependencies import Backend, SpeechBody
from backend.api.openapi import errors
from backend.api.schemas import UPLOAD_FIELD, DialogueLine, SpeechFields
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
    "sentences": [{"text": "Hello from Shoal.", "start_s": 0.0, "end_s": 1.25}],
    "audio": "UklGRv////9XQVZF…",
}


def _body_documentation() -> dict[str, Any]:
    """The body for the OpenAPI page: it is parsed by hand, so FastAPI cannot know it."""
    fields = SpeechFields.model_json_schema()
    # References into the schema lead nowhere from within the document.
    del fields["$defs"]
    fields["properties"]["dialogue"]["anyOf"][0]["items"] = DialogueLine.model_json_schema()

    def with_upload(upload: dict[str, str]) -> dict[str, Any]:
        upload |= {"description": f"A recording of the voice to speak in: {RECORDING_FORMATS}."}
        properties = fields["properties"] | {UPLOAD_FIELD: upload}
        return {"schema": fields | {"properties": properties}}

    return {
        "required": True,
        "content": {
            "multipart/form-data": with_upload({"type": "string", "format": "binary"})
            | {"example": _FORM_EXAMPLE},
            "application/x-www-form-urlencoded": {"schema": fields, "example": _FORM_EXAMPLE},
            "application/json": with_upload({"type": "string", "contentEncoding": "base64"})
            | {"example": _JSON_EXAMPLE},
        },
    }


_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The speech, or with `timestamps` JSON of it.",
        "content": {
            **{media_type(name): {} for name in get_args(AudioFormat)},
            "application/json": {"example": _TIMESTAMPS_EXAMPLE},
        },
    },
    **errors(400, 404, 409, 413, 422, 500, 503, 504),
}


@router.post(
    "/tts",
    response_class=Response,
    responses=_RESPONSES,
    openapi_extra={"requestBody": _body_documentation()},
)
async def tts(request: Request, backend: Backend, order: SpeechBody) -> Response:
    """Speak `text`: in a saved voice, in that of `speaker_file`, or in the default voice."""
    fields = order.fields
    if fields.timestamps:
        return await answer_json(request, backend, order.speech, fields.output, fields.subtitles)
    return await answer(request, backend, order.speech, fields.output)
