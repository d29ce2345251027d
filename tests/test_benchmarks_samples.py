"""`make samples`: a wav of each thing that is said, and a page that plays them."""

import asyncio
import re
import wave
from html import unescape
from pathlib import Path

import pytest

from backend.core import ReferenceCodes
from backend.settings import Settings
from backend.smart_backend import SmartBackend
from benchmarks import samples
from tests.scripted import command, settings


def made(chosen: Settings, names: list[str], out: Path) -> str:
    backend = SmartBackend(chosen, command())
    for name in names:
        backend.voices.create(name, ReferenceCodes(bytes(800), 4, "scripted", 5.0))
    asyncio.run(samples.make(backend, names, out))
    return (out / samples.PAGE).read_text("utf-8")


@pytest.mark.parametrize(("names", "number"), [([], 7), (["Low", "Mid", "High"], 10)])
def test_everything_is_said_and_can_be_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], number: int
) -> None:
    chapters = tmp_path / "chapters.txt"
    chapters.write_text("\n".join(f"This is line {line}. And more." for line in range(12)), "utf-8")
    monkeypatch.setattr(samples, "CHAPTERS", chapters)
    monkeypatch.setattr(samples, "INTRODUCTION", "<b>{}</b> speaks.")
    page = made(settings(data_dir=tmp_path / "data"), names, tmp_path / "out")
    files = sorted(file.name for file in (tmp_path / "out").glob("*.wav"))
    assert files == sorted(re.findall(r'<audio [^>]*src="([^"]+)"', page))
    assert len(files) == number
    assert [file[:3] for file in files] == [f"{place:02}-" for place in range(1, number + 1)]
    for name in files:
        with wave.open(str(tmp_path / "out" / name)) as file:
            seconds = file.getnframes() / file.getframerate()
        assert seconds > 0.05
        assert f'<p class="figures">{seconds:.1f} s, RTF ' in page
    said = unescape(re.sub("<[^>]*>", " ", page))
    for _, text in samples.TEXTS.values():
        assert text in said
    for name in names:
        assert f"{name}: <b>{name}</b> speaks." in said
    assert "<b>" not in page
