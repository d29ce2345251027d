"""Bounds of MDs/SECURITY.md that no other test reaches."""

import asyncio
import io
import struct
import tempfile
from pathlib import Path
from typing import Any

import pytest

from backend.api import answer as answer_module
from backend.api.arrival import _MAX_FIELDS
from backend.api.fish.voices import _MAX_RECORDINGS
from backend.api.headers import _LONGEST, header_safe
from backend.errors import UnknownVoice
from backend.voices import store as store_module
from backend.worker.messages import MAX_MESSAGE_BYTES, Pcm, frame, read_body
from tests.scripted import client
from tests.test_voices_store import CODES, store_at

TEXT = ("text", (None, b"Hello."))


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/tts", [TEXT] * (_MAX_FIELDS + 1)),
        ("/tts", [TEXT, *[("speaker_file", ("a.wav", b"RIFF"))] * 2]),
        ("/model", [("voices", ("a.wav", b"RIFF"))] * (_MAX_RECORDINGS + 2)),
    ],
)
def test_a_form_of_too_many_parts_is_refused(path: str, parts: list[Any]) -> None:
    async def work() -> None:
        async with client(is_ready=False) as http:
            refused = await http.post(path, files=parts)
            assert refused.status_code == 422
            assert "Too many" in refused.json()["detail"]

    asyncio.run(work())


def test_a_message_over_the_limit_is_refused_by_its_length() -> None:
    with pytest.raises(ValueError, match="over"):
        frame(Pcm("r", bytes(MAX_MESSAGE_BYTES)))
    header = struct.pack("<I", MAX_MESSAGE_BYTES + 1)
    with pytest.raises(ValueError, match="over"):
        read_body(io.BytesIO(header))


def test_a_header_is_one_short_line() -> None:
    assert header_safe("a\r\nX-Bad: é\x1b") == "a??X-Bad: ??"
    assert len(header_safe("a" * 5000)) == _LONGEST


def test_a_long_answer_waits_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    files: list[Any] = []
    make = tempfile.SpooledTemporaryFile

    def kept(*arguments: Any) -> Any:
        files.append(make(*arguments))
        return files[-1]

    monkeypatch.setattr(answer_module, "_IN_MEMORY_BYTES", 100)
    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", kept)

    async def work() -> None:
        async with client() as http:
            answer = await http.post("/tts", data={"text": "hello"})
            assert answer.content.startswith(b"RIFF")
            assert len(answer.content) > 100

    asyncio.run(work())
    assert any(file._rolled for file in files)


def test_only_some_names_are_compared_for_a_near_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_at(tmp_path)
    for name in ("Ann", "Anna"):
        store.create(name, CODES)
    with pytest.raises(UnknownVoice, match=" or "):
        store.get("ana")
    monkeypatch.setattr(store_module, "_MAX_COMPARED", 1)
    with pytest.raises(UnknownVoice, match=r"did you mean Anna?\?"):
        store.get("ana")
