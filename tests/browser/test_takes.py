"""What becomes of a take: it survives, is said again in parts, downloaded, and made again."""

import json
import re
import wave
from pathlib import Path

import av
import numpy as np
import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import NewTab
from tests.browser.face import SPOKEN_MS, Face, Tab, facing
from tests.e2e.serving import Served

SENTENCES = ("The first sentence is here.", "Here comes the second one.", "And the third ends it.")


def spoken(tab: Tab) -> None:
    tab.speak(" ".join(SENTENCES))
    tab.is_done()


def duration_s(path: Path) -> float:
    """Of an audio file, decoded to its end."""
    with av.open(str(path)) as file:
        frames = list(file.decode(audio=0))
    return sum(frame.samples for frame in frames) / frames[0].sample_rate


def test_each_file_has_the_right_name_and_decodes(tab: Tab, tmp_path: Path) -> None:
    spoken(tab)
    seconds = tab.view()["audio_s"]
    title = "The first sentence is here Here comes the second one An"
    for kind in ("wav", "mp3", "opus", "flac", "aac", "srt", "vtt"):
        with tab.page.expect_download() as download:
            tab.take.locator("#files a", has_text=re.compile(f"^{kind.upper()}$")).click()
        found = download.value
        name = found.suggested_filename
        assert name.endswith(f".{kind}") and name.startswith(title[:40]), name
        path = tmp_path / f"file.{kind}"
        found.save_as(path)
        if kind not in ("srt", "vtt"):
            assert duration_s(path) == pytest.approx(seconds, abs=0.25), kind
    with wave.open(str(tmp_path / "file.wav")) as file:
        assert file.readframes(file.getnframes()) == tab.pcm()
    moment = r"(\d\d):(\d\d):(\d\d)[,.](\d\d\d)"
    for kind, mark in (("srt", ","), ("vtt", ".")):
        told = (tmp_path / f"file.{kind}").read_text("utf-8")
        assert told.startswith("WEBVTT\n\n") == (kind == "vtt")
        cues = re.findall(rf"\d+\n{moment} --> {moment}\n(.+)\n", told)
        assert [cue[-1] for cue in cues] == list(SENTENCES)
        ends = [
            sum(int(x) * k for x, k in zip(cue[4:7], (3600, 60, 1), strict=True)) for cue in cues
        ]
        assert ends == sorted(ends) and ends[-1] <= seconds
        assert mark in told


def test_one_sentence_is_said_again_and_the_others_stay(tab: Tab) -> None:
    spoken(tab)
    tab.is_heard()
    before, sound = tab.view(), tab.pcm()
    heard = len(tab.heard())
    second = tab.sentences.nth(1)
    second.get_by_role("button", name="Say sentence 2 again with another seed").click()
    expect(second.locator(".rtf")).to_contain_text("redone", timeout=SPOKEN_MS)
    after, new_sound = tab.view(), tab.pcm()

    def part(view: dict[str, dict[str, dict[str, float]]], pcm: bytes, index: int) -> bytes:
        sentence, rate_hz = view["sentences"][str(index)], float(str(view["rate_hz"]))
        start, end = (2 * round(sentence[name] * rate_hz) for name in ("start_s", "end_s"))
        return pcm[start:end]

    assert part(after, new_sound, 0) == part(before, sound, 0)
    assert part(after, new_sound, 2) == part(before, sound, 2)
    new = part(after, new_sound, 1)
    assert new != part(before, sound, 1)
    assert np.abs(np.frombuffer(new, "<i2")).max() > 1000
    assert after["sentences"]["1"]["seed"] is not None
    tab.is_heard()
    played = b"".join(piece.samples.tobytes() for piece in tab.heard()[heard:])
    assert played == new, "what was said again is heard, from its start to its end"


def test_a_sentence_is_heard_by_a_click(tab: Tab) -> None:
    spoken(tab)
    tab.is_heard()
    heard = len(tab.heard())
    tab.sentences.nth(2).locator(".hear").click()
    expect(tab.sentences.nth(2)).to_have_attribute("aria-current", "true")
    tab.is_heard()
    view, rate_hz = tab.view(), tab.view()["rate_hz"]
    last = view["sentences"]["2"]
    start, end = (2 * round(last[name] * rate_hz) for name in ("start_s", "end_s"))
    assert b"".join(p.samples.tobytes() for p in tab.heard()[heard:]) == tab.pcm()[start:end]


@pytest.mark.slow
def test_pause_and_go_on(tab: Tab) -> None:
    spoken(tab)
    tab.is_heard()
    tab.play.click()
    expect(tab.play).to_have_attribute("data-state", "playing")
    expect(tab.play).to_have_text("Pause")
    tab.play.click()
    expect(tab.play).to_have_attribute("data-state", "paused")
    expect(tab.play).to_have_text("Play")
    tab.play.click()
    tab.is_heard()


def test_waveform_and_spectrogram_are_loaded(tab: Tab) -> None:
    spoken(tab)
    for name in ("waveform", "spectrogram"):
        look = tab.take.locator(f"#{name}")
        expect(look).to_be_visible()
        mask = look.evaluate("(element) => getComputedStyle(element).maskImage")
        (url,) = re.findall(r'url\("([^"]+)"\)', mask)
        answer = tab.page.request.get(url)
        assert answer.ok and answer.body().startswith(b"\x89PNG")


def test_a_receipt_tells_and_copies(tabs: NewTab, face: Face) -> None:
    tab = tabs(face, permissions=["clipboard-read", "clipboard-write"])
    spoken(tab)
    tab.take.locator("#receipt summary").click()
    figures = tab.take.locator("#figures")
    for label in ("Seed", "Voice", "RTF", "Latency", "Engine"):
        expect(figures).to_contain_text(label)
    seed = tab.view()["figures"]["seed"]
    expect(figures).to_contain_text(str(seed))
    for name, begins in (("curl", "curl -f"), ("Python", "import "), ("shoal say", "shoal say")):
        button = tab.take.get_by_role("button", name=f"Copy as {name}", exact=True)
        button.click()
        expect(tab.take.get_by_role("button", name="Copied")).to_be_visible()
        copied = tab.page.evaluate("navigator.clipboard.readText()")
        assert copied.startswith(begins) and str(seed) in copied
        expect(button).to_be_visible()


@pytest.mark.slow
def test_where_there_is_no_clipboard_the_command_is_shown(tab: Tab) -> None:
    tab.page.add_init_script("delete Navigator.prototype.clipboard")
    tab.reload()
    spoken(tab)
    tab.take.locator("#receipt summary").click()
    tab.take.get_by_role("button", name="Copy as curl").click()
    command = tab.take.locator("#command")
    expect(command).to_be_visible()
    expect(command).to_have_value(re.compile("^curl -f"))


def test_a_reload_keeps_text_settings_and_takes(tab: Tab) -> None:
    tab.settings()
    tab.page.get_by_label("Seed", exact=True).fill("42")
    tab.choose("language", "German")
    spoken(tab)
    src = tab.take.get_attribute("src")
    tab.speak("Another one.")
    expect(tab.take).not_to_have_attribute("src", src or "")
    tab.is_done()
    newest = tab.take.get_attribute("src")
    tab.text.fill("Not spoken yet.")
    expect(tab.card).to_contain_text("15 of 400")
    tab.reload()
    expect(tab.text).to_have_value("Not spoken yet.")
    expect(tab.page.locator("#language input")).to_have_value("German")
    tab.settings()
    expect(tab.page.get_by_label("Seed", exact=True)).to_have_value("42")
    expect(tab.take).to_have_attribute("src", newest or "")
    expect(tab.state).to_contain_text("Done")
    assert not tab.heard(), "nothing sounds by itself after a reload"
    tab.page.locator("#earlier .label-wrap").click()
    tab.page.locator("#takes input").click()
    tab.page.locator("#takes").get_by_role("option").filter(has_text="The first").click()
    expect(tab.take).to_have_attribute("src", src or "")
    expect(tab.sentences).to_have_count(3)
    tab.play.click()
    tab.is_heard()
    assert b"".join(piece.samples.tobytes() for piece in tab.heard()) == tab.pcm()


@pytest.mark.slow
def test_a_deleted_take_is_gone(tab: Tab, face: Face) -> None:
    spoken(tab)
    src = tab.take.get_attribute("src") or ""
    folder = face.folder / "ui" / "takes" / src.rpartition("/")[2]
    assert folder.is_dir()
    tab.page.locator("#earlier .label-wrap").click()
    tab.page.get_by_role("button", name="Delete this take").click()
    expect(tab.take).to_have_count(0)
    expect(tab.page.locator("#take .empty")).to_be_visible()
    assert not folder.exists()
    tab.reload()
    expect(tab.page.locator("#take .empty")).to_be_visible()


@pytest.mark.slow
def test_a_restart_of_the_page_keeps_text_settings_and_takes(
    browser: Browser, server: Served, tmp_path: Path
) -> None:
    with facing(server.url, tmp_path) as face:
        tab = Tab(face, browser.new_context()).open()
        tab.settings()
        tab.page.get_by_label("Seed", exact=True).fill("7")
        spoken(tab)
        src, pcm = tab.take.get_attribute("src"), tab.pcm()
        expect(tab.page.locator("#status")).to_contain_text("CPU")
        tab.page.wait_for_function("localStorage.getItem('shoal')")
        tab.forgives.append(".*")  # while the page's process is away
    with facing(server.url, tmp_path, int(face.url.rpartition(":")[2])) as face:
        tab.face = face
        tab.page.goto(face.url)
        tab.is_ready()
        expect(tab.text).to_have_value(" ".join(SENTENCES))
        expect(tab.take).to_have_attribute("src", src or "")
        tab.settings()
        expect(tab.page.get_by_label("Seed", exact=True)).to_have_value("7")
        assert tab.pcm() == pcm
        tab.close()


@pytest.mark.slow
def test_the_data_on_disk_is_what_the_page_shows(tab: Tab, face: Face) -> None:
    spoken(tab)
    src = tab.take.get_attribute("src") or ""
    folder = face.folder / "ui" / "takes" / src.rpartition("/")[2]
    record = json.loads((folder / "take.json").read_text("utf-8"))
    assert record["state"] == "done"
    assert [each["text"] for each in record["sentences"]] == list(SENTENCES)
    assert (folder / "speech.pcm").read_bytes() == tab.pcm()
