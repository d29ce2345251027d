"""The tab of saved voices: make one, listen to it, change, delete, export and import it."""

from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from ui import words
from ui.process import PageProcess
from ui.speaking.tab import SpeakTab
from ui.speaking.voice_choice import problem, recording_box, sample_box
from ui.speaking.wish import WHY_TRANSCRIPT, voice_choices
from ui.wire import Refused, ServerAway


class VoicesTab:
    """Builds the tab into the Blocks that are open."""

    def __init__(self, page: PageProcess, speak: SpeakTab) -> None:
        self._page = page
        with gr.Row(elem_id="voices-tab"):
            with gr.Column(scale=1, min_width=320):
                self._build_list()
            with gr.Column(scale=1, min_width=320):
                self._build_new()
        self.note = gr.HTML("", elem_id="voices-note")
        self.told = [self.new_name, self.new_transcript, self.delete, self.change]
        """What follows the choice of a voice; `_told` gives their values."""
        self.shown = [
            *(self.choice, self.table, speak.voice.voice, speak.scene.names),
            *self.told,
        ]
        """What shows which voices there are; `read` gives their values."""
        self._wire()

    def _build_list(self) -> None:
        gr.HTML('<h2 class="section">Saved voices</h2>')
        self.table = gr.HTML('<p class="note">…</p>', elem_id="voices-list")
        self.choice = gr.Dropdown([], label="Voice", elem_id="voice-choice")
        with gr.Row(elem_classes="tools"):
            self.hear = gr.Button("Listen", size="sm", elem_classes="mend")
            self.delete = gr.Button("Delete", size="sm", elem_classes="mend")
        self.sample = sample_box()
        with gr.Row(visible=False) as self.asks:
            gr.HTML('<p class="note">Delete it for good?</p>')
            self.really = gr.Button("Delete it", size="sm", variant="stop", elem_classes="mend")
            self.no = gr.Button("Keep it", size="sm", elem_classes="mend")
        with gr.Accordion("Rename, or correct its transcript", open=False):
            self.new_name = gr.Textbox(label="Name", max_lines=1)
            self.new_transcript = gr.Textbox(
                label="What is said in its recording", info=WHY_TRANSCRIPT, lines=2
            )
            self.change = gr.Button("Save the changes", size="sm", elem_classes="mend")

    def _build_new(self) -> None:
        gr.HTML('<h2 class="section">A new voice</h2>')
        self.recording = recording_box("Recording, 5 to 30 s of one speaker")
        self.name = gr.Textbox(label="Name", max_lines=1, elem_id="voice-name")
        self.transcript = gr.Textbox(label="What is said in it", info=WHY_TRANSCRIPT, lines=2)
        self.save = gr.Button("Save voice", variant="primary", scale=0, elem_id="voice-save")
        gr.HTML('<h2 class="section">A voice from a file</h2>')
        self.imported = gr.File(
            label="A .voice file that a Shoal server exported",
            file_types=[".voice"],
            elem_classes="upload",
        )

    def _wire(self) -> None:
        quiet: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None}
        shown = self.shown
        fields = [self.name, self.recording, self.transcript]
        self.save.click(self._save, fields, [self.note, *fields, *shown], **quiet)
        self.imported.upload(
            self._import, self.imported, [self.note, self.imported, *shown], **quiet
        )
        self.choice.input(self._show, self.choice, [*self.told, self.sample], **quiet)
        self.hear.click(self._hear, self.choice, [self.sample, self.note], **quiet)
        self.delete.click(
            lambda name: gr.update(visible=bool(name)), self.choice, self.asks, **quiet
        )
        self.no.click(lambda: gr.update(visible=False), None, self.asks, **quiet)
        self.really.click(self._delete, self.choice, [self.note, self.asks, *shown], **quiet)
        self.change.click(
            self._change,
            [self.choice, self.new_name, self.new_transcript],
            [self.note, *shown],
            **quiet,
        )

    @property
    def _stay(self) -> list[Any]:
        """What leaves `shown` as it is."""
        return [gr.skip()] * len(self.shown)

    async def read(self, chosen: str | None = None) -> list[Any]:
        """Values of `shown`: the voices as they are now."""
        try:
            voices = await self._page.client.voices()
        except (ServerAway, Refused) as error:
            values = self._stay
            values[self.shown.index(self.table)] = problem(str(error))
            return values
        names = [voice["name"] for voice in voices]
        return [
            gr.update(choices=names, value=chosen if chosen in names else None),
            voice_table(voices),
            gr.update(choices=voice_choices(names)),
            names,
            # With the choice itself: what came later would undo what was typed meanwhile.
            *(self._told(voices, chosen) if chosen in names else [gr.skip()] * len(self.told)),
        ]

    def _told(self, voices: list[dict[str, Any]], name: str | None) -> list[Any]:
        """What the fields say that change the voice of that name; a shipped one stays as it is."""
        voice = next((each for each in voices if each["name"] == name), {})
        mend = gr.update(interactive=not voice.get("is_shipped", False))
        return [voice.get("name", ""), voice.get("transcript", ""), mend, mend]

    async def _save(self, name: str, recording: str | None, transcript: str) -> list[Any]:
        stay = [gr.skip()] * 3
        if not recording:
            told = problem("Record or upload the voice first.")
            return [told, *stay, *self._stay]
        try:
            voice = await self._page.client.save_voice(
                name, Path(recording).read_bytes(), transcript
            )
        except (ServerAway, Refused) as error:
            return [problem(str(error)), *stay, *self._stay]
        return [_note(voice, "saved"), "", None, "", *await self.read(voice["name"])]

    async def _import(self, file: str) -> list[Any]:
        try:
            voice = await self._page.client.import_voice(Path(file).read_bytes())
        except (ServerAway, Refused) as error:
            return [problem(str(error)), None, *self._stay]
        return [_note(voice, "imported"), None, *await self.read(voice["name"])]

    async def _show(self, name: str | None) -> list[Any]:
        try:
            voices = await self._page.client.voices()
        except (ServerAway, Refused):
            voices = []
        return [*self._told(voices, name), gr.update(visible=False, value=None)]

    async def _hear(self, name: str | None) -> list[Any]:
        if not name:
            return [gr.skip(), problem("Choose a voice first.")]
        try:
            audio = await self._page.client.hear_voice(name)
        except (ServerAway, Refused) as error:
            return [gr.skip(), problem(str(error))]
        return [gr.update(value=audio, visible=True, autoplay=True), ""]

    async def _delete(self, name: str | None) -> list[Any]:
        hidden = gr.update(visible=False)
        try:
            await self._page.client.delete_voice(name or "")
        except (ServerAway, Refused) as error:
            return [problem(str(error)), hidden, *await self.read()]
        told = f'<p class="note">{escape(name or "")} is deleted.</p>'
        return [told, hidden, *await self.read()]

    async def _change(self, name: str | None, new_name: str, transcript: str) -> list[Any]:
        if not name:
            return [problem("Choose a voice first."), *self._stay]
        try:
            voice = await self._page.client.change_voice(
                name, name=new_name.strip() or name, transcript=transcript
            )
        except (ServerAway, Refused) as error:
            return [problem(str(error)), *self._stay]
        return [_note(voice, "changed"), *await self.read(voice["name"])]


def voice_table(voices: list[dict[str, Any]]) -> str:
    """The voices to look at."""
    if not voices:
        return '<div class="empty"><p>No voice is saved yet. Record or upload one.</p></div>'
    rows = "".join(
        f"<tr><td>{escape(voice['name'])}</td><td>{voice['audio_s']:.1f} s</td>"
        f"<td>{'yes' if voice['transcript'] else 'no'}</td>"
        f"<td>{escape(words.since_when(voice))}</td>"
        f'<td><a href="page/voices/{voice["id"]}.voice" download>Export</a></td></tr>'
        for voice in voices
    )
    return (
        '<div class="scroll voices" tabindex="0"><table class="plain"><thead><tr><th>Name</th>'
        "<th>Recording</th><th>Transcript</th><th>Saved</th><th>File</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _note(voice: dict[str, Any], what: str) -> str:
    return f'<p class="note" role="status">{escape(words.what_became_of(voice, what))}</p>'
