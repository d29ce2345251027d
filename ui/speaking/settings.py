"""The settings of a speech request, folded away: sampling, tempo, pauses, long text, format."""

from typing import Any

import gradio as gr

from ui import words
from ui.speaking.files import FORMATS
from ui.speaking.wish import LONG_TEXT, RATES_HZ


class Settings:
    """Builds the controls whose values go into a request; `controls` are named by the field."""

    def __init__(self) -> None:
        self.controls: dict[str, Any] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Of the fields, in the order of `values`."""
        return tuple(self.controls)

    @property
    def values(self) -> list[Any]:
        """The controls, to be read by an event."""
        return list(self.controls.values())

    def read(self, values: tuple[Any, ...]) -> dict[str, Any]:
        """What the controls say, by field."""
        return dict(zip(self.names, values, strict=True))

    def build_language(self) -> None:
        """The 14 languages, and leaving it to the server."""
        self.controls["language"] = gr.Dropdown(
            [(name, code) for code, name in words.LANGUAGES.items()],
            value="auto",
            label="Language",
            min_width=140,
            elem_id="language",
        )

    def build_rest(self) -> None:
        """All others, folded away."""
        with gr.Accordion("Settings", open=False, elem_id="settings"):
            self._build_sampling()
            self._build_tempo()
            self._build_output()

    def _build_sampling(self) -> None:
        with gr.Row():
            self.controls["temperature"] = gr.Slider(
                0, 2, 0.7, step=0.05, label="Temperature", info="0 always takes the likeliest."
            )
            self.controls["top_p"] = gr.Slider(
                0.1, 1, 0.7, step=0.05, label="Top-p", info="Less is steadier, more is livelier."
            )
        with gr.Row():
            self.controls["repetition_penalty"] = gr.Slider(
                1, 2, 1.1, step=0.05, label="Repetition penalty", info="Against stuck sounds."
            )
            self.controls["seed"] = gr.Number(
                None,
                precision=0,
                label="Seed",
                info="The same seed gives the same speech; empty draws one.",
            )

    def _build_tempo(self) -> None:
        with gr.Row():
            self.controls["speed"] = gr.Slider(
                0.5, 2, 1, step=0.05, label="Speed", info="Tempo, at the same pitch."
            )
            self.controls["pauses"] = gr.Slider(
                0, 3, 1, step=0.1, label="Pauses", info="Between sentences, against the usual."
            )

    def _build_output(self) -> None:
        with gr.Row():
            self.controls["long_text"] = gr.Dropdown(
                list(LONG_TEXT.items()), value="truncate", label="Text past the limit"
            )
            self.controls["response_format"] = gr.Dropdown(
                [(kind.upper(), kind) for kind in FORMATS], value="wav", label="Format"
            )
            self.controls["sample_rate"] = gr.Dropdown(
                [("The checkpoint's", 0), *((f"{hz:,} Hz", hz) for hz in RATES_HZ)],
                value=0,
                label="Sample rate",
            )
        self.controls["normalize"] = gr.Checkbox(True, label="Read numbers and signs as words")
        self.controls["optimize_for_memory"] = gr.Checkbox(False, label="Use less memory, slower")
        self.controls["force_cpu"] = gr.Checkbox(False, label="Speak on the CPU beside a GPU")
