"""MDs/CLIENTS.md, written by a run of `make clients`."""

import os
import platform
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from tests.clients.roster import Client
from tests.clients.scenarios import SCENARIOS

REASON_LETTERS = 200
INTRODUCTION = """\
# Clients

Programs that speak OpenAI's or Fish Audio's language, tried with Shoal: the package itself in an
environment of its own or, for an application, its requests rebuilt from its sources. Each talked to
a real `shoal serve` with the shipped voice on 127.0.0.1, and what it got was decoded and measured.

`make clients` made this page on {date}
({machine}). It installs what it needs from PyPI and npm into `.work/clients`;
[CONTRIBUTING.md](CONTRIBUTING.md#clients) tells how a client is added.
"""


@dataclass
class Row:
    """What came of one client."""

    client: Client
    version: str = ""
    works: list[str] = field(default_factory=list)
    fails: dict[str, str] = field(default_factory=dict)
    first_s: float | None = None
    missing: str = ""


def cell(text: str) -> str:
    """In one line of a table."""
    return " ".join(text.replace("|", "\\|").split())


def reason(message: str) -> str:
    """The first line of what a test failed with, of a bearable length."""
    line = (message.strip().splitlines() or [""])[0].removeprefix("AssertionError: ")
    return line if len(line) <= REASON_LETTERS else f"{line[:REASON_LETTERS]} …"


def _version(row: Row) -> str:
    if row.client.sources:
        return f"requests as in {row.client.sources}"
    return row.version or "-"


def _row(row: Row) -> str:
    works = ", ".join(SCENARIOS[name].title for name in row.works) or "-"
    fails = "; ".join(f"{SCENARIOS[name].title}: {why}" for name, why in row.fails.items())
    if row.missing:
        works, fails = "not tried", row.missing
    first = "-" if row.first_s is None else f"{row.first_s:.2f}"
    cells = (row.client.name, _version(row), works, fails or "-", first)
    return f"| {' | '.join(map(cell, cells))} |"


def page(rows: list[Row]) -> str:
    """The whole document."""
    machine = f"{platform.system()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    told = [INTRODUCTION.format(date=date.today().isoformat(), machine=machine)]
    told += ["| client | version | works | does not | first audio of a stream, s |"]
    told += ["| --- | --- | --- | --- | --- |", *map(_row, rows), ""]
    told += ["## What was tried", "", "| name | what it is |", "| --- | --- |"]
    told += [f"| {each.title} | {cell(each.meaning)} |" for each in SCENARIOS.values()]
    return "\n".join(told) + "\n"


def write(file: Path, rows: list[Row]) -> None:
    """Replace the page."""
    file.write_text(page(rows), encoding="utf-8")
