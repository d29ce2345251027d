"""Parts of the Streamlit page."""

from streamlit.components.v2.bidi_component.main import _make_trigger_id

from ui.look.parts import take_key


def test_streamlit_takes_the_key_of_any_take() -> None:
    ids = ("a__b_c-d", "a_b__c-d", "___")
    keys = [take_key(take_id) for take_id in ids]
    assert len(set(keys)) == len(ids)
    for key in keys:
        assert _make_trigger_id(key, "events")  # it raises where the key has its delimiter
