"""What a server tells of its machine, as the pages show it: looks, the plan, before and after."""

from typing import Any

from ui import words
from ui.client import Shoal
from ui.report.log import Row, read_rows

EVERY_S = 2.0
"""Between two looks at the machine."""
REMEMBERED = 90
"""Looks that the charts show."""
_LOG_BYTES = 512 * 1024
"""Of the newest logs, as much is read to say what was measured here."""
_LOG_FILES = 3


async def newest_rows(client: Shoal) -> list[Row]:
    """What the server's newest logs say of its requests."""
    files = [each for each in await client.log_files() if each["kind"] == "synthesis"]
    rows: list[Row] = []
    for file in files[:_LOG_FILES]:
        rows += read_rows(await client.log_file(file["name"], _LOG_BYTES))
    return rows


def look(status: dict[str, Any], health: dict[str, Any]) -> dict[str, float]:
    """The figures of one moment; -1 is what this machine does not tell."""
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


def memory_in_use(status: dict[str, Any]) -> str:
    """ "1.2 GB of 8.0 GB"."""
    resources = status["resources"]
    used = resources["memory_limit_mb"] - resources["memory_available_mb"]
    return f"{words.size(used)} of {words.size(resources['memory_limit_mb'])}"


def requests_in_work(health: dict[str, Any]) -> str:
    """ "1 speaking, 0 waiting"."""
    queue = health.get("queue") or {}
    return f"{queue.get('speaking', 0)} speaking, {queue.get('waiting', 0)} waiting"


def advice(status: dict[str, Any]) -> tuple[bool, str, str]:
    """Whether all is well, what to do, and why."""
    action = status["recommended_action"]
    reasons = "; ".join((status.get("throttling_risk") or {}).get("reasons") or ())
    is_fine = action == "OK"
    return is_fine, "Nothing slows this machine down." if is_fine else action, reasons


def plan_rows(hardware: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """The plan as choice, value, source, and reason."""
    chosen = hardware["selected_configuration"]
    rows = [("tier", chosen["tier"], "this machine", chosen.get("tier_reason", ""))]
    for name, choice in chosen["choices"].items():
        value = choice["value"]
        shown = ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
        source = words.DECIDED_BY.get(choice["source"], choice["source"])
        rows.append((name.replace("_", " "), shown, source, choice["reason"]))
    return rows


def machine_name(profile: dict[str, Any]) -> str:
    """The machine in a few words."""
    cpu, memory = profile.get("cpu") or {}, profile.get("memory") or {}
    gpus = ", ".join(gpu.get("name", "a GPU") for gpu in profile.get("gpus") or ())
    parts = [cpu.get("model") or "this machine", f"{cpu.get('physical_cores')} cores"]
    parts.append(f"{memory.get('limit_gib', 0):.0f} GB")
    return ", ".join([*parts, *([gpus] if gpus else [])])


def optimized(told: dict[str, Any]) -> tuple[str, list[tuple[str, str, str]]]:
    """What optimizing came to, and each figure before and after it."""
    before, after = told["before"], told["after"]
    old, new = told["previous_config"], told["new_config"]
    free = "memory_available_mb"
    rows = [
        ("CPU", f"{before['cpu_percent']:.0f} %", f"{after['cpu_percent']:.0f} %"),
        ("Memory free", words.size(before[free]), words.size(after[free])),
        *((name.replace("_", " "), str(old[name]), str(new[name])) for name in old),
    ]
    verdict = {
        "optimal": "Everything is as planned.",
        "adjusted": "Less is used while the machine is under pressure.",
    }.get(told["status"], told["status"])
    return f"{verdict} {words.size(told.get('freed_mb', 0))} were freed.", rows
