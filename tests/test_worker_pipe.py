"""What a worker writes: whole, in order, and without waiting for a server that does not read."""

import os
import threading
from collections.abc import Iterator

import pytest

from backend.worker.messages import (
    Beat,
    FromWorker,
    Pcm,
    frame,
    from_worker_decoder,
    read_body,
)
from backend.worker.pipe import MOST_UNREAD_BYTES, Outbox

WAIT_S = 20.0
PIECE = bytes(range(256)) * 128
"""32 KiB: four frames at 44.1 kHz."""


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Descriptors of the reading and the writing end."""
    out, into = os.pipe()
    yield out, into
    os.close(out)
    os.close(into)


def read(out: int, count: int) -> list[FromWorker]:
    with os.fdopen(os.dup(out), "rb") as file:
        bodies = [read_body(file) for _ in range(count)]
    return [from_worker_decoder.decode(body or b"") for body in bodies]


@pytest.fixture(params=["quick", "waiting"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, too, where a pipe cannot be told not to wait."""
    if request.param == "waiting":
        monkeypatch.setattr("backend.worker.pipe._make_quick", lambda _: False)


def test_messages_of_one_call_follow_each_other(pipe: tuple[int, int]) -> None:
    out, into = pipe
    outbox = Outbox(into)
    said: list[FromWorker] = [Pcm("a", PIECE), Beat(1, ""), Pcm("b", b"")]
    outbox.send(*said)
    outbox.send(Beat(2, "speaking"))
    assert read(out, 4) == [*said, Beat(2, "speaking")]


def test_what_the_pipe_does_not_take_waits_and_comes_in_its_order(pipe: tuple[int, int]) -> None:
    out, into = pipe
    outbox = Outbox(into)
    said = [Pcm(str(number), PIECE) for number in range(100)]
    for message in said:  # 3.2 MB, and nobody reads
        outbox.send(message)
    assert read(out, 100) == said
    outbox.flush()


def test_with_much_unread_it_waits_for_the_reader(pipe: tuple[int, int]) -> None:
    out, into = pipe
    outbox, is_sent = Outbox(into), threading.Event()
    large = Pcm("large", bytes(MOST_UNREAD_BYTES + (4 << 20)))
    outbox.send(large)  # more than pipe and bound hold together

    def send() -> None:
        outbox.send(Beat(1, ""))
        is_sent.set()

    sending = threading.Thread(target=send, daemon=True)
    sending.start()
    assert not is_sent.wait(0.05)
    assert read(out, 2) == [large, Beat(1, "")]
    assert is_sent.wait(WAIT_S)
    sending.join(WAIT_S)


def test_who_sends_is_told_that_nobody_reads() -> None:
    out, into = os.pipe()
    outbox = Outbox(into)
    outbox.send(Pcm("a", bytes(MOST_UNREAD_BYTES)))  # some of it waits in the thread
    os.close(out)
    outbox.flush()
    with pytest.raises(BrokenPipeError):
        outbox.send(Beat(1, ""))
    os.close(into)


def test_one_frame_may_carry_many_messages() -> None:
    first, second = Pcm("a", PIECE), Beat(3, "speaking")
    assert frame(first, second) == frame(first) + frame(second)
