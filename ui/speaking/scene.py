"""The lines of a dialogue, each with its voice: as many rows as the scene needs."""

from typing import Any

import gradio as gr

Line = dict[str, str]


class Scene:
    """Builds the rows into the Blocks that are open; `lines` holds what they say."""

    def __init__(self) -> None:
        self.lines = gr.State([_line("0"), _line("1")])
        """A dict of key, voice and text for each line."""
        self.names = gr.State([])
        """The saved voices."""
        self._shape = gr.State(0)
        """Changes where rows come or go: only then they are drawn anew, so that nobody loses the
        place where they are typing."""
        gr.render([self.lines, self.names], triggers=[self._shape.change, self.names.change])(
            self._draw
        )
        self._add = gr.Button("Add a line", size="sm", elem_classes="mend")
        self._add.click(
            lambda lines, shape: ([*lines, _line(str(shape + 2))], shape + 1),
            [self.lines, self._shape],
            [self.lines, self._shape],
            show_progress="hidden",
            concurrency_limit=None,
        )

    def _draw(self, lines: list[Line], names: list[str]) -> None:
        for number, line in enumerate(lines, start=1):
            self._draw_line(number, line, names)

    def _draw_line(self, number: int, line: Line, names: list[str]) -> None:
        key = line["key"]
        with gr.Row(key=f"row {key}", elem_classes="line"):
            voice = gr.Dropdown(
                [("Default", ""), *((name, name) for name in names)],
                value=line["voice"] if line["voice"] in names else "",
                label=f"Voice {number}",
                scale=1,
                min_width=110,
                key=f"voice {key}",
            )
            text = gr.Textbox(
                value=line["text"],
                label=f"Line {number}",
                scale=3,
                min_width=160,
                key=f"text {key}",
            )
            remove = gr.Button("Remove", size="sm", scale=0, min_width=80, key=f"remove {key}")
        quiet: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None}
        gr.on(
            [voice.input, text.input],
            lambda lines, voice, text: [
                {**each, "voice": voice, "text": text} if each["key"] == key else each
                for each in lines
            ],
            [self.lines, voice, text],
            self.lines,
            trigger_mode="always_last",
            **quiet,
        )
        remove.click(
            lambda lines, shape: ([each for each in lines if each["key"] != key], shape + 1),
            [self.lines, self._shape],
            [self.lines, self._shape],
            **quiet,
        )


def _line(key: str) -> Line:
    return {"key": key, "voice": "", "text": ""}
