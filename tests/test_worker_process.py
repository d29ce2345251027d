"""How what a worker says is read: many messages at once, in pieces, up to what is none."""

import asyncio
import sys

import pytest

from backend.worker.messages import Beat, FromWorker, Pcm, Ready, frame
from backend.worker.process import PIPE_BYTES, MessageReader, Said, start_process
from tests.test_serving_session import info

PIECE = Pcm("a", bytes(32_768))


def read_all(*blocks: bytes) -> list[list[FromWorker]]:
    """What each `read` gives of a worker that wrote these `blocks`, with a turn between two."""

    async def work() -> list[list[FromWorker]]:
        stdout = asyncio.StreamReader()
        reader, read = MessageReader(stdout), []

        async def write() -> None:
            for block in blocks:
                stdout.feed_data(block)
                for _ in range(3):
                    await asyncio.sleep(0)
            stdout.feed_eof()

        writing = asyncio.create_task(write())
        while messages := await reader.read():
            read.append(messages)
        await writing
        return read

    return asyncio.run(work())


def test_all_that_has_come_is_read_at_once() -> None:
    said: list[FromWorker] = [PIECE, Beat(1, ""), PIECE]
    assert read_all(bytes(frame(*said))) == [said]


@pytest.mark.parametrize("cut", [1, 3, 4, 5, 32_000, 32_800])
def test_a_message_may_come_in_pieces(cut: int) -> None:
    data = bytes(frame(PIECE, Beat(1, "")))
    assert [each for read in read_all(data[:cut], data[cut:]) for each in read] == [
        PIECE,
        Beat(1, ""),
    ]


def test_what_ends_in_the_midst_of_a_message_has_ended() -> None:
    data = bytes(frame(Beat(1, ""), PIECE))
    assert read_all(data[:-1]) == [[Beat(1, "")]]


def test_what_came_before_what_is_no_message_is_heard() -> None:
    async def work() -> None:
        stdout = asyncio.StreamReader()
        stdout.feed_data(bytes(frame(Beat(1, ""), PIECE)) + b"\x02\0\0\0\xff\xff")
        reader = MessageReader(stdout)
        assert await reader.read() == [Beat(1, ""), PIECE]
        with pytest.raises(ValueError):
            await reader.read()

    asyncio.run(work())


def test_the_first_message_is_read_alone() -> None:
    async def work() -> None:
        stdout, ready = asyncio.StreamReader(), Ready(info(), beats=True)
        stdout.feed_data(bytes(frame(ready, PIECE, Beat(1, ""))))
        reader = MessageReader(stdout)
        assert await reader.first() == ready
        assert await reader.read() == [PIECE, Beat(1, "")]

    asyncio.run(work())


class Pipe(asyncio.ReadTransport):
    """One that notes what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def pause_reading(self) -> None:
        self.asked.append("pause")

    def resume_reading(self) -> None:
        self.asked.append("resume")


def test_blocks_are_handed_on_as_they_came() -> None:
    async def work() -> None:
        said, block = Said(), b"a" * 100
        said.feed_data(block)
        assert await said.read() is block
        reading = asyncio.create_task(said.read())
        await asyncio.sleep(0)
        said.feed_data(b"b")
        said.feed_data(b"c")
        said.feed_eof()
        assert await reading == b"bc"
        assert await said.read() == b""

    asyncio.run(work())


def test_a_worker_that_is_not_heard_is_not_read() -> None:
    async def work() -> None:
        said, pipe = Said(), Pipe()
        said.set_transport(pipe)
        said.feed_data(bytes(PIPE_BYTES))
        assert pipe.asked == []
        said.feed_data(b"a")
        assert pipe.asked == ["pause"]
        assert len(await said.read()) == PIPE_BYTES + 1
        assert pipe.asked == ["pause", "resume"]

    asyncio.run(work())


def test_a_pipe_that_breaks_is_told_after_what_came_before() -> None:
    async def work() -> None:
        said = Said()
        said.feed_data(b"a")
        said.set_exception(ConnectionResetError())
        assert await said.read() == b"a"
        with pytest.raises(ConnectionResetError):
            await said.read()

    asyncio.run(work())


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_either_loop_reads_all_of_it(loop: str) -> None:
    """Ray runs its replicas on uvloop, whose transports are no subclasses of asyncio's."""
    size_bytes = 3 * PIPE_BYTES

    async def work() -> int:
        program = f"import sys; sys.stdout.buffer.write(bytes({size_bytes}))"
        process = await start_process((sys.executable, "-c", program), {}, in_blocks=True)
        assert process.stdout is not None
        heard_bytes = 0
        while block := await process.stdout.read():
            heard_bytes += len(block)
        assert await process.wait() == 0
        return heard_bytes

    factory = pytest.importorskip("uvloop").new_event_loop if loop == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(work()) == size_bytes


@pytest.mark.skipif(sys.platform == "win32", reason="its lines end otherwise")
def test_one_that_says_lines_is_read_by_lines() -> None:
    async def work() -> None:
        process = await start_process((sys.executable, "-c", "print('a'); print('b')"), {})
        assert process.stdout is not None
        assert [await process.stdout.readline() for _ in range(3)] == [b"a\n", b"b\n", b""]
        assert await process.wait() == 0

    asyncio.run(work())
