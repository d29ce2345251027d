"""The documents say what the code does: settings, figures, plans, paths, commands.

A setting that is not described fails here, and so does a figure that is no longer true. The routes
are compared in `test_docs_api.py`, the bounds in `test_docs_security.py`.
"""

import re
from pathlib import Path

import pytest
from pydantic_core import PydanticUndefined
from typer.main import get_command

from backend.cli import app as commands
from backend.hardware.compile_gate import NATIVE_LINE, WINDOWS_LINE, WSL_LINE
from backend.hardware.gpu_models import GPU_MODEL_TIERS
from backend.hardware.quantization import INT4_WARNING
from backend.hardware.report import plan_table
from backend.hardware.tiers import CPU_TIERS, GPU_TIERS
from backend.monitoring.metrics import Metrics
from backend.monitoring.rows import RealtimeRow, SynthesisRow, columns
from backend.settings import BARE_NAMES, PREFIX, Settings
from backend.text.limit import truncate
from tests.computers import S1, plan_for
from tests.documents import DOCUMENTS, FENCE, ROOT, Table, prose_of, table, tables, text_of
from tests.test_hardware_plans_of_machines import HARDWARE

CHANGELOG = {
    "2.2.0": (
        "Fixed - Smart Quantization Based on GPU Tier",
        "Fixed - torch.compile Smart Platform Detection",
        "Fixed - GPU Utilization Showing 0%",
        "Fixed - CSV Logging Not Working",
        "Fixed - Incorrect Metric Calculations in CSV Logs",
        "Added - Fish Speech Metrics to CSV Logs",
    ),
    "2.1.0": (
        "Added - Memory Budget Manager",
        "Added - Adaptive Quantization Strategy",
        "Added - CPU Affinity Manager",
        "Added - Pre-Synthesis Memory Estimation",
        "Added - System Status Endpoint (`/system-status`)",
        "Added - Hardware Re-Optimization Endpoint (`/optimize-for-hardware`)",
        "Added - Memory Estimation Endpoint (`/estimate-memory`)",
    ),
    "2.0.0": ("Added - Hardware-Based Text Limits", "Added - Smart Text Truncation"),
    "1.5.0": (
        "Added - WSL2 Auto-Detection",
        "Fixed - torch.compile on Windows",
        "Added - Emotion Tag Clarification",
        "Added - Multilingual Support",
    ),
}
"""Headings of the thesis changelog by version."""
TOP = ("backend", "benchmarks", "MDs", "tests", "training", "ui")
"""Folders of the repository that hold what documents name."""
MEDIA_TYPES = frozenset({"text/plain", "text/csv", "text/event-stream", "audio/wav"})
"""Look like paths of ours, and are none."""


# -- settings --------------------------------------------------------------------------------------


def setting_rows() -> dict[str, tuple[str, ...]]:
    found = [each for each in tables("CONFIGURATION.md") if each.header[0] == "setting"]
    return {re.findall(r"`(\w+)`", row[0])[0]: row for each in found for row in each.rows}


def shown_default(name: str) -> str | None:
    """As the page writes it; None where it is described in words."""
    default = Settings.model_fields[name].default
    if default is PydanticUndefined or name == "worker_python":
        return None
    if default in (None, ""):
        return "not set"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented(name: str) -> None:
    variable = name.upper()
    rows = setting_rows()
    assert PREFIX + variable in rows, f"{PREFIX}{variable} has no row in CONFIGURATION.md"
    row = rows[PREFIX + variable]
    assert (f"`{variable}`" in row[0]) == (variable in BARE_NAMES)
    default = shown_default(name)
    assert default is None or row[2] == default


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_setting_is_invented(name: str) -> None:
    known = {PREFIX + field.upper() for field in Settings.model_fields} | {"SHOAL_MODEL"}
    assert set(re.findall(r"\bSHOAL_[A-Z_]*[A-Z]\b", text_of(name))) <= known


# -- figures ---------------------------------------------------------------------------------------


def test_text_limits_are_those_of_the_tiers() -> None:
    told = table("SMART_TEXT_LIMITING.md", "tier", "card", "limit", "ceiling", "piece").rows
    assert list(told) == [
        (tier.name, tier.card, *map(str, (tier.text.limit, tier.text.ceiling, tier.text.chunk)))
        for tier in (*CPU_TIERS, *GPU_TIERS, *GPU_MODEL_TIERS)
    ]


def test_memory_figures_are_those_of_the_tiers() -> None:
    page, tiers = "PRODUCTION_GRADE_FEATURES.md", (*CPU_TIERS, *GPU_TIERS)
    told = table(page, "tier", "margin, MiB", "cache limit, MiB").rows
    assert list(told) == [
        (tier.name, str(tier.budget.safety_margin_mb), str(tier.budget.cache_limit_mb))
        for tier in tiers
    ]
    told = table(page, "tier", "base", "per 100 tokens", "cache overhead").rows
    assert list(told) == [
        (
            tier.name,
            *(f"{figure:g}" for figure in (tier.estimate.base_mb, tier.estimate.per_100_tokens_mb)),
            f"{tier.estimate.cache_overhead_mb:g}",
        )
        for tier in tiers
    ]


def test_texts_are_cut_as_the_page_says() -> None:
    rows = table("SMART_TEXT_LIMITING.md", "text", "limit", "spoken").rows
    assert len(rows) > 5
    for text, limit, spoken in rows:
        assert truncate(text.strip("`"), int(limit)) == spoken.strip("`")


def test_columns_and_metrics_are_those_of_the_code() -> None:
    page = "PRODUCTION_GRADE_FEATURES.md"
    grouped = " ".join(row[1] for row in table(page, "group", "columns").rows)
    assert sorted(re.findall(r"`(\w+)`", grouped)) == sorted(columns(SynthesisRow))
    _, _, realtime = text_of(page).partition("Columns of the realtime file:")
    named = re.findall(r"`(\w+)`", realtime.partition(".\n")[0])
    assert tuple(named) == columns(RealtimeRow)
    metrics = table(page, "name", "kind", "what it counts").rows
    told = {(row[0].strip("`"), row[1].split()[0]) for row in metrics}
    text = Metrics().text().decode()
    kinds = set(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE))
    assert told == {(name, kind) for name, kind in kinds if not name.endswith("_created")}


@pytest.mark.parametrize("line", [WSL_LINE, NATIVE_LINE, WINDOWS_LINE, INT4_WARNING])
def test_log_lines_are_quoted_word_for_word(line: str) -> None:
    assert line in text_of("PRODUCTION_GRADE_FEATURES.md").splitlines()


def planned() -> list[tuple[str, Table]]:
    """(name of a recorded machine, the plan that a page shows for it)."""
    return [
        (found[1], each)
        for page in ("CONFIGURATION.md", "WSL2_SETUP_GUIDE.md")
        for each in tables(page)
        if (found := re.search(r"`tests/machines/(\w+)\.json`", each.heading))
    ]


@pytest.mark.parametrize(("name", "shown"), planned(), ids=[name for name, _ in planned()])
def test_typical_machines_are_planned_as_the_page_shows(name: str, shown: Table) -> None:
    made = plan_table(plan_for(HARDWARE[name]), HARDWARE[name], S1)
    assert shown.header == tuple(str(column.header) for column in made.columns)
    cells = (map(str, column.cells) for column in made.columns)
    rows = {row[0]: row for row in zip(*cells, strict=True)}
    assert len(shown.rows) >= 9
    for choice, value, source, why in shown.rows:
        assert (value, source) == rows[choice][1:3], rows[choice]
        begins = why.removesuffix(" …")
        assert rows[choice][3] == why or (begins != why and rows[choice][3].startswith(begins))


def test_there_are_enough_typical_machines() -> None:
    shown = {name for name, _ in planned()}
    wanted = {"m1_air_8gb", "intel_i5_1235u", "raspberry_pi_5_8gb", "rtx_3060_8gb", "v100_16gb"}
    assert wanted | {"h200_141gb", "wsl2_rtx_3060_laptop"} <= shown


# -- paths, commands, the changelog ----------------------------------------------------------------


def rooms() -> set[str]:
    """First parts of a path that is one of ours, from the root or from `backend`."""
    return {*TOP, *(each.name for each in (ROOT / "backend").iterdir() if each.is_dir())}


def files_of(path: str) -> list[Path]:
    """From the root or from `backend`; a bare name wherever it is."""
    if "/" not in path:
        return [*ROOT.glob(path), *(file for top in TOP for file in (ROOT / top).rglob(path))]
    bases = (ROOT, ROOT / "backend")
    return [file for base in bases for end in ("", ".py") for file in base.glob(path + end)]


def named_paths(name: str) -> set[str]:
    """In backticks, with what is after `::`."""
    spans = re.findall(r"`([\w.*/-]+(?:::\w+)?)`", prose_of(name))
    return {
        span
        for span in spans
        if span not in MEDIA_TYPES
        and ("/" in span or span.endswith((".py", ".md")))
        and (span.partition("/")[0] in rooms() or span.partition("::")[0].endswith((".py", ".md")))
    }


@pytest.mark.parametrize("name", DOCUMENTS)
def test_named_paths_exist(name: str) -> None:
    for span in named_paths(name):
        path, _, test = span.partition("::")
        found = files_of(path)
        assert found, f"{name} names {span}"
        if test:
            assert re.search(rf"^(async )?def {test}\(", found[0].read_text("utf-8"), re.MULTILINE)


def anchors(file: Path) -> set[str]:
    """Of each heading, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", file.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_relative_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(name)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = DOCUMENTS[name].parent / path if path else DOCUMENTS[name]
        assert file.exists(), f"{name} links to {target}"
        if anchor:
            assert anchor in anchors(file), f"{name} links to {target}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_exist(name: str) -> None:
    known = set(get_command(commands).commands)  # type: ignore[attr-defined] # a group
    text = text_of(name)
    named = re.findall(r"`(?:\S+ )?shoal ([a-z]+)", text)
    named += re.findall(r"^(?:\$ )?(?:\S+=\S* )*(?:\S*/)?shoal ([a-z]+)", text, re.MULTILINE)
    assert set(named) <= known


MODULE_RUN = re.compile(r"python -m ((?:backend|benchmarks|training|ui)\.[\w.]+)([^`#|;)]*)")


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if name != "LOG.md"])
def test_modules_that_are_run_have_the_options_that_are_named(name: str) -> None:
    """The log keeps commands as they were. What is no fenced line goes on in the next one."""
    text = text_of(name)
    lines = "\n".join(FENCE.findall(text)).replace("\\\n", " ").splitlines()
    for found in (run for part in (*lines, prose_of(name)) for run in MODULE_RUN.finditer(part)):
        file = ROOT / f"{found[1].rstrip('.').replace('.', '/')}.py"
        assert file.exists(), f"{name} runs {found[1]}"
        source = file.read_text("utf-8")
        for option in re.findall(r"--[a-z][a-z-]*", found[2]):
            # As it is declared, or as a key of a table of them.
            declared = f'"{option}"', f'"{option.removeprefix("--")}": '
            assert any(each in source for each in declared), f"{name} runs {found[1]} {option}"


@pytest.mark.parametrize("version", CHANGELOG)
def test_every_entry_of_the_changelog_has_its_row(version: str) -> None:
    (found,) = (each for each in tables("IMPLEMENTATION_SUMMARY.md") if each.heading == version)
    assert tuple(row[0] for row in found.rows) == CHANGELOG[version]
    for entry, code, tests, differs in found.rows:
        assert re.search(r"`backend/\w", code), entry
        assert re.search(r"`tests/[\w/]+\.py::test_\w+`", tests), entry
        assert differs, entry
