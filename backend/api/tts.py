"""`POST /tts`: text in, speech out."""

import time
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response

from backend.api.dependencies import Backend, SpeechBody, unless_hung_up
from backend.api.schemas import UPLOAD_FIELD, SpeechFields
from backend.audio.write import BYTES_PER_SAMPLE, pcm16, wav
from backend.core import SpeechRequest, SpeechStats
from backend.smart_backend import SmartBackend

router = APIRouter(tags=["speech"])


def _body_documentation() -> dict[str, Any]:
    """The body for the OpenAPI page: it is parsed by hand, so FastAPI cannot know it."""
    fields = SpeechFields.model_json_schema()

    def with_upload(upload: dict[str, str]) -> dict[str, Any]:
        upload |= {"description": "A recording of the voice to speak in: wav, flac, ogg or mp3."}
        properties = fields["properties"] | {UPLOAD_FIELD: upload}
        return {"schema": fields | {"properties": properties}}

    return {
        "required": True,
        "content": {
            "multipart/form-data": with_upload({"type": "string", "format": "binary"}),
            "application/x-www-form-urlencoded": {"schema": fields},
            "application/json": with_upload({"type": "string", "contentEncoding": "base64"}),
        },
    }


_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"audio/wav": {}}, "description": "16-bit mono WAV."},
    400: {"description": "The text is blank."},
    413: {"description": "The text or the upload is too large."},
    422: {"description": "A field is wrong; `detail` says which and how to put it right."},
    503: {"description": "The worker is not ready; try again after `Retry-After` seconds."},
    504: {"description": "The request took longer than its deadline."},
}


@dataclass(frozen=True, slots=True)
class _Spoken:
    wav: bytes
    stats: SpeechStats
    engine: str
    first_audio_s: float
    total_s: float
    audio_s: float


@router.post(
    "/tts",
    response_class=Response,
    responses=_RESPONSES,
    openapi_extra={"requestBody": _body_documentation()},
)
async def tts(request: Request, backend: Backend, speech: SpeechBody) -> Response:
    """Speak `text`, in the voice of `speaker_file` if there is one."""
    spoken = await unless_hung_up(request, _speak(backend, speech))
    return Response(spoken.wav, media_type="audio/wav", headers=_headers(spoken))


async def _speak(backend: SmartBackend, speech: SpeechRequest) -> _Spoken:
    started_s = time.perf_counter()
    first_audio_s: float | None = None
    pieces: list[bytes] = []
    async with backend.speak(speech) as session:
        async for chunk in session:
            if first_audio_s is None:
                first_audio_s = time.perf_counter() - started_s
            pieces.append(pcm16(chunk.samples))
    total_s = time.perf_counter() - started_s
    info = session.info
    samples = sum(len(piece) for piece in pieces) // BYTES_PER_SAMPLE
    return _Spoken(
        wav=wav(pieces, info.sample_rate_hz),
        stats=session.stats,
        engine=f"{info.engine}/{info.checkpoint}",
        first_audio_s=total_s if first_audio_s is None else first_audio_s,
        total_s=total_s,
        audio_s=samples / info.sample_rate_hz,
    )


def _headers(spoken: _Spoken) -> dict[str, str]:
    stats = spoken.stats
    headers = {
        "X-Latency-Ms": f"{spoken.total_s * 1000:.1f}",
        "X-Time-To-First-Audio-Ms": f"{spoken.first_audio_s * 1000:.1f}",
        "X-Audio-Duration-S": f"{spoken.audio_s:.3f}",
        "X-RTF": f"{spoken.total_s / spoken.audio_s:.4f}" if spoken.audio_s else "0",
        "X-Generated-Tokens": str(stats.generated_tokens),
        "X-Tokens-Per-Second": f"{stats.generated_tokens / spoken.total_s:.2f}",
        "X-Engine": _header_safe(spoken.engine),
        "X-Segments": str(stats.segments),
    }
    if stats.warnings:
        headers["X-Warning"] = _header_safe("; ".join(stats.warnings))
    return headers


def _header_safe(value: str) -> str:
    """`value` as a header can carry it: one line of printable ASCII."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in value)[:1024]
