"""A disk without room for temporary files: 507, and nothing is left behind."""

import asyncio
import errno
import os
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from backend.api import answer
from backend.api.scratch import on_disk
from backend.errors import StorageFull
from tests.scripted import client


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


class FullFile(tempfile.SpooledTemporaryFile[bytes]):
    """A file whose disk is full."""

    closed_files = 0

    def write(self, data: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        FullFile.closed_files += 1
        super().close()


@pytest.mark.parametrize("fields", [{}, {"response_format": "mp3"}, {"timestamps": "true"}])
def test_an_answer_that_finds_no_room(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, str]
) -> None:
    monkeypatch.setattr(answer, "_temporary_file", FullFile)
    monkeypatch.setattr(FullFile, "closed_files", 0)

    async def work() -> None:
        async with client() as http:
            told = await http.post("/tts", data={"text": "Hello.", **fields})
            assert told.status_code == 507, told.text
            assert "TMPDIR" in told.json()["detail"]
            assert (await http.get("/health")).json()["worker"]["running"] == 0

    run(work())
    assert FullFile.closed_files >= 1


def test_an_upload_that_finds_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def rollover(file: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", rollover)

    async def work() -> None:
        async with client() as http:
            for path in ("/tts", "/voices", "/v1/references/add"):
                upload = {"speaker_file": ("a.wav", b"\0" * 3_000_000)}
                told = await http.post(path, data={"text": "Hello."}, files=upload)
                assert told.status_code == 507, (path, told.text)
                assert "TMPDIR" in told.text

    run(work())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room(number: int) -> None:
    with pytest.raises(StorageFull), on_disk():
        raise OSError(number, "no room")


def test_no_folder_to_write_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere/at/all"])
    with pytest.raises(StorageFull, match="No usable temporary directory"), on_disk():
        tempfile.mkstemp()


def test_other_faults_stay_what_they_are() -> None:
    with pytest.raises(FileNotFoundError), on_disk():
        Path("/nowhere/at/all").read_bytes()
    with pytest.raises(ConnectionError), on_disk():
        raise ConnectionResetError(errno.ECONNRESET, "gone")
