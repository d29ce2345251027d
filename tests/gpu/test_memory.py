"""A GPU whose memory runs short, by `torch.cuda.set_per_process_memory_fraction`: less is gone on
with, and what nobody heard is spoken."""

import queue
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from backend.codec.one_by_one import OneByOne
from backend.core import SamplingParams
from backend.worker.loaded import Loaded, load
from backend.worker.loop import Inbox, WorkerLoop
from backend.worker.messages import Done, Failed, FromWorker, Speak, WorkerConfig
from tests.e2e.serving import serving
from tests.gpu.forced import GPU, VOICE_DIR

pytestmark = GPU

TEXT = 6 * "The old lighthouse keeper climbed the stairs, and lit the lamp for the ships. "
WAIT_S = 120.0
TIGHT_WORKER = """
import sys
from pathlib import Path

import torch

from backend.worker import loop, main, pipe

start, first = loop.start, Path({first!r})


def tight(config, send):
    worker = start(config, send)
    if not first.exists():
        first.touch()
        torch.cuda.empty_cache()
        _, total = torch.cuda.mem_get_info()
        torch.cuda.set_per_process_memory_fraction(torch.cuda.memory_reserved() / total)
    return worker


loop.start = tight
pipe.leave(pipe.run_worker(main.start, sys.argv[sys.argv.index("--config") :]))
"""
"""Its first start gets no more of the GPU than what it has loaded."""


def loaded(**values: Any) -> Loaded:
    return load(WorkerConfig(str(VOICE_DIR), device="cuda", precision="fp32", **values))


def answered(held: Loaded, *texts: str) -> dict[str, FromWorker]:
    """The last message of each."""
    said: queue.SimpleQueue[FromWorker] = queue.SimpleQueue()

    def send(*messages: FromWorker) -> None:
        for message in messages:
            said.put(message)

    worker = WorkerLoop(held, Inbox(), send)
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    for text in texts:
        worker.deliver(Speak(text, text, SamplingParams(seed=1)))
    last: dict[str, FromWorker] = {}
    while len(last) < len(texts):
        message = said.get(timeout=WAIT_S)
        if isinstance(message, Done | Failed):
            last[message.request_id] = message
    worker.deliver(None)
    thread.join(WAIT_S)
    return last


def test_want_of_memory_is_told_as_such_and_the_worker_goes_on() -> None:
    held = loaded(try_compile=False, has_room_for_graphs=False)
    torch.cuda.empty_cache()
    _, total = torch.cuda.mem_get_info()
    texts = [f"{number}. {TEXT[:150]}" for number in range(12)]
    torch.cuda.set_per_process_memory_fraction(torch.cuda.memory_reserved() / total)
    try:
        told = answered(held, *texts)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    failed = [each for each in told.values() if isinstance(each, Failed)]
    assert failed
    assert {each.code for each in failed} == {"out_of_memory"}
    assert isinstance(answered(held, "It speaks again.")["It speaks again."], Done)


def test_the_codec_on_the_cpu_takes_nothing_of_the_gpu() -> None:
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    on_gpu = loaded(max_batch=4)
    of_both = torch.cuda.memory_allocated() - before
    del on_gpu
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    held = loaded(max_batch=4, codec_on_cpu=True)
    of_one = torch.cuda.memory_allocated() - before
    assert isinstance(held.stage.decoder, OneByOne)
    assert of_one < of_both
    assert isinstance(answered(held, "Hello from the other side.").popitem()[1], Done)


def test_smaller_windows() -> None:
    held = loaded(max_batch=1, decode_frames=4)
    assert held.stage.decoder.sizes == (2, 4)
    assert isinstance(answered(held, "Hello in small pieces.").popitem()[1], Done)


@pytest.mark.skipif(sys.platform == "win32", reason="a script as the interpreter")
def test_a_server_steps_down_and_speaks(tmp_path: Path) -> None:
    script, python = tmp_path / "tight.py", tmp_path / "python"
    script.write_text(TIGHT_WORKER.format(first=str(tmp_path / "first")))
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
    python.chmod(0o755)
    with serving(SHOAL_WORKER_PYTHON=str(python), SHOAL_MAX_BATCH="16") as served:
        form = {"text": TEXT, "long_text": "split"}
        answer = httpx.post(f"{served.url}/tts", data=form, timeout=WAIT_S)
        assert answer.status_code == 200, answer.text
        ladder = httpx.get(f"{served.url}/system-status").json()["memory_ladder"]
        assert ladder["steps"][:4] == ["fewer_rows", "one_row", "small_windows", "codec_on_cpu"]
        assert ladder["level"] >= 1, "its first worker gets nothing more"
        assert "memory ran short" in answer.headers["X-Warning"]
