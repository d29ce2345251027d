import asyncio
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from backend.core import QualityCost, ReferenceCodes
from backend.errors import Aborted, BadReference, EngineDown, EngineFailed
from backend.worker.client import MAX_ANSWER_BYTES, Patience, WorkerClient
from backend.worker.messages import (
    Cleared,
    Configure,
    Configured,
    DecodeCodes,
    Done,
    EncodeVoice,
)
from backend.worker.supervisor import supervised
from tests.desk import settle
from tests.scripted import children, command, speak

QUICK = Patience(restart_delay_s=0.05, unresponsive_s=0.3, shutdown_grace_s=3.0)
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="no signals on Windows")


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run a test; afterwards no task and no process of its is left."""

    async def and_look() -> None:
        await work
        await asyncio.sleep(0)
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not left

    asyncio.run(and_look())
    assert not children()


@asynccontextmanager
async def worker(patience: Patience = QUICK, **script: Any) -> AsyncIterator[WorkerClient]:
    client = supervised(command(**script), patience)
    client.start()
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def ready_worker(**script: Any) -> AsyncIterator[WorkerClient]:
    async with worker(**script) as client:
        await client.ready()
        yield client


async def spoken(client: WorkerClient, text: str) -> list[bytes | Done]:
    """Its pieces of audio and what it cost."""
    pieces: list[bytes] = []
    done = await client.speak(speak(text), pieces.append)
    return [*pieces, done]


def phase(client: WorkerClient) -> str:
    return client.state.phase


async def until(client: WorkerClient, *, phase: str) -> None:
    while client.state.phase != phase:
        await asyncio.sleep(0.01)


async def until_logged(log: Path, line: str) -> None:
    while not log.exists() or line not in log.read_text().split():
        await asyncio.sleep(0.01)


def test_what_a_starting_worker_does_is_known(tmp_path: Path) -> None:
    ready = tmp_path / "ready"

    async def work() -> None:
        async with worker(ready_file=str(ready)) as client:
            while "packing" not in client.state.reason:
                await asyncio.sleep(0.01)
            assert client.state.reason == "it is packing, 25%"
            with pytest.raises(EngineDown, match=r"The worker is starting: it is packing, 25%\."):
                await spoken(client, "too early")
            ready.touch()
            await client.ready()
            assert client.state.reason == ""

    run(work())


def test_what_quantization_cost_may_be_told_later() -> None:
    async def work() -> None:
        async with ready_worker(measures=True) as client:
            await spoken(client, "hello")
            assert client.info is not None
            assert client.info.quality_cost == QualityCost(0.01, 0.99, 8)

    run(work())


def test_speaks() -> None:
    async def work() -> None:
        async with worker() as client:
            assert phase(client) == "starting"
            with pytest.raises(EngineDown, match="starting"):
                await spoken(client, "too early")
            info = await client.ready()
            assert info.engine == "scripted"
            assert client.info == info
            pcm, done = await spoken(client, "hello")
            assert isinstance(pcm, bytes)
            assert len(pcm) == 3200
            assert isinstance(done, Done)
        assert phase(client) == "stopped"
        with pytest.raises(EngineDown, match="stopped"):
            await client.ready()

    run(work())


def test_many_at_once_with_the_same_name() -> None:
    async def work() -> None:
        async with ready_worker() as client:
            answers = await asyncio.gather(*(spoken(client, "hello") for _ in range(20)))
            assert all(len(answer) == 2 for answer in answers)

    run(work())


def test_failed_becomes_its_domain_error() -> None:
    async def work() -> None:
        async with ready_worker() as client:
            with pytest.raises(BadReference, match="cannot be decoded"):
                await spoken(client, "bad reference")
            assert await spoken(client, "still here")

    run(work())


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("crash", r"exit code 3 \(about to crash\)"),
        pytest.param("kill", "killed by somebody|probably out of memory", marks=needs_signals),
        ("garbage", "no message"),
    ],
)
def test_death_is_told_to_every_listener_and_survived(fault: str, says: str) -> None:
    async def work() -> None:
        async with ready_worker() as client:
            other = asyncio.create_task(spoken(client, "wait"))
            await settle()
            with pytest.raises(EngineDown, match=says):
                await spoken(client, fault)
            with pytest.raises(EngineDown, match=says):
                await other
            await until(client, phase="restarting")
            await client.ready()
            assert client.state.restarts == 1
            assert await spoken(client, "hello")

    run(work())


def test_closing_early_aborts(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def work() -> None:
        async with ready_worker(log_file=str(log)) as client:
            begun = asyncio.Event()
            speaking = asyncio.create_task(client.speak(speak("slow"), lambda _: begun.set()))
            await begun.wait()
            speaking.cancel()
            await until_logged(log, "Abort")
            task = asyncio.create_task(spoken(client, "wait"))
            await settle()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            while log.read_text().split().count("Abort") < 2:
                await asyncio.sleep(0.01)
            await asyncio.sleep(2 * QUICK.unresponsive_s)
            assert client.state.restarts == 0, "a worker that aborts is not killed"

    run(work())


def test_finished_request_sends_no_abort(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def work() -> None:
        async with ready_worker(log_file=str(log)) as client:
            await spoken(client, "hello")
            await spoken(client, "again")

    run(work())
    assert log.read_text().split() == ["Speak", "Speak", "Shutdown"]


def test_a_recording_becomes_codes() -> None:
    async def work() -> None:
        async with ready_worker() as client:
            one, same, other = await asyncio.gather(
                *(client.encode(EncodeVoice("r", audio)) for audio in (b"one", b"one", b"other"))
            )
            assert one == same != other
            assert (one.codec_id, one.num_codebooks, one.frames) == ("scripted", 1, 10)
            with pytest.raises(BadReference, match="cannot be decoded"):
                await client.encode(EncodeVoice("r", b"bad"))
            assert await client.encode(EncodeVoice("r", b"one")) == one

    run(work())


def test_recordings_wait_in_the_client_and_who_gives_up_makes_room(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def work() -> None:
        async with ready_worker(log_file=str(log)) as client:
            tasks = [
                asyncio.create_task(client.encode(EncodeVoice("r", audio)))
                for audio in (b"wait", b"wait too", b"other")
            ]
            await until_logged(log, "EncodeVoice")
            assert len(await spoken(client, "beside it")) == 2
            assert log.read_text().split() == ["EncodeVoice", "Speak"]
            tasks[1].cancel()
            await asyncio.sleep(0)
            tasks[0].cancel()
            assert (await tasks[2]).frames == 10
            assert log.read_text().split() == ["EncodeVoice", "Speak", "Abort", "EncodeVoice"]
            await asyncio.sleep(2 * QUICK.unresponsive_s)
            assert client.state.restarts == 0

    run(work())


def test_who_waits_for_codes_is_told_that_the_worker_died() -> None:
    async def work() -> None:
        async with ready_worker() as client:
            tasks = [asyncio.create_task(client.encode(EncodeVoice("r", b"wait"))) for _ in "ab"]
            await settle()
            with pytest.raises(EngineDown):
                await spoken(client, "crash")
            for task in tasks:
                with pytest.raises(EngineDown):
                    await task

    run(work())


def codes_saying(command: bytes, frames: int = 30) -> ReferenceCodes:
    """Codes that tell the scripted worker what to do."""
    return ReferenceCodes(command.ljust(2 * frames, b"."), 1, "scripted", frames / 100)


def test_decodes() -> None:
    async def work() -> None:
        async with ready_worker() as client:
            sound = await client.decode(DecodeCodes("r", codes_saying(b"")))
            assert len(sound) == 4 * 30 * 80, "a piece for each frame, in one"
            (tone, _) = await spoken(client, "the tone")
            assert isinstance(tone, bytes)
            assert sound == 3 * tone
            with pytest.raises(BadReference, match="codes that are none"):
                await client.decode(DecodeCodes("r", codes_saying(b"bad")))
            with pytest.raises(EngineDown):
                await client.decode(DecodeCodes("r", codes_saying(b"crash")))

    run(work())


def test_a_decoding_that_is_cancelled_is_aborted(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def work() -> None:
        async with ready_worker(log_file=str(log)) as client:
            decoding = asyncio.create_task(client.decode(DecodeCodes("r", codes_saying(b"wait"))))
            await until_logged(log, "DecodeCodes")
            decoding.cancel()
            with pytest.raises(asyncio.CancelledError):
                await decoding
            await until_logged(log, "Abort")
            assert len(await client.decode(DecodeCodes("r", codes_saying(b"")))) == 9600

    run(work())


def test_worker_that_does_not_abort_is_killed() -> None:
    async def work() -> None:
        async with ready_worker() as client:
            task = asyncio.create_task(spoken(client, "hang"))
            await settle()
            task.cancel()
            await until(client, phase="restarting")
            assert "hangs" in client.state.reason
            await client.ready()

    run(work())


def test_an_answer_without_end_is_stopped_and_no_other(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def work() -> None:
        async with ready_worker(log_file=str(log)) as client:
            pieces: list[int] = []
            flood = asyncio.create_task(
                client.speak(speak("flood"), lambda piece: pieces.append(len(piece)))
            )
            assert len(await spoken(client, "hello")) == 2
            with pytest.raises(EngineFailed, match="does not come to an end"):
                await flood
            assert sum(pieces) == MAX_ANSWER_BYTES
            await until_logged(log, "Abort")
            assert client.state.restarts == 0

    run(work())


def test_bad_checkpoint_is_not_tried_again(tmp_path: Path) -> None:
    starts = tmp_path / "starts"

    async def work() -> None:
        async with worker(fail_code="bad_checkpoint", starts_file=str(starts)) as client:
            with pytest.raises(EngineDown, match="the folder is empty"):
                await client.ready()
            await asyncio.sleep(0.3)
            assert client.state.phase == "stopped"

    run(work())
    assert starts.read_text().count("start") == 1


def test_restart_backs_off(tmp_path: Path) -> None:
    starts = tmp_path / "starts"

    async def work() -> None:
        async with worker(exit_at_start=True, starts_file=str(starts)) as client:
            while client.state.restarts < 3:
                await asyncio.sleep(0.01)
            assert "No module named 'nothing'" in client.state.reason
            assert client.state.phase == "restarting"

    run(work())
    assert 3 <= starts.read_text().count("start") <= 4


def test_start_attempts_are_limited_where_asked() -> None:
    async def work() -> None:
        async with worker(Patience(start_attempts=1), exit_at_start=True) as client:
            with pytest.raises(EngineDown, match="No module named 'nothing'"):
                await client.ready()

    run(work())


def test_start_timeout() -> None:
    async def work() -> None:
        async with worker(Patience(start_timeout_s=0.2, start_attempts=1), start_s=30) as client:
            with pytest.raises(EngineDown, match=r"not ready after 0\.2 s"):
                await client.ready()

    run(work())


def test_no_such_program() -> None:
    async def work() -> None:
        client = supervised(("/nowhere/python",), Patience(start_attempts=1))
        client.start()
        with pytest.raises(EngineDown, match="cannot be started"):
            await client.ready()
        await client.close()

    run(work())


def test_close_while_starting_and_in_flight() -> None:
    async def work() -> None:
        async with worker(start_s=30):
            while not children():
                await asyncio.sleep(0.01)
            closing_s = time.perf_counter()
        assert time.perf_counter() - closing_s < 1.0, "who only loads has nothing to finish"
        async with ready_worker() as client:
            task = asyncio.create_task(spoken(client, "slow"))
            await settle()
        with pytest.raises(Aborted, match="stopping"):
            await task

    run(work())


@needs_signals
def test_worker_that_will_not_leave_is_killed() -> None:
    async def work() -> None:
        async with worker(Patience(shutdown_grace_s=0.1), ignore_shutdown=True) as client:
            await client.ready()

    run(work())


def test_worker_leaves_when_its_client_dies() -> None:
    code = (
        "import asyncio, os\n"
        "from tests.scripted import command\n"
        "from backend.worker.supervisor import supervised\n"
        "async def main():\n"
        "    client = supervised(command()); client.start()\n"
        "    print((await client.ready()).pid, flush=True)\n"
        "    os._exit(0)\n"
        "asyncio.run(main())\n"
    )

    async def work() -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        pid = int(out)
        for _ in range(200):
            if not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie":
                return
            await asyncio.sleep(0.02)
        pytest.fail("the worker outlived its client")

    run(work())


def test_configure_and_clear_are_answered_in_order() -> None:
    async def go() -> None:
        async with ready_worker() as client:
            two, cleared, one = await asyncio.gather(
                client.configure(Configure(num_threads=2, cache_limit_mb=64)),
                client.clear_caches(),
                client.configure(Configure(num_threads=1, cache_limit_mb=32)),
            )
            assert (two, one) == (Configured(2, 64), Configured(1, 32))
            assert cleared == Cleared(4096)

    run(go())


def test_a_question_to_a_dying_worker_is_engine_down() -> None:
    async def go() -> None:
        async with ready_worker() as client:
            with pytest.raises(EngineDown):
                await asyncio.gather(spoken(client, "crash"), client.clear_caches())
            await until(client, phase="ready")
            assert await client.clear_caches() == Cleared(4096)

    run(go())


def test_environment_reaches_the_worker() -> None:
    code = "import os, sys; print('I see', os.environ['SHOAL_SEEN'], file=sys.stderr)"

    async def go() -> None:
        client = supervised(
            (sys.executable, "-c", code), Patience(start_attempts=1), {"SHOAL_SEEN": "a GPU"}
        )
        client.start()
        with pytest.raises(EngineDown, match="I see a GPU"):
            await client.ready()
        await client.close()

    run(go())


def test_restart_uses_the_new_command(tmp_path: Path) -> None:
    log = tmp_path / "starts"

    async def go() -> None:
        async with ready_worker() as client:
            client.use(command(starts_file=str(log)), {})
            assert not log.exists()
            await client.restart("another plan")
            await client.ready()
            assert log.read_text() == "start\n"
            assert client.state.restarts == 1

    run(go())
