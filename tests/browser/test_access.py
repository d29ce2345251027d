"""Everybody can use the page: by keyboard, on a phone, in the dark, with a screen reader."""

import json
import re
from pathlib import Path

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, expect

from tests.browser.conftest import NewTab
from tests.browser.face import Face, Tab, new_tab

TABS = ("Speak", "Voices", "Emotion guide", "System")
WIDTHS = (390, 1280)
BASELINE = Path(__file__).parent / "gradio_faults.json"
"""What axe finds in Gradio's own elements, and nothing of ours: rule and selector."""
_SERIOUS = ("serious", "critical")


def filled(tab: Tab) -> Tab:
    """With everything on it that can be on it."""
    tab.speak("The first sentence is here. Here comes the second one.")
    tab.is_done()
    tab.take.locator("#receipt summary").click()
    tab.settings()
    tab.page.locator("#earlier .label-wrap").click()
    tab.choose("voice", "From a recording …")
    return tab


def show(tab: Tab, name: str) -> None:
    tab.tab(name)
    waits = {"System": "#plan table", "Emotion guide": "#guide h2", "Voices": "#voices-list"}
    if name in waits:
        expect(tab.page.locator(waits[name]).first).to_be_visible()


def found_faults(tab: Tab) -> set[tuple[str, str]]:
    """Rule and selector of each violation; what Gradio numbers anew at each build is left out."""
    if not tab.page.evaluate("'axe' in window"):
        tab.page.evaluate(AXE_SCRIPT)
    violations = tab.page.evaluate(
        "async () => (await axe.run(document, { resultTypes: ['violations'] })).violations"
    )
    faults = set()
    for violation in violations:
        if violation["impact"] not in _SERIOUS:
            continue
        for node in violation["nodes"]:
            target = " >>> ".join(str(each) for each in node["target"])
            target = re.sub(r"\.svelte-\w+|\[data-testid=.*?\]", "", target)
            target = re.sub(r"#component-\d+|:nth-child\(\d+\)|-\d+", "*", target)
            faults.add((violation["id"], target))
    return faults


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_axe_finds_nothing_of_ours_and_of_gradio_what_is_known(
    browser: Browser, face: Face
) -> None:
    known = {(each["rule"], each["selector"]) for each in json.loads(BASELINE.read_text("utf-8"))}
    found: dict[tuple[str, str], str] = {}
    for width in WIDTHS:
        context = {"viewport": {"width": width, "height": 900}, "reduced_motion": "reduce"}
        tab = filled(new_tab(browser, face, **context).open())
        for name in TABS:
            show(tab, name)
            for scheme in ("light", "dark"):
                tab.page.emulate_media(color_scheme=scheme)
                tab.page.evaluate(
                    "(dark) => document.body.classList.toggle('dark', dark)", scheme == "dark"
                )
                for fault in found_faults(tab):
                    found[fault] = f"{name}, {scheme}, {width} px"
        tab.close()
    new = {fault: where for fault, where in found.items() if fault not in known}
    assert not new, "\n".join(f"{fault}: {where}" for fault, where in new.items())
    assert not known - found.keys(), "these faults went away: take them out of the baseline"


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_screen(tabs: NewTab, face: Face, width: int) -> None:
    tab = filled(tabs(face, viewport={"width": width, "height": 800}))
    for name in TABS:
        show(tab, name)
        wide = tab.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, f"{name} is {wide} px wide"
    tab.tab("Speak")
    tab.mode("Dialogue")
    expect(tab.page.get_by_label("Line 2", exact=True)).to_be_visible()
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width


def test_light_and_dark_are_two(tabs: NewTab, face: Face) -> None:
    seen = set()
    for scheme in ("light", "dark"):
        tab = tabs(face, color_scheme=scheme)
        seen.add(
            tab.page.evaluate(
                """() => { const style = getComputedStyle(document.body);
                           return style.backgroundColor + " " + style.color; }"""
            )
        )
        accent = tab.page.evaluate(
            "getComputedStyle(document.body).getPropertyValue('--shoal-accent').trim()"
        )
        assert accent == {"light": "#0f766e", "dark": "#5cc8bd"}[scheme]
    assert len(seen) == 2


def test_who_wants_no_motion_sees_none(tabs: NewTab, face: Face) -> None:
    tab = tabs(face, reduced_motion="reduce")
    tab.text.fill("It was a long day, and nobody knew how it would end. " * 60)
    tab.go.click()
    speaking = tab.take.locator("li[data-state=speaking] .mark")
    expect(speaking.first).to_have_css("animation-name", "none", timeout=45_000)
    moving = """() => {
      const all = [...document.querySelectorAll("*"),
                   ...document.querySelector("shoal-take").shadowRoot.querySelectorAll("*")];
      return all.filter((each) => {
        const style = getComputedStyle(each);
        return style.animationName !== "none" || parseFloat(style.transitionDuration) > 0;
      }).map((each) => each.outerHTML.slice(0, 80));
    }"""
    assert tab.page.evaluate(moving) == []
    tab.take.locator("#stop").click()
    tab.is_done("stopped")


def test_by_keyboard_alone(tab: Tab) -> None:
    page = tab.page

    def go_to(selector: str) -> None:
        """Tab until it has the focus."""
        is_there = f"""() => {{
          const deepest = (root) => root.activeElement?.shadowRoot
            ? deepest(root.activeElement.shadowRoot) : root.activeElement;
          return Boolean(deepest(document)?.closest("{selector}"));
        }}"""
        for _ in range(60):
            if page.evaluate(is_there):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"{selector} is not reached by Tab")

    go_to("#text textarea")
    page.keyboard.type("Typed and spoken without a mouse.")
    go_to("#go")
    page.keyboard.press("Enter")
    tab.is_done()
    tab.is_heard()
    before = len(tab.heard())
    go_to("#play")
    page.keyboard.press("Space")
    tab.page.wait_for_function("(before) => heardPieces().length > before", arg=before)
    go_to(".hear")
    page.keyboard.press("Enter")
    expect(tab.sentences.first).to_have_attribute("aria-current", "true")
    tab.is_heard()


def test_the_focus_is_seen(tab: Tab) -> None:
    for selector in ("#go", "#text textarea"):
        tab.page.locator(selector).focus()
        tab.page.keyboard.press("Tab")
        tab.page.keyboard.press("Shift+Tab")
        style = tab.page.locator(selector).evaluate(
            """(element) => { const style = getComputedStyle(element);
               return [style.outlineStyle, style.boxShadow, style.borderColor].join(" "); }"""
        )
        unfocused = tab.page.locator(selector).evaluate(
            """(element) => { element.blur(); const style = getComputedStyle(element);
               return [style.outlineStyle, style.boxShadow, style.borderColor].join(" "); }"""
        )
        assert style != unfocused, f"{selector} looks the same with the focus"
