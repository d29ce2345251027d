"""The controls whose values go into a request; the browser keeps them."""

from typing import Any

import streamlit as st

from ui.desk import desk
from ui.notes import said, saved_voices, say_later, tried, voices_changed
from ui.speaking.files import FORMATS
from ui.speaking.kept import LIMITS, MAX_SEED, PLAIN, Kept, sane
from ui.speaking.wish import LONG_TEXT, RATES_HZ, RECORDING, voice_choices
from ui.voices.recording import recording_input, recording_now
from ui.wire import Refused, ServerAway
from ui.words import LANGUAGES

_SLIDERS = {
    "temperature": ("Temperature", "0 always takes the likeliest."),
    "top_p": ("Top-p", "Less is steadier, more is livelier."),
    "repetition_penalty": ("Repetition penalty", "Against stuck sounds."),
    "speed": ("Speed", "Tempo, at the same pitch."),
    "pauses": ("Pauses", "Between sentences, against the usual."),
}
_PAIRS = (("temperature", "top_p"), ("repetition_penalty", "seed"), ("speed", "pauses"))
_CHECKBOXES = {
    "normalize": "Read numbers and signs as words",
    "optimize_for_memory": "Use less memory, slower",
    "force_cpu": "Speak on the CPU",
}


def change_setting(kept: Kept, name: str, value: Any) -> None:
    """Change a setting; its control shows it when the page is drawn next."""
    kept.settings[name] = value
    turns = st.session_state.setdefault("turns", {})
    turns[name] = turns.get(name, 0) + 1


def choose_language(kept: Kept) -> None:
    """The language of the text."""
    _choice(kept, "language", "Language", LANGUAGES)


def choose_voice(kept: Kept) -> None:
    """The voice, and a way to hear it first."""
    saved = saved_voices()
    names = [each["name"] for each in saved or ()]
    if saved is None and kept.settings["voice"] not in ("", RECORDING):
        names = [
            kept.settings["voice"]
        ]  # the server is away; the voice may be there when it is back
    elif kept.settings["voice"] not in ("", RECORDING, *names):
        change_setting(kept, "voice", "")
    _choice(kept, "voice", "Voice", {value: label for label, value in voice_choices(names)})


def read_controls(kept: Kept) -> None:
    """What the controls say now, before they are drawn again."""
    for name in PLAIN:
        if (key := _key(name)) in st.session_state:
            kept.settings[name] = sane(name, st.session_state[key])
    kept.text = str(st.session_state.get(_key("text"), kept.text))


def prepare_voice(kept: Kept) -> None:
    """What goes with the voice: its recording and transcript; a saved one can be heard."""
    voice = kept.settings["voice"]
    if voice != RECORDING:
        if voice and st.button("Listen to this voice"):
            hear(voice)
        said("voice")
        return
    with st.container(border=True):
        recording_input("speak")
        with st.container(horizontal=True, vertical_alignment="bottom"):
            st.text_input("Keep it as a voice called", key="new-voice")
            st.button("Save voice", on_click=_keep, args=(kept,))
        said("voice")


def hear(voice: str) -> None:
    """Play a sample of a saved voice."""
    with st.spinner("The voice is being decoded …"):
        sample = tried(desk().process.client.hear_voice(voice))
    if sample is not None:
        st.audio(sample, autoplay=True, alt=f"How {voice} sounds")


def settings(kept: Kept) -> None:
    """What is folded away."""
    with st.expander("Settings", key="settings"):
        for pair in _PAIRS:
            for column, name in zip(st.columns(2), pair, strict=True):
                with column:
                    _seed(kept) if name == "seed" else _slider(kept, name)
        first, second, third = st.columns(3)
        with first:
            _choice(kept, "long_text", "Text past the limit", {v: k for k, v in LONG_TEXT.items()})
        with second:
            kinds = {kind: kind.upper() for kind in FORMATS}
            _choice(kept, "response_format", "Format", kinds)
        with third:
            rates = {0: "The checkpoint's", **{hz: f"{hz:,} Hz" for hz in RATES_HZ}}
            _choice(kept, "sample_rate", "Sample rate", rates)
        for name, label in _CHECKBOXES.items():
            key, value = begun(name, kept.settings[name])
            kept.settings[name] = st.checkbox(label, value, key=key, persist_state="session")


def _seed(kept: Kept) -> None:
    key, value = begun("seed", kept.settings["seed"])
    kept.settings["seed"] = st.number_input(
        *("Seed", 0, MAX_SEED, value),
        step=1,
        placeholder="any",
        help="The same seed gives the same speech; empty draws one.",
        key=key,
        persist_state="session",
    )


def _slider(kept: Kept, name: str) -> None:
    label, why = _SLIDERS[name]
    least, most, step = LIMITS[name]
    key, value = begun(name, kept.settings[name])
    kept.settings[name] = st.slider(
        label, least, most, value, step, help=why, key=key, persist_state="session"
    )


def _choice(kept: Kept, name: str, label: str, choices: dict[Any, str]) -> None:
    key, value = begun(name, kept.settings[name])
    options = list(choices)
    kept.settings[name] = st.selectbox(
        label,
        options,
        options.index(value) if value in options else 0,
        format_func=lambda each: choices.get(each, str(each)),
        key=key,
        persist_state="session",
    )


def begun(name: str, now: Any) -> tuple[str, Any]:
    """The key of a control, and what it begins with; Streamlit forgets it with the page it is on.

    The session state is not written: what it says is lost to the browser where the first drawing
    is cut short, and the browser then sends back what the control is by itself.
    """
    key = _key(name)
    values = st.session_state.setdefault("begun", {})
    if key not in st.session_state:
        values[key] = now
    return key, values[key]


def _key(name: str) -> str:
    return f"set_{name}_{st.session_state.get('turns', {}).get(name, 0)}"


def _keep(kept: Kept) -> None:
    recording, transcript = recording_now("speak")
    name = str(st.session_state["new-voice"])
    if not recording:
        say_later("voice", "problem", "Record or upload the voice first.")
        return
    client = desk().process.client
    try:
        voice = desk().ask(client.save_voice(name.strip(), recording, transcript))
    except (ServerAway, Refused) as error:
        say_later("voice", "problem", str(error))
        return
    voices_changed()
    change_setting(kept, "voice", voice["name"])
    told = "; ".join(voice.get("warnings", ())) or "It speaks by this name from now on."
    say_later("voice", "note", f"{voice['name']} is saved. {told}")
