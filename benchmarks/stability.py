"""Never killed, nothing lost: a real server under real memory limits, with its bounds and without.

    python -m benchmarks.stability --limits-mb 512 1024 2048 --control on off --into FILE.json
    python -m benchmarks.stability --model-dir CHECKPOINT --spoken-characters 12 --into FILE.json
    python -m benchmarks.stability --draw FILE.json --page MDs/BENCHMARKS.md \\
        --picture MDs/pictures/stability.svg

One fixed mix: texts of 10 to 5,000 characters, in waves of 1 to 8 at once, every fifth in the voice
of a recording, every second streamed, every tenth of a client that leaves. At most
`--spoken-characters` of each are spoken, and a quarter of the texts, which are split instead of
cut, are no longer than four times that: a random checkpoint speaks as long as it may. Where no
cgroup can be made each process has the limit for itself (`benchmarks.inside`).

`--control off` is `SHOAL_MEMORY_CONTROL=false`: no budget, no lease, no ladder. Prints a table and
one JSON line last; with `--into` each row is added to the file as soon as it is measured, and what
the file has already is not measured again: a run that was cut short is gone on with.
"""

import argparse
import asyncio
import csv
import json
import math
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.inside import Limit, limited
from benchmarks.machine import recording, text_of
from benchmarks.stability_picture import OUTCOMES, picture
from tests.e2e.serving import Served, serving

LEAST_CHARACTERS, MOST_CHARACTERS, MOST_TOGETHER = 10, 5_000, 8
RECORDING_S = 8.0
ANSWER_S = 600.0
"""A request that has no answer after so long has none."""
_SEED = 15
_HEADER_BYTES = 44
"""Of a wav file that holds no audio."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One request of the mix."""

    number: int
    characters: int
    has_recording: bool
    is_streamed: bool
    is_split: bool
    leaves: bool
    """Its client hangs up at the first audio or, where it waits for all, within a second."""

    @property
    def request_id(self) -> str:
        """What it is called in the request log."""
        return f"stability-{self.number}"


@dataclass(frozen=True, slots=True)
class Answered:
    """What its client got."""

    status: int | None
    """None where there was no answer, or it was cut off."""
    says: bool = False
    """That it was cut, or spoken with less than planned."""
    has_audio: bool = False
    problem: str = ""


def mix(requests: int, spoken_characters: int) -> list[Wanted]:
    """The same for the same figures."""
    chance, wanted = random.Random(_SEED), list[Wanted]()
    for number in range(requests):
        logarithm = chance.uniform(math.log(LEAST_CHARACTERS), math.log(MOST_CHARACTERS))
        is_split, characters = number % 4 == 1, round(math.exp(logarithm))
        wanted.append(
            Wanted(
                number,
                min(characters, 4 * spoken_characters) if is_split else characters,
                has_recording=number % 5 == 0,
                is_streamed=number % 2 == 1,
                is_split=is_split,
                leaves=number % 10 == 7,
            )
        )
    return wanted


def waves(wanted: Sequence[Wanted]) -> list[Sequence[Wanted]]:
    """Those that are sent together: 1, then 2, … 8, then 1 again."""
    found, start = list[Sequence[Wanted]](), 0
    while start < len(wanted):
        size = len(found) % MOST_TOGETHER + 1
        found.append(wanted[start : start + size])
        start += size
    return found


async def ask(http: httpx.AsyncClient, wanted: Wanted, voice: bytes) -> Answered:
    """Send one request and take its answer."""
    fields = {
        "text": text_of(wanted.characters),
        "seed": str(wanted.number),
        "stream": str(wanted.is_streamed).lower(),
        "long_text": "split" if wanted.is_split else "truncate",
    }
    request = http.build_request(
        "POST",
        "/tts",
        data=fields,
        files={"speaker_file": ("voice.wav", voice)} if wanted.has_recording else None,
        headers={"X-Request-ID": wanted.request_id},
    )
    audio = bytearray()
    try:
        answer = await http.send(request, stream=True)
        try:
            async for piece in answer.aiter_bytes():
                audio += piece
                if wanted.leaves:
                    break
        finally:
            await answer.aclose()
    except httpx.HTTPError as error:
        return Answered(None, problem=type(error).__name__)
    headers = answer.headers
    warning = headers.get("X-Warning", "")
    says = headers.get("X-Text-Truncated") == "true" or "memory" in warning
    why = audio[:200].decode("utf-8", "replace") if answer.is_error else ""
    return Answered(answer.status_code, says, has_audio=len(audio) > _HEADER_BYTES, problem=why)


async def ask_and_leave(http: httpx.AsyncClient, wanted: Wanted, voice: bytes) -> Answered:
    """The same, of a client that may leave."""
    asking = asyncio.create_task(ask(http, wanted, voice))
    if wanted.leaves and not wanted.is_streamed:
        await asyncio.wait({asking}, timeout=1.0)
        asking.cancel()
    await asyncio.wait({asking})
    return Answered(None, problem="left") if asking.cancelled() else asking.result()


async def ask_all(url: str, wanted: Sequence[Wanted]) -> dict[str, Answered]:
    """Wave after wave."""
    voice, answers = recording(RECORDING_S), dict[str, Answered]()
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=url, timeout=ANSWER_S, limits=limits) as http:
        for wave in waves(wanted):
            told = await asyncio.gather(*(ask_and_leave(http, each, voice) for each in wave))
            answers |= dict(zip((each.request_id for each in wave), told, strict=True))
    return answers


def outcome(wanted: Wanted, answered: Answered, logged: str) -> str:
    """Which of `OUTCOMES` it is; `logged` is what the request log calls it."""
    if wanted.leaves:
        return "left"
    if answered.status == 200 and answered.has_audio and not answered.problem:
        return "spoken and says so" if answered.says else "spoken"
    if answered.status is None and answered.problem != "RemoteProtocolError":
        return "unanswered"
    return "refused" if logged == "refused" or answered.status in (413, 422, 429) else "failed"


def let_go_of_pages(folder: Path) -> None:
    """Have the kernel forget what it read of files: it would count for whoever had it read."""
    if not hasattr(os, "posix_fadvise"):
        return
    for file in filter(Path.is_file, folder.rglob("*")):
        with file.open("rb") as pages:
            os.posix_fadvise(pages.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def run_of(limit_mb: int, arguments: argparse.Namespace, control: bool) -> dict[str, Any]:
    """What a row is of."""
    return {
        "checkpoint": arguments.model_dir.name if arguments.model_dir else "demo",
        "limit_mb": limit_mb,
        "control": "on" if control else "off",
        "requests": arguments.requests,
        "spoken_characters": arguments.spoken_characters,
    }


def measure(limit: Limit, arguments: argparse.Namespace, control: bool) -> dict[str, Any]:
    """One row of the table."""
    wanted = mix(arguments.requests, arguments.spoken_characters)
    found = run_of(limit.limit_mb, arguments, control)
    found["how"] = "cgroup" if limit.group else "prlimit"
    for folder in (arguments.model_dir, arguments.data_dir):
        if folder is not None:
            let_go_of_pages(folder)
    began_s = time.perf_counter()
    with tempfile.TemporaryDirectory() as metrics:
        environment = {
            "SHOAL_MEMORY_CONTROL": str(control).lower(),
            "SHOAL_MAX_TEXT_LENGTH": str(arguments.spoken_characters),
            "SHOAL_METRICS": "true",
            "SHOAL_METRICS_DIR": metrics,
            **({"MODEL_DIR": str(arguments.model_dir)} if arguments.model_dir else {}),
            **({"SHOAL_DATA_DIR": str(arguments.data_dir)} if arguments.data_dir else {}),
        }
        command = limit.command(sys.executable, "-m", "backend.cli", "serve")
        try:
            with serving(*command, **environment) as served:
                answers = asyncio.run(ask_all(served.url, wanted))
                found |= _at_the_end(served)
        except RuntimeError as error:  # it did not become ready
            # Whoever would have asked gets no answer: the server says why, or was killed.
            found |= {"at_start": str(error).strip().splitlines()[-1][:400], **limit.kernel_says()}
            return found
        logged = _logged(Path(metrics))
    outcomes = Counter(
        outcome(each, answers[each.request_id], logged.get(each.request_id, "")) for each in wanted
    )
    admitted = sum(outcomes[name] for name in OUTCOMES if name not in ("left", "refused"))
    spoken = outcomes["spoken"] + outcomes["spoken and says so"]
    return found | {
        **{name: outcomes[name] for name in OUTCOMES},
        "problems": dict(
            Counter(_plain(each.problem) for each in answers.values() if each.problem)
        ),
        "spoken_of_admitted_pct": round(100 * spoken / admitted, 2) if admitted else None,
        "seconds": round(time.perf_counter() - began_s, 1),
        **limit.kernel_says(),
    }


def _at_the_end(served: Served) -> dict[str, Any]:
    """What the server says of itself, if it is alive."""
    try:
        health = httpx.get(f"{served.url}/health", timeout=30).json()
        status = httpx.get(f"{served.url}/system-status", timeout=30).json()
    except httpx.HTTPError:
        return {"is_server_alive": False}
    return {
        "is_server_alive": True,
        "worker_restarts": health["worker"]["restarts"],
        "quantization": (health["model"] or {}).get("quantization"),
        "steps_down": status["memory_ladder"]["steps_down"],
        "worker_ends": [_plain(line) for line in served.log if "The worker is down" in line],
    }


def _plain(problem: str) -> str:
    """Without figures, so that alike are counted together."""
    return re.sub(r"\d+", "N", problem).strip()[:200]


def _logged(folder: Path) -> dict[str, str]:
    """Outcome of each request in the log."""
    rows: dict[str, str] = {}
    for file in folder.glob("synthesis_*.csv"):
        with file.open(newline="", encoding="utf-8") as lines:
            rows |= {row["request_id"]: row["outcome"] for row in csv.DictReader(lines)}
    return rows


_SHOWN = (
    *("checkpoint", "limit, MB", "memory control", "requests", "characters"),
    *("spoken (of them say so)", "refused", "left", "failed", "no answer", "% of admitted spoken"),
    *("kills", "peak MB", "s"),
)
_BEGIN, _END = "<!-- what benchmarks.stability says -->\n", "<!-- so far -->\n"


def table(rows: Sequence[dict[str, Any]]) -> str:
    """`rows` in Markdown, by checkpoint and limit."""
    lines = [_line(_SHOWN), "| --- " * len(_SHOWN) + "|"]
    for row in sorted(rows, key=lambda row: (row["checkpoint"], row["limit_mb"])):
        of = (row[name] for name in ("limit_mb", "control", "requests", "spoken_characters"))
        bits = "" if (bits := row.get("quantization", "none")) == "none" else f", {bits}"
        found: Sequence[object] = ("does not start", *[""] * 5)
        if "at_start" not in row:
            says_so = row["spoken and says so"]
            found = (
                f"{row['spoken'] + says_so} ({says_so})",
                *(row[name] for name in ("refused", "left", "failed", "unanswered")),
                row["spoken_of_admitted_pct"],
            )
        ends = row.get("oom_kills", ""), row.get("peak_mb", ""), row.get("seconds", "")
        lines.append(_line((row["checkpoint"] + bits, *of, *found, *ends)))
    return "\n".join(lines)


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def fill(page: str, rows: Sequence[dict[str, Any]]) -> str:
    """`page` with the table of `rows` between its marks."""
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    assert after, "the page has no marks for a table"
    return f"{before}{_BEGIN}\n{table(rows)}\n\n{_END}{after}"


def kept(file: Path | None) -> list[dict[str, Any]]:
    """Rows of earlier runs."""
    if file is None or not file.exists():
        return []
    rows: list[dict[str, Any]] = json.loads(file.read_text("utf-8"))
    return rows


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    limits_mb = [512, 1024, 2048, 3072, 4096, 6144, 8192]
    parser.add_argument("--limits-mb", type=int, nargs="+", default=limits_mb)
    parser.add_argument("--control", nargs="+", choices=("on", "off"), default=["on", "off"])
    parser.add_argument("--model-dir", type=Path)
    parser.add_argument("--data-dir", type=Path, help="keeps what is compiled and packed")
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--spoken-characters", type=int, default=400)
    parser.add_argument("--into", type=Path)
    parser.add_argument("--draw", type=Path, help="only draw the rows in this file")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--page", type=Path, help="whose table it is, between its marks")
    arguments = parser.parse_args()
    rows = kept(arguments.draw or arguments.into)
    if arguments.draw is None:
        for limit_mb in arguments.limits_mb:
            for control in arguments.control:
                run = run_of(limit_mb, arguments, control == "on")
                if any(run.items() <= row.items() for row in rows):
                    continue
                with limited(limit_mb) as limit:
                    rows.append(measure(limit, arguments, control == "on"))
                print(json.dumps(rows[-1]), file=sys.stderr)
                if arguments.into:
                    arguments.into.write_text(json.dumps(rows, indent=1), "utf-8")
    if arguments.picture:
        arguments.picture.write_text(picture(rows), "utf-8")
    if arguments.page:
        arguments.page.write_text(fill(arguments.page.read_text("utf-8"), rows), "utf-8")
    print(table(rows))
    print(json.dumps({"measure": "stability", "rows": rows}))


if __name__ == "__main__":
    main()
