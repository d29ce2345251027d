"""Whose voice: the default one, a saved one, or that of a recording, listened to before use."""

from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from ui.process import PageProcess
from ui.speaking.settings import Settings
from ui.speaking.wish import RECORDING, WHY_TRANSCRIPT, voice_choices
from ui.wire import Refused, ServerAway

_MICROPHONE = (
    '<p class="note">The microphone works on this computer or over https; elsewhere upload a '
    "recording: wav, flac, ogg, mp3, m4a or webm.</p>"
)


class VoiceChoice:
    """Builds the choice into the Blocks that are open: `build_choice`, `build_rest`, `wire`."""

    def __init__(self, page: PageProcess, settings: Settings) -> None:
        self._page, self._settings = page, settings

    def build_choice(self) -> None:
        """The dropdown."""
        self.voice = self._settings.controls["voice"] = gr.Dropdown(
            voice_choices([]), value="", label="Voice", min_width=140, elem_id="voice"
        )

    def build_rest(self) -> None:
        """What a choice asks for."""
        self.hear = gr.Button("Listen to this voice", visible=False, size="sm", elem_classes="mend")
        self.sample = sample_box()
        with gr.Column(visible=False) as self._box:
            self.recording = recording_box("Recording of the voice, 5 to 30 s of one speaker")
            gr.HTML(_MICROPHONE)
            self.transcript = gr.Textbox(
                label="What is said in it", info=WHY_TRANSCRIPT, lines=2, elem_id="transcript"
            )
            with gr.Row(elem_classes="line"):
                self._name = gr.Textbox(
                    label="Keep it as a voice called", max_lines=1, elem_id="new-name"
                )
                self._keep = gr.Button("Save voice", size="sm", scale=0, min_width=120)
        self._note = gr.HTML("")

    def wire(self) -> None:
        """Answer its events."""
        quiet: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None}
        self.voice.change(self._show, self.voice, [self._box, self.hear, self.sample], **quiet)
        self.hear.click(self._hear, self.voice, [self.sample, self._note], **quiet)
        self._keep.click(
            self._save,
            [self._name, self.recording, self.transcript],
            [self._note, self.voice],
            **quiet,
        )

    def _show(self, voice: str) -> list[Any]:
        is_saved = bool(voice) and voice != RECORDING
        hidden = gr.update(visible=False, value=None)
        return [gr.update(visible=voice == RECORDING), gr.update(visible=is_saved), hidden]

    async def _hear(self, voice: str) -> list[Any]:
        try:
            audio = await self._page.client.hear_voice(voice)
        except (ServerAway, Refused) as error:
            return [gr.skip(), problem(str(error))]
        return [gr.update(value=audio, visible=True, autoplay=True), ""]

    async def _save(self, name: str, recording: str | None, transcript: str) -> list[Any]:
        if not recording:
            return [problem("Record or upload the voice first."), gr.skip()]
        try:
            voice = await self._page.client.save_voice(
                name, Path(recording).read_bytes(), transcript
            )
            names = [each["name"] for each in await self._page.client.voices()]
        except (ServerAway, Refused) as error:
            return [problem(str(error)), gr.skip()]
        told = "; ".join(voice.get("warnings", ())) or "It speaks by this name from now on."
        choice = gr.update(choices=voice_choices(names), value=voice["name"])
        return [f'<p class="note">{escape(voice["name"])} is saved. {escape(told)}</p>', choice]


def sample_box() -> gr.Audio:
    """Where a voice is listened to."""
    return gr.Audio(
        label="How it sounds",
        visible=False,
        interactive=False,
        buttons=[],
        waveform_options=gr.WaveformOptions(
            waveform_color="#8fa3a6", waveform_progress_color="#2b978e"
        ),
    )


def recording_box(label: str) -> gr.Audio:
    """Where a recording is dropped, uploaded or made."""
    return gr.Audio(
        label=label,
        sources=["upload", "microphone"],
        type="filepath",
        buttons=[],
        # The microphone's own rate: cloned from less, a voice loses its upper half.
        waveform_options=gr.WaveformOptions(sample_rate=48_000),
        elem_classes="upload",
    )


def problem(text: str) -> str:
    """What went wrong, where it happened."""
    return f'<p class="problem" role="alert">{escape(text)}</p>'
