"""The pre-flight card: whether a text fits this machine, how long it takes, what would mend it."""

from html import escape
from typing import Any

from ui import words

MEND_LABELS = {
    "long_text": "Split it and speak all",
    "optimize_for_memory": "Use less memory",
    "force_cpu": "Speak on the CPU",
}
"""Of each field that may mend it, what its button says."""


def counter(length: int, limit: int | None) -> str:
    """ "120 of 400 characters"."""
    of = f" of {limit:,}" if limit else ""
    return f"<b>{length:,}</b>{of} characters"


def empty_card(limit: int | None) -> str:
    """The card before anything is written."""
    told = f" This machine speaks up to {limit:,} characters at once." if limit else ""
    return f'<div class="card"><p>Write what should be said.{told}</p></div>'


def problem_card(detail: str) -> str:
    """The card where the server will not say."""
    return f'<div class="card bad"><p class="head">{escape(detail)}</p></div>'


def card(text: str, told: dict[str, Any]) -> str:
    """The card of `text` as `POST /estimate-memory` told of it; keys may be missing."""
    estimate, limit = told["estimate"], told.get("text_limit") or {}
    kind, head = _verdict(estimate, limit, told)
    facts = [counter(len(text), limit.get("limit"))]
    if (sentences := told.get("sentences")) is not None:
        facts.append(words.count(sentences, "sentence"))
    facts.append(
        f"<b>{words.size(estimate['estimated_mb'])}</b> of "
        f"{words.size(estimate['available_mb'])} memory"
    )
    if (seconds := told.get("expected_s")) is not None:
        audio_s = told["expected_audio_s"]
        facts.append(
            f"about <b>{words.duration(seconds)}</b> for {words.duration(audio_s)} of speech"
        )
        facts.append(_pace(seconds, audio_s, told.get("speed") != "expected"))
    if (wait_s := told.get("wait_s") or 0.0) >= 0.5:
        facts.append(f"waits <b>{words.duration(wait_s)}</b> first")
    items = "".join(f"<span>{fact}</span>" for fact in facts if fact)
    return (
        f'<div class="card {kind}"><p class="head">{escape(head)}</p>'
        f'<p class="facts">{items}</p></div>'
    )


def mends(told: dict[str, Any]) -> dict[str, Any]:
    """Fields that would help, and the value of each."""
    return {each["field"]: each["value"] for each in told.get("mends", ())}


def _verdict(
    estimate: dict[str, Any], limit: dict[str, Any], told: dict[str, Any]
) -> tuple[str, str]:
    if not estimate["safe"]:
        return "bad", f"Memory is short for this. {told.get('recommendation', '')}".strip()
    if limit.get("is_truncated"):
        return "warn", f"Only the first {limit['spoken_length']:,} characters would be spoken."
    most = limit.get("limit")
    if most and estimate["text_length"] > most and not told.get("sentences"):
        return "warn", f"Longer than the {most:,} characters this machine speaks at once."
    return "", "Fits this machine."


def _pace(seconds: float, audio_s: float, is_measured: bool) -> str:
    if not seconds or not audio_s:
        return ""
    rate = audio_s / seconds
    if rate >= 1:
        pace = f"<b>{rate:.1f} ×</b> faster than real time"
    else:
        pace = f"<b>{1 / rate:.1f} ×</b> slower than real time"
    return pace + ("" if is_measured else " (expected)")
