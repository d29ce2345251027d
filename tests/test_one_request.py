"""The road of a request, as MDs/ARCHITECTURE.md shows it, against one that is really spoken."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from backend.core import SamplingParams
from backend.worker.loop import Inbox, WorkerLoop
from backend.worker.messages import Done, FromWorker, Shutdown, Speak
from tests.documents import ROOT, table
from tests.scripted import server
from tests.test_worker_loop import loaded

BACKEND = ROOT / "backend"
ROAD = [
    (file.strip("`"), entry.strip("`"))
    for file, entry, _ in table(
        "ARCHITECTURE.md", "file of `backend/`", "entered at", "what happens there"
    ).rows
]
OF_THE_WORKER = ("worker/loop.py", "worker/speech.py", "engine/", "codec/")


@contextmanager
def entered() -> Iterator[list[tuple[str, str]]]:
    """The functions of ours that this thread calls, in the order of their first calls."""
    calls: dict[tuple[str, str], None] = {}
    prefix = f"{BACKEND}/"

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(prefix):
            calls.setdefault((code.co_filename.removeprefix(prefix), code.co_qualname))

    found: list[tuple[str, str]] = []
    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(None)
        found += calls


def road(is_chosen: Callable[[str], bool]) -> list[tuple[str, str]]:
    return [(file, entry) for file, entry in ROAD if is_chosen(file)]


def test_it_is_short_and_no_file_is_met_twice() -> None:
    assert len(ROAD) <= 25
    assert len({file for file, _ in ROAD}) == len(ROAD)


@pytest.mark.skipif(sys.platform == "win32", reason="paths are compared as POSIX writes them")
def test_the_server_enters_its_files_in_that_order() -> None:
    async def speak() -> list[tuple[str, str]]:
        async with server() as http:
            with entered() as calls:
                answer = await http.post("/tts", data={"text": "Hello there."})
            assert answer.status_code == 200
            return calls

    wanted = road(lambda file: not file.startswith(OF_THE_WORKER))
    calls = asyncio.run(speak())
    assert [call for call in calls if call in wanted] == wanted


@pytest.mark.skipif(sys.platform == "win32", reason="paths are compared as POSIX writes them")
def test_the_worker_enters_its_files_in_that_order() -> None:
    def send(*messages: FromWorker) -> None:
        if any(isinstance(message, Done) for message in messages):
            worker.deliver(Shutdown())

    worker = WorkerLoop(loaded(), Inbox(), send)
    with entered() as calls:
        worker.deliver(Speak("r", "Hello there.", SamplingParams(seed=1)))
        worker.run()
    wanted = road(lambda file: file.startswith(OF_THE_WORKER))
    assert [call for call in calls if call in wanted] == wanted
