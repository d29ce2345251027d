"""What the pages call things: languages, lengths of time, sizes, and sources of a choice."""

from typing import Any

LANGUAGES = {
    "auto": "Automatic",
    "en": "English",
    "zh": "Chinese",
    "ja": "Japanese",
    "ko": "Korean",
    "fr": "French",
    "de": "German",
    "es": "Spanish",
    "pl": "Polish",
    "ru": "Russian",
    "it": "Italian",
    "pt": "Portuguese",
    "ar": "Arabic",
    "hi": "Hindi",
    "tr": "Turkish",
}
"""What the server may be told of a text, and its name."""

DECIDED_BY = {
    "tier": "this class of machine",
    "machine": "this machine",
    "checkpoint": "the checkpoint",
    "measured": "a measurement here",
    "user": "your setting",
}
"""Of each source of a choice in a plan, its name."""


def state_of(health: dict[str, Any]) -> tuple[str, str]:
    """What `/health` says in a line, and what kind of news that is: "", or "busy"."""
    worker, queue = health.get("worker") or {}, health.get("queue") or {}
    if health.get("status") != "ok":
        return "busy", worker.get("reason") or "The checkpoint is being loaded."
    if worker.get("state") == "unloaded":
        return "", f"{health.get('checkpoint')} is unloaded, and starts with the next request"
    device = health.get("device") or ""
    where = "the GPU" if device.startswith("cuda") else device.upper()
    speaking, waiting = queue.get("speaking", 0), queue.get("waiting", 0)
    load = "" if not speaking + waiting else f" · {speaking} speaking, {waiting} waiting"
    return "busy" if waiting else "", f"{health.get('checkpoint')} on {where}{load}"


def since_when(voice: dict[str, Any]) -> str:
    """The day on which a voice was saved, or that it came with the checkpoint."""
    return "shipped" if voice.get("is_shipped") else str(voice["created_at"])[:10]


def what_became_of(voice: dict[str, Any], what: str) -> str:
    """`Anna is saved.`, and what had to be done to her recording."""
    warnings = "; ".join(voice.get("warnings") or ())
    return f"{voice['name']} is {what}.{f' {warnings}.' if warnings else ''}"


def duration(seconds: float) -> str:
    """About how long that is: "4 s", "3 min", "1.5 h"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size(mb: float) -> str:
    """Mebibytes as a reader likes them: "420 MB", "1.3 GB"."""
    return f"{mb:.0f} MB" if mb < 1000 else f"{mb / 1024:.1f} GB"


def count(number: int, what: str) -> str:
    """`1 sentence`, `3 sentences`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
