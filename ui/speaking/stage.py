"""Takes of a Streamlit session: begin one, which is shown, which is still being spoken."""

from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from ui.desk import desk
from ui.notes import say_later
from ui.speaking.kept import Kept
from ui.speaking.speaker import LiveText
from ui.speaking.take import Take
from ui.speaking.wish import RECORDING, Unfinished, fields_of, order


def takes(kept: Kept) -> list[Take]:
    """This browser's, the newest first."""
    return desk().do(desk().process.shelf.of, kept.owner)


def shown(kept: Kept) -> Take | None:
    """The take to look at; the newest, where none was chosen."""
    if "shown" not in st.session_state:
        mine = takes(kept)
        st.session_state["shown"] = mine[0].id if mine else ""
    return _mine(kept, st.session_state["shown"])


def at_work(kept: Kept) -> Take | None:
    """The take of this session that is being spoken."""
    take = _mine(kept, st.session_state.get("working", ""))
    return None if take is None or take.is_over else take


def is_new(take: Take) -> bool:
    """It was asked for in this session: it is heard as soon as it can be."""
    return bool(st.session_state.get("heard") == take.id)


def begin(kept: Kept, said: Any, recording: bytes | None, transcript: str) -> None:
    """Have `said` spoken, a text or lines of a dialogue; what is missing is told on the page."""
    try:
        fields, audio = order(kept.settings, said, recording, transcript)
        take = desk().do(desk().process.speaker.begin, kept.owner, fields, audio)
    except Unfinished as error:
        say_later("speak", "problem", str(error))
        return
    except OSError as error:
        say_later("speak", "problem", f"The disk refuses: {error.strerror}.")
        return
    _attend(take)


def say_line(kept: Kept, line: str) -> None:
    """Have one more line spoken at once, over the connection of the lines before if it is open."""
    live = st.session_state.get("live")
    if at_work(kept) is None or live is None:
        if kept.settings["voice"] == RECORDING:
            told = "Lines are spoken in the default or in a saved voice: save the recording first."
            say_later("speak", "problem", told)
            return
        live = st.session_state["live"] = LiveText()
        fields = fields_of(kept.settings) | {"text": line}
        try:
            speaker = desk().process.speaker
            take = desk().do(speaker.begin_live, kept.owner, fields, live)
        except OSError as error:
            say_later("speak", "problem", f"The disk refuses: {error.strerror}.")
            return
        _attend(take)
    desk().do(live.say, " ".join(line.split()))


def finish_lines() -> None:
    """No line follows."""
    if (live := st.session_state.pop("live", None)) is not None:
        desk().do(live.finish)


def forget(kept: Kept) -> None:
    """Delete the take that is shown."""
    if (take := shown(kept)) is None:
        return
    desk().ask(desk().process.speaker.stop(take))
    desk().do(desk().process.shelf.remove, take)
    del st.session_state["shown"]


def _attend(take: Take) -> None:
    st.session_state["shown"] = st.session_state["working"] = st.session_state["heard"] = take.id
    context = get_script_run_ctx()
    assert context is not None
    desk().watch(context.session_id, take)


def _mine(kept: Kept, take_id: str) -> Take | None:
    take = desk().do(desk().process.shelf.get, take_id)
    return take if take is not None and take.record.owner == kept.owner else None
