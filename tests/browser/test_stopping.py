"""Whatever ends a take in the page ends it in the server: a click, a closed tab, a killed page."""

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import NewTab
from tests.browser.face import SPOKEN_MS, Face, Tab, facing, is_idle, new_tab, rows, until
from tests.e2e.serving import Served, serving

CHAPTER = "It was a long day, and nobody knew how it would end. " * 30


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    """It speaks one request after another."""
    with serving(SHOAL_MAX_BATCH="1", LONG_TEXT="split") as served:
        yield served


def begin(tab: Tab) -> None:
    """Something long is being spoken."""
    tab.text.fill(CHAPTER)
    tab.page.get_by_role("button", name="Split it and speak all").click()
    tab.go.click()
    expect(tab.take).to_have_attribute("data-state", "speaking", timeout=SPOKEN_MS)


def test_stop_midway_stops_the_server_within_a_second(tab: Tab, server: Served) -> None:
    begin(tab)
    expect(tab.sentences.nth(1)).to_have_attribute("data-state", "done", timeout=SPOKEN_MS)
    assert rows(server.url) == 1
    tab.take.locator("#stop").click()
    until(lambda: is_idle(server.url), 1)
    tab.is_done("stopped")
    expect(tab.state).to_have_text("Stopped. What was spoken so far is kept.")
    expect(tab.take.locator("#stop")).to_be_hidden()
    expect(tab.take.locator("#after")).to_be_visible()
    expect(tab.go).to_be_enabled()
    assert tab.view()["audio_s"] > 1


@contextmanager
def others(url: str, count: int) -> Iterator[None]:
    """So many other clients have something long spoken; sentences take turns."""
    is_over = Event()

    def speak() -> None:
        fields = {"text": CHAPTER, "stream": True, "response_format": "pcm", "long_text": "split"}
        with httpx.stream("POST", f"{url}/tts", json=fields, timeout=60) as answer:
            for _ in answer.iter_bytes():
                if is_over.is_set():
                    return

    threads = [Thread(target=speak) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: requests(url) == count, 20)
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join(30)


def requests(url: str) -> int:
    queue = httpx.get(f"{url}/health").json()["queue"]
    return int(queue["speaking"] + queue["waiting"])


def test_stop_while_it_waits_for_its_turn(tab: Tab, server: Served) -> None:
    with others(server.url, 8):
        tab.speak("This waits.")
        expect(tab.take).to_have_attribute("data-state", "waiting")
        expect(tab.state).to_contain_text("Waiting for its turn")
        assert requests(server.url) == 9
        tab.take.locator("#stop").click()
        until(lambda: requests(server.url) == 8, 1)
        tab.is_done("stopped")
        assert not tab.heard()
    until(lambda: is_idle(server.url), 5)


def test_a_closed_tab_frees_the_server_within_two_seconds(
    browser: Browser, face: Face, server: Served
) -> None:
    tab = new_tab(browser, face).open()
    begin(tab)
    assert rows(server.url) == 1
    tab.close()
    until(lambda: is_idle(server.url), 2)


@pytest.mark.slow
def test_text_while_typed_ends_with_its_tab(browser: Browser, face: Face, server: Served) -> None:
    tab = new_tab(browser, face).open()
    tab.mode("As I type")
    tab.page.locator("#live textarea").fill(CHAPTER)
    expect(tab.take).to_have_attribute("data-state", "speaking", timeout=SPOKEN_MS)
    tab.close()
    until(lambda: is_idle(server.url), 2)


@pytest.mark.slow
def test_stop_of_text_while_typed(tab: Tab, server: Served) -> None:
    tab.mode("As I type")
    live = tab.page.locator("#live textarea")
    live.fill(CHAPTER)
    expect(tab.take).to_have_attribute("data-state", "speaking", timeout=SPOKEN_MS)
    tab.take.locator("#stop").click()
    until(lambda: is_idle(server.url), 1)
    tab.is_done("stopped")
    live.fill("Something else is typed now. And then ")
    expect(tab.take).not_to_have_attribute("data-state", "stopped", timeout=SPOKEN_MS)
    expect(tab.sentences.first).to_contain_text("Something else", timeout=SPOKEN_MS)
    tab.take.locator("#stop").click()
    tab.is_done("stopped")


def test_a_take_that_was_stopped_is_spoken_again(tab: Tab, server: Served) -> None:
    with others(server.url, 4):  # alone it would be over before anybody could stop it
        tab.text.fill("This is spoken twice. " * 6)
        tab.go.click()
        expect(tab.take).to_have_attribute("data-state", "speaking", timeout=SPOKEN_MS)
        tab.take.locator("#stop").click()
        tab.is_done("stopped")
    tab.take.get_by_role("button", name="Try again").click()
    tab.is_done()
    tab.is_heard()
    assert tab.heard()[-1].state in ("speaking", "done")


@pytest.mark.slow
def test_a_killed_page_frees_the_server_and_its_takes_survive(
    tabs: NewTab, browser: Browser, server: Served, tmp_path: Path
) -> None:
    context = browser.new_context()
    with facing(server.url, tmp_path) as face:
        tab = Tab(face, context).open()
        tab.forgives.append(".*")  # whatever Gradio says of a page that is gone
        begin(tab)
        expect(tab.sentences.first).to_have_attribute("data-state", "done", timeout=SPOKEN_MS)
        face.process.send_signal(signal.SIGKILL)
        until(lambda: is_idle(server.url), 2)
        port = int(face.url.rpartition(":")[2])
    with facing(server.url, tmp_path, port) as face:
        tab.face = face
        tab.page.goto(face.url)
        tab.is_ready()
        tab.is_done("stopped")
        expect(tab.state).to_contain_text("The page was closed while this was being spoken.")
        expect(tab.take.locator("#after")).to_be_visible()
        expect(tab.sentences.first).to_have_attribute("data-state", "done")
        expect(tab.text).to_have_value(CHAPTER)
        assert tab.view()["audio_s"] > 0
        tab.close()


@pytest.mark.slow
def test_a_hundred_thousand_characters_are_begun_and_stopped(tab: Tab, server: Served) -> None:
    text = ("It was a long day, and nobody knew how it would end. " * 1900)[:99_999] + "."
    tab.text.fill(text)
    expect(tab.card).to_contain_text("100,000", timeout=SPOKEN_MS)
    tab.page.get_by_role("button", name="Split it and speak all").click()
    tab.go.click()
    expect(tab.take).to_have_attribute("data-state", "speaking", timeout=SPOKEN_MS)
    expect(tab.state).to_contain_text(re.compile(r"of 1,?8\d\d"), timeout=SPOKEN_MS)
    expect(tab.sentences.first).to_have_attribute("data-state", "done", timeout=SPOKEN_MS)
    tab.take.locator("#stop").click()
    until(lambda: is_idle(server.url), 2)
    tab.is_done("stopped")


def test_two_people_speak_and_do_not_see_each_other(
    tabs: NewTab, face: Face, server: Served
) -> None:
    one, other = tabs(face), tabs(face)
    one.speak("This is mine alone.")
    other.speak("And this one is theirs.")
    one.is_done()
    other.is_done()
    expect(one.sentences).to_have_text([re.compile("This is mine alone")])
    expect(other.sentences).to_have_text([re.compile("And this one is theirs")])
    assert one.pcm() != other.pcm()
    for tab, own in ((one, "This is mine"), (other, "And this one")):
        tab.page.locator("#earlier .label-wrap").click()
        tab.page.locator("#takes input").click()
        options = tab.page.locator("#takes").get_by_role("option")
        expect(options).to_have_count(1)
        expect(options).to_contain_text(own)


@pytest.mark.slow
def test_many_tabs_of_one_browser_are_alive(browser: Browser, face: Face) -> None:
    """A browser has six connections to a host, over all its tabs."""
    first = new_tab(browser, face).open()
    first.speak("One word.")
    first.is_done()
    pages = [first.context.new_page() for _ in range(3)]
    for page in pages:
        page.goto(face.url)
        expect(page.locator("shoal-take #state")).to_contain_text("Done", timeout=30_000)
        expect(page.locator("#status")).to_contain_text("CPU", timeout=30_000)
    first.text.fill("It still answers.")
    expect(first.card).to_contain_text("17 of 400", timeout=30_000)
    first.close()
