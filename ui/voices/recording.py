"""A recording of a voice, uploaded or made in the browser, and heard before it is used."""

import streamlit as st

from ui.notes import note
from ui.speaking.wish import WHY_TRANSCRIPT

_TYPES = ["wav", "flac", "ogg", "mp3", "m4a", "mp4", "aac", "webm"]
_MOST_MB = 20
"""What the server takes."""
_RATE_HZ = 48_000
"""Streamlit's own 16 kHz would take from a voice what makes it one."""


def recording_input(place: str) -> None:
    """Draw it; `place` tells one such input from another."""
    upload = st.file_uploader(
        "Recording of the voice, 5 to 30 s of one speaker",
        type=_TYPES,
        key=f"upload-{place}",
        max_upload_size=_MOST_MB,
    )
    st.audio_input("Or record it now", sample_rate=_RATE_HZ, key=f"spoken-{place}")
    note("The microphone works on this computer or over https; elsewhere upload a recording.")
    if upload is not None:
        st.audio(upload, alt="The recording")
    st.text_area(
        "What is said in it", height=80, key=f"transcript-{place}", placeholder="Word for word"
    )
    note(WHY_TRANSCRIPT)


def recording_now(place: str) -> tuple[bytes | None, str]:
    """The recording that there is, and what is said in it."""
    state = st.session_state
    chosen = state.get(f"upload-{place}") or state.get(f"spoken-{place}")
    transcript = str(state.get(f"transcript-{place}") or "")
    return (chosen.getvalue() if chosen else None), transcript.strip()
