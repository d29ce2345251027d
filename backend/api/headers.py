"""What answers say in their headers: figures of the speech, and warnings."""

from collections.abc import Sequence

from fastapi import Response

from backend.monitoring.synthesis import tokens_per_second
from backend.serving.session import SpeechSession

WARNING = "X-Warning"
STREAMED = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
"""Of what is sent as it is made: nobody on its way may keep it back, nginx included."""
_LONGEST = 1024
"""Characters of a header: what many proxies still pass on."""


def figures(session: SpeechSession, speed: float) -> dict[str, str]:
    """What the request cost, as headers, once it is spoken."""
    stats, total_s, audio_s = session.stats, session.total_s, session.audio_s / speed
    return figures_at_start(session) | {
        "X-Latency-Ms": f"{total_s * 1000:.1f}",
        "X-Audio-Duration-S": f"{audio_s:.3f}",
        "X-RTF": f"{total_s / audio_s:.4f}" if audio_s else "0",
        "X-Generated-Tokens": str(stats.generated_tokens),
        "X-Tokens-Per-Second": f"{tokens_per_second(stats.generated_tokens, total_s) or 0:.2f}",
        "X-Peak-VRAM-Mb": f"{session.peaks.peak_vram_mb:.1f}",
        "X-GPU-Util-Pct": f"{session.peaks.peak_gpu_util_pct:.1f}",
        "X-Segments": str(stats.segments),
    }


def figures_at_start(session: SpeechSession) -> dict[str, str]:
    """What is known when the first audio is there."""
    text, plan, info = session.text_limit, session.plan, session.info
    headers = {
        "X-Time-To-First-Audio-Ms": f"{session.first_audio_s * 1000:.1f}",
        "X-Queue-Ms": f"{session.queue_s * 1000:.1f}",
        "X-Optimization-Strategy": header_safe(plan.strategy),
        "X-Hardware-Tier": plan.tier,
        "X-Max-Text-Length": str(text.limit),
        "X-Text-Truncated": str(text.is_truncated).lower(),
        "X-Original-Text-Length": str(text.original_length),
        "X-Truncated-Text-Length": str(text.spoken_length),
        "X-Engine": header_safe(f"{info.engine}/{info.checkpoint}"),
    }
    if session.worker_start_s:
        headers["X-Worker-Start-Ms"] = f"{session.worker_start_s * 1000:.1f}"
    if session.warnings:
        headers[WARNING] = header_safe("; ".join(session.warnings))
    return headers


def add_warnings(response: Response, warnings: Sequence[str]) -> None:
    """Tell `warnings` after those that stand there."""
    said = "; ".join(filter(None, (response.headers.get(WARNING), *warnings)))
    if said:
        response.headers[WARNING] = header_safe(said)


def header_safe(value: str) -> str:
    """`value` as a header can carry it: one line of printable ASCII."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in value)[:_LONGEST]
