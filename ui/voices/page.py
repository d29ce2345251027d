"""The Streamlit page of saved voices: make one, listen to it, change, delete, export and import."""

from typing import Any

import pandas as pd
import streamlit as st

from ui import words
from ui.desk import desk
from ui.notes import problem, said, saved_voices, say_later, tried, voices_changed
from ui.speaking.controls import hear
from ui.speaking.wish import WHY_TRANSCRIPT
from ui.voices.recording import recording_input, recording_now
from ui.wire import Refused, ServerAway

_PLACE = "voices"


def voices_page() -> None:
    """Draw it."""
    left, right = st.columns(2, gap="large")
    with left:
        st.header("Saved voices", anchor=False)
        said(_PLACE)
        _saved()
    with right:
        st.header("A new voice", anchor=False)
        _new()
        st.header("A voice from a file", anchor=False)
        _from_file()


def _saved() -> None:
    voices = saved_voices()
    if voices is None:
        problem("The voices cannot be listed while the server is away.")
        return
    if not voices:
        st.html('<div class="empty"><p>No voice is saved yet. Record or upload one.</p></div>')
        return
    st.table(voice_table(voices), hide_index=True, border="horizontal", alt="The saved voices")
    names = [voice["name"] for voice in voices]
    wanted = st.session_state.pop("wanted-voice", None)
    if wanted in names or st.session_state.get("chosen-voice") not in names:
        st.session_state["chosen-voice"] = wanted if wanted in names else names[-1]
    name = st.selectbox("Voice", names, key="chosen-voice")
    voice = next(each for each in voices if each["name"] == name)
    is_shipped = voice.get("is_shipped", False)
    with st.container(horizontal=True):
        is_to_hear = st.button("Listen")
        if st.button("Export"):
            _offer(name)
        if st.button("Delete", disabled=is_shipped):
            _ask_to_delete(name)
    if is_to_hear:
        hear(name)
    with st.expander("Rename, or correct its transcript"):
        st.text_input("Name", name, key=f"name-of-{name}")
        st.text_area(
            *("What is said in its recording", voice["transcript"]),
            height=80,
            help=WHY_TRANSCRIPT,
            key=f"transcript-of-{name}",
        )
        # Called before the page is drawn: a drawing that is cut short would lose the click.
        st.button("Save the changes", on_click=_change, args=(name,), disabled=is_shipped)


def voice_table(voices: list[dict[str, Any]]) -> pd.DataFrame:
    """The voices to look at."""
    return pd.DataFrame(
        {
            "Name": [voice["name"] for voice in voices],
            "Recording": [f"{voice['audio_s']:.1f} s" for voice in voices],
            "Transcript": ["yes" if voice["transcript"] else "no" for voice in voices],
            "Saved": [words.since_when(voice) for voice in voices],
        }
    )


def _offer(name: str) -> None:
    found = tried(desk().process.client.export_voice(name))
    if found is not None:
        st.download_button(
            f"Download {found.name}", found.data, found.name, "application/octet-stream"
        )


@st.dialog("Delete this voice?")
def _ask_to_delete(name: str) -> None:
    st.write(f"{name!r} is deleted for good. Export it first if it may be wanted again.")
    with st.container(horizontal=True):
        if st.button("Delete it", type="primary"):
            _tell(desk().process.client.delete_voice(name), f"{name} is deleted.")
            st.rerun()
        if st.button("Keep it"):
            st.rerun()


def _change(name: str) -> None:
    new_name = str(st.session_state[f"name-of-{name}"])
    transcript = str(st.session_state[f"transcript-of-{name}"])
    changes = {"name": new_name.strip() or name, "transcript": transcript.strip()}
    voice = _tell(desk().process.client.change_voice(name, **changes), "")
    _welcome(voice, "changed")


def _new() -> None:
    turn = st.session_state.setdefault("new-voice-turn", 0)
    st.text_input("Name", key=f"name-{turn}")
    recording_input(f"new-{turn}")
    st.button("Save voice", type="primary", on_click=_save, args=(turn,))
    said("new voice")


def _save(turn: int) -> None:
    recording, transcript = recording_now(f"new-{turn}")
    name = str(st.session_state[f"name-{turn}"])
    if not recording:
        say_later("new voice", "problem", "Record or upload the voice first.")
        return
    work = desk().process.client.save_voice(name.strip(), recording, transcript)
    voice = _tell(work, "", "new voice")
    if voice is not None:
        st.session_state["new-voice-turn"] += 1  # fields of another key are empty again
        _welcome(voice, "saved")


def _from_file() -> None:
    turn = st.session_state.setdefault("import-turn", 0)
    file = st.file_uploader(
        "A .voice file that a Shoal server exported", type=["voice"], key=f"import-{turn}"
    )
    if file is not None:
        with st.spinner("The voice is being imported …"):
            voice = _tell(desk().process.client.import_voice(file.getvalue()), "", "import")
        st.session_state["import-turn"] += 1
        _welcome(voice, "imported")
        st.rerun()
    said("import")


def _welcome(voice: dict[str, Any] | None, what: str) -> None:
    if voice is None:
        return
    st.session_state["wanted-voice"] = voice["name"]
    say_later(_PLACE, "note", words.what_became_of(voice, what))


def _tell(work: Any, done: str, place: str = _PLACE) -> Any:
    """What the server answers; what went wrong or well is told when the page is drawn next."""
    try:
        answer = desk().ask(work)
    except (ServerAway, Refused) as error:
        say_later(place, "problem", str(error))
        return None
    voices_changed()
    if done:
        say_later(place, "note", done)
    return answer
