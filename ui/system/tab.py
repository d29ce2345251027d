"""The tab of the machine: how it fares, what was chosen and why, what was measured on it."""

import asyncio
from collections import deque
from html import escape
from typing import Any

import gradio as gr

from ui import words
from ui.process import PageProcess
from ui.report.log import Row, read_rows
from ui.speaking.voice_choice import problem
from ui.system.chart import gauge, rtf_by_length
from ui.wire import Refused, ServerAway

_EVERY_S = 2.0
_REMEMBERED = 90
"""Looks that the charts show."""
_LOG_BYTES = 512 * 1024
"""Of the newest logs, as much is read to say what was measured here."""
_LOG_FILES = 3


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
        self._timer = gr.Timer(_EVERY_S, active=False)
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
        seen = deque(past, maxlen=_REMEMBERED)
        seen.append(_look(status, health))
        return charts(list(seen), status, health), list(seen), gr.skip()

    async def _read(self) -> tuple[str, str]:
        try:
            hardware = await self._page.client.hardware()
            rows = await newest_rows(self._page)
        except (ServerAway, Refused) as error:
            return problem(str(error)), ""
        return plan_table(hardware), measured(rows)

    async def _optimize(self) -> str:
        try:
            return optimized(await self._page.client.optimize())
        except (ServerAway, Refused) as error:
            return problem(str(error))


async def newest_rows(page: PageProcess) -> list[Row]:
    """What the server's newest logs say of its requests."""
    files = [each for each in await page.client.log_files() if each["kind"] == "synthesis"]
    rows: list[Row] = []
    for file in files[:_LOG_FILES]:
        rows += read_rows(await page.client.log_file(file["name"], _LOG_BYTES))
    return rows


def _look(status: dict[str, Any], health: dict[str, Any]) -> dict[str, float]:
    resources, queue = status["resources"], health.get("queue") or {}
    temperatures = [t for t in (resources.get("temperatures_c") or {}).values() if t is not None]
    total, free = resources.get("gpu_memory_total_mb"), resources.get("gpu_memory_free_mb")
    return {
        "cpu": resources["cpu_percent"],
        "memory": resources["memory_percent"],
        "gpu": 100 * (1 - (free or 0) / total) if total else -1.0,
        "heat": max(temperatures, default=-1.0),
        "queue": float(queue.get("speaking", 0) + queue.get("waiting", 0)),
    }


def charts(seen: list[dict[str, float]], status: dict[str, Any], health: dict[str, Any]) -> str:
    """The charts of what was seen, and what to do about it."""
    now = seen[-1]
    resources, queue = status["resources"], health.get("queue") or {}
    used = resources["memory_limit_mb"] - resources["memory_available_mb"]

    def past(name: str) -> list[float]:
        return [each[name] for each in seen]

    memory = f"{words.size(used)} of {words.size(resources['memory_limit_mb'])}"
    parts = [
        gauge("CPU", f"{now['cpu']:.0f} %", past("cpu"), 100),
        gauge("Memory", memory, past("memory"), 100),
    ]
    if now["gpu"] >= 0:
        parts.append(gauge("GPU memory", f"{now['gpu']:.0f} %", past("gpu"), 100))
    if now["heat"] >= 0:
        parts.append(gauge("Temperature", f"{now['heat']:.0f} °C", past("heat"), 110))
    told = f"{queue.get('speaking', 0)} speaking, {queue.get('waiting', 0)} waiting"
    parts.append(gauge("Requests", told, past("queue"), max(4.0, *past("queue"))))
    advice = status["recommended_action"]
    reasons = "; ".join((status.get("throttling_risk") or {}).get("reasons") or ())
    is_fine = advice == "OK"
    head = "Nothing slows this machine down." if is_fine else advice
    return (
        f'<div class="card{"" if is_fine else " warn"}"><p class="head">{escape(head)}</p>'
        f"{f'<p>{escape(reasons)}</p>' if reasons else ''}</div>"
        f'<div class="pair" style="margin-top:20px">{"".join(parts)}</div>'
    )


def plan_table(hardware: dict[str, Any]) -> str:
    """The plan as a table of choice, value, who decided and why."""
    chosen = hardware["selected_configuration"]
    profile = hardware["hardware_profile"]
    rows = [("tier", chosen["tier"], "this machine", chosen.get("tier_reason", ""))]
    for name, choice in chosen["choices"].items():
        value = choice["value"]
        shown = ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
        source = words.DECIDED_BY.get(choice["source"], choice["source"])
        rows.append((name.replace("_", " "), shown, source, choice["reason"]))
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in chosen.get("notes", ()))
    return (
        f'<h2 class="section">What was chosen for {escape(machine_name(profile))}, and why</h2>'
        f'{notes}<div class="scroll" tabindex="0"><table class="plain"><thead><tr><th>Choice</th>'
        f"<th>Value</th><th>Decided by</th><th>Why</th></tr></thead><tbody>{body}</tbody></table>"
        "</div>"
    )


def machine_name(profile: dict[str, Any]) -> str:
    """The machine in a few words."""
    cpu, memory = profile.get("cpu") or {}, profile.get("memory") or {}
    gpus = ", ".join(gpu.get("name", "a GPU") for gpu in profile.get("gpus") or ())
    parts = [cpu.get("model") or "this machine", f"{cpu.get('physical_cores')} cores"]
    parts.append(f"{memory.get('limit_gib', 0):.0f} GB")
    return ", ".join([*parts, *([gpus] if gpus else [])])


def measured(rows: list[Row]) -> str:
    """RTF by length of text, from this machine's own rows."""
    head = '<h2 class="section">Measured here</h2>'
    pairs = [(row.characters, row.rtf) for row in rows if row.rtf and row.characters]
    if not pairs:
        return f'{head}<p class="note">Nothing was spoken here yet, or no log is kept.</p>'
    middle = sorted(rtf for _, rtf in pairs)[len(pairs) // 2]
    told = f"{words.count(len(pairs), 'request')}, median real-time factor {middle:.2f}"
    return f'{head}<p class="note">{told}, by length of text.</p>{rtf_by_length(pairs)}'


def optimized(told: dict[str, Any]) -> str:
    """Before and after, side by side."""
    before, after = told["before"], told["after"]
    old, new = told["previous_config"], told["new_config"]
    lines = [
        ("CPU", f"{before['cpu_percent']:.0f} %", f"{after['cpu_percent']:.0f} %"),
        *(
            (label, words.size(before[key]), words.size(after[key]))
            for label, key in (("Memory free", "memory_available_mb"),)
        ),
        *((name.replace("_", " "), str(old[name]), str(new[name])) for name in old),
    ]
    body = "".join(
        f"<tr><td>{escape(a)}</td><td>{escape(b)}</td><td>{escape(c)}</td></tr>"
        for a, b, c in lines
    )
    verdict = {
        "optimal": "Everything is as planned.",
        "adjusted": "Less is used while the machine is under pressure.",
    }.get(told["status"], told["status"])
    freed = f" {words.size(told.get('freed_mb', 0))} were freed."
    return (
        f'<div class="card"><p class="head">{escape(verdict + freed)}</p>'
        '<div class="scroll" tabindex="0"><table class="plain"><thead><tr><th></th><th>Before</th>'
        f"<th>After</th></tr></thead><tbody>{body}</tbody></table></div></div>"
    )
