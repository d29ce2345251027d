"""The emotion guide on the Streamlit page: where the mood of the speech comes from."""

import streamlit as st

from ui.desk import desk
from ui.guide.told import guide
from ui.notes import tried


def guide_page() -> None:
    """Draw it, as the server tells it."""
    told = tried(desk().process.client.emotions())
    if told is not None:
        st.html(guide(told), width=760)
