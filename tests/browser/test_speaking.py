"""Type and hear: in text, in one word, as a scene, while typing; and what the card says before."""

import itertools
import re

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import NewTab
from tests.browser.face import SPOKEN_MS, Face, Piece, Tab, is_idle, until
from tests.e2e.serving import Served

SENTENCES = (
    "The first sentence is here.",
    "Here comes the second one, which is a little longer.",
    "And the third one ends it.",
)
LONG = " ".join(SENTENCES * 6)
"""Longer than what this machine speaks at once."""
GAP_S = 0.08


def joined(pieces: list[Piece]) -> bytes:
    return b"".join(piece.samples.tobytes() for piece in pieces)


def gaps(pieces: list[Piece]) -> list[tuple[float, float]]:
    """Of each silence between two pieces: where in the sound, and how long, in seconds."""
    found, at_s = [], 0.0
    for piece, following in itertools.pairwise(pieces):
        at_s += piece.seconds
        found.append((at_s, following.when_s - piece.when_s - piece.seconds))
    return found


def test_this_chromium_plays_what_the_pages_need(tab: Tab) -> None:
    playable = tab.page.evaluate(
        """() => ["audio/wav", "audio/mpeg", "audio/ogg; codecs=opus", "audio/flac"].map(
             (type) => new Audio().canPlayType(type))"""
    )
    assert all(playable), playable
    assert tab.page.evaluate("typeof AudioContext") == "function"


def test_type_and_hear(tab: Tab, server: Served) -> None:
    tab.text.fill(" ".join(SENTENCES))
    expect(tab.card).to_contain_text("Fits this machine.")
    expect(tab.card).to_contain_text(f"{len(' '.join(SENTENCES))} of 400 characters")
    expect(tab.card).to_contain_text("3 sentences")
    tab.go.click()
    tab.is_done()
    expect(tab.sentences).to_have_count(3)
    for item, sentence in zip(tab.sentences.all(), SENTENCES, strict=True):
        expect(item).to_contain_text(sentence)
        expect(item).to_have_attribute("data-state", "done")
    expect(tab.state).to_contain_text(re.compile(r"Done · \d+\.\d s of speech in"))
    tab.is_heard()
    pieces = tab.heard()
    assert joined(pieces) == tab.pcm(), "what is heard is what was spoken, to the sample"
    samples = np.concatenate([piece.samples for piece in pieces])
    assert len(samples) / pieces[0].rate_hz > 3
    view = tab.view()
    for sentence in view["sentences"].values():
        start, end = (round(sentence[name] * view["rate_hz"]) for name in ("start_s", "end_s"))
        assert np.abs(samples[start:end]).max() > 1000, "a sentence is silent"
    ends = [sentence["end_s"] for sentence in view["sentences"].values()]
    for at_s, gap_s in gaps(pieces):
        is_between = any(abs(at_s - end_s) < 0.01 for end_s in ends)
        assert gap_s < GAP_S or is_between, f"{gap_s:.3f} s of silence at {at_s:.2f} s"
        assert gap_s > -0.005, "two pieces at once"
    assert pieces[0].state == "speaking", "it was heard before it was done"
    assert is_idle(server.url)
    expect(tab.go).to_be_enabled()
    expect(tab.go).to_have_text("Speak")


@pytest.mark.parametrize("text", ["Yes.", "No"])
def test_one_word_is_heard_whole(tab: Tab, text: str) -> None:
    tab.speak(text)
    tab.is_done()
    tab.is_heard()
    pieces = tab.heard()
    assert joined(pieces) == tab.pcm()
    assert np.abs(np.concatenate([piece.samples for piece in pieces])).max() > 1000


@pytest.mark.slow
def test_a_second_take_is_heard_as_the_first(tab: Tab) -> None:
    tab.speak("Yes.")
    tab.is_done()
    tab.is_heard()
    first = tab.take.get_attribute("src")
    before = len(tab.heard())
    tab.speak("Here is another one.")
    expect(tab.take).not_to_have_attribute("src", first or "")
    tab.is_done()
    tab.is_heard()
    assert joined(tab.heard()[before:]) == tab.pcm()


def test_fourteen_languages_and_automatic(tab: Tab) -> None:
    tab.page.locator("#language input").click()
    options = tab.page.locator("#language").get_by_role("option")
    expect(options).to_have_count(15)
    expect(options.first).to_contain_text("Automatic")
    options.filter(has_text="German").click()
    expect(tab.page.locator("#language input")).to_have_value("German")
    tab.speak("Guten Tag.")
    tab.is_done()


def test_the_counter_follows_what_is_written(tab: Tab) -> None:
    expect(tab.card).to_contain_text("Write what should be said.")
    tab.text.press_sequentially("Hello.")
    expect(tab.card).to_contain_text("6 of 400 characters")
    expect(tab.card).to_contain_text("1 sentence")
    tab.text.fill("")
    expect(tab.card).to_contain_text("Write what should be said.")


def test_past_the_limit_a_click_has_all_of_it_spoken(tab: Tab) -> None:
    tab.text.fill(LONG)
    expect(tab.card.locator(".card")).to_have_class(re.compile("warn"))
    expect(tab.card).to_contain_text("Only the first")
    tab.page.get_by_role("button", name="Split it and speak all").click()
    expect(tab.card).to_contain_text("Fits this machine.")
    expect(tab.card).to_contain_text("18 sentences")
    expect(tab.page.get_by_role("button", name="Split it and speak all")).to_be_hidden()
    tab.go.click()
    expect(tab.sentences).to_have_count(18)
    expect(tab.sentences.last).to_contain_text(SENTENCES[-1])
    tab.take.locator("#stop").click()
    tab.is_done("stopped")


def test_past_the_limit_the_rest_is_cut_off_and_that_is_told(tab: Tab) -> None:
    tab.text.fill(LONG)
    expect(tab.card).to_contain_text("Only the first")
    tab.go.click()
    expect(tab.take.locator("#warnings li")).to_contain_text("characters", timeout=SPOKEN_MS)
    tab.take.locator("#stop").click()
    tab.is_done("stopped")
    assert tab.sentences.count() < 18


@pytest.mark.parametrize("width", [1280, 390])
def test_what_the_server_tells_of_a_text_does_not_move_the_button(
    tabs: NewTab, face: Face, width: int
) -> None:
    """A button that moves between press and release is not clicked."""
    tab = tabs(face, viewport={"width": width, "height": 900})
    before, empty = tab.go.bounding_box(), tab.card.bounding_box()
    tab.text.fill(SENTENCES[0])
    expect(tab.card.locator(".facts")).to_be_visible()
    full = tab.card.bounding_box()
    assert empty and full and full["height"] > empty["height"]
    assert tab.go.bounding_box() == before


def test_nothing_to_speak_is_asked_for(tab: Tab) -> None:
    tab.go.click()
    expect(tab.problem).to_have_text("Write something to be spoken.")
    tab.text.fill("   ")
    tab.go.click()
    expect(tab.problem).to_be_visible()
    expect(tab.take).to_have_count(0)


def test_while_typing_it_is_spoken_before_the_end(tab: Tab, server: Served) -> None:
    tab.mode("As I type")
    live = tab.page.locator("#live textarea")
    live.press_sequentially("The first sentence is here. And now ", delay=5)
    expect(tab.sentences.first).to_contain_text("The first sentence is here.", timeout=SPOKEN_MS)
    expect(tab.sentences.first).to_have_attribute("data-state", "done", timeout=SPOKEN_MS)
    expect(tab.take).to_have_attribute("data-state", "speaking")
    until(lambda: bool(tab.heard()), 20)
    live.press_sequentially("comes the second", delay=5)
    tab.page.get_by_role("button", name="Finish", exact=True).click()
    tab.is_done()
    expect(tab.sentences).to_have_count(2)
    expect(tab.sentences.last).to_contain_text("And now comes the second")
    tab.is_heard()
    assert joined(tab.heard()) == tab.pcm()
    assert is_idle(server.url)


@pytest.mark.slow
def test_what_is_typed_at_once_is_not_said_twice(tab: Tab) -> None:
    tab.mode("As I type")
    live = tab.page.locator("#live textarea")
    live.fill("The first sentence is here. And now ")
    expect(tab.sentences).to_have_count(1, timeout=SPOKEN_MS)
    live.fill("The last sentence is here. And now ")
    live.press_sequentially("a second follows. ")
    tab.page.get_by_role("button", name="Finish", exact=True).click()
    tab.is_done()
    said = " ".join(tab.take.locator("#strip .text").all_inner_texts())
    assert said == "The first sentence is here. And now a second follows."


@pytest.mark.slow
def test_speech_begins_while_the_page_still_loads_what_was_typed(tabs: NewTab, face: Face) -> None:
    """Who types at once keeps what was typed: what the browser kept comes, and is older."""
    tab = tabs(face)
    tab.reload(is_ready=False)
    tab.text.fill("Typed while it loads.")
    tab.is_ready()
    expect(tab.card).to_contain_text("21 of 400 characters")
    expect(tab.text).to_have_value("Typed while it loads.")
