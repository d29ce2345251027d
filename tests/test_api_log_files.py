"""`/metrics/files` over HTTP; the worker is scripted, the files are real."""

import asyncio
import csv
import json
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message

from backend.api import log_files
from backend.api.log_files import LogFileResponse
from backend.monitoring.files import MAX_LAST_BYTES, WHOLE_BYTES, Excerpt, Listing, open_file
from tests.scripted import client, server

PATH = "/metrics/files"
NAME = "synthesis_gpu_high_20261123_025440.csv"
HEADER = b"timestamp,request_id\r\n"
ROWS = b"".join(f"2026-11-23T02:54:4{number}Z,r{number}\r\n".encode() for number in range(10))


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


async def raw(port: int, target: str) -> tuple[int, bytes]:
    """Status and body of what is asked for exactly so: clients tidy up paths."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode("latin-1")
    )
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def test_what_was_spoken_can_be_read_from_elsewhere(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(metrics=True, metrics_dir=tmp_path) as http:
            spoken = await http.post("/tts", data={"text": "Hello there."})
            told = (await http.get(PATH)).json()
            assert told["directory"] == str(tmp_path)
            assert told["total"] == len(told["files"])
            files = {file["kind"]: file for file in told["files"]}
            assert files.keys() >= {"synthesis", "hardware"}
            assert files["hardware"]["started_at"] is None
            name, size = files["synthesis"]["name"], files["synthesis"]["bytes"]
            answer = await http.get(f"{PATH}/{name}")
            assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
            assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}"'
            assert answer.headers["Content-Length"] == str(size) == str(len(answer.content))
            assert answer.content == (tmp_path / name).read_bytes()
            (row,) = csv.DictReader(answer.text.splitlines())
            assert row["request_id"] == spoken.headers["X-Request-ID"]
            assert "Hello" not in answer.text

            answer = await http.get(f"{PATH}/{files['hardware']['name']}")
            assert answer.headers["Content-Type"] == "application/json"
            assert answer.headers["Content-Disposition"].startswith("attachment; ")
            hardware = (await http.get("/hardware")).json()
            assert answer.json()["selected_configuration"] == hardware["selected_configuration"]

    run(work())


def test_nothing_is_there_with_metrics_off(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(HEADER + ROWS)

    async def work() -> None:
        async with client(is_ready=False, metrics=False, metrics_dir=tmp_path) as http:
            answer = await http.get(PATH)
            assert answer.json() == {"directory": None, "files": [], "total": 0}
            answer = await http.get(f"{PATH}/{NAME}")
            assert answer.status_code == 404
            assert "/metrics/files lists" in answer.json()["detail"]

    run(work())


def test_the_end_of_a_file_and_its_header(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(HEADER + ROWS + b"2026-11-23T02:55,torn")

    async def work() -> None:
        async with client(is_ready=False, metrics=True, metrics_dir=tmp_path) as http:
            whole = await http.get(f"{PATH}/{NAME}")
            assert whole.content == HEADER + ROWS
            assert "X-Warning" not in whole.headers
            last = await http.get(f"{PATH}/{NAME}", params={"last_bytes": 60})
            assert last.content == HEADER + ROWS[-50:]
            assert last.headers["Content-Length"] == str(len(last.content))
            none = await http.get(f"{PATH}/{NAME}", params={"last_bytes": 1})
            assert none.content == HEADER
            assert "X-Warning" not in none.headers
            most = await http.get(f"{PATH}/{NAME}", params={"last_bytes": MAX_LAST_BYTES})
            assert most.content == HEADER + ROWS

    run(work())


@pytest.mark.parametrize("last_bytes", ["0", "-5", str(MAX_LAST_BYTES + 1), "many", "1e3", ""])
def test_last_bytes_has_limits(tmp_path: Path, last_bytes: str) -> None:
    (tmp_path / NAME).write_bytes(HEADER + ROWS)

    async def work() -> None:
        async with client(is_ready=False, metrics=True, metrics_dir=tmp_path) as http:
            answer = await http.get(f"{PATH}/{NAME}", params={"last_bytes": last_bytes})
            assert answer.status_code == 422
            assert "last_bytes" in answer.json()["detail"]

    run(work())


def test_a_part_of_json_is_refused(tmp_path: Path) -> None:
    async def work() -> None:
        async with client(is_ready=False, metrics=True, metrics_dir=tmp_path) as http:
            (specs,) = tmp_path.glob("hardware_specs_*.json")
            answer = await http.get(f"{PATH}/{specs.name}", params={"last_bytes": 60})
            assert answer.status_code == 422
            assert "sent whole" in answer.json()["detail"]

    run(work())


def test_a_file_over_the_limit_is_cut_and_says_so(tmp_path: Path) -> None:
    rows = ROWS * (WHOLE_BYTES // len(ROWS) + 1)
    (tmp_path / NAME).write_bytes(HEADER + b"an old one\r\n" * 100 + rows)

    async def work() -> None:
        async with client(is_ready=False, metrics=True, metrics_dir=tmp_path) as http:
            answer = await http.get(f"{PATH}/{NAME}")
            assert answer.content.startswith(HEADER + b"2026")
            assert answer.content.endswith(rows[-10_000:])
            assert WHOLE_BYTES - 30 < len(answer.content) - len(HEADER) <= WHOLE_BYTES
            assert "64 MiB" in answer.headers["X-Warning"]

    run(work())


@pytest.mark.parametrize(
    "target",
    [
        *("../secret.csv", "..%2fsecret.csv", "%2e%2e%2fsecret.csv", "..%252fsecret.csv"),
        *("/etc/passwd", "%2fetc%2fpasswd", "..\\secret.csv", "..%5csecret.csv", "."),
        *(NAME + "%00", "%00" + NAME, NAME + "%0a", NAME + "%2f.", f".%2f{NAME}", "%ff%fe"),
        *(NAME + ";x", "synthesis_link_20261123_025440.csv", "notes.txt"),
        *("synthesis_folder_20261123_025440.csv", "synthesis_a%2f..%2f_20261123_025440.csv"),
    ],
)
def test_no_path_leads_out_of_the_folder(tmp_path: Path, target: str) -> None:
    folder = tmp_path / "metrics"
    folder.mkdir()
    for secret in (tmp_path / "secret.csv", folder / "notes.txt", folder / NAME):
        secret.write_bytes(b"secret\r\n")
    (folder / "synthesis_link_20261123_025440.csv").symlink_to("/etc/passwd")
    (folder / "synthesis_folder_20261123_025440.csv").mkdir()

    async def work() -> None:
        async with server(metrics=True, metrics_dir=folder) as http:
            port = http.base_url.port or 0
            status, body = await raw(port, f"{PATH}/{target}")
            assert status == 404, body
            assert json.loads(body)["detail"].isprintable()
            assert b"secret\r" not in body and b"root:" not in body
            assert await raw(port, f"{PATH}/{NAME}") == (200, b"secret\r\n")
            listed = (await http.get(PATH)).json()["files"]
            assert [file["name"] for file in listed if file["kind"] == "synthesis"] == [NAME]

    run(work())


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    async def work() -> None:
        async with client(is_ready=False, metrics=True, metrics_dir=tmp_path / "file") as http:
            answer = await http.get(PATH)
            assert answer.status_code == 503
            assert "SHOAL_METRICS_DIR" in answer.json()["detail"]

    run(work())


def test_files_stay_behind_the_key(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(HEADER + ROWS)

    async def work() -> None:
        options: dict[str, Any] = {"metrics_dir": tmp_path, "api_keys": "secret"}
        async with client(is_ready=False, metrics=True, **options) as http:
            for path in (PATH, f"{PATH}/{NAME}"):
                assert (await http.get(path)).status_code == 401
                assert (await http.get(path, headers={"x-api-key": "secret"})).status_code == 200

    run(work())


def test_the_disk_is_never_waited_for_by_other_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a folder and a file are read, the server answers."""
    (tmp_path / NAME).write_bytes(HEADER + ROWS)
    goes_on, is_reading = threading.Event(), threading.Event()

    def wait() -> None:
        is_reading.set()
        assert goes_on.wait(30)

    def slow_list(directory: Path | None) -> Listing:
        wait()
        return Listing((), 0)

    def slow_open(directory: Path | None, name: str, last_bytes: int) -> Excerpt:
        wait()
        return open_file(directory, name, last_bytes)

    def slow_read(excerpt: Excerpt) -> bytes:
        wait()
        return read(excerpt)

    read = Excerpt.read

    async def work() -> None:
        async with client(is_ready=False, metrics=True, metrics_dir=tmp_path) as http:
            for place, what, slow in (
                (log_files, "list_files", slow_list),
                (log_files, "open_file", slow_open),
                (Excerpt, "read", slow_read),
            ):
                goes_on.clear()
                is_reading.clear()
                with monkeypatch.context() as patch:
                    patch.setattr(place, what, slow)
                    path = PATH if what == "list_files" else f"{PATH}/{NAME}"
                    asked = asyncio.create_task(http.get(path))
                    assert await asyncio.to_thread(is_reading.wait, 30)
                    assert (await http.get("/v1/health")).status_code == 200
                    assert not asked.done()
                    goes_on.set()
                    assert (await asked).status_code == 200

    run(work())


@pytest.mark.parametrize("fault", ["stalls", "hangs up", "shrinks"])
def test_the_file_is_closed_however_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    file = tmp_path / NAME
    file.write_bytes(HEADER + ROWS * 5000)
    monkeypatch.setattr(log_files, "_STALLED_S", 0.05 if fault == "stalls" else 30.0)
    sent: list[Message] = []

    async def work() -> None:
        excerpt = open_file(tmp_path, NAME)
        body_began = asyncio.Event()

        async def receive() -> Message:
            await body_began.wait()
            if fault != "hangs up":
                await asyncio.Event().wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)
            if message["type"] == "http.response.body":
                body_began.set()
                if fault == "shrinks":
                    file.write_bytes(b"")
                else:
                    await asyncio.Event().wait()

        response = LogFileResponse(excerpt, "text/csv", NAME)
        async with asyncio.timeout(20):
            await response({"type": "http"}, receive, send)
        with pytest.raises(ValueError, match="closed"):
            excerpt.read()

    run(work())
    assert sent[-1]["more_body"], "it was cut off, and shows"
