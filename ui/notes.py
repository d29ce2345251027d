"""Short lines of the Streamlit page: what went wrong or well, where it happened."""

from collections.abc import Coroutine
from html import escape
from typing import Any, TypeVar

import streamlit as st

from ui.desk import desk
from ui.wire import Refused, ServerAway

_T = TypeVar("_T")


def problem(text: str) -> None:
    """What went wrong."""
    st.html(f'<p class="problem" role="alert">{escape(text)}</p>')


def note(text: str) -> None:
    """Something to know."""
    st.html(f'<p class="note" role="status">{escape(text)}</p>')


def tried(work: Coroutine[Any, Any, _T]) -> _T | None:
    """What the server answers; where it does not, that is told here, and this is None."""
    try:
        return desk().ask(work)
    except (ServerAway, Refused) as error:
        problem(str(error))
        return None


def say_later(place: str, kind: str, text: str) -> None:
    """Tell it at `place` when the page is drawn next: a `note` or a `problem`."""
    st.session_state[f"said {place}"] = (kind, text)


def said(place: str) -> None:
    """What was to be told at `place`, once."""
    if (told := st.session_state.pop(f"said {place}", None)) is not None:
        kind, text = told
        (problem if kind == "problem" else note)(text)


@st.cache_data(ttl=2.0, show_spinner=False)
def _voices() -> list[dict[str, Any]]:
    return desk().ask(desk().process.client.voices())


def saved_voices() -> list[dict[str, Any]] | None:
    """The saved voices, asked for at most every two seconds; None while the server is away."""
    try:
        return list(_voices())
    except (ServerAway, Refused):
        return None


def voices_changed() -> None:
    """Ask for them anew."""
    _voices.clear()
