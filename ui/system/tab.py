"""The tab of the machine: how it fares, what was chosen and why, what was measured on it."""

import asyncio
from collections import deque
from html import escape
from typing import Any

import gradio as gr

from ui import words
from ui.process import PageProcess
from ui.report.log import Row
from ui.speaking.voice_choice import problem
from ui.system.chart import charts, rtf_by_length
from ui.system.told import (
    EVERY_S,
    REMEMBERED,
    look,
    machine_name,
    newest_rows,
    optimized,
    plan_rows,
)
from ui.wire import Refused, ServerAway


class SystemTab:
    """Builds the tab into the Blocks that are open; nothing is asked while it is not looked at."""

    def __init__(self, page: PageProcess, tab: gr.Tab) -> None:
        self._page = page
        self._past: gr.State = gr.State([])
        self.charts = gr.HTML('<p class="note">…</p>', elem_id="charts")
        with gr.Row(elem_id="actions"):
            self.optimize = gr.Button("Optimize now", size="sm", elem_classes="mend")
        self.optimized = gr.HTML("", elem_id="optimized")
        self.measured = gr.HTML("", elem_id="measured")
        self.plan = gr.HTML("", elem_id="plan")
        self._timer = gr.Timer(EVERY_S, active=False)
        self._wire(tab)

    def _wire(self, tab: gr.Tab) -> None:
        quiet: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None}
        tab.select(lambda: gr.Timer(active=True), None, self._timer, **quiet)
        tab.select(self._read, None, [self.plan, self.measured], **quiet)
        watched = [self.charts, self._past, self._timer]
        gr.on([tab.select, self._timer.tick], self._watch, self._past, watched, **quiet)
        self.optimize.click(self._optimize, None, self.optimized, **quiet)

    def stop_when_leaving(self, other: gr.Tab) -> None:
        """The charts stand still while `other` is looked at."""
        other.select(
            lambda: gr.Timer(active=False),
            None,
            self._timer,
            show_progress="hidden",
            concurrency_limit=None,
        )

    async def _watch(self, past: list[dict[str, float]]) -> tuple[Any, Any, Any]:
        client = self._page.client
        try:
            status, health = await asyncio.gather(client.system_status(), client.health())
        except (ServerAway, Refused) as error:
            return problem(str(error)), gr.skip(), gr.skip()
        seen = deque(past, maxlen=REMEMBERED)
        seen.append(look(status, health))
        return charts(list(seen), status, health), list(seen), gr.skip()

    async def _read(self) -> tuple[str, str]:
        try:
            hardware = await self._page.client.hardware()
            rows = await newest_rows(self._page.client)
        except (ServerAway, Refused) as error:
            return problem(str(error)), ""
        return plan_table(hardware), measured(rows)

    async def _optimize(self) -> str:
        try:
            return optimized_table(await self._page.client.optimize())
        except (ServerAway, Refused) as error:
            return problem(str(error))


def plan_table(hardware: dict[str, Any]) -> str:
    """The plan as a table of choice, value, source and reason."""
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
        for row in plan_rows(hardware)
    )
    notes = hardware["selected_configuration"].get("notes", ())
    shown = "".join(f'<p class="note">{escape(note)}</p>' for note in notes)
    name = escape(machine_name(hardware["hardware_profile"]))
    return (
        f'<h2 class="section">What was chosen for {name}, and why</h2>'
        f'{shown}<div class="scroll" tabindex="0"><table class="plain"><thead><tr><th>Choice</th>'
        f"<th>Value</th><th>Decided by</th><th>Why</th></tr></thead><tbody>{body}</tbody></table>"
        "</div>"
    )


def measured(rows: list[Row]) -> str:
    """RTF by length of text, from this machine's own rows."""
    head = '<h2 class="section">Measured here</h2>'
    pairs = [(row.characters, row.rtf) for row in rows if row.rtf and row.characters]
    if not pairs:
        return f'{head}<p class="note">Nothing was spoken here yet, or no log is kept.</p>'
    middle = sorted(rtf for _, rtf in pairs)[len(pairs) // 2]
    told = f"{words.count(len(pairs), 'request')}, median real-time factor {middle:.2f}"
    return f'{head}<p class="note">{told}, by length of text.</p>{rtf_by_length(pairs)}'


def optimized_table(told: dict[str, Any]) -> str:
    """Before and after, side by side."""
    head, rows = optimized(told)
    body = "".join(
        f"<tr><td>{escape(a)}</td><td>{escape(b)}</td><td>{escape(c)}</td></tr>" for a, b, c in rows
    )
    return (
        f'<div class="card"><p class="head">{escape(head)}</p>'
        '<div class="scroll" tabindex="0"><table class="plain"><thead><tr><th></th><th>Before</th>'
        f"<th>After</th></tr></thead><tbody>{body}</tbody></table></div></div>"
    )
