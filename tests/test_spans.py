"""Whether spans are sent, and where: as `OTEL_*` asks, and nothing of it imported before."""

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backend.spans import checked, exporter_name, open_spans
from tests.monitored import logged


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, "otlp"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "console"),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, ""),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, ""),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "zipkin"),
    ],
)
def test_what_the_environment_asks_for(environment: dict[str, str], name: str) -> None:
    assert exporter_name(environment) == name


def test_an_unknown_exporter_is_a_warning() -> None:
    with logged() as lines:
        assert open_spans({"OTEL_TRACES_EXPORTER": "zipkin"}) is None
    assert lines == [
        "WARNING OTEL_TRACES_EXPORTER=zipkin: use otlp or console. No spans are sent.\n"
    ]


def test_a_missing_package_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    load = importlib.import_module

    def without_otel(name: str, package: str | None = None) -> Any:
        if name.startswith("opentelemetry"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return load(name, package)

    monkeypatch.setattr(importlib, "import_module", without_otel)
    with logged() as lines:
        assert open_spans({"OTEL_TRACES_EXPORTER": "otlp"}) is None
    assert lines[0].startswith("WARNING OTEL_* asks for spans, but opentelemetry")
    assert lines[0].endswith("Install with: pip install 'shoal-tts[otel]'\n")


def test_nothing_is_imported_unless_asked_for() -> None:
    code = (
        "import sys, asyncio\n"
        "from backend.spans import open_spans\n"
        "assert open_spans({}) is None\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    root = Path(__file__).parent.parent
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


@pytest.mark.parametrize(
    ("header", "is_one"),
    [
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" + "-x" * 9999, False),
        ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", False),
        ("", False),
    ],
)
def test_a_header_that_is_none_goes_no_further(header: str, is_one: bool) -> None:
    assert checked(header) == (header if is_one else "")
