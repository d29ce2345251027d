"""A voice from a recording: spoken in, saved, heard, renamed, exported, deleted, imported."""

import re
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
from playwright.sync_api import Locator, expect

from tests.browser.conftest import NewTab
from tests.browser.face import SPOKEN_MS, Face, Tab
from tests.e2e.serving import Served

WORDS = "It was a long day, and nobody knew how it would end. We waited for the night to come."
UPLOADS = "warning: Method not implemented"
"""Gradio's client says so whenever it uploads."""


@pytest.fixture(scope="module")
def recordings(server: Served, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Some seconds of speech, as the wav of a program and as the m4a of a phone."""
    folder = tmp_path_factory.mktemp("recordings")
    answer = httpx.post(f"{server.url}/tts", json={"text": WORDS, "seed": 3}, timeout=120)
    answer.raise_for_status()
    wav, m4a = folder / "a voice.wav", folder / "Neue Aufnahme 3.m4a"
    wav.write_bytes(answer.content)
    with av.open(str(wav)) as source, av.open(str(m4a), "w", format="ipod") as target:
        rate_hz = source.streams.audio[0].rate
        stream = target.add_stream("aac", rate=rate_hz, layout="mono")
        assert isinstance(stream, av.AudioStream)
        for frame in source.decode(audio=0):
            frame.pts = None
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return {"wav": wav, "m4a": m4a}


def upload(tab: Tab, file: Path) -> None:
    """Give the recording that the open tab asks for."""
    tab.forgives.append(UPLOADS)
    box = tab.page.get_by_role("tabpanel").locator("input[type=file][accept*=audio]")
    box.set_input_files(file)
    expect(box).to_have_count(0, timeout=30_000)


def bring(tab: Tab, file: Path) -> None:
    """Give a voice's file."""
    tab.forgives.append(UPLOADS)
    tab.page.locator("input[type=file][accept*=voice]").set_input_files(file)


def voices(server: Served) -> list[str]:
    found = httpx.get(f"{server.url}/voices").json()["voices"]
    return [voice["name"] for voice in found]


def button(tab: Tab, name: str) -> Locator:
    return tab.page.get_by_role("button", name=name, exact=True).locator("visible=true")


def sample(tab: Tab) -> Locator:
    """Where a voice is heard."""
    return tab.page.get_by_role("tabpanel").get_by_test_id("waveform-How it sounds").first


@pytest.mark.parametrize("kind", ["wav", "m4a"])
def test_a_recording_is_spoken_in_and_saved(
    tab: Tab, server: Served, recordings: dict[str, Path], kind: str
) -> None:
    tab.choose("voice", "From a recording …")
    tab.speak("Without a recording.")
    expect(tab.problem).to_have_text("Record or upload the voice first.")
    upload(tab, recordings[kind])
    tab.page.locator("#transcript textarea").fill(WORDS)
    tab.speak("This is said in the voice of the recording.")
    tab.is_done()
    tab.is_heard()
    samples = np.concatenate([piece.samples for piece in tab.heard()])
    assert np.abs(samples).max() > 1000
    tab.take.locator("#receipt summary").click()
    expect(tab.take.locator("#figures")).to_contain_text("a recording")
    name = f"From {kind}"
    tab.page.locator("#new-name input, #new-name textarea").first.fill(name)
    button(tab, "Save voice").click()
    expect(tab.page.locator("#voice input")).to_have_value(name, timeout=SPOKEN_MS)
    assert name in voices(server)
    tab.speak("And now by its name.")
    tab.is_done()
    tab.take.locator("#receipt summary").click()
    expect(tab.take.locator("#figures")).to_contain_text(name)
    button(tab, "Listen to this voice").click()
    expect(sample(tab)).to_be_visible(timeout=SPOKEN_MS)


@pytest.mark.slow
def test_from_saving_to_deleting(
    tab: Tab, server: Served, recordings: dict[str, Path], tmp_path: Path
) -> None:
    page = tab.page
    tab.tab("Voices")
    upload(tab, recordings["wav"])
    page.locator("#voice-name input, #voice-name textarea").first.fill("Zoë")
    page.locator("#voice-save").click()
    expect(page.locator("#voices-note")).to_contain_text("Zoë is saved", timeout=SPOKEN_MS)
    row = page.locator("#voices-list tr", has_text="Zoë")
    expect(row).to_be_visible()
    expect(page.locator("#voice-choice input")).to_have_value("Zoë")

    button(tab, "Listen").click()
    expect(sample(tab)).to_be_visible(timeout=SPOKEN_MS)

    page.get_by_role("button", name="Rename, or correct its transcript").click()
    shown_name = page.get_by_label("Name").and_(page.locator(":visible")).first
    expect(shown_name).to_have_value("Zoë")  # Gradio fills in what it folds out a moment later
    shown_name.fill("Zoë 2")
    page.get_by_label(re.compile("What is said in its recording")).fill(WORDS)
    button(tab, "Save the changes").click()
    expect(page.locator("#voices-note")).to_contain_text("Zoë 2 is changed")
    assert "Zoë 2" in voices(server) and "Zoë" not in voices(server)
    row = page.locator("#voices-list tr", has_text="Zoë 2")
    expect(row).to_contain_text("yes")

    with page.expect_download() as download:
        row.get_by_role("link", name="Export").click()
    assert download.value.suggested_filename == "Zoë 2.voice"
    exported = tmp_path / "Zoë 2.voice"
    download.value.save_as(exported)

    button(tab, "Delete").click()
    button(tab, "Keep it").click()
    expect(button(tab, "Delete it")).to_have_count(0)
    assert "Zoë 2" in voices(server)
    button(tab, "Delete").click()
    button(tab, "Delete it").click()
    expect(page.locator("#voices-note")).to_contain_text("is deleted")
    assert "Zoë 2" not in voices(server)

    bring(tab, exported)
    expect(page.locator("#voices-note")).to_contain_text("Zoë 2 is imported", timeout=SPOKEN_MS)
    assert "Zoë 2" in voices(server)
    tab.tab("Speak")
    tab.choose("voice", "Zoë 2")
    tab.speak("Back again.")
    tab.is_done()


def test_what_is_no_recording_and_no_voice_is_told(
    tab: Tab, server: Served, tmp_path: Path
) -> None:
    tab.tab("Voices")
    broken = tmp_path / "broken.voice"
    broken.write_bytes(b"no voice at all")
    bring(tab, broken)
    expect(tab.page.locator("#voices-note .problem")).to_be_visible(timeout=SPOKEN_MS)
    tab.page.locator("#voice-save").click()
    expect(tab.page.locator("#voices-note .problem")).to_have_text(
        "Record or upload the voice first."
    )


def test_a_dialogue_has_two_voices(
    tabs: NewTab, face: Face, server: Served, recordings: dict[str, Path]
) -> None:
    names = ["Ada", "Ben"]
    for name in names:
        audio = {"audio": recordings["wav"].read_bytes()}
        saved = httpx.post(f"{server.url}/voices", data={"name": name}, files=audio, timeout=60)
        saved.raise_for_status()
    tab = tabs(face)
    tab.mode("Dialogue")
    lines = ("Good morning, how are you?", "I am fine, thank you.")
    for number, line in enumerate(lines, start=1):
        tab.page.get_by_label(f"Line {number}", exact=True).fill(line)
        choice = tab.page.get_by_label(f"Voice {number}", exact=True)
        choice.click()
        tab.page.get_by_role("option", name=names[number - 1], exact=True).click()
        expect(tab.page.get_by_role("option")).to_have_count(0)
    button(tab, "Speak").click()
    tab.is_done()
    expect(tab.sentences).to_have_count(2)
    for item, line, name in zip(tab.sentences.all(), lines, names, strict=False):
        expect(item).to_contain_text(line)
        expect(item.locator(".voice")).to_have_text(name)


@pytest.mark.slow
def test_five_hundred_voices_are_usable(
    tabs: NewTab, face: Face, server: Served, recordings: dict[str, Path]
) -> None:
    recording = recordings["wav"].read_bytes()
    with httpx.Client(base_url=server.url, timeout=60) as http:
        http.post("/voices", data={"name": "seed"}, files={"audio": recording}).raise_for_status()
        exported = http.get("/voices/seed/export").content
        for number in range(500):
            answer = http.post(
                "/voices/import",
                data={"name": f"Voice {number:03}"},
                files={"file": ("x.voice", exported)},
            )
            answer.raise_for_status()
    tab = tabs(face)
    box = tab.page.locator("#voice input")
    box.click()
    expect(tab.page.locator("#voice").get_by_role("option")).not_to_have_count(0)
    box.clear()
    box.press_sequentially("Voice 437")
    tab.page.locator("#voice").get_by_role("option", name="Voice 437", exact=True).click()
    expect(box).to_have_value("Voice 437")
    tab.speak("One of five hundred.")
    tab.is_done()
    tab.tab("Voices")
    expect(tab.page.locator("#voices-list tr")).to_have_count(len(voices(server)) + 1)
    height = tab.page.locator("#voices-list").bounding_box()
    assert height is not None and height["height"] < 900, "the list scrolls in itself"
