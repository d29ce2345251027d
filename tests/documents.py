"""How tests read the documents: MDs/*.md and the README, their tables, sections and code."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
MDS = ROOT / "MDs"
DOCUMENTS = {file.name: file for file in (*sorted(MDS.glob("*.md")), ROOT / "README.md")}
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Table:
    """A Markdown table: the nearest heading above it, its column names, its rows."""

    heading: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def text_of(name: str) -> str:
    return DOCUMENTS[name].read_text(encoding="utf-8")


def prose_of(name: str) -> str:
    """Without fenced code."""
    return FENCE.sub("", text_of(name))


def tables(name: str) -> Iterator[Table]:
    heading, lines = "", [*prose_of(name).splitlines(), ""]
    block: list[tuple[str, ...]] = []
    for line in lines:
        if line.startswith("|"):
            block.append(tuple(cell.strip() for cell in line.strip("|").split("|")))
            continue
        if block:
            assert all(len(row) == len(block[0]) for row in block), f"{name}, {heading}: {block[0]}"
            yield Table(heading, block[0], tuple(block[2:]))
            block = []
        if line.startswith("#"):
            heading = line.lstrip("# ")


def table(name: str, *header: str) -> Table:
    (found,) = (each for each in tables(name) if each.header == header)
    return found


def section(name: str, heading: str) -> str:
    """From that heading to the next of its rank."""
    rank = heading.partition(" ")[0]
    _, _, after = text_of(name).partition(f"\n{heading}\n")
    assert after, f"{name} has no section {heading}"
    return re.split(rf"^#{{1,{len(rank)}}} ", after, maxsplit=1, flags=re.MULTILINE)[0]
