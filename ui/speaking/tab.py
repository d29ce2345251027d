"""The tab where one speaks: text, a dialogue or typing, and beside it what becomes of it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr

from ui.process import PageProcess
from ui.speaking import card
from ui.speaking.scene import Scene, spoken
from ui.speaking.settings import Settings
from ui.speaking.speaker import LiveText
from ui.speaking.take import Take
from ui.speaking.voice_choice import VoiceChoice, problem
from ui.speaking.wish import EMPTY, ESTIMATED, MODES, RECORDING, Unfinished, fields_of, order
from ui.wire import Refused, ServerAway

TEXT, DIALOGUE, TYPING = MODES
Wish = tuple[dict[str, Any], str | list[dict[str, str]], str | None, str]
"""Settings, what is said, the file of a recording, and what is said in that."""
_QUIET: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None}


class SpeakTab:
    """Builds the tab into the Blocks that are open, and answers its events."""

    def __init__(self, page: PageProcess, kept: gr.BrowserState) -> None:
        self._page, self._kept = page, kept
        self.settings = Settings()
        self.voice = VoiceChoice(page, self.settings)
        self._live: dict[str, LiveText] = {}
        """Of each tab that is typed in, the text."""
        self._finished: dict[str, str] = {}
        """Of each tab, what was finished last, until its box is seen empty."""
        with gr.Row(elem_id="speaking"):
            with gr.Column(scale=1, min_width=320):
                self._build_input()
            with gr.Column(scale=1, min_width=320):
                self._build_output()
        self._wire()

    # -- what it looks like -----------------------------------------------------------------------

    def _build_input(self) -> None:
        self.mode = gr.Radio(MODES, value=TEXT, label="What to speak", elem_id="mode")
        self.text = gr.Textbox(
            label="Text",
            placeholder="Hello from Shoal. Type or paste any text, a chapter too.",
            lines=7,
            max_lines=18,
            elem_id="text",
        )
        with gr.Column(visible=False) as self.scene_box:
            self.scene = Scene()
        with gr.Column(visible=False) as self.live_box:
            self.live = gr.Textbox(
                label="Type, and hear it",
                info="Each sentence is spoken as soon as it is finished; what was said stays said.",
                lines=5,
                elem_id="live",
            )
            self.finish = gr.Button("Finish", interactive=False, size="sm", elem_classes="mend")
        # Above what the server tells of the text: that grows as it comes, and a button that moves
        # under the pointer between press and release is not clicked.
        with gr.Row(elem_id="actions"):
            self.go = gr.Button("Speak", variant="primary", elem_id="go", scale=0)
            self.act = gr.Button("Speak", variant="primary", visible=False, elem_id="act", scale=0)
            self.problem = gr.HTML("", elem_id="problem", min_width=160)
        self.card = gr.HTML(card.empty_card(None), elem_id="card")
        with gr.Row(elem_id="mends"):
            self.mends = {
                field: gr.Button(label, visible=False, size="sm", elem_classes="mend")
                for field, label in card.MEND_LABELS.items()
            }
        with gr.Row(equal_height=True):
            self.settings.build_language()
            self.voice.build_choice()
        self.voice.build_rest()
        self.settings.build_rest()

    def _build_output(self) -> None:
        self.take = gr.HTML(EMPTY, elem_id="take")
        with gr.Accordion("Earlier takes", open=False, elem_id="earlier"):
            self.takes = gr.Dropdown([], label="Take", info="The newest first.", elem_id="takes")
            self.forget = gr.Button("Delete this take", size="sm", elem_classes="mend")

    # -- what happens when ------------------------------------------------------------------------

    def _wire(self) -> None:
        settings, controls = self.settings.values, self.settings.controls
        self.voice.wire()
        shown = [self.text, self.scene_box, self.live_box, self.go, self.act, self.card]
        self.mode.change(self._show_mode, self.mode, shown, **_QUIET)
        estimated = [controls[name].change for name in ESTIMATED]
        latest: dict[str, Any] = {"trigger_mode": "always_last", **_QUIET}
        told = [self.card, *self.mends.values()]
        gr.on(
            [self.mode.change, self.text.change, self.scene.said.change, *estimated],
            self._estimate,
            [self.mode, self.text, self.scene.said, *settings],
            told,
            **latest,
        )
        for field, button in self.mends.items():
            # In the browser: a click on Speak right after it means it, too.
            value = "'split'" if field == "long_text" else "true"
            button.click(None, None, controls[field], js=f"() => {value}")
        voice = [self._kept, self.voice.recording, self.voice.transcript]
        # The button says when it may be pressed again: Gradio's own guard is late, and loses a
        # quick second click.
        speaking: dict[str, Any] = {"trigger_mode": "multiple", **_QUIET}
        gr.on(
            [self.go.click, self.text.submit],
            self._speak_text,
            [*voice, self.text, *settings],
            [self.take, self.go, self.problem, self.takes],
            **speaking,
        )

        def wire_scene(rows: list[Any]) -> None:
            self.act.click(
                self._speak_scene,
                [*voice, *settings, *rows],
                [self.take, self.act, self.problem, self.takes],
                **speaking,
            )

        self.scene.wire(wire_scene)
        self.live.change(  # `input` knows keys alone: what is pasted is none
            self._type,
            [self._kept, self.live, *settings],
            [self.take, self.finish, self.problem],
            **latest,
        )
        self.finish.click(
            self._finish, [self._kept, self.live], [self.live, self.finish, self.takes], **_QUIET
        )
        self.takes.input(self._show_take, [self._kept, self.takes], self.take, **_QUIET)
        self.forget.click(self._forget, [self._kept, self.takes], [self.take, self.takes], **_QUIET)

    # -- before it is spoken ----------------------------------------------------------------------

    def _show_mode(self, mode: str) -> list[Any]:
        text, scene, live = (gr.update(visible=mode == each) for each in MODES)
        return [text, scene, live, text, scene, gr.update(visible=mode != TYPING)]

    async def _estimate(self, mode: str, text: str, scene: str, *settings: Any) -> list[Any]:
        """The card, and which buttons would help."""
        if mode == TYPING:
            return [gr.skip(), *([gr.update(visible=False)] * len(self.mends))]
        text = text if mode == TEXT else scene
        read, shown = self.settings.read(settings), {}
        if text.strip():
            try:
                told = await self._page.client.estimate(text, **{n: read[n] for n in ESTIMATED})
                shown, html = card.mends(told), card.card(text, told)
            except (ServerAway, Refused) as error:
                html = card.problem_card(str(error))
        else:
            html = card.empty_card(await self._page.text_limit())
        return [html, *(gr.update(visible=field in shown) for field in self.mends)]

    # -- speaking ---------------------------------------------------------------------------------

    async def _speak_text(
        self,
        request: gr.Request,
        kept: dict[str, Any],
        recording: str | None,
        transcript: str,
        text: str,
        *settings: Any,
    ) -> AsyncIterator[list[Any]]:
        wish = (self.settings.read(settings), text, recording, transcript)
        async for shown in self._speak(request, kept, wish):
            yield shown

    async def _speak_scene(
        self,
        request: gr.Request,
        kept: dict[str, Any],
        recording: str | None,
        transcript: str,
        *values: Any,
    ) -> AsyncIterator[list[Any]]:
        count = len(self.settings.names)
        read = self.settings.read(values[:count])
        wish = (read, spoken(values[count:]), recording, transcript)
        async for shown in self._speak(request, kept, wish):
            yield shown

    async def _speak(
        self, request: gr.Request, kept: dict[str, Any], wish: Wish
    ) -> AsyncIterator[list[Any]]:
        """The take, its button, what is wrong, and the list of takes: at first and in the end."""
        stay = gr.skip()
        asked, said, recording, transcript = wish
        tab = str(request.session_hash)
        owner = self._page.owner(tab, kept)
        try:
            audio = Path(recording).read_bytes() if recording else None
            take = self._page.speaker.begin(owner, *order(asked, said, audio, transcript))
        except Unfinished as error:
            yield [stay, stay, problem(str(error)), stay]
            return
        except OSError as error:
            yield [stay, stay, problem(f"The disk refuses: {error.strerror}."), stay]
            return
        self._page.watch(tab, take)
        busy = gr.update(interactive=False, value="Speaking …")
        yield [element(take, True), busy, "", self.choices(owner, take)]
        await self._page.speaker.wait(take)
        yield [stay, gr.update(interactive=True, value="Speak"), "", self.choices(owner, take)]

    async def _type(
        self, request: gr.Request, kept: dict[str, Any], text: str, *settings: Any
    ) -> list[Any]:
        tab = str(request.session_hash)
        if (live := self._live.get(tab)) is not None:
            live.write(text)
            return [gr.skip(), gr.skip(), ""]
        if not text.strip():
            self._finished.pop(tab, None)
            return [gr.skip(), gr.skip(), ""]
        if self._finished.get(tab, "").startswith(text):  # on its way when Finish was pressed
            return [gr.skip(), gr.skip(), ""]
        fields = {**fields_of(self.settings.read(settings)), "text": text}
        if fields.get("voice") == RECORDING:
            told = "Typing is spoken in the default or in a saved voice: save the recording first."
            return [gr.skip(), gr.skip(), problem(told)]
        live = LiveText()
        try:
            take = self._page.speaker.begin_live(self._page.owner(tab, kept), fields, live)
        except OSError as error:
            return [gr.skip(), gr.skip(), problem(f"The disk refuses: {error.strerror}.")]
        self._live[tab] = live
        self._page.speaker.when_over(take, lambda: self._live.pop(tab, None))
        self._page.watch(tab, take)
        live.write(text)
        return [element(take, True), gr.update(interactive=True), ""]

    async def _finish(self, request: gr.Request, kept: dict[str, Any], text: str) -> list[Any]:
        tab = str(request.session_hash)
        if (live := self._live.pop(tab, None)) is not None:
            live.finish(text)
            self._finished[tab] = text
        return ["", gr.update(interactive=False), self.choices(self._page.owner(tab, kept))]

    def leave(self, tab: str) -> None:
        """The browser's tab is closed: forget what was typed there."""
        self._live.pop(tab, None)
        self._finished.pop(tab, None)

    # -- earlier takes ----------------------------------------------------------------------------

    def _show_take(self, request: gr.Request, kept: dict[str, Any], take_id: str) -> str:
        take = self._mine(self._page.owner(str(request.session_hash), kept), take_id)
        return element(take, False) if take else EMPTY

    async def _forget(self, request: gr.Request, kept: dict[str, Any], take_id: str) -> list[Any]:
        owner = self._page.owner(str(request.session_hash), kept)
        if (take := self._mine(owner, take_id)) is not None:
            await self._page.speaker.stop(take)
            self._page.shelf.remove(take)
        return [EMPTY, self.choices(owner)]

    def _mine(self, owner: str, take_id: str | None) -> Take | None:
        take = self._page.shelf.get(take_id or "")
        return take if take and take.record.owner == owner else None

    def choices(self, owner: str, shown: Take | None = None) -> Any:
        """What the list of earlier takes offers."""
        mine = self._page.shelf.of(owner)
        named = [
            (f"{take.record.title} · {take.record.created_at[:16].replace('T', ' ')}", take.id)
            for take in mine
        ]
        return gr.update(choices=named, value=shown.id if shown else None)


def element(take: Take, is_new: bool) -> str:
    """What shows a take; a new one is heard as soon as it can be."""
    autoplay = " autoplay" if is_new else ""
    return f'<shoal-take src="page/takes/{take.id}"{autoplay}></shoal-take>'
