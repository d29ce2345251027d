"""The emotion guide: where the mood of the speech comes from, as the server tells it."""

from html import escape

import gradio as gr

from ui.guide.told import guide
from ui.process import PageProcess
from ui.wire import Refused, ServerAway


class GuideTab:
    """Builds the tab into the Blocks that are open; it is filled when it is opened."""

    def __init__(self, page: PageProcess, tab: gr.Tab) -> None:
        self._page = page
        shown = gr.HTML('<p class="note">…</p>', elem_id="guide")
        tab.select(self._read, None, shown, show_progress="hidden", concurrency_limit=None)

    async def _read(self) -> str:
        try:
            return guide(await self._page.client.emotions())
        except (ServerAway, Refused) as error:
            return f'<p class="problem" role="alert">{escape(str(error))}</p>'
