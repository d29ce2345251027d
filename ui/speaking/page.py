"""The Streamlit page where one speaks: text, a scene or line by line, in a voice, with settings."""

import streamlit as st

from ui.desk import desk
from ui.look.parts import show_take, typed
from ui.notes import said, saved_voices
from ui.speaking import card, stage
from ui.speaking.controls import (
    begun,
    change_setting,
    choose_language,
    choose_voice,
    prepare_voice,
    read_controls,
    settings,
)
from ui.speaking.kept import Kept
from ui.speaking.lines import draw_lines, lines_now
from ui.speaking.wish import EMPTY, ESTIMATED, MODES, RECORDING
from ui.voices.recording import recording_now
from ui.wire import Refused, ServerAway

_MOST_CHARACTERS = 100_000
"""What the server takes at all."""


def speak_page() -> None:
    """Draw it."""
    kept = Kept.of_session()
    assert kept is not None
    left, right = st.columns(2, gap="large")
    with left:
        _input(kept)
    with right:
        _output(kept)


# -- what is to be spoken -------------------------------------------------------------------------


def _input(kept: Kept) -> None:
    mode = st.segmented_control(
        "What to speak", MODES, default=MODES[0], required=True, key="mode", persist_state="session"
    )
    drafted = ""
    if mode == MODES[0]:
        drafted = _text(kept)
    elif mode == MODES[1]:
        draw_lines([each["name"] for each in saved_voices() or ()])
        drafted = "\n\n".join(line["text"] for line in lines_now())
    language, voice = st.columns(2)
    with language:
        choose_language(kept)
    with voice:
        choose_voice(kept)
    prepare_voice(kept)
    settings(kept)
    if mode == MODES[2]:
        _lines(kept)
    else:
        is_busy = stage.at_work(kept) is not None
        st.button(
            "Speaking …" if is_busy else "Speak",
            type="primary",
            key="go",
            disabled=is_busy,
            on_click=_speak,
            args=(kept,),
        )
    said("speak")
    if mode != MODES[2]:
        # The last: nothing waits for the server's answer, and no button moves under the mouse.
        _card(kept, drafted)


def _speak(kept: Kept) -> None:
    """Before the page is drawn: a drawing is cut short by the next, and a click would be lost."""
    read_controls(kept)
    is_dialogue = st.session_state.get("mode") == MODES[1]
    recording, transcript = None, ""
    if kept.settings["voice"] == RECORDING:
        recording, transcript = recording_now("speak")
    stage.begin(kept, lines_now() if is_dialogue else kept.text, recording, transcript)


def _text(kept: Kept) -> str:
    """The text as it stands in the field while it is being written."""
    key, value = begun("text", kept.text)
    text = st.text_area(
        *("Text", value),
        height=230,
        key=key,
        persist_state="session",
        placeholder="Hello from Shoal. Type or paste any text, a chapter too.",
    )
    drafted = typed(key, st.session_state.get("limit"), text)
    if text != kept.committed or drafted is None:
        kept.committed = kept.drafted = text
    elif drafted != kept.typed:
        kept.drafted = drafted
    kept.typed = drafted
    kept.text = text[:_MOST_CHARACTERS]
    return kept.drafted


def _card(kept: Kept, text: str) -> None:
    """Whether it fits, how long it takes, and the button that mends it."""
    client = desk().process.client
    asked = {name: kept.settings[name] for name in ESTIMATED}
    try:
        if not text.strip():
            st.html(card.empty_card(_limit()))
            return
        told = desk().ask(client.estimate(text[:_MOST_CHARACTERS], **asked))
    except (ServerAway, Refused) as error:
        st.html(card.problem_card(str(error)))
        return
    st.html(card.card(text, told))
    _learn_limit((told.get("text_limit") or {}).get("limit"))
    mends = card.mends(told)
    if mends:
        with st.container(horizontal=True):
            for field, label in card.MEND_LABELS.items():
                if field in mends:
                    st.button(label, on_click=change_setting, args=(kept, field, mends[field]))


def _limit() -> int | None:
    """How much this machine speaks at once; the server is asked until it has said."""
    if st.session_state.get("limit") is None:
        _learn_limit(desk().ask(desk().process.text_limit()))
    return st.session_state.get("limit")


def _learn_limit(limit: int | None) -> None:
    if limit is not None and limit != st.session_state.get("limit"):
        st.session_state["limit"] = limit
        st.rerun()


def _lines(kept: Kept) -> None:
    """Each line that is entered is spoken at once."""
    st.chat_input(
        "Write a line and press Enter to hear it",
        key="line",
        on_submit=_say_line,
        args=(kept,),
    )
    if kept.live is not None and stage.at_work(kept) is not None:
        st.button("Finish", on_click=stage.finish_lines, args=(kept,))


def _say_line(kept: Kept) -> None:
    read_controls(kept)
    stage.say_line(kept, str(st.session_state["line"]))


# -- what came of it ------------------------------------------------------------------------------


def _output(kept: Kept) -> None:
    take, working = stage.shown(kept), stage.at_work(kept)
    if take is None:
        st.html(EMPTY)
    else:
        show_take(take, kept.is_heard, take is working)
    _earlier(kept)


def _earlier(kept: Kept) -> None:
    mine = stage.takes(kept)
    if not mine:
        return
    titles = {each.id: f"{each.record.title} · {each.record.created_at[:16]}" for each in mine}
    with st.expander("Earlier takes", key="earlier"):
        chosen = stage.shown(kept)
        st.session_state["take"] = chosen.id if chosen else None
        st.selectbox(
            "Take",
            list(titles),
            format_func=lambda each: titles.get(each, ""),
            key="take",
            on_change=_choose,
            args=(kept,),
        )
        st.button("Delete this take", on_click=stage.forget, args=(kept,))


def _choose(kept: Kept) -> None:
    kept.shown, kept.is_heard = st.session_state["take"], False
