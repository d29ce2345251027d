"""The frame of the Streamlit page: its pages, how the server is, and what the browser keeps."""

from html import escape
from typing import Any

import streamlit as st

from ui import words
from ui.desk import desk
from ui.guide.page import guide_page
from ui.look.parts import kept_by_browser
from ui.look.style import style
from ui.report.page import report_page
from ui.speaking import stage
from ui.speaking.controls import read_controls
from ui.speaking.kept import Kept
from ui.speaking.page import speak_page
from ui.system.page import system_page
from ui.voices.page import voices_page
from ui.wire import Refused, ServerAway

_EVERY_S = 3.0


def draw() -> None:
    """Draw the page that the browser looks at."""
    st.set_page_config("Shoal", layout="wide", initial_sidebar_state="collapsed")
    st.html(f"<style>{style('frame.css')}</style>")
    pages = [
        st.Page(speak_page, title="Speak", default=True),
        st.Page(voices_page, title="Voices", url_path="voices"),
        st.Page(guide_page, title="Emotion guide", url_path="guide"),
        st.Page(system_page, title="System", url_path="system"),
        st.Page(report_page, title="Report", url_path="report"),
    ]
    page = st.navigation(pages, position="top")
    with st.container(key="pages", horizontal=True, gap="small"):  # where the bar has no room
        for each in pages:
            st.page_link(each, width="content")
    with st.container(key="top", horizontal=True, vertical_alignment="center"):
        st.title("Shoal", anchor=False, width="content")
        _status()
    keeper = st.container()
    kept = Kept.of_session()
    if kept is None:
        with keeper:
            found = kept_by_browser(None)
        if found is not None:
            Kept.begin(found)
            page.run()
        return
    read_controls(kept)  # of whatever page was left: its last drawing may have been cut short
    page.run()
    with keeper:
        kept_by_browser(kept.to_keep())


@st.fragment(run_every=_EVERY_S)
def _status() -> None:
    """The line at the top; where the server comes back, the page is drawn anew."""
    state: dict[str, Any] = st.session_state.setdefault("status", {"is_away": False})
    try:
        kind, text = words.state_of(desk().ask(desk().process.client.health()))
    except (ServerAway, Refused) as error:
        text = f"{error} Trying again every few seconds."
        st.html(f'<p class="chip away" role="alert">{escape(text)}</p>')
        state["is_away"] = True
        return
    st.html(f'<p class="chip {kind}">{escape(text)}</p>')
    kept = Kept.of_session()
    is_at_work = kept is not None and stage.at_work(kept) is not None
    if state["is_away"] or (state.get("is_at_work") and not is_at_work):
        state |= {"is_away": False, "is_at_work": False}
        st.rerun()
    state["is_at_work"] = is_at_work
