"""The emotion guide on the Streamlit page: where the mood of the speech comes from."""

import streamlit as st

from ui.desk import desk
from ui.notes import tried


def guide_page() -> None:
    """Draw it, as the server tells it."""
    told = tried(desk().process.client.emotions())
    if told is None:
        return
    with st.container(width=760):
        st.header("Where emotion comes from", anchor=False)
        st.text(told["summary"])
        _list("A recording that carries it", told.get("reference_audio_tips"))
        st.header("What punctuation does", anchor=False)
        for mark, what in (told.get("prosody_markers") or {}).items():
            with st.container(horizontal=True, gap="medium"):
                st.text(mark, width=40)
                st.text(what)
        _list("Instead of tags", told.get("instead_of_tags"))
        effects = told.get("sound_effects") or {}
        _list("Sound effects", effects.get("may_work"), effects.get("note", ""))


def _list(title: str, items: list[str] | None, before: str = "") -> None:
    st.header(title, anchor=False)
    if before:
        st.text(before)
    for item in items or ():
        st.text(f"•  {item}")
