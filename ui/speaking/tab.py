"""The tab where one speaks: text, a scene or typing, in a voice, with settings folded away."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from ui import words
from ui.process import PageProcess
from ui.speaking import card
from ui.speaking.files import FORMATS
from ui.speaking.scene import Scene
from ui.speaking.speaker import LiveText
from ui.speaking.take import Take
from ui.speaking.wish import (
    EMPTY,
    ESTIMATED,
    LONG_TEXT,
    MODES,
    RATES_HZ,
    RECORDING,
    WHY_TRANSCRIPT,
    Unfinished,
    fields_of,
    order,
    voice_choices,
)
from ui.wire import Refused, ServerAway

_Update = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Settings:
    """The controls whose values go into a request, by the field they fill."""

    language: gr.Dropdown
    voice: gr.Dropdown
    temperature: gr.Slider
    top_p: gr.Slider
    repetition_penalty: gr.Slider
    seed: gr.Number
    speed: gr.Slider
    pauses: gr.Slider
    long_text: gr.Dropdown
    sample_rate: gr.Dropdown
    format: gr.Dropdown
    normalize: gr.Checkbox
    optimize_for_memory: gr.Checkbox
    force_cpu: gr.Checkbox

    @property
    def names(self) -> tuple[str, ...]:
        """Of the fields, in the order of `controls`."""
        return tuple(self.__dataclass_fields__)

    @property
    def controls(self) -> list[Any]:
        """All of them."""
        return [getattr(self, name) for name in self.names]


class SpeakTab:
    """Builds the tab into the Blocks that are open, and answers its events."""

    def __init__(self, page: PageProcess, kept: gr.BrowserState) -> None:
        self._page, self._kept = page, kept
        self._live: dict[str, LiveText] = {}
        """Of each take that is spoken while it is typed, its text."""
        with gr.Row(elem_id="speaking"):
            with gr.Column(scale=1, min_width=320):
                self._build_input()
            with gr.Column(scale=1, min_width=320):
                self._build_output()
        self._wire()

    # -- what it looks like -----------------------------------------------------------------------

    def _build_input(self) -> None:
        self.mode = gr.Radio(MODES, value="Text", label="What to speak", elem_id="mode")
        self.text = gr.Textbox(
            label="Text",
            placeholder="Hello from Shoal. Type or paste any text, a chapter too.",
            lines=7,
            max_lines=18,
            elem_id="text",
            html_attributes=gr.InputHTMLAttributes(spellcheck=True),
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
        self.card = gr.HTML(card.empty_card(None), elem_id="card")
        with gr.Row(elem_id="mends"):
            self.mends = {
                field: gr.Button(label, visible=False, size="sm", elem_classes="mend")
                for field, label in card.MEND_LABELS.items()
            }
        with gr.Row(equal_height=True):
            language = gr.Dropdown(
                [(name, code) for code, name in words.LANGUAGES.items()],
                value="auto",
                label="Language",
                min_width=140,
                elem_id="language",
            )
            voice = gr.Dropdown(
                voice_choices([]), value="", label="Voice", min_width=140, elem_id="voice"
            )
        self._build_voice()
        settings = self._build_settings()
        self.settings = Settings(language=language, voice=voice, **settings)
        with gr.Row(elem_id="actions"):
            self.go = gr.Button("Speak", variant="primary", elem_id="go", scale=0)
        self.problem = gr.HTML("", elem_id="problem")

    def _build_voice(self) -> None:
        self.hear = gr.Button("Listen to this voice", visible=False, size="sm", elem_classes="mend")
        self.sample = gr.Audio(
            label="How it sounds", visible=False, interactive=False, buttons=[], elem_id="sample"
        )
        with gr.Column(visible=False) as self.recording_box:
            self.recording = gr.Audio(
                label="Recording of the voice, 5 to 30 s of one speaker",
                sources=["upload", "microphone"],
                type="filepath",
                buttons=[],
                elem_id="recording",
                elem_classes="upload",
            )
            gr.HTML(
                '<p class="note">The microphone works on this computer or over https; elsewhere '
                "upload a recording: wav, flac, ogg, mp3, m4a or webm.</p>"
            )
            self.transcript = gr.Textbox(
                label="What is said in it", info=WHY_TRANSCRIPT, lines=2, elem_id="transcript"
            )
            with gr.Row(equal_height=True):
                self.new_name = gr.Textbox(
                    label="Keep it as a voice called", max_lines=1, elem_id="new-name"
                )
                self.keep = gr.Button("Save voice", size="sm", scale=0, min_width=120)
            self.saved = gr.HTML("")

    def _build_settings(self) -> dict[str, Any]:
        with gr.Accordion("Settings", open=False, elem_id="settings"):
            with gr.Row():
                temperature = gr.Slider(
                    0, 2, 0.7, step=0.05, label="Temperature", info="0 always takes the likeliest."
                )
                top_p = gr.Slider(
                    0.1,
                    1,
                    0.7,
                    step=0.05,
                    label="Top-p",
                    info="Less is steadier, more is livelier.",
                )
            with gr.Row():
                penalty = gr.Slider(
                    1, 2, 1.1, step=0.05, label="Repetition penalty", info="Against stuck sounds."
                )
                seed = gr.Number(
                    None,
                    precision=0,
                    label="Seed",
                    info="The same seed gives the same speech; empty draws one.",
                )
            with gr.Row():
                speed = gr.Slider(
                    0.5, 2, 1, step=0.05, label="Speed", info="Tempo, at the same pitch."
                )
                pauses = gr.Slider(
                    0, 3, 1, step=0.1, label="Pauses", info="Between sentences, against the usual."
                )
            with gr.Row():
                long_text = gr.Dropdown(
                    list(LONG_TEXT.items()), value="truncate", label="Text past the limit"
                )
                file_format = gr.Dropdown(
                    [(kind.upper(), kind) for kind in FORMATS], value="wav", label="Format to copy"
                )
                rate = gr.Dropdown(
                    [("The checkpoint's", 0), *((f"{hz:,} Hz", hz) for hz in RATES_HZ)],
                    value=0,
                    label="Sample rate",
                )
            with gr.Row():
                normalize = gr.Checkbox(True, label="Read numbers and signs as words")
                less = gr.Checkbox(False, label="Use less memory, slower")
                cpu = gr.Checkbox(False, label="Speak on the CPU")
        return {
            "temperature": temperature,
            "top_p": top_p,
            "repetition_penalty": penalty,
            "seed": seed,
            "speed": speed,
            "pauses": pauses,
            "long_text": long_text,
            "sample_rate": rate,
            "format": file_format,
            "normalize": normalize,
            "optimize_for_memory": less,
            "force_cpu": cpu,
        }

    def _build_output(self) -> None:
        self.take = gr.HTML(EMPTY, elem_id="take")
        with gr.Accordion("Earlier takes", open=False, elem_id="earlier"):
            self.takes = gr.Dropdown([], label="Take", info="The newest first.", elem_id="takes")
            self.forget = gr.Button("Delete this take", size="sm", elem_classes="mend")

    # -- what happens when ------------------------------------------------------------------------

    def _wire(self) -> None:
        quiet: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None}
        every = [*self.settings.controls]
        self.mode.change(
            self._show_mode, self.mode, [self.text, self.scene_box, self.live_box, self.go], **quiet
        )
        self.settings.voice.change(
            self._show_voice,
            self.settings.voice,
            [self.recording_box, self.hear, self.sample],
            **quiet,
        )
        self.hear.click(self._hear, self.settings.voice, [self.sample, self.problem], **quiet)
        self.keep.click(
            self._keep_voice,
            [self.new_name, self.recording, self.transcript],
            [self.saved, self.settings.voice],
            **quiet,
        )
        gr.on(
            [
                *(self.mode.change, self.text.change, self.scene.lines.change),
                *(self.settings.language.change, self.settings.long_text.change),
                *(self.settings.normalize.change, self.settings.optimize_for_memory.change),
            ],
            self._estimate,
            [self.mode, self.text, self.scene.lines, *every],
            [self.card, *self.mends.values()],
            trigger_mode="always_last",
            **quiet,
        )
        for field, button in self.mends.items():
            value = "split" if field == "long_text" else True
            button.click(lambda value=value: value, None, getattr(self.settings, field), **quiet)
        speech = [self._kept, self.mode, self.text, self.scene.lines, self.recording]
        gr.on(
            [self.go.click, self.text.submit],
            self._speak,
            [*speech, self.transcript, *every],
            [self.take, self.go, self.problem, self.takes],
            trigger_mode="multiple",  # the button says when; else a quick second click is lost
            **quiet,
        )
        gr.on(
            [self.live.input],
            self._type,
            [self._kept, self.live, *every],
            [self.take, self.finish, self.problem],
            trigger_mode="always_last",
            **quiet,
        )
        self.finish.click(
            self._finish, [self._kept, self.live], [self.live, self.finish, self.takes], **quiet
        )
        self.takes.input(self._show_take, [self._kept, self.takes], self.take, **quiet)
        self.forget.click(self._forget, [self._kept, self.takes], [self.take, self.takes], **quiet)

    # -- what is shown ----------------------------------------------------------------------------

    def _show_mode(self, mode: str) -> tuple[_Update, _Update, _Update, _Update]:
        text, scene, live = (gr.update(visible=mode == each) for each in MODES)
        return text, scene, live, gr.update(visible=mode != MODES[2])

    def _show_voice(self, voice: str) -> tuple[_Update, _Update, _Update]:
        is_recording, is_saved = voice == RECORDING, bool(voice) and voice != RECORDING
        return (
            gr.update(visible=is_recording),
            gr.update(visible=is_saved),
            gr.update(visible=False, value=None),
        )

    async def _hear(self, voice: str) -> tuple[Any, str]:
        try:
            audio = await self._page.client.hear_voice(voice)
        except (ServerAway, Refused) as error:
            return gr.skip(), problem(str(error))
        return gr.update(value=audio, visible=True, autoplay=True), ""

    async def _keep_voice(
        self, name: str, recording: str | None, transcript: str
    ) -> tuple[str, Any]:
        if not recording:
            return problem("Record or upload the voice first."), gr.skip()
        try:
            voice = await self._page.client.save_voice(
                name, Path(recording).read_bytes(), transcript
            )
            names = [each["name"] for each in await self._page.client.voices()]
        except (ServerAway, Refused) as error:
            return problem(str(error)), gr.skip()
        told = "; ".join(voice.get("warnings", ())) or "It speaks by this name from now on."
        note = f'<p class="note">{escape(voice["name"])} is saved. {escape(told)}</p>'
        return note, gr.update(choices=voice_choices(names), value=voice["name"])

    async def _estimate(
        self, mode: str, text: str, lines: list[dict[str, str]], *values: Any
    ) -> list[Any]:
        said = text if mode == MODES[0] else "\n\n".join(line["text"] for line in lines)
        if mode == MODES[2]:
            said = ""
        asked = dict(zip(self.settings.names, values, strict=True))
        shown: dict[str, Any] = {}
        if not said.strip():
            told = card.empty_card(None) if mode != MODES[2] else ""
        else:
            try:
                answer = await self._page.client.estimate(said, **{n: asked[n] for n in ESTIMATED})
                told, shown = card.card(said, answer), card.mends(answer)
            except (ServerAway, Refused) as error:
                told = card.problem_card(str(error))
        return [told, *(gr.update(visible=field in shown) for field in self.mends)]

    # -- takes ------------------------------------------------------------------------------------

    async def _speak(
        self,
        request: gr.Request,
        kept: dict[str, Any],
        mode: str,
        text: str,
        lines: list[dict[str, str]],
        recording: str | None,
        transcript: str,
        *rest: Any,
    ) -> AsyncIterator[tuple[Any, Any, str, Any]]:
        stay = gr.skip()
        try:
            fields, audio = self._order(mode, text, lines, recording, transcript, rest)
            take = self._page.speaker.begin(owner(kept), fields, audio)
        except Unfinished as error:
            yield stay, stay, problem(str(error)), stay
            return
        except OSError as error:
            yield stay, stay, problem(f"The disk refuses: {error.strerror}."), stay
            return
        self._page.watch(str(request.session_hash), take)
        busy = gr.update(interactive=False, value="Speaking …")
        yield element(take, True), busy, "", self.choices(kept, take)
        await self._page.speaker.wait(take)
        yield stay, gr.update(interactive=True, value="Speak"), "", self.choices(kept, take)

    def _order(
        self,
        mode: str,
        text: str,
        lines: list[dict[str, str]],
        recording: str | None,
        transcript: str,
        values: tuple[Any, ...],
    ) -> tuple[dict[str, Any], bytes | None]:
        """What is to be spoken, and the recording of its voice; raises `Unfinished`."""
        asked = dict(zip(self.settings.names, values, strict=True))
        is_recorded = asked["voice"] == RECORDING and recording
        return order(
            asked,
            lines if mode == MODES[1] else text,
            Path(recording).read_bytes() if is_recorded and recording else None,
            transcript,
        )

    async def _type(
        self, request: gr.Request, kept: dict[str, Any], text: str, *rest: Any
    ) -> AsyncIterator[tuple[Any, Any, str]]:
        tab = str(request.session_hash)
        if (live := self._live.get(tab)) is not None:
            live.write(text)
            yield gr.skip(), gr.skip(), ""
            return
        if not text.strip():
            yield gr.skip(), gr.skip(), ""
            return
        fields = self._fields(rest)
        if fields.get("voice") == RECORDING:
            told = "Typing is spoken in the default or in a saved voice: save the recording first."
            yield gr.skip(), gr.skip(), problem(told)
            return
        live = self._live[tab] = LiveText()
        live.write(text)
        fields["text"] = text
        try:
            take = self._page.speaker.begin_live(owner(kept), fields, live)
        except OSError as error:
            del self._live[tab]
            yield gr.skip(), gr.skip(), problem(f"The disk refuses: {error.strerror}.")
            return
        self._page.watch(tab, take)
        yield element(take, True), gr.update(interactive=True), ""

        def forget(_: object) -> None:
            self._live.pop(tab, None)

        self._page.speaker.when_over(take, forget)

    async def _finish(
        self, kept: dict[str, Any], text: str, request: gr.Request
    ) -> tuple[Any, Any, Any]:
        if (live := self._live.pop(str(request.session_hash), None)) is not None:
            live.finish(text)
        return "", gr.update(interactive=False), self.choices(kept)

    def _show_take(self, kept: dict[str, Any], take_id: str) -> str:
        take = self._mine(kept, take_id)
        return element(take, False) if take else EMPTY

    async def _forget(self, kept: dict[str, Any], take_id: str) -> tuple[Any, Any]:
        if (take := self._mine(kept, take_id)) is not None:
            await self._page.speaker.stop(take)
            self._page.shelf.remove(take)
        return EMPTY, self.choices(kept)

    def _mine(self, kept: dict[str, Any], take_id: str | None) -> Take | None:
        take = self._page.shelf.get(take_id or "")
        return take if take and take.record.owner == owner(kept) else None

    def choices(self, kept: dict[str, Any], shown: Take | None = None) -> Any:
        """What the list of earlier takes offers."""
        mine = self._page.shelf.of(owner(kept))
        choices = [
            (f"{take.record.title} · {take.record.created_at[:16]}", take.id) for take in mine
        ]
        return gr.update(choices=choices, value=shown.id if shown else None)

    def _fields(self, values: tuple[Any, ...]) -> dict[str, Any]:
        return fields_of(dict(zip(self.settings.names, values, strict=True)))


def owner(kept: dict[str, Any]) -> str:
    """Whose takes: the browser's own secret."""
    return str(kept["owner"])


def element(take: Take, is_new: bool) -> str:
    """What shows a take; a new one is heard as soon as it can be."""
    autoplay = " autoplay" if is_new else ""
    return f'<shoal-take src="page/takes/{take.id}"{autoplay}></shoal-take>'


def problem(text: str) -> str:
    """What went wrong, where it happened."""
    return f'<p class="problem" role="alert">{escape(text)}</p>'
