"""What OpenAI's clients call: `POST /v1/audio/speech`, the voices and the models."""

import base64
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import datetime
from typing import Any, get_args

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from backend.api.answer import Events, answer
from backend.api.arrival import FIELDS_BYTES, read_bytes
from backend.api.bulk import by_size
from backend.api.dependencies import Asked, Backend
from backend.api.headers import add_warnings
from backend.api.listing import Listing, of_voices
from backend.api.openai.body import (
    BUILT_IN_VOICES,
    DEFAULT_VOICE,
    BadBody,
    OpenAISpeech,
    error_body,
    parse_speech,
    speech_schema,
)
from backend.api.openapi import JSON, Responses, errors, event_stream, example
from backend.api.sse import event
from backend.api.status import status_of
from backend.api.voice_names import saved_voice
from backend.audio.write import media_type
from backend.core import AudioFormat, AudioOutput, SpeechRequest
from backend.errors import ShoalError, quoted
from backend.languages import one_language
from backend.serving.session import SpeechSession
from backend.smart_backend import SmartBackend
from backend.voices.store import Voice, VoiceStore

router = APIRouter(prefix="/v1", tags=["openai"])

MODELS = ("fish", "tts-1", "tts-1-hd", "gpt-4o-mini-tts")
"""Names that clients are configured with; the checkpoint that is loaded speaks for each."""

_PCM_HZ = 24_000
"""What OpenAI's clients play pcm at; nothing tells them another rate."""
_WITHOUT_LENGTH = ("pcm", "mp3", "opus")
"""Formats whose length readers find otherwise than in a header."""
_HOW_OPENAI_READS = "X-Stainless-Raw-Response"
"""Header of OpenAI's Python client: "stream" where its user called `with_streaming_response`."""
_STARTED_S = int(time.time())

_EXAMPLE = {"model": "fish", "input": "Hello from Shoal.", "voice": "alloy"}
_EVENTS = {"voice": {"id": "ann"}, "response_format": "pcm", "stream_format": "sse"}
_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        JSON: {
            "schema": speech_schema(),
            "examples": {
                "audio": {"summary": "An mp3 file", "value": _EXAMPLE},
                "events": {
                    "summary": "Events with pieces of pcm, in a saved voice",
                    "value": _EXAMPLE | _EVENTS,
                },
            },
        }
    },
}
_SPOKEN_EVENTS = (
    {"type": "speech.audio.delta", "audio": "SUQzBA=="},
    {
        "type": "speech.audio.done",
        "usage": {"input_tokens": 24, "output_tokens": 57, "total_tokens": 81},
        "text": "Hello from Shoal.",
    },
)
_SPOKEN: Responses = {
    200: {
        "description": "The audio, whole or as it is made, or events with pieces of it.",
        "content": {
            **{
                media_type(each): {"schema": {"type": "string", "format": "binary"}}
                for each in get_args(AudioFormat)
            },
            **event_stream(_SPOKEN_EVENTS, is_named=False),
        },
    }
}
_MODEL_EXAMPLE = {"id": "fish", "object": "model", "created": 1_790_000_000, "owned_by": "shoal"}
_SPEAKS_EXAMPLE = {
    "task": "text-to-speech",
    "language": ["en"],
    "sample_rate": 24_000,
    "voices": [{"name": "ann"}, {"name": "default"}, {"name": "alloy"}],
}
_VOICE_EXAMPLE = {
    "id": "0123456789abcdef0123456789abcdef",
    "object": "audio.voice",
    "name": "ann",
    "created_at": 1_790_000_000,
    "type": "audio_sample",
    "language": "de",
    "is_shipped": False,
}


@router.post(
    "/audio/speech",
    response_class=Response,
    responses=_SPOKEN | errors(400, 404, 409, 413, 503, 504),
    openapi_extra={"requestBody": _BODY},
)
async def speech(request: Request, backend: Backend, asked: Asked) -> Response:
    """Speak `input`, as OpenAI's speech API does.

    mp3, opus and pcm are sent as they are made; wav, flac and aac are whole files with their length
    in their header, unless `stream`, `stream_format` or openai's `with_streaming_response` ask for
    them as they are made. Fields that are not known are
    ignored, and named in `X-Warning`. Long text is split.
    """
    try:
        body = await read_bytes(request, FIELDS_BYTES, "send less text")
        most_characters = backend.settings.max_text_characters
        fields, told = await by_size(len(body), lambda: parse_speech(body, most_characters))
    except BadBody as error:
        return _refused(400, str(error), error.code, error.param)
    warnings = list(told)
    wanted = SpeechRequest(
        request_id=asked.request_id,
        text=fields.input,
        language=one_language(fields.language, fields.lang_code),
        sampling=fields.sampling,
        voice=await saved_voice(backend, fields.voice, warnings),
        long_text=fields.long_text,
        normalize=fields.normalize,
        speed=fields.speed,
        is_streamed=_is_streamed(fields, request),
        is_silence_taken=True,
        timeout_s=asked.timeout_s,
        arrived_s=asked.arrived_s,
        client=asked.client,
        trace_parent=asked.trace_parent,
    )
    rate_hz = fields.sample_rate or (_PCM_HZ if fields.response_format == "pcm" else None)
    output = AudioOutput(fields.response_format, rate_hz, fields.speed)
    events = Events(_events, _failed) if fields.stream_format == "sse" else None
    response = await answer(request, backend, wanted, output, events=events)
    add_warnings(response, warnings)
    return response


def _is_streamed(fields: OpenAISpeech, request: Request) -> bool:
    """Whether audio is sent as it is made: where it was asked for, and in the formats that have no
    place for a length, so that nobody waits for one."""
    if fields.stream_format == "sse":
        return True
    if fields.stream is not None:
        return fields.stream
    return (
        fields.stream_format == "audio"
        or fields.response_format in _WITHOUT_LENGTH
        or request.headers.get(_HOW_OPENAI_READS) == "stream"
    )


@router.get(
    "/audio/voices",
    response_class=Response,
    responses=example(
        {
            "object": "list",
            "data": [_VOICE_EXAMPLE],
            "has_more": False,
            "voices": [{"id": "ann", "name": "ann"}, {"id": "alloy", "name": "alloy"}],
        },
        "The saved voices in `data`; every name that `voice` takes in `voices`.",
    )
    | errors(503),
)
async def voices(backend: Backend) -> Response:
    """What `voice` may be: the saved voices, and the names of the default voice."""
    return Response(
        await of_voices(backend.voices, lambda: _LISTING.of(backend.voices)), media_type=JSON
    )


def _named(store: VoiceStore) -> list[dict[str, str]]:
    return [{"name": each} for each in _names(store.list())]


def _names(saved: Sequence[Voice]) -> list[str]:
    """Everything that `voice` may be called."""
    names = [voice.name for voice in saved]
    taken = {name.casefold() for name in names}
    return names + [name for name in (DEFAULT_VOICE, *BUILT_IN_VOICES) if name not in taken]


def _listed(saved: Sequence[Voice]) -> bytes:
    data = [
        {
            "id": voice.id,
            "object": "audio.voice",
            "name": voice.name,
            "created_at": int(datetime.fromisoformat(voice.created_at).timestamp()),
            "type": "audio_sample",
            "language": voice.language or None,
            "is_shipped": voice.is_shipped,
        }
        for voice in saved
    ]
    choices = [{"id": name, "name": name} for name in _names(saved)]
    return msgspec.json.encode(
        {"object": "list", "data": data, "has_more": False, "voices": choices}
    )


_LISTING = Listing(_listed)


@router.get(
    "/models",
    responses=example(
        {"object": "list", "data": [_MODEL_EXAMPLE], "models": [_MODEL_EXAMPLE]},
        "The models, twice: Open WebUI reads `models`.",
    ),
)
async def models(backend: Backend) -> dict[str, Any]:
    """The checkpoint that is loaded, and the other names it answers to."""
    found = _models(backend)
    return {"object": "list", "data": found, "models": found}


@router.get(
    "/models/{name:path}",
    responses=example(_MODEL_EXAMPLE | _SPEAKS_EXAMPLE, "The model.") | errors(404, 503),
)
async def model(backend: Backend, name: str) -> Any:
    """One of them, and how it speaks, as speaches tells it."""
    found = next((each for each in _models(backend) if each["id"] == name), None)
    if found is None:
        names = ", ".join(each["id"] for each in _models(backend))
        return _refused(404, f"No model {quoted(name)}; there are {names}.", "model_not_found")
    info = backend.info
    speaks = {
        "task": "text-to-speech",
        "language": list(info.languages) if info else [],
        "sample_rate": info.sample_rate_hz if info else None,
    }
    voices = await of_voices(backend.voices, lambda: _named(backend.voices))
    return found | speaks | {"voices": voices}


async def _events(
    audio: AsyncIterator[bytes], session: SpeechSession
) -> AsyncGenerator[bytes, None]:
    """OpenAI's server-sent events."""
    async for piece in audio:
        audio_in_base64 = base64.b64encode(piece).decode()
        yield event("speech.audio.delta", is_named=False, audio=audio_in_base64)
    read, spoken = session.stats.prompt_tokens, session.stats.generated_tokens
    usage = {"input_tokens": read, "output_tokens": spoken, "total_tokens": read + spoken}
    yield event("speech.audio.done", is_named=False, usage=usage, text=session.text)


def _failed(error: ShoalError) -> bytes:
    """The event instead of the last, where what has begun fails."""
    told = error_body(status_of(error), str(error), error.code)
    return event("error", is_named=False, **told)


def _models(backend: SmartBackend) -> list[dict[str, Any]]:
    loaded = [backend.info.checkpoint] if backend.info else []
    return [
        {"id": name, "object": "model", "created": _STARTED_S, "owned_by": "shoal"}
        for name in dict.fromkeys((*loaded, *MODELS))
    ]


def _refused(status: int, message: str, code: str, param: str | None = None) -> Response:
    # What a client sent may be quoted in it, and need not be valid Unicode.
    readable = message.encode("utf-8", "backslashreplace").decode()
    return JSONResponse(error_body(status, readable, code, param), status)
