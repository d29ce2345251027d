"""A worker that hangs, in each way it may, and a supervision that fails."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from backend.errors import EngineDown, ShoalError, TimedOut
from backend.worker import supervisor
from backend.worker.client import Patience, WorkerClient
from backend.worker.messages import Beat, Cleared, Configure, Configured, FromWorker, Load
from backend.worker.process import end_process, oom_kills
from backend.worker.pulse import Pulse
from backend.worker.supervisor import Backoff
from tests.desk import settle
from tests.test_worker_client import needs_signals, phase, run, spoken, until, worker

BEAT_S, SILENT_S = 0.05, 1.0
WATCHFUL = Patience(restart_delay_s=0.05, silent_s=SILENT_S)


@asynccontextmanager
async def beating(patience: Patience = WATCHFUL, **script: Any) -> AsyncIterator[WorkerClient]:
    async with worker(patience, beat_s=BEAT_S, **script) as client:
        await client.ready()
        yield client


def process_of(client: WorkerClient) -> psutil.Process:
    assert client.info is not None
    return psutil.Process(client.info.pid)


def test_a_stopped_worker_is_suspected_then_replaced() -> None:
    async def work() -> None:
        async with beating() as client:
            stopped = process_of(client)
            at_work = asyncio.create_task(spoken(client, "wait"))
            question = asyncio.create_task(client.clear_caches())
            stopped.suspend()
            await until(client, phase="silent")
            with pytest.raises(EngineDown, match="is silent: it has said nothing for 1 s"):
                client.loaded()
            with pytest.raises(EngineDown, match="is silent"):
                await spoken(client, "meanwhile")
            assert client.state.restarts == 0
            for asked in (at_work, question):
                with pytest.raises(EngineDown, match="hangs, it has said nothing"):
                    await asked
            assert (await client.ready()).pid != stopped.pid
            assert client.state.restarts == 1
            assert len(await spoken(client, "hello")) == 2

    run(work())


def test_a_worker_that_speaks_again_is_kept() -> None:
    async def work() -> None:
        async with beating() as client:
            stopped = process_of(client)
            at_work = asyncio.create_task(spoken(client, "slow"))
            stopped.suspend()
            await until(client, phase="silent")
            stopped.resume()
            assert (await client.ready()).pid == stopped.pid
            assert len(await at_work) == 41
            assert client.state.restarts == 0

    run(work())


def test_a_worker_that_never_beats_is_not_expected_to() -> None:
    async def work() -> None:
        async with worker(Patience(silent_s=0.1)) as client:
            await client.ready()
            await asyncio.sleep(0.5)
            assert phase(client) == "ready"

    run(work())


def test_a_checkpoint_that_is_damaged_after_it_was_loaded_is_tried_again(tmp_path: Path) -> None:
    """One that never was whole stays down (`test_worker_client`); this one is being replaced."""
    damaged = tmp_path / "damaged"

    async def work() -> None:
        async with worker(Patience(restart_delay_s=0.05), damaged_file=str(damaged)) as client:
            await client.ready()
            damaged.touch()
            with pytest.raises(EngineDown):
                await spoken(client, "kill")
            while "model.pth is damaged" not in client.state.reason:
                await asyncio.sleep(0.01)
            assert phase(client) == "restarting"
            damaged.unlink()
            await client.ready()
            assert len(await spoken(client, "hello")) == 2

    run(work())


def test_a_busy_worker_that_gets_no_further_is_killed_though_it_beats() -> None:
    async def work() -> None:
        patience = Patience(restart_delay_s=0.05, silent_s=SILENT_S, unresponsive_s=0.5)
        async with beating(patience) as client:
            assert len(await spoken(client, "slow")) == 41, "2 s with steps: no hang"
            with pytest.raises(EngineDown, match=r"no further for \d s while speaking"):
                await spoken(client, "stuck")
            await client.ready()
            assert client.state.restarts == 1

    run(work())


def test_a_machine_that_slept_kills_no_worker() -> None:
    async def work() -> None:
        async with beating() as client:
            loop, looks = asyncio.get_running_loop(), 0
            process = client._transport
            assert isinstance(process, supervisor.Supervisor)
            awake, slept_s = loop.time, 0.0
            look = process._look

            def counted(tick_s: float) -> None:
                nonlocal looks
                looks += 1
                look(tick_s)

            process._look = counted  # type: ignore[method-assign]
            loop.time = lambda: awake() + slept_s  # type: ignore[method-assign]
            for _ in range(5):
                slept_s += 3600.0
                before = looks
                while looks == before:
                    await asyncio.sleep(0.01)
                assert phase(client) == "ready"
                while process._pulse.silent_s > 0:  # until its next beat
                    await asyncio.sleep(0.01)
            assert client.state.restarts == 0
            assert len(await spoken(client, "hello")) == 2

    run(work())


def test_only_a_busy_worker_without_progress_is_stuck() -> None:
    pulse = Pulse()
    script: tuple[tuple[FromWorker, float, float], ...] = (
        (Beat(1, "speaking"), 0.0, 0.0),
        (Beat(1, "speaking"), 0.0, 2.0),
        (Load(1, 0), 0.0, 4.0),
        (Beat(2, "speaking"), 0.0, 0.0),
        (Beat(2, ""), 0.0, 0.0),
        (Beat(2, ""), 0.0, 0.0),
        (Beat(2, "speaking"), 0.0, 0.0),
        (Beat(2, "speaking"), 0.0, 2.0),
    )
    for message, silent_s, stuck_s in script:
        pulse.hear(message)
        assert (pulse.silent_s, pulse.stuck_s) == (silent_s, stuck_s), message
        pulse.tick(1.0)
        pulse.tick(1.0)
        assert pulse.silent_s == 2.0


def test_a_question_that_is_not_answered_ends_and_the_next_gets_its_own_answer(
    tmp_path: Path,
) -> None:
    async def work() -> None:
        patience, gate = Patience(answer_s=1.0), tmp_path / "gate"
        async with worker(patience, clear_file=str(gate)) as client:
            await client.ready()
            with pytest.raises(TimedOut, match="not answered for 1 s"):
                await client.clear_caches()
            gate.touch()
            assert await client.configure(Configure(3, 64)) == Configured(3, 64)
            assert await client.clear_caches() == Cleared(4096)

    run(work())


def test_what_a_bug_in_hearing_breaks_is_a_worker_and_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(client: WorkerClient, message: FromWorker) -> None:
        raise KeyError("nobody knows")

    async def work() -> None:
        async with worker() as client:
            await client.ready()
            with monkeypatch.context() as patch:
                patch.setattr(WorkerClient, "hear", broken)
                with pytest.raises(EngineDown, match="KeyError: 'nobody knows'"):
                    await spoken(client, "hello")
                await until(client, phase="restarting")
                assert "its supervision failed (KeyError" in client.state.reason
            await client.ready()
            assert len(await spoken(client, "hello")) == 2

    run(work())


@needs_signals
@pytest.mark.skipif(oom_kills() is None, reason="no kernel tells who was killed for memory")
@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
def test_it_is_told_whether_somebody_else_ended_it(signal_number: int) -> None:
    async def work() -> None:
        patience = Patience(restart_delay_s=0.05, silent_s=SILENT_S, unresponsive_s=0.5)
        async with beating(patience) as client:
            for text in ("wait", "crash", "stuck"):
                asked = asyncio.create_task(spoken(client, text))
                if text == "wait":
                    await settle()
                    process_of(client).send_signal(signal_number)
                with pytest.raises(EngineDown) as died:
                    await asked
                assert died.value.is_from_outside is (text == "wait"), died.value
                assert ("killed by somebody" in str(died.value)) is (text == "wait")
                await client.ready()

    run(work())


def test_a_bug_in_supervision_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(process: asyncio.subprocess.Process, grace_s: float | None) -> bool:
        await end_process(process, grace_s)
        raise RuntimeError("no such luck")

    async def work() -> None:
        async with worker() as client:
            await client.ready()
            with monkeypatch.context() as patch:
                patch.setattr(supervisor, "end_process", broken)
                with pytest.raises(EngineDown, match="RuntimeError: no such luck"):
                    await spoken(client, "crash")
            assert phase(client) == "restarting"
            await client.ready()
            assert len(await spoken(client, "hello")) == 2

    run(work())


def test_the_reason_is_there_as_soon_as_the_worker_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process may take a while to end: nobody is told "ready: ." meanwhile."""
    told = []

    async def work() -> None:
        async with worker() as client:

            async def watched(process: asyncio.subprocess.Process, grace_s: float | None) -> bool:
                with pytest.raises(ShoalError) as refused:
                    client.loaded()
                told.append(str(refused.value))
                return await end_process(process, grace_s)

            monkeypatch.setattr(supervisor, "end_process", watched)
            await client.ready()
            with pytest.raises(EngineDown):
                await spoken(client, "crash")
            await client.ready()

    run(work())
    assert told == [
        "The worker is restarting: it has ended.",
        "The worker is stopped: the server is stopping.",
    ]


def test_workers_that_cannot_start_are_left_alone_ever_longer() -> None:
    backoff = Backoff(first_s=0.5, most_s=30.0)
    pauses = [backoff.pause_s(None) for _ in range(9)]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert backoff.pause_s(0.1) == 2.0, "it could be loaded after all"
    assert backoff.pause_s(60.0) == 0.5


def test_ten_kills_in_a_row_do_not_keep_a_worker_from_starting() -> None:
    backoff = Backoff(first_s=0.5, most_s=30.0)
    assert [backoff.pause_s(0.2) for _ in range(6)] == [0.5, 1.0, 2.0, 2.0, 2.0, 2.0]
    backoff = Backoff(first_s=0.5, most_s=30.0)
    assert [backoff.pause_s(6.0) for _ in range(10)] == [0.5] * 10
