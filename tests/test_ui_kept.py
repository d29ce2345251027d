"""What a browser keeps is from outside: only what can be is believed."""

import sys

import pytest
from streamlit.testing.v1 import AppTest

from ui.speaking.kept import CHOICES, LIMITS, MAX_SEED, PLAIN, sane


@pytest.mark.parametrize("name", PLAIN)
def test_what_everything_is_by_itself_can_be(name: str) -> None:
    assert sane(name, PLAIN[name]) == PLAIN[name]


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("value", [None, [], {}, "nonsense", -1, 1e9, float("nan")])
def test_what_cannot_be_is_not_believed(name: str, value: object) -> None:
    if name == "voice" and isinstance(value, str):
        return  # any name may be a voice's; the page looks whether it is there
    assert sane(name, value) == PLAIN[name]


@pytest.mark.parametrize("name", LIMITS)
def test_limits_are_kept(name: str) -> None:
    least, most, step = LIMITS[name]
    assert sane(name, least) == least and sane(name, most) == most
    assert sane(name, least - step) == sane(name, most + step) == PLAIN[name]
    assert isinstance(sane(name, 1), float), "Streamlit wants a slider's numbers of one kind"


def test_true_is_no_number() -> None:
    assert sane("temperature", True) == PLAIN["temperature"]
    assert sane("seed", True) is None
    assert sane("seed", MAX_SEED) == MAX_SEED
    assert sane("seed", MAX_SEED + 1) is None


@pytest.mark.parametrize("name", CHOICES)
def test_every_choice_can_be(name: str) -> None:
    assert all(sane(name, value) == value for value in CHOICES[name])


def session() -> None:
    import streamlit as st  # noqa: PLC0415 - Streamlit runs this alone, as a script

    from ui.speaking.kept import Kept  # noqa: PLC0415

    found = {"owner": "short", "text": "x" * 30_000, "settings": {"speed": 1.5, "seed": "7"}}
    kept = Kept.of_session() or Kept.begin(found)
    st.json(kept.to_keep())
    st.text(kept.owner)


def test_a_session_begins_once_and_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # Streamlit leaves its script there, which a process that is spawned later would run.
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    app = AppTest.from_function(session).run()
    owner = app.text[0].value
    assert len(owner) >= 32, "a secret that could be guessed is not believed"
    assert app.run().text[0].value == owner
    assert '"speed": 1.5' in app.json[0].value and '"seed": null' in app.json[0].value
    assert len(app.json[0].value) < 21_000
