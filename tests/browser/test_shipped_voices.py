"""Voices that a checkpoint ships, on both pages: chosen as any other, and not to be changed."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, expect

from backend.core import ReferenceCodes
from backend.model.config import codec_fingerprint
from backend.settings import SHIPPED_VOICE_DIR
from backend.voices.shipped import VOICES_FOLDER, write_shipped
from tests.browser import streamlit_face
from tests.browser.face import Tab
from tests.e2e.serving import VOICE, Served, serving

CODEC = VOICE.codec
FRAMES = 60
AUDIO_S = FRAMES / CODEC.frame_rate_hz


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("checkpoint") / "with-a-voice"
    shutil.copytree(SHIPPED_VOICE_DIR, folder, ignore=shutil.ignore_patterns(VOICES_FOLDER))
    books = CODEC.num_codebooks
    most = min(CODEC.semantic_codebook_size, CODEC.residual_codebook_size)
    drawn = np.random.default_rng(1).integers(0, most, (books, FRAMES)).astype("<u2")
    codes = ReferenceCodes(drawn.tobytes(), books, codec_fingerprint(folder), AUDIO_S)
    write_shipped(folder / VOICES_FOLDER, "Low", codes, "What is said in it.")
    with serving(SHOAL_MODEL_DIR=str(folder)) as served:
        yield served


def test_gradio(tab: Tab) -> None:
    page = tab.page
    tab.choose("voice", "Low")
    tab.tab("Voices")
    expect(page.locator("#voices-list tr", has_text="Low")).to_contain_text("shipped")
    tab.choose("voice-choice", "Low")
    page.get_by_role("button", name="Rename, or correct its transcript").click()
    for name in ("Delete", "Save the changes"):
        shown = page.get_by_role("button", name=name, exact=True).locator("visible=true")
        expect(shown).to_be_disabled()
    page.get_by_role("button", name="Listen", exact=True).locator("visible=true").click()
    heard = page.get_by_role("tabpanel").get_by_test_id("waveform-How it sounds").first
    expect(heard).to_be_visible(timeout=60_000)


def test_streamlit(browser: Browser, server: Served, tmp_path: Path) -> None:
    with streamlit_face.showing(server.url, tmp_path) as shown:
        tab = streamlit_face.new_tab(browser, shown.url)
        tab.open("voices")
        page = tab.page
        expect(page.get_by_role("cell", name="shipped")).to_be_visible()
        expect(page.get_by_role("button", name="Delete", exact=True)).to_be_disabled()
        page.get_by_text("Rename, or correct its transcript").click()
        expect(page.get_by_role("button", name="Save the changes")).to_be_disabled()
        expect(page.get_by_role("button", name="Listen")).to_be_enabled()
        tab.context.close()
        assert tab.wrong == []
