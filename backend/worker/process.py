"""A child process from its start to its certain end, the same on every system."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from asyncio.subprocess import SubprocessStreamProtocol
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import SupportsIndex, cast

import msgspec
from loguru import logger

from backend.worker.messages import (
    FromWorker,
    Shutdown,
    frame,
    frame_length,
    from_worker_decoder,
)

PIPE_BYTES = 1 << 20
_TERMINATE_GRACE_S = 2.0
_KILL_GRACE_S = 10.0
_POLL_S = 0.02
_HEADER_BYTES = 4
_LINE_BYTES = 1 << 14
_KERNEL_COUNTS = Path("/proc/vmstat")
_MEMORY_WORDS = ("MemoryError", "DefaultCPUAllocator", "OutOfMemoryError", "std::bad_alloc")
"""In the last line of who could not get memory."""
_LEVEL = re.compile(r"\b(?:DEBUG|WARNING|ERROR|CRITICAL)\b")


async def start_process(
    command: Sequence[str], environment: Mapping[str, str], *, in_blocks: bool = False
) -> asyncio.subprocess.Process:
    """Start a worker that is spoken to through its stdin and stdout.

    `environment` is added to this process's own. `in_blocks`: its stdout is `Said`, which can be
    read in no other way.
    """
    # A group of its own: Ctrl-C in the terminal is for the server, which then stops the worker in
    # order. If the server dies instead, the worker leaves at the end of its stdin.
    is_windows = sys.platform == "win32"
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_exec(
        lambda: (_Pipes if in_blocks else SubprocessStreamProtocol)(PIPE_BYTES, loop),
        *command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
        start_new_session=not is_windows,
        creationflags=0x200 if is_windows else 0,  # CREATE_NEW_PROCESS_GROUP
    )
    return asyncio.subprocess.Process(transport, protocol, loop)


class Said(asyncio.StreamReader):
    """What a worker says, in the blocks in which its pipe was read.

    asyncio's own reader copies all of it twice: with two GPUs, a twentieth of the server's time.
    """

    def __init__(self) -> None:
        super().__init__()
        self._blocks: list[bytes] = []
        self._waiting_bytes = 0
        self._pipe: asyncio.ReadTransport | None = None
        self._is_pausing = self._is_over = False
        self._problem: Exception | None = None
        self._changed = asyncio.Event()

    def set_transport(self, transport: asyncio.BaseTransport) -> None:
        """Where it comes from, which is asked to pause while too much waits."""
        # Cast, for uvloop's, which a replica has, is no subclass.
        self._pipe = cast(asyncio.ReadTransport, transport)

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        """A block was read."""
        block = bytes(data)  # itself
        self._blocks.append(block)
        self._waiting_bytes += len(block)
        self._changed.set()
        if self._waiting_bytes > PIPE_BYTES and self._pipe is not None and not self._is_pausing:
            self._is_pausing = True
            self._pipe.pause_reading()

    def feed_eof(self) -> None:
        """Nothing follows."""
        self._is_over = True
        self._changed.set()

    def set_exception(self, exc: Exception) -> None:
        """Nothing follows, and that is why."""
        self._problem = exc
        self._changed.set()

    async def read(self, n: int = -1) -> bytes:
        """All that has come, whatever `n` says; b"" at the end. Raises what `set_exception` told.
        One task reads at a time."""
        while not self._blocks:
            if self._problem is not None:
                raise self._problem
            if self._is_over:
                return b""
            self._changed.clear()
            await self._changed.wait()
        blocks, self._blocks, self._waiting_bytes = self._blocks, [], 0
        if self._is_pausing and self._pipe is not None:
            self._is_pausing = False
            self._pipe.resume_reading()
        return b"".join(blocks)  # one alone is itself


class _Pipes(SubprocessStreamProtocol):
    """Those of a worker whose stdout is read in blocks."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """They are there."""
        super().connection_made(transport)
        process = cast(asyncio.SubprocessTransport, transport)
        if (pipe := process.get_pipe_transport(1)) is not None:
            self.stdout = Said()
            self.stdout.set_transport(pipe)


class MessageReader:
    """What a worker says. All that has come is taken at once: many rows' audio comes together."""

    def __init__(self, stdout: asyncio.StreamReader) -> None:
        self._stdout = stdout
        self._unread = bytearray()
        """Ends with the beginning of a message that is not whole."""

    async def first(self) -> FromWorker | None:
        """The next message alone, else as `read`."""
        messages = await self._read(1)
        return messages[0] if messages else None

    async def read(self) -> list[FromWorker]:
        """The next messages; none when the worker has closed its end, in the midst of one or not.

        Raises `ValueError` or `msgspec.MsgspecError` where it wrote something that is no message.
        """
        return await self._read(sys.maxsize)

    async def _read(self, most: int) -> list[FromWorker]:
        while not (messages := self._whole(most)):
            try:
                block = await self._stdout.read(PIPE_BYTES)
            except ConnectionError:
                return []
            if not block:
                return []
            self._unread += block
        return messages

    def _whole(self, most: int) -> list[FromWorker]:
        """Up to `most` messages that are whole, and no longer unread."""
        messages: list[FromWorker] = []
        start = 0
        with memoryview(self._unread) as unread:
            while len(messages) < most and len(unread) - start >= _HEADER_BYTES:
                try:
                    body = start + _HEADER_BYTES
                    end = body + frame_length(self._unread, start)
                    if end > len(unread):
                        break
                    messages.append(from_worker_decoder.decode(unread[body:end]))
                except (ValueError, msgspec.MsgspecError):
                    if messages:
                        break  # what came before it is heard
                    raise
                start = end
        del self._unread[:start]
        return messages


async def end_process(process: asyncio.subprocess.Process, grace_s: float | None) -> bool:
    """Make sure that `process` is gone: ask, wait `grace_s`, terminate, wait, kill.

    With `grace_s` None it is killed at once. Whether it had to be terminated or killed.
    """
    # Nobody reads its messages any more; a full pipe must not keep it from leaving.
    discard = asyncio.create_task(_discard(process), name="worker discard")
    is_forced = grace_s is None
    if grace_s is not None:
        if process.stdin is not None and not process.stdin.is_closing():
            process.stdin.write(frame(Shutdown()))
            process.stdin.close()
        is_forced = not await _exits_within(process, grace_s)
        if is_forced:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await _exits_within(process, _TERMINATE_GRACE_S)
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await _exits_within(process, _KILL_GRACE_S)
    await asyncio.wait({discard}, timeout=1.0)  # a grandchild may hold the pipe open
    discard.cancel()
    return is_forced


async def _discard(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    with contextlib.suppress(ConnectionError):
        while await process.stdout.read(PIPE_BYTES):
            pass


async def _exits_within(process: asyncio.subprocess.Process, grace_s: float) -> bool:
    # Not process.wait(): that also waits for the pipes, which a grandchild may hold open.
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + grace_s
    while process.returncode is None and loop.time() < deadline_s:
        await asyncio.sleep(_POLL_S)
    return process.returncode is not None


class WorkerLog:
    """What a worker writes to stderr, passed on to our log line by line."""

    def __init__(self) -> None:
        self.last = ""
        """The last line: where it died, often why."""

    async def forward(self, stderr: asyncio.StreamReader) -> None:
        """Pass on until it ends."""
        rest = b""
        while block := await stderr.read(PIPE_BYTES):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                self._log(line)
            if len(rest) > _LINE_BYTES:
                self._log(rest)
                rest = b""
        self._log(rest)

    def _log(self, line: bytes) -> None:
        text = line.decode("utf-8", errors="replace").rstrip()
        if text:
            self.last = text
            named = _LEVEL.search(text)
            logger.opt(raw=True).log(named.group() if named else "INFO", "{}\n", text)


def oom_kills() -> int | None:
    """Processes that the kernel has killed for want of memory, whoever's; None where none tells."""
    with contextlib.suppress(OSError):
        for line in _KERNEL_COUNTS.read_text("ascii").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return None


def ran_out_of_memory(returncode: int | None, last_words: str, kills_before: int | None) -> bool:
    """Whether a worker ended because memory was short; `kills_before` is `oom_kills` as it began.

    Where no kernel counts them, every kill that is not ours is taken for one.
    """
    if any(word in last_words for word in _MEMORY_WORDS):
        return returncode != 0
    if sys.platform == "win32" or returncode != -signal.SIGKILL:
        return False
    kills = oom_kills()
    return kills is None or kills > (kills_before or 0)


def is_from_outside(returncode: int | None) -> bool:
    """Whether somebody ended a worker that did not run out of memory and that we did not end: no
    text makes it send itself such a signal. Windows does not tell."""
    return sys.platform != "win32" and returncode in (-signal.SIGKILL, -signal.SIGTERM)


def describe_exit(returncode: int | None, last_words: str, *, is_from_outside: bool = False) -> str:
    """What `returncode` of a worker means; `last_words` is the last line it wrote to stderr."""
    if returncode is None:
        return "it does not end"
    said = f" ({last_words})" if last_words else ""
    if returncode >= 0:
        # Windows reports a crash as an NTSTATUS, which people look up in hexadecimal.
        code = hex(returncode) if returncode > 0xFF else str(returncode)
        return f"it ended with exit code {code}{said}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    if is_from_outside:
        return f"killed by somebody ({name})"
    if name == "SIGKILL":
        return "killed, probably out of memory (SIGKILL)"
    return f"it was ended by {name}{said}"
