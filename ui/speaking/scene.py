"""The lines of a dialogue, each with its voice: as many rows as the scene needs."""

from collections.abc import Callable
from typing import Any

import gradio as gr

Line = dict[str, str]
MOST_LINES = 1000
"""What the server takes."""


class Scene:
    """Builds the rows into the Blocks that are open.

    The rows are drawn anew only where one comes or goes; what is in them is read from them, so
    that nobody loses a word or the place where they are typing.
    """

    def __init__(self) -> None:
        self._lines = gr.State([_line(0), _line(1)])
        """What the rows began with."""
        self.names = gr.State([])
        """The saved voices."""
        self.said = gr.State("")
        """The text of all lines."""
        self._wire: Callable[[list[Any]], None] = lambda controls: None
        gr.render([self._lines, self.names])(self._draw)
        self._add = gr.Button("Add a line", size="sm", elem_classes="mend")

    def wire(self, wire: Callable[[list[Any]], None]) -> None:
        """Have `wire` called with the rows' controls, a voice and a text for each line in turn,
        whenever they are drawn."""
        self._wire = wire

    def _draw(self, lines: list[Line], names: list[str]) -> None:
        controls: list[Any] = []
        removals = []
        for number, line in enumerate(lines, start=1):
            voice, text, remove = _draw_line(number, line, names)
            controls += [voice, text]
            removals.append(remove)
        self._wire_rows(lines, controls, removals)
        self._wire(controls)

    def _wire_rows(self, lines: list[Line], controls: list[Any], removals: list[Any]) -> None:
        quiet: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None}
        keys = [line["key"] for line in lines]

        def add(*values: str) -> list[Line]:
            number = 1 + max((int(key) for key in keys), default=-1)
            return [*_read(keys, values), _line(number)][:MOST_LINES]

        def remove(key: str, *values: str) -> list[Line]:
            return [line for line in _read(keys, values) if line["key"] != key]

        def say(*values: str) -> str:
            return "\n\n".join(line["text"] for line in spoken(values))

        gr.on(
            [control.change for control in controls],
            say,
            controls,
            self.said,
            trigger_mode="always_last",
            **quiet,
        )
        self._add.click(add, controls, self._lines, **quiet)
        for key, button in zip(keys, removals, strict=True):
            button.click(
                lambda *values, key=key: remove(key, *values), controls, self._lines, **quiet
            )


def spoken(values: tuple[Any, ...]) -> list[Line]:
    """The lines that say something, of the values of the rows' controls."""
    pairs = zip(values[::2], values[1::2], strict=True)
    return [{"text": text, "voice": voice or ""} for voice, text in pairs if (text or "").strip()]


def _draw_line(number: int, line: Line, names: list[str]) -> tuple[Any, Any, Any]:
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
    return voice, text, remove


def _read(keys: list[str], values: tuple[str, ...]) -> list[Line]:
    pairs = zip(keys, values[::2], values[1::2], strict=True)
    return [{"key": key, "voice": voice or "", "text": text or ""} for key, voice, text in pairs]


def _line(number: int) -> Line:
    return {"key": str(number), "voice": "", "text": ""}
