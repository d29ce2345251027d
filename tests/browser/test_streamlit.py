"""The Streamlit page in a real browser, in front of a real server."""

import http.server
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, FilePayload, expect

from tests.browser.streamlit_face import Shown, Tab, new_tab, showing
from tests.e2e.serving import Served, serving
from ui.words import LANGUAGES

pytestmark = pytest.mark.timeout(300)
SHORT = "Good morning. The sea is calm today."
LONG = "The boats went out before the sun was up, and nobody on the shore could see them. " * 60
OpenTab = Callable[..., Tab]
LIBRARY_AXE = {"presentation-role-conflict"}
"""What axe says of Streamlit's own file uploader, which no page can mend."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("metrics")
    environment = {"SHOAL_METRICS_DIR": str(folder), "SHOAL_SHIPPED_VOICES": "false"}
    with serving(SHOAL_METRICS="true", **environment) as served:
        yield served


@pytest.fixture(scope="module")
def shown(server: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    with showing(server.url, tmp_path_factory.mktemp("page")) as shown:
        yield shown


@pytest.fixture
def open_tab(browser: Browser, shown: Shown) -> Iterator[OpenTab]:
    tabs: list[Tab] = []

    def open_one(path: str = "", **looks: object) -> Tab:
        tabs.append(new_tab(browser, shown.url, **looks))  # type: ignore[arg-type]
        tabs[-1].open(path)
        return tabs[-1]

    yield open_one
    for tab in tabs:
        tab.context.close()
        assert tab.wrong == []


@pytest.fixture
def tab(open_tab: OpenTab) -> Tab:
    return open_tab()


def in_work(server: Served) -> int:
    """Requests that the server speaks or that wait for it."""
    queue = httpx.get(f"{server.url}/health").json()["queue"]
    return int(queue["speaking"]) + int(queue["waiting"])


def wait_for(what: Callable[[], bool], most_s: float) -> float:
    """Seconds until `what` is true."""
    began_s = time.monotonic()
    never = threading.Event()
    while not what():
        assert time.monotonic() - began_s < most_s, "it did not happen in time"
        never.wait(0.02)
    return time.monotonic() - began_s


# -- speaking -------------------------------------------------------------------------------------


def test_type_and_hear(tab: Tab) -> None:
    tab.write(SHORT)
    expect(tab.page.locator(".counter")).to_have_text(re.compile(rf"^{len(SHORT)} of \d+ char"))
    expect(tab.page.locator(".card .head")).to_have_text("Fits this machine.")
    tab.speak()
    expect(tab.take().locator("#play[data-state=playing]")).to_be_visible(timeout=60_000)
    take = tab.until("done")
    expect(take.locator("#strip li[data-state=done]")).to_have_count(2)
    expect(take.locator("#strip li").first).to_contain_text("Good morning.")
    expect(take.locator("#strip li .rtf").first).to_have_text(re.compile(r"RTF \d"))
    expect(tab.page.get_by_role("button", name="Speak", exact=True)).to_be_enabled()
    with tab.page.expect_download() as download:
        take.get_by_role("link", name="MP3").click()
    assert download.value.suggested_filename == "Good morning The sea is calm today.mp3"
    assert Path(download.value.path()).read_bytes()[:3] in (
        b"ID3",
        b"\xff\xfb\x90",
        b"\xff\xf3\x40",
    )
    take.get_by_text("Receipt").click()
    expect(take.locator("#figures")).to_contain_text("Seed")
    expect(take.get_by_role("button", name="Copy as curl")).to_be_visible()


def test_one_word_is_spoken(tab: Tab) -> None:
    tab.write("Yes")
    tab.speak()
    expect(tab.until("done").locator("#strip li")).to_have_count(1)


def test_a_click_straight_after_typing_is_not_lost(tab: Tab) -> None:
    """Leaving the field draws the page anew; the button must still be under the mouse."""
    field = tab.page.get_by_label("Text", exact=True)
    field.click()
    field.press_sequentially("Hello there.")
    tab.speak()
    expect(tab.take()).to_be_visible()
    assert tab.take().get_attribute("src")
    tab.until("done")


def test_settings_reach_the_server(tab: Tab) -> None:
    tab.page.get_by_text("Settings", exact=True).click()
    tab.page.get_by_role("spinbutton", name="Seed").fill("77")
    tab.page.get_by_role("spinbutton", name="Seed").press("Enter")
    tab.write("Hello.")
    tab.speak()
    take = tab.until("done")
    take.get_by_text("Receipt").click()
    expect(take.locator("#figures dd").first).to_have_text("77")


def test_what_does_not_fit_is_mended_by_a_button(tab: Tab) -> None:
    tab.write(LONG * 3)
    expect(tab.page.locator(".card.warn")).to_be_visible(timeout=30_000)
    tab.page.get_by_role("button", name="Split it and speak all").click()
    expect(tab.page.locator(".card.warn")).to_have_count(0)


def test_nothing_to_speak_is_told_where_it_happened(tab: Tab) -> None:
    tab.speak()
    expect(tab.page.get_by_role("alert")).to_have_text("Write something to be spoken.")


def test_a_dialogue(tab: Tab) -> None:
    tab.mode("Dialogue")
    tab.page.get_by_label("Line 1").fill("Are you there?")
    tab.page.get_by_label("Line 2").fill("I am here.")
    tab.page.get_by_label("Line 2").press("Enter")
    tab.speak()
    expect(tab.until("done").locator("#strip li")).to_have_count(2)


def test_lines_are_spoken_as_they_are_entered(tab: Tab) -> None:
    tab.mode("As I type")
    line = tab.page.get_by_placeholder("Write a line and press Enter to hear it")
    line.fill("First line")
    line.press("Enter")
    expect(tab.take().locator("#strip li[data-state=done]")).to_have_count(1, timeout=60_000)
    line.fill("Second line")
    line.press("Enter")
    expect(tab.take().locator("#strip li[data-state=done]")).to_have_count(2, timeout=60_000)
    tab.page.get_by_role("button", name="Finish").click()
    tab.until("done")


def test_one_sentence_said_again(tab: Tab) -> None:
    tab.write(SHORT)
    tab.speak()
    take = tab.until("done")
    take.get_by_role("button", name="Say sentence 1 again with another seed").click()
    expect(take.locator("#strip li .rtf").first).to_contain_text("redone", timeout=60_000)


# -- stopping -------------------------------------------------------------------------------------


def speak_long(tab: Tab, server: Served) -> None:
    tab.write(LONG)  # cut at its limit it is over in a second
    tab.page.get_by_role("button", name="Split it and speak all").click()
    tab.speak()
    wait_for(lambda: in_work(server) == 1, 30)


def test_stop_frees_the_row(tab: Tab, server: Served) -> None:
    speak_long(tab, server)
    tab.take().get_by_role("button", name="Stop").click()
    wait_for(lambda: in_work(server) == 0, 5)
    expect(tab.until("stopped").locator("#state")).to_contain_text("Stopped")
    expect(tab.page.get_by_role("button", name="Speak", exact=True)).to_be_enabled()


@contextmanager
def crowd(server: Served) -> Iterator[int]:
    """So many others speak long texts that some of them wait."""
    body = json.dumps({"text": LONG * 2, "long_text": "split", "stream": True})
    host = urlsplit(server.url).netloc
    with ExitStack() as held:
        for _ in range(12):
            other = held.enter_context(closing(HTTPConnection(host)))
            other.request("POST", "/tts", body, {"Content-Type": "application/json"})
        wait_for(lambda: in_work(server) == 12, 60)
        yield 12


def test_stop_frees_the_place_in_the_queue(tab: Tab, server: Served) -> None:
    tab.write(LONG)
    with crowd(server) as others:
        tab.speak()
        wait_for(lambda: in_work(server) == others + 1, 30)
        expect(tab.take("waiting")).to_be_visible()
        tab.take().get_by_role("button", name="Stop").click()
        wait_for(lambda: in_work(server) == others, 5)
        expect(tab.take("stopped")).to_be_visible()
    wait_for(lambda: in_work(server) == 0, 30)


def test_a_closed_tab_frees_the_row(tab: Tab, server: Served) -> None:
    speak_long(tab, server)
    tab.page.close()
    assert wait_for(lambda: in_work(server) == 0, 5) < 1.5


def test_another_page_of_ours_does_not_end_the_speech(tab: Tab, server: Served) -> None:
    speak_long(tab, server)
    tab.page.get_by_role("link", name="System").first.click()
    expect(tab.page.get_by_role("heading", name="Now")).to_be_visible()
    expect(tab.page.locator(".chip")).to_contain_text("1 speaking", timeout=10_000)
    tab.page.get_by_role("link", name="Speak").first.click()
    tab.take().get_by_role("button", name="Stop").click()
    wait_for(lambda: in_work(server) == 0, 5)


def test_a_killed_process_frees_the_row(browser: Browser, server: Served, tmp_path: Path) -> None:
    with showing(server.url, tmp_path) as shown:
        tab = new_tab(browser, shown.url)
        tab.open()
        speak_long(tab, server)
        for process in shown.everything():
            process.kill()
        assert wait_for(lambda: in_work(server) == 0, 5) < 1.0
        tab.context.close()
    with showing(server.url, tmp_path) as again:
        takes = list((tmp_path / "ui" / "takes").glob("*/take.json"))
        wait_for(lambda: httpx.get(f"{again.url}/_stcore/health").text == "ok", 10)
        assert [json.loads(take.read_text())["state"] for take in takes] == ["stopped"]


def test_it_ends_when_told_while_a_tab_is_open(
    browser: Browser, server: Served, tmp_path: Path
) -> None:
    with showing(server.url, tmp_path) as shown:
        tab = new_tab(browser, shown.url)
        tab.open()
        speak_long(tab, server)
        everything = shown.everything()
        shown.process.terminate()
        _, alive = psutil.wait_procs(everything, 4)
        assert not alive
        wait_for(lambda: in_work(server) == 0, 5)
        tab.context.close()


# -- what is kept ---------------------------------------------------------------------------------


def test_a_reload_keeps_takes_text_and_settings(tab: Tab) -> None:
    tab.page.get_by_text("Settings", exact=True).click()
    tab.page.get_by_role("spinbutton", name="Seed").fill("12345")
    tab.page.get_by_role("spinbutton", name="Seed").press("Enter")
    tab.choose("Language", "German")
    tab.write(SHORT)
    tab.speak()
    source = tab.until("done").get_attribute("src")
    tab.page.reload()
    tab.settle()
    expect(tab.take("done")).to_have_attribute("src", str(source))
    expect(tab.page.get_by_label("Text", exact=True)).to_have_value(SHORT)
    tab.page.get_by_text("Settings", exact=True).click()
    expect(tab.page.get_by_role("spinbutton", name="Seed")).to_have_value("12345")
    expect(tab.page.get_by_role("combobox", name="Language")).to_have_value("German")
    expect(tab.take().locator("#play")).to_have_text("Play")


def test_another_browser_sees_none_of_it(open_tab: OpenTab) -> None:
    first = open_tab()
    first.write("A secret.")
    first.speak()
    first.until("done")
    second = open_tab()
    expect(second.page.locator(".empty")).to_be_visible()
    expect(second.page.get_by_text("Earlier takes")).to_have_count(0)


def test_settings_outlive_a_look_at_another_page(tab: Tab) -> None:
    tab.write("To be kept.")
    tab.choose("Language", "French")
    tab.page.wait_for_function("localStorage.shoal.includes('\"fr\"')")
    tab.page.get_by_role("link", name="Emotion guide").first.click()
    expect(tab.page.get_by_role("heading", name="Where emotion comes from")).to_be_visible()
    tab.page.get_by_role("link", name="Speak").first.click()
    expect(tab.page.get_by_label("Text", exact=True)).to_have_value("To be kept.")
    expect(tab.page.get_by_role("combobox", name="Language")).to_have_value("French")


def test_every_language_is_offered(tab: Tab) -> None:
    for name in LANGUAGES.values():
        tab.choose("Language", name)
        expect(tab.page.get_by_role("combobox", name="Language")).to_have_value(name)
    assert len(LANGUAGES) == 15


# -- voices ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recording(server: Served) -> FilePayload:
    answer = httpx.post(f"{server.url}/tts", data={"text": LONG[:160]}, timeout=120)
    return {"name": "me.wav", "mimeType": "audio/wav", "buffer": answer.content}


def test_clone_from_a_recording(tab: Tab, recording: FilePayload) -> None:
    tab.choose("Voice", "From a recording …")
    tab.page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(recording)
    expect(tab.page.locator("audio[data-testid=stAudio]")).to_be_visible()
    tab.write("Hello.")
    tab.speak()
    take = tab.until("done")
    take.get_by_text("Receipt").click()
    expect(take.locator("#figures")).to_contain_text("a recording")


@pytest.mark.slow
def test_make_hear_rename_export_delete_and_import_a_voice(
    open_tab: OpenTab, recording: FilePayload
) -> None:
    tab = open_tab("voices")
    page = tab.page
    page.get_by_label("Name", exact=True).last.fill("Ann")
    page.get_by_test_id("stFileUploaderDropzoneInput").first.set_input_files(recording)
    expect(page.locator("audio[data-testid=stAudio]")).to_be_visible()
    page.get_by_role("button", name="Save voice").click()
    expect(page.get_by_text(re.compile("Ann is saved"))).to_be_visible(timeout=60_000)
    page.get_by_role("button", name="Listen").click()
    expect(page.locator("audio[data-testid=stAudio]")).to_be_visible(timeout=60_000)
    page.get_by_text("Rename, or correct its transcript").click()
    page.get_by_label("Name", exact=True).first.fill("Bea")
    page.get_by_role("button", name="Save the changes").click()
    expect(page.get_by_text("Bea is changed.")).to_be_visible()
    page.get_by_role("button", name="Export").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download Bea.voice").click()
    exported = Path(download.value.path()).read_bytes()
    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete it").click()
    expect(page.get_by_text("Bea is deleted.")).to_be_visible()
    expect(page.get_by_text("No voice is saved yet.")).to_be_visible()
    file: FilePayload = {"name": "Bea.voice", "mimeType": "", "buffer": exported}
    page.get_by_test_id("stFileUploaderDropzoneInput").last.set_input_files(file)
    expect(page.get_by_text("Bea is imported.")).to_be_visible(timeout=30_000)
    page.get_by_role("link", name="Speak").first.click()
    tab.choose("Voice", "Bea")
    tab.write("Hello.")
    tab.speak()
    tab.until("done")


# -- the machine and what was measured ------------------------------------------------------------


def test_the_machine_is_shown_and_optimized(open_tab: OpenTab) -> None:
    page = open_tab("system").page
    expect(page.locator(".gauge").first).to_contain_text("CPU")
    expect(page.locator(".gauge svg path.line").first).to_have_attribute("d", re.compile("^M.*L"))
    expect(page.get_by_role("cell", name="precision")).to_be_visible()
    page.get_by_role("button", name="Optimize now").click()
    expect(page.get_by_text(re.compile("were freed"))).to_be_visible(timeout=60_000)
    expect(page.get_by_role("cell", name="Memory free")).to_be_visible()


HEADER = "timestamp,tier,outcome,text_length,rtf,total_duration_s,tokens_per_second"


def log(name: str, tier: str, rtf: float) -> FilePayload:
    rows = [
        f"2026-11-2{day}T10:00:00.000Z,{tier},success,{40 * day},{rtf * day / 5},{rtf},12.5"
        for day in range(1, 6)
    ]
    text = "\n".join([HEADER, *rows, "2026-11-26T10:00:00.000Z,torn"])
    return {"name": name, "mimeType": "text/csv", "buffer": text.encode()}


def test_a_report_of_uploaded_logs(open_tab: OpenTab) -> None:
    tab = open_tab("report")
    page = tab.page
    files = [log("night.csv", "pi", 4.0), log("day.csv", "server", 1.0)]
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(files)
    expect(page.get_by_role("heading", name="Real-time factor by length")).to_be_visible()
    expect(page.locator(".stVegaLiteChart").first).to_be_visible()
    expect(page.get_by_role("cell", name="pi")).to_be_visible()
    tab.choose("First", "night.csv")
    tab.choose("Second", "day.csv")
    expect(page.get_by_role("cell", name="0.25 ×").first).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name=re.compile(r"Download \d+ rows as CSV")).click()
    text = Path(download.value.path()).read_text()
    assert "night.csv" in text and "torn" not in text


def test_a_report_of_the_servers_own_log(open_tab: OpenTab, server: Served) -> None:
    httpx.post(f"{server.url}/tts", data={"text": "Hello."}, timeout=60).raise_for_status()
    page = open_tab("report").page
    expect(page.get_by_text(re.compile(r"requests; below the dashed line"))).to_be_visible()
    expect(page.get_by_role("heading", name="Memory and GPU over time")).to_be_visible()


# -- what holds everywhere ------------------------------------------------------------------------


class _Stub(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"status": "ok", "checkpoint": "back-again", "device": "cpu"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


def test_a_server_that_is_away_is_told_and_recovers(browser: Browser, tmp_path: Path) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), _Stub) as taken:
        port = taken.server_address[1]
    with showing(f"http://127.0.0.1:{port}", tmp_path) as shown:
        tab = new_tab(browser, shown.url)
        tab.open()
        expect(tab.page.locator(".chip.away")).to_contain_text("No server answers")
        with http.server.HTTPServer(("127.0.0.1", port), _Stub) as stub:
            thread = threading.Thread(target=stub.serve_forever)
            thread.start()
            expect(tab.page.locator(".chip")).to_contain_text("back-again")
            stub.shutdown()
            thread.join()
        tab.context.close()


def test_pages_of_other_sites_may_not_connect(shown: Shown) -> None:
    upgrade = {
        **{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"},
        **{"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="},
    }
    stream = f"{shown.url}/_stcore/stream"
    answer = httpx.get(stream, headers={**upgrade, "Origin": "http://evil.example"})
    assert answer.status_code == 403
    with httpx.stream("GET", stream, headers={**upgrade, "Origin": shown.url}) as ours:
        assert ours.status_code == 101


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_everybody_can_use_it(open_tab: OpenTab, width: int, scheme: str) -> None:
    tab = open_tab(width=width, scheme=scheme)
    found = []
    for path in ("", "voices", "guide", "system", "report"):
        tab.open(path)
        if not path:
            tab.write("Hello.")
            tab.speak()
            tab.until("done")
        expect(tab.page.locator(".stSpinner")).to_have_count(0)
        answer = Axe().run(tab.page).response
        found += [
            (path, each["id"], [node["html"][:120] for node in each["nodes"]])
            for each in answer["violations"]
            if each["id"] not in LIBRARY_AXE
        ]
        beside = tab.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert beside <= 0, f"{path} is wider than the screen"
    assert found == []
