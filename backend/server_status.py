"""`shoal status`: how a server is that runs somewhere, its workers or replicas with it."""

import json
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from backend.errors import EngineDown, Unauthorized
from backend.listening import is_loopback, server_url
from backend.logs import tame

MAX_ANSWER_BYTES = 16 * 1024 * 1024
"""Of one answer: more is none of a server's."""
_OF_PLAN = ("precision", "quantization", "num_threads", "torch_compile", "max_batch")

Answer = dict[str, Any]


def which(named: str | None, ours: str, our_key: str) -> tuple[str, str]:
    """The URL that is meant and the key for it: `named`, else API_URL's, else `ours`; API_KEY, of
    ours else `our_key`."""
    url = named or os.environ.get("API_URL") or ours
    return url, os.environ.get("API_KEY") or (our_key if url == ours else "")


def ask(url: str, key: str, timeout_s: float) -> Answer:
    """All that is shown of the server at `url`.

    Raises `BadSetting` for what is no URL, `EngineDown` where no Shoal answers in time, and
    `Unauthorized` where it asks for another key than `key`, or for one at all.
    """
    server = _Server(url, key, timeout_s)
    health = server.get("/health")
    if not isinstance(health.get("worker"), dict) or "version" not in health:
        raise EngineDown(f"What answers at {url} is no Shoal server.")
    status, hardware, metrics = map(server.get, ("/system-status", "/hardware", "/metrics"))
    plans = {each["worker"]: each for each in hardware["workers"]["each"]}
    return {
        "url": url,
        "ready": health["status"] == "ok",
        "version": health["version"],
        "state": health["worker"]["state"],
        "reason": health["worker"]["reason"],
        "engine": health["engine"],
        "checkpoint": health["checkpoint"],
        "workers": [
            each | {"plan": _plan(plans.get(each["worker"], {}))} for each in status["workers"]
        ],
        "queue": health["queue"],
        "memory": {
            name: status["resources"].get(name)
            for name in ("memory_percent", "memory_total_mb", "memory_available_mb")
        },
        "rates": status.get("rates"),
        "requests": metrics["since_start"] | {"uptime_s": metrics["uptime_s"]},
        "recent": metrics["recent"],
        "recommended_action": status["recommended_action"],
    }


class _Server:
    def __init__(self, url: str, key: str, timeout_s: float) -> None:
        parts = server_url(url)
        self._url, self._timeout_s = url.rstrip("/"), timeout_s
        self._key = key
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if is_loopback(parts.hostname or ""):
            handlers.append(urllib.request.ProxyHandler({}))  # a proxy's own, that is not
        self._opener = urllib.request.build_opener(*handlers)

    def get(self, path: str) -> Answer:
        """The JSON object that it answers."""
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        request = urllib.request.Request(self._url + path, headers=headers)
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                body = response.read(MAX_ANSWER_BYTES + 1)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(error) from None
        except urllib.error.URLError as error:
            raise self._away(error.reason) from None
        except (OSError, ValueError) as error:  # ValueError: what is answered is no HTTP
            raise self._away(error) from None
        try:
            told = json.loads(body) if len(body) <= MAX_ANSWER_BYTES else None
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise EngineDown(f"What answers at {self._url} is no Shoal server.")
        return told

    def _refused(self, error: urllib.error.HTTPError) -> Exception:
        if error.code == 401:
            if self._key:
                return Unauthorized(f"{self._url} does not take this key; set another API_KEY.")
            return Unauthorized(f"{self._url} asks for a key: set API_KEY.")
        try:
            told = json.loads(error.read(MAX_ANSWER_BYTES))["detail"]
        except (OSError, ValueError, TypeError, KeyError):
            return EngineDown(f"What answers at {self._url} is no Shoal server ({error.code}).")
        return EngineDown(f"{self._url} answers {error.code}: {tame(str(told))}")

    def _away(self, reason: object) -> Exception:
        if isinstance(reason, TimeoutError):
            return EngineDown(f"{self._url} has not answered within {self._timeout_s:g} s.")
        if isinstance(reason, ConnectionRefusedError):
            return EngineDown(f"Nobody listens at {self._url}; `shoal serve` starts a server.")
        if isinstance(reason, socket.gaierror):
            return EngineDown(f"There is no machine called {server_url(self._url).hostname}.")
        return EngineDown(f"{self._url} cannot be reached: {tame(str(reason))}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Elsewhere our key would go along."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _plan(planned: Mapping[str, Any]) -> Answer:
    return {name: planned[name] for name in _OF_PLAN if name in planned}


# -- for people ------------------------------------------------------------------------------------


def status_table(told: Answer) -> RenderableType:
    """`told` by `ask`, for a terminal."""
    is_cluster = any(each.get("replica") for each in told["workers"])
    workers = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in (*(("replica", "node") if is_cluster else ("worker",)), "device", "state", "plan"):
        workers.add_column(name, no_wrap=name != "plan")
    for name in ("rows", "memory, MB", "restarts"):
        workers.add_column(name, justify="right")
    for each in told["workers"]:
        who = (each["replica"], each["node"][:8]) if is_cluster else (each["worker"],)
        cells = (*who, each["device"], each["state"], _plan_shown(each["plan"]))
        figures = (f"{each['speaking']}/{each['rows']}", _memory(each), each["restarts"])
        workers.add_row(*(Text(tame(str(cell))) for cell in (*cells, *figures)))
    color = "green" if told["ready"] else "red"
    head = Text.assemble(
        f"{told['url']}: ",
        ("ready" if told["ready"] else "not ready", color),
        "" if told["state"] == "ready" else f" ({tame(_state(told))})",
    )
    return Group(head, workers, *(Text(tame(line)) for line in _lines(told)))


def _lines(told: Answer) -> list[str]:
    queue, memory, requests = told["queue"], told["memory"], told["requests"]
    since = timedelta(seconds=round(requests["uptime_s"]))
    reasons = [
        f"{each.get('replica') or 'worker ' + str(each['worker'])}: {_state(each)}"
        for each in told["workers"]
        if each["reason"] and each["reason"] != told["reason"]
    ]
    speaks = [f"Shoal {told['version']}", f"checkpoint {told['checkpoint']}"]
    if told["engine"]:
        speaks.append(f"engine {told['engine']}")
    lines = [
        *reasons,
        f"serves: {', '.join(speaks)}",
        f"queue: {queue['speaking']} spoken, {queue['waiting']} waiting, "
        f"{queue['characters_ahead']:,} characters ahead at {queue['characters_per_s']:,} a second",
        f"memory: {memory['memory_percent']:g} % of {memory['memory_total_mb']:,} MB taken",
        f"rates: {_rates(told['rates'])}",
        f"requests: {requests['requests']:,} since the start {since} ago",
    ]
    if recent := _recent(told):
        lines.append(f"speed: {recent}")
    if told["recommended_action"] != "OK":
        lines.append(f"do: {told['recommended_action']}")
    return lines


def _state(told: Mapping[str, Any]) -> str:
    return f"{told['state']}: {told['reason']}" if told["reason"] else str(told["state"])


def _plan_shown(plan: Mapping[str, Any]) -> str:
    if not plan:
        return ""
    words = [str(plan["precision"])]
    if plan["quantization"] != "none":
        words.append(str(plan["quantization"]))
    threads = plan["num_threads"]
    return ", ".join((*words, "1 thread" if threads == 1 else f"{threads} threads"))


def _memory(worker: Mapping[str, Any]) -> str:
    taken = f"{worker['memory_mb']:,.0f}"
    if worker.get("gpu_memory_total_mb"):
        return f"{taken}/{worker['gpu_memory_total_mb']:,}"
    return taken


def _rates(rates: Mapping[str, Any] | None) -> str:
    if not rates:
        return "no limit"
    where = f"counted in {rates['store']}" if rates["counted"] == "shared" else "counted here"
    problem = f"; {rates['problem']}" if rates["problem"] else ""
    return f"{rates['per_minute']} a minute for each client, {where}{problem}"


def _recent(told: Answer) -> str:
    parts = []
    for name, says, unit in (("rtf", "RTF", ""), ("first_audio_s", "first audio", " s")):
        figures = told["recent"].get(name) or {}
        if figures.get("p50") is not None:
            parts.append(f"{says} p50 {figures['p50']:.3g}{unit}, p95 {figures['p95']:.3g}{unit}")
    return "; ".join(parts)
