"""`POST /tts`: text in, speech out."""

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request, Response

from backend.api.dependencies import Backend, SpeechBody, unless_hung_up
from backend.api.schemas import UPLOAD_FIELD, SpeechFields
from backend.audio.write import pcm16, wav
from backend.core import SpeechRequest
from backend.session import SpeechSession
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
    503: {
        "description": "The worker is not ready or memory is short; try again after `Retry-After` "
        "seconds."
    },
    504: {"description": "The request took longer than its deadline."},
}


@dataclass(frozen=True, slots=True)
class _Spoken:
    wav: bytes
    session: SpeechSession


@router.post(
    "/tts",
    response_class=Response,
    responses=_RESPONSES,
    openapi_extra={"requestBody": _body_documentation()},
)
async def tts(request: Request, backend: Backend, speech: SpeechBody) -> Response:
    """Speak `text`, in the voice of `speaker_file` if there is one."""
    spoken = await unless_hung_up(request, _speak(backend, speech))
    return Response(spoken.wav, media_type="audio/wav", headers=_headers(spoken.session))


async def _speak(backend: SmartBackend, speech: SpeechRequest) -> _Spoken:
    async with backend.speak(speech) as session:
        pieces = [pcm16(chunk.samples) async for chunk in session]
    return _Spoken(wav(pieces, session.info.sample_rate_hz), session)


def _headers(session: SpeechSession) -> dict[str, str]:
    stats, text, plan, info = session.stats, session.text_limit, session.plan, session.info
    total_s, audio_s = session.total_s, session.audio_s
    headers = {
        "X-Latency-Ms": f"{total_s * 1000:.1f}",
        "X-Time-To-First-Audio-Ms": f"{session.first_audio_s * 1000:.1f}",
        "X-Audio-Duration-S": f"{audio_s:.3f}",
        "X-RTF": f"{total_s / audio_s:.4f}" if audio_s else "0",
        "X-Generated-Tokens": str(stats.generated_tokens),
        "X-Tokens-Per-Second": f"{stats.generated_tokens / total_s:.2f}",
        "X-Peak-VRAM-Mb": f"{session.peak_vram_mb:.1f}",
        "X-GPU-Util-Pct": f"{session.peak_gpu_util_pct:.1f}",
        "X-Optimization-Strategy": _header_safe(plan.strategy),
        "X-Hardware-Tier": plan.tier,
        "X-Max-Text-Length": str(text.limit),
        "X-Text-Truncated": str(text.is_truncated).lower(),
        "X-Original-Text-Length": str(text.original_length),
        "X-Truncated-Text-Length": str(text.spoken_length),
        "X-Segments": str(stats.segments),
        "X-Engine": _header_safe(f"{info.engine}/{info.checkpoint}"),
    }
    if stats.warnings:
        headers["X-Warning"] = _header_safe("; ".join(stats.warnings))
    return headers


def _header_safe(value: str) -> str:
    """`value` as a header can carry it: one line of printable ASCII."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in value)[:1024]
