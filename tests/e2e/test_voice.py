"""The shipped voice can be understood: a small version of `training.demo_voice.evaluate`."""

import pytest

from training.demo_voice.bounds import CI
from training.demo_voice.evaluate import HELDOUT
from training.demo_voice.exam import Found, everyday

SENTENCES = HELDOUT.read_text("utf-8").splitlines()[:20]


@pytest.fixture(scope="module")
def found() -> Found:
    return everyday(None, SENTENCES, seeds=[1], told=print)[0]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("key", CI)
def test_the_shipped_voice_is_what_it_must_be(found: Found, key: str) -> None:
    value = found[key]
    assert isinstance(value, float | int)
    assert CI[key].holds(value), f"{CI[key].what}: {CI[key].write(value)}"


@pytest.mark.timeout(400)
def test_every_sentence_is_heard_and_comes_to_its_end(found: Found) -> None:
    assert found["silent"] == 0
    assert found["ended"] == len(SENTENCES)
