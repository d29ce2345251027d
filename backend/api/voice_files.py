"""A saved voice to hear and to take along: `/voices/{name}/audio`, its export and its import."""

import asyncio
import io
from contextlib import closing
from typing import Annotated, get_args
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from starlette.datastructures import FormData, UploadFile

from backend.api import voices
from backend.api.arrival import read_form
from backend.api.dependencies import Asked, Backend, unless_hung_up
from backend.api.openapi import (
    MULTIPART,
    Responses,
    errors,
    file_in,
    request_body,
)
from backend.api.voices import CreatedVoice, VoiceAnswer
from backend.audio.write import AudioWriter, media_type
from backend.core import AudioFormat, AudioOutput, EngineInfo
from backend.errors import BadField, UploadTooLarge, quoted
from backend.voices.threads import in_store
from backend.voices.voice import MAX_FILE_BYTES, Voice

router = APIRouter(prefix=voices.router.prefix, tags=["voices"])

_FRESH_S = 60
"""How long a browser may play a sample again without asking: its name may become another's."""
_BINARY = "application/octet-stream"
_FILE, _NAME = "file", "name"
_FORM_BYTES = 64 * 1024
"""Of a form beside the file."""
_ADVICE = f"send what GET /voices/{{name}}/export answers, which is at most {MAX_FILE_BYTES} bytes"
_SENT = {"schema": {"type": "string", "format": "binary"}}
_AUDIO: Responses = {
    200: {
        "description": "The first ten seconds of the voice, or all of it.",
        "content": {media_type(name): _SENT for name in get_args(AudioFormat)},
    }
}
_EXPORTED: Responses = {
    200: {
        "description": "The voice's file.",
        "content": {_BINARY: _SENT},
        "headers": {
            "Content-Disposition": {
                "description": "Names the file after the voice.",
                "schema": {"type": "string"},
                "example": "attachment; filename=\"Anna.voice\"; filename*=UTF-8''Anna.voice",
            }
        },
    }
}
_IMPORT = request_body(
    (MULTIPART,),
    {
        "type": "object",
        "required": [_FILE],
        "additionalProperties": False,
        "properties": {
            _FILE: file_in(MULTIPART, "What `GET /voices/{name}/export` answered."),
            _NAME: {
                "type": "string",
                "description": "What it is called here; without it, as it was there.",
            },
        },
    },
    {_FILE: "c2hvYWwB…", _NAME: "Anna"},
)


@router.get(
    "/{name}/audio",
    response_class=Response,
    responses={**_AUDIO, **errors(404, 409, 503, 504, 507)},
)
async def hear_voice(
    name: str,
    request: Request,
    backend: Backend,
    asked: Asked,
    response_format: Annotated[
        AudioFormat, Query(description="How the audio is sent, as in `POST /tts`.")
    ] = "wav",
) -> Response:
    """A sample of a saved voice, by name or id: its recording as the codec kept it.

    At most ten seconds. It waits its turn as speech does.
    """
    samples, rate_hz = await unless_hung_up(
        request,
        backend.decode_voice(name, asked.client, asked.request_id, asked.timeout_s),
    )
    audio, media = await asyncio.to_thread(_encoded, samples, rate_hz, response_format)
    headers = {"Cache-Control": f"private, max-age={_FRESH_S}"}
    return Response(audio, media_type=media, headers=headers)


@router.get(
    "/{name}/export",
    response_class=Response,
    responses={**_EXPORTED, **errors(404, 503, 507)},
)
async def export_voice(name: str, backend: Backend) -> Response:
    """A saved voice as one file, by name or id, for `POST /voices/import`."""
    voice, data = await in_store(backend.voices.export_file, name)
    headers = {"Content-Disposition": _attachment(voice.name)}
    return Response(data, media_type=_BINARY, headers=headers)


# `POST /voices/{name}` does not exist, and so a voice called "import" is found as any other.
@router.post(
    "/import",
    status_code=201,
    responses={201: voices.CREATED, **errors(409, 413, 422, 507)},
    openapi_extra=_IMPORT,
)
async def import_voice(request: Request, response: Response, backend: Backend) -> CreatedVoice:
    """Save a voice from the file that it was exported to, here or on another server.

    It gets an id of its own. One that was made under another codec than that of the loaded
    checkpoint is saved all the same, and `warnings` says so.
    """
    form = await read_form(request, MAX_FILE_BYTES + _FORM_BYTES, advice=_ADVICE)
    try:
        data, name = await _read_import(form)
    finally:
        await form.close()
    voice = await in_store(backend.voices.import_file, data, name)
    response.headers["Location"] = f"{router.prefix}/{voice.id}"
    answer = VoiceAnswer.model_validate(voice)
    return CreatedVoice(**answer.model_dump(), warnings=_doubts(voice, backend.info))


async def _read_import(form: FormData) -> tuple[bytes, str]:
    """The file, and the name that the voice is to bear, "" for its own."""
    given = form.multi_items()
    for field, _ in given:
        if field not in (_FILE, _NAME):
            raise BadField(f"Unknown field {quoted(field)}; the fields are {_FILE}, {_NAME}.")
    names = [field for field, _ in given]
    if len(set(names)) < len(names):
        raise BadField(f"{_FILE} and {_NAME} may be sent once each.")
    upload, name = form.get(_FILE), form.get(_NAME, "")
    if not isinstance(upload, UploadFile):
        raise BadField(f"{_FILE} is missing, or no file; {_ADVICE} (curl: -F {_FILE}=@…).")
    if isinstance(name, UploadFile):
        raise BadField(f"{_NAME} is sent as a file; send it as plain text.")
    if (upload.size or 0) > MAX_FILE_BYTES:
        raise UploadTooLarge(f"{_FILE} is larger than any voice; {_ADVICE}.")
    return await upload.read(), name


def _doubts(voice: Voice, info: EngineInfo | None) -> list[str]:
    """Why the voice may not be spoken in."""
    if info is None:
        return ["the worker is not ready, so whether the checkpoint knows its codec is not known"]
    if info.codec_id != voice.codec_id:
        return [
            f"{voice.name} was made under a checkpoint with another codec; {info.checkpoint}, "
            "which is loaded, cannot speak in it"
        ]
    return []


def _encoded(samples: bytes, rate_hz: int, audio_format: AudioFormat) -> tuple[bytes, str]:
    """The samples in that format, and its media type."""
    file = io.BytesIO()
    with closing(AudioWriter(file, AudioOutput(audio_format), rate_hz)) as writer:
        writer.write(samples)
    return file.getvalue(), writer.media_type


def _attachment(name: str) -> str:
    """`Content-Disposition` for the file of the voice `name`, which may be in any script."""
    ascii_name = "".join(c if c.isascii() else "_" for c in name)
    encoded = quote(f"{name}.voice", safe="")
    return f"attachment; filename=\"{ascii_name}.voice\"; filename*=UTF-8''{encoded}"
