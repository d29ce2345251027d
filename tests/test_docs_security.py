"""MDs/SECURITY.md names every bound, with the value that it has in the code and a test of it."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend.core import MIB
from backend.settings import PREFIX, Settings
from tests.documents import ROOT, tables, text_of

PAGE = "SECURITY.md"
BOUNDS = ("what", "bound", "answer", "shown by")
SETTINGS_THAT_BOUND = re.compile(
    r"max_\w+|\w+_(limit|length|connections|bytes|mb|s|days|per_\w+)|\w+_max_\w+"
)
NO_BOUND = frozenset({"audio.subtitles.MAX_LINE_COLUMNS"})
"""How subtitles are laid out."""
NAMED = r"`([\w.]+)` \((not set|[\d,.]+)(?: (KiB|MiB|bytes|s))?"
"""A setting or a constant, and the value that the page gives it."""


def rows() -> Iterator[tuple[str, ...]]:
    yield from (row for each in tables(PAGE) if each.header == BOUNDS for row in each.rows)


def named(text: str) -> dict[str, str]:
    """Of each setting and constant in `text` its value, as it is written."""
    return {name: f"{value} {unit}".strip() for name, value, unit in re.findall(NAMED, text)}


def value_of(name: str) -> Any:
    """Of a setting by its variable, or of a constant by its place in `backend`."""
    if name.startswith(PREFIX):
        return Settings.model_fields[name.removeprefix(PREFIX).lower()].default
    module, _, constant = name.rpartition(".")
    return getattr(importlib.import_module(f"backend.{module}"), constant)


def shown(name: str, value: Any) -> str:
    """As the page writes the value of `name`."""
    unit = name.lower().rpartition("_")[2]
    if value in (None, ""):
        return "not set"
    if unit == "mb":
        return f"{value:,} MiB"
    if unit == "s":
        return f"{value:,g} s"
    if unit == "bytes":
        for factor, told in ((MIB, "MiB"), (1024, "KiB")):
            if value % factor == 0:
                return f"{value // factor:,} {told}"
        return f"{value:,} bytes"
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


@pytest.mark.parametrize("page", [PAGE, "README.md"])
def test_bounds_have_the_values_of_the_code(page: str) -> None:
    told = named(text_of(page))
    assert len(told) > 5
    assert told == {name: shown(name, value_of(name)) for name in told}


def test_every_bound_of_the_table_is_a_name_with_its_value() -> None:
    for what, bound, _, _ in rows():
        spelt = {name for name in re.findall(r"`([\w.]+)`", bound) if re.search("[._]", name)}
        assert spelt == named(bound).keys(), what


def settings_that_bound() -> list[str]:
    return [
        name
        for name, field in Settings.model_fields.items()
        if SETTINGS_THAT_BOUND.fullmatch(name) and not isinstance(field.default, bool)
    ]


@pytest.mark.parametrize("name", settings_that_bound())
def test_every_setting_that_bounds_is_in_the_table(name: str) -> None:
    assert PREFIX + name.upper() in named("".join(row[1] for row in rows()))


def limits() -> Iterator[str]:
    """Every constant of the backend that is called a maximum, by its place."""
    for file in sorted((ROOT / "backend").rglob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign):
                place = ".".join(file.relative_to(ROOT / "backend").with_suffix("").parts)
                named = (
                    each.id
                    for target in node.targets
                    for each in ast.walk(target)
                    if isinstance(each, ast.Name)
                )
                yield from (f"{place}.{each}" for each in named if re.match(r"_?MAX_", each))


def test_every_maximum_of_the_code_is_in_the_table() -> None:
    found = set(limits())
    assert len(found) > 20
    assert found - NO_BOUND <= named("".join(row[1] for row in rows())).keys()


def test_every_bound_is_shown_by_a_test() -> None:
    for what, bound, answer, tests in rows():
        assert answer, what
        assert bound, what
        found = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", tests)
        assert found, f"{what} has no test"
        assert not re.sub(r"`[^`]*`", "", tests).strip(), what
        for path, test in found:
            assert has_test(ROOT / path, test), f"{path}::{test}"


def has_test(file: Path, name: str) -> bool:
    return re.search(rf"^(async )?def {name}\(", file.read_text("utf-8"), re.MULTILINE) is not None
