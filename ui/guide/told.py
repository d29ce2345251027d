"""The emotion guide to read, as the server tells it."""

from html import escape
from typing import Any


def guide(told: dict[str, Any]) -> str:
    """The answer of `GET /emotions` to read."""
    effects = told.get("sound_effects") or {}
    may_work = " ".join(f"<code>{escape(each)}</code>" for each in effects.get("may_work", ()))
    marks = "".join(
        f"<dt>{escape(mark)}</dt><dd>{escape(what)}</dd>"
        for mark, what in (told.get("prosody_markers") or {}).items()
    )
    return (
        f'<div class="guide"><h2>Where emotion comes from</h2><p>{escape(told["summary"])}</p>'
        f"<h2>A recording that carries it</h2>{_list(told.get('reference_audio_tips'))}"
        f"<h2>What punctuation does</h2><dl>{marks}</dl>"
        f"<h2>Instead of tags</h2>{_list(told.get('instead_of_tags'))}"
        f"<h2>Sound effects</h2><p>{escape(effects.get('note', ''))}</p><p>{may_work}</p></div>"
    )


def _list(items: list[str] | None) -> str:
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items or ()) + "</ul>"
