"""The parts of the Streamlit page that Streamlit has not: a take, what a browser keeps, a count."""

from importlib.resources import files
from typing import Any

import streamlit as st

from ui.serving import root
from ui.speaking.take import Take


def _script(name: str) -> str:
    return files("ui.look").joinpath(name).read_text("utf-8")


_TAKE = st.components.v2.component(
    "shoal.take", js=_script("shown_take.js"), css=_script("take.css"), isolate_styles=False
)
_KEEPER = st.components.v2.component(
    "shoal.keeper", html="<i hidden></i>", js=_script("keeper.js"), isolate_styles=False
)
_TYPED = st.components.v2.component(
    "shoal.typed", html='<p class="counter"></p>', js=_script("typed.js"), isolate_styles=False
)


_CHARTS = st.components.v2.component(
    "shoal.charts",
    js="export default ({ data, parentElement }) => { parentElement.innerHTML = data; };",
    isolate_styles=False,
)
"""Streamlit's own HTML takes no SVG."""


def show_charts(html: str) -> None:
    """Charts drawn as SVG; what is not ours in `html` must be escaped."""
    _CHARTS(key="charts", data=html)


def take_key(take_id: str) -> str:
    """What Streamlit knows a take by: it refuses two underscores in a row, which ids may have."""
    return f"take-{take_id.replace('_', '.')}"


def show_take(take: Take, is_new: bool, is_at_work: bool) -> None:
    """The take; a new one is heard as soon as it can be. One at work has the page drawn anew when
    it is over."""
    told = {"src": f"{root()}/takes/{take.id}", "script": f"{root()}/take.js"}
    _TAKE(
        key=take_key(take.id),
        data={**told, "autoplay": is_new, "is_at_work": is_at_work},
        on_over_change=lambda: None,
    )


def kept_by_browser(keep: dict[str, Any] | None) -> dict[str, Any] | None:
    """What this browser keeps, where it has told; with `keep`, what it shall keep from now on."""
    result = _KEEPER(key="keeper", data={"keep": keep}, on_kept_change=lambda: None)
    kept = result.get("kept")
    return dict(kept) if isinstance(kept, dict) else None


def typed(field: str, limit: int | None, known: str) -> str | None:
    """What stands in the text field of that key while it is being written, and a count under it;
    `known` is what the script knows of it."""
    result = _TYPED(
        key=f"typed-{field}",
        data={"field": field, "limit": limit, "known": known},
        on_text_change=lambda: None,
    )
    text = result.get("text")
    return text if isinstance(text, str) else None
