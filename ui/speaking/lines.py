"""The lines of a dialogue on the Streamlit page, each with its voice."""

import streamlit as st

from ui.speaking.wish import voice_choices

Line = dict[str, str]
_LEAST = 2


def draw_lines(names: list[str]) -> None:
    """Draw a row for each."""
    lines: dict[int, Line] = st.session_state.setdefault(
        "scene", {number: _line() for number in range(_LEAST)}
    )
    for number, key in enumerate(list(lines), start=1):
        _draw(number, key, lines, names)
    st.button("Add a line", on_click=_add, args=(lines,))


def lines_now() -> list[Line]:
    """What the fields say now."""
    lines: dict[int, Line] = st.session_state.get("scene", {})
    for key, line in lines.items():
        for name in line:
            line[name] = st.session_state.get(f"line-{name}-{key}", line[name])
    return list(lines.values())


def _draw(number: int, key: int, lines: dict[int, Line], names: list[str]) -> None:
    line = lines[key]
    choices = {value: label for label, value in voice_choices(names) if not value.endswith(":")}
    for name in ("voice", "text"):
        st.session_state.setdefault(f"line-{name}-{key}", line[name])
    if st.session_state[f"line-voice-{key}"] not in choices:
        st.session_state[f"line-voice-{key}"] = ""
    with st.container(horizontal=True, vertical_alignment="bottom", key=f"line-{key}"):
        line["voice"] = st.selectbox(
            f"Voice {number}",
            list(choices),
            format_func=choices.__getitem__,
            key=f"line-voice-{key}",
            width=150,
        )
        line["text"] = st.text_input(f"Line {number}", key=f"line-text-{key}")
        st.button(
            "Remove",
            key=f"line-remove-{key}",
            on_click=_remove,
            args=(lines, key),
            disabled=len(lines) < _LEAST,
            help=f"Remove line {number}",
        )


def _add(lines: dict[int, Line]) -> None:
    lines[max(lines, default=-1) + 1] = _line()


def _remove(lines: dict[int, Line], key: int) -> None:
    lines.pop(key, None)


def _line() -> Line:
    return {"voice": "", "text": ""}
