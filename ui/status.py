"""The line at the top of the page: how the server is, and that it is away until it is back."""

from html import escape
from typing import Any

import gradio as gr

from ui import words
from ui.process import PageProcess
from ui.voices.tab import VoicesTab
from ui.wire import Refused, ServerAway

_EVERY_S = 3.0


class StatusLine:
    """Asks `/health` again and again while the page is open."""

    def __init__(self, page: PageProcess) -> None:
        self._page = page
        self._line = gr.HTML('<p class="chip busy">Looking for the server …</p>', elem_id="status")
        self._was_away = gr.State(False)
        self._timer = gr.Timer(_EVERY_S)

    def wire(self, blocks: gr.Blocks, voices: VoicesTab) -> None:
        """Begin, once everything is built; where the server comes back, the voices do too."""
        quiet: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None}
        gr.on(
            [blocks.load, self._timer.tick],
            self._look,
            self._was_away,
            [self._line, self._was_away],
            **quiet,
        )
        gr.on([blocks.load, self._was_away.change], voices.read, None, voices.shown, **quiet)

    async def _look(self, was_away: bool) -> tuple[Any, Any]:
        try:
            health = await self._page.client.health()
        except (ServerAway, Refused) as error:
            text = f"{error} Trying again every few seconds."
            return f'<p class="chip away" role="alert">{escape(text)}</p>', True
        return status_line(health), False if was_away else gr.skip()


def status_line(health: dict[str, Any]) -> str:
    """What `/health` says, in a line."""
    kind, text = words.state_of(health)
    return f'<p class="chip {kind}">{escape(text)}</p>'
