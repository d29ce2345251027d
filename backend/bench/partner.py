"""A process that computes what it is asked, from its start to its certain end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import msgspec

from backend.bench.messages import Answer, Hello, Question, Took, Trouble
from backend.errors import EngineFailed
from backend.worker.process import WorkerLog, describe_exit, start_process

START_TIMEOUT_S = 600.0
ANSWER_TIMEOUT_S = 120.0
_LEAVE_S = 5.0

_answers: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)


class Partner:
    """The bench's end of such a process. A failure of it is `EngineFailed`, and says why."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name, self._process, self._log = name, process, WorkerLog()
        assert process.stderr is not None
        self._forwarding = asyncio.create_task(self._log.forward(process.stderr))
        self._hello: Hello | None = None

    @property
    def hello(self) -> Hello:
        """What it loaded."""
        assert self._hello is not None
        return self._hello

    async def greet(self) -> None:
        """Wait until it is loaded."""
        answer = await self._hear(START_TIMEOUT_S)
        assert isinstance(answer, Hello)
        self._hello = answer

    async def ask(self, question: Question) -> Took:
        """Have it do something."""
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):  # what it died of is told below
            self._process.stdin.write(msgspec.json.encode(question) + b"\n")
            await self._process.stdin.drain()
        answer = await self._hear(ANSWER_TIMEOUT_S)
        assert isinstance(answer, Took)
        return answer

    async def close(self) -> None:
        """Let it leave; end it where it does not."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), _LEAVE_S)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        self._forwarding.cancel()
        await asyncio.gather(self._forwarding, return_exceptions=True)

    async def _hear(self, within_s: float) -> Hello | Took:
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), within_s)
        except TimeoutError:
            raise EngineFailed(f"{self.name} has not answered for {within_s:.0f} s") from None
        if not line:
            await self._process.wait()
            await asyncio.wait({self._forwarding}, timeout=1.0)
            died_of = describe_exit(self._process.returncode, self._log.last)
            raise EngineFailed(f"{self.name} is gone: {died_of}")
        try:
            answer = _answers.decode(line)
        except msgspec.MsgspecError as error:
            raise EngineFailed(f"{self.name} says what is no answer: {error}") from None
        if isinstance(answer, Trouble):
            raise EngineFailed(f"{self.name}: {answer.message}")
        return answer


@asynccontextmanager
async def partner(
    name: str, command: Sequence[str], environment: Mapping[str, str]
) -> AsyncIterator[Partner]:
    """Start it, wait until it is loaded, and end it afterwards."""
    try:
        process = await start_process(command, environment)
    except OSError as error:
        raise EngineFailed(f"{command[0]} cannot be started: {error.strerror or error}") from error
    started = Partner(name, process)
    try:
        await started.greet()
        yield started
    finally:
        await started.close()
