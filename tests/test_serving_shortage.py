"""Memory that runs short under speech: less is gone on with, and nobody hears of it."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from backend.core import EngineInfo, SpeechRequest
from backend.errors import EngineDown, OutOfMemory, ShoalError, SteppedDown, WorkerKilled
from backend.hardware.ladder import CLEAR_S, WANT_S, Footing, footings
from backend.hardware.memory import MemoryBudgetManager
from backend.monitoring.rows import SynthesisRow
from backend.serving import shortage as module
from backend.serving.lane import Lane
from backend.serving.shortage import Shortage
from backend.smart_backend import SmartBackend
from backend.worker.client import WorkerClient, WorkerState
from backend.worker.messages import Done, Speak
from backend.worker.process import oom_kills, ran_out_of_memory
from tests.desk import settle
from tests.monitored import logged, stats
from tests.scripted import children, client, speak
from tests.test_hardware_ladder import planned
from tests.test_hardware_plans_of_machines import HARDWARE
from tests.test_serving_session import info

TEXT = {"text": "It is a big one."}


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)
    assert not children()


class Worker:
    """Fails as it is told, then speaks."""

    def __init__(self, *fails: ShoalError) -> None:
        self.fails = list(fails)
        self.is_at_work = False
        self.state = WorkerState("ready")
        self.on_lost: Callable[[ShoalError], None] = lambda error: None
        self.suspects = asyncio.Lock()

    async def ready(self) -> EngineInfo:
        return info()

    async def speak(self, speak: Speak, take: Callable[[bytes], None]) -> Done:
        await asyncio.sleep(0)
        if not self.fails:
            return Done(speak.request_id, stats())
        error = self.fails.pop(0)
        if isinstance(error, EngineDown):
            self.on_lost(error)
        raise error


class Ground:
    """What stands on the ladder, in seconds that the test counts."""

    def __init__(self, *fails: ShoalError, device: str = "cpu") -> None:
        self.now_s, self.short, self.has_room = 0.0, False, True
        self.stood_on: list[str] = []
        self.worker = Worker(*fails)
        self.steps = footings(planned(device))
        worker = cast(WorkerClient, self.worker)
        self.shortage = Shortage(worker, self.steps, self, clock=lambda: self.now_s)

    async def stand_on(self, footing: Footing, reason: str) -> None:
        await asyncio.sleep(0)
        self.stood_on.append(footing.step)

    def is_short(self) -> bool:
        return self.short

    def fits(self, footing: Footing) -> bool:
        return self.has_room

    async def awake(self) -> float:
        return 0.0

    async def speak(self) -> Done:
        return await self.shortage.speak(speak(), lambda _: None)

    async def looks(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.now_s += 1
            await self.shortage.tick()
            await settle()


def short() -> OutOfMemory:
    return OutOfMemory("There is not enough memory.")


def killed() -> WorkerKilled:
    return WorkerKilled("The worker is down: killed.")


@pytest.mark.parametrize("error", [short(), killed()])
def test_what_fails_for_want_of_memory_may_be_tried_again_with_less(error: ShoalError) -> None:
    async def work() -> None:
        ground = Ground(error)
        with logged("WARNING") as lines:
            with pytest.raises(SteppedDown) as told:
                await ground.speak()
            await ground.shortage.ready()
        assert told.value.step == "fewer_rows"
        assert ground.stood_on == ["fewer_rows"]
        assert lines == [f"WARNING Memory is short: {error} From now on a quarter of the rows.\n"]
        assert (await ground.speak()).request_id == "r"
        status = ground.shortage.status()
        assert (status["level"], status["step"], status["steps_down"]) == (1, "fewer_rows", 1)
        assert str(error) in status["reason"]

    run(work())


def test_many_that_fail_together_take_one_step() -> None:
    async def work() -> None:
        ground = Ground(*(short() for _ in range(8)))
        told = await asyncio.gather(*(ground.speak() for _ in range(8)), return_exceptions=True)
        assert {type(error) for error in told} == {SteppedDown}
        assert ground.shortage.level == 1

    run(work())


def test_on_the_last_step_it_is_told() -> None:
    async def work() -> None:
        ground = Ground(*(short() for _ in range(6)))
        for _ in range(5):
            with pytest.raises(SteppedDown):
                await ground.speak()
        await ground.shortage.ready()
        assert ground.stood_on[-1] == "int4"
        with pytest.raises(OutOfMemory):
            await ground.speak()
        await ground.speak()
        assert ground.shortage.steps_down == 5

    run(work())


def test_a_death_of_another_kind_takes_no_step() -> None:
    async def work() -> None:
        ground = Ground(EngineDown("The worker is down: it ended with exit code 3."))
        with pytest.raises(EngineDown) as told:
            await ground.speak()
        assert not isinstance(told.value, SteppedDown)
        assert ground.shortage.level == 0

    run(work())


def test_what_others_take_counts_once_it_lasts() -> None:
    async def work() -> None:
        ground = Ground()
        ground.short = True
        await ground.looks(WANT_S)
        assert ground.shortage.level == 0
        await ground.looks(1)
        assert ground.stood_on == ["fewer_rows"]
        await ground.looks(WANT_S + 1)
        assert ground.stood_on == ["fewer_rows", "one_row"]
        ground.short = False
        await ground.looks(CLEAR_S - 1)
        assert ground.shortage.level == 2
        await ground.looks(1)
        assert ground.stood_on[2:] == ["fewer_rows"]
        await ground.looks(CLEAR_S)
        assert ground.stood_on[3:] == [""]
        assert ground.shortage.status()["steps_up"] == 2
        await ground.looks(3 * CLEAR_S)
        assert len(ground.stood_on) == 4

    run(work())


def test_a_worker_is_loaded_anew_only_while_it_is_idle_and_where_that_fits() -> None:
    async def work() -> None:
        ground = Ground(*(short() for _ in range(3)))
        for _ in range(3):
            with pytest.raises(SteppedDown):
                await ground.speak()
        assert ground.shortage.footing.step == "small_windows"
        await ground.shortage.ready()
        ground.worker.is_at_work = True
        await ground.looks(2 * CLEAR_S)
        assert ground.shortage.footing.step == "small_windows"
        ground.worker.is_at_work, ground.has_room = False, False
        await ground.looks(2 * CLEAR_S)
        assert ground.shortage.footing.step == "small_windows"
        ground.has_room = True
        await ground.looks(1)
        assert ground.shortage.footing.step == "one_row"

    run(work())


def test_a_worker_that_is_being_loaded_says_nothing_of_what_is_free() -> None:
    async def work() -> None:
        ground = Ground(killed())
        with pytest.raises(SteppedDown):
            await ground.speak()
        await ground.shortage.ready()
        ground.worker.state = WorkerState("starting")
        await ground.looks(3 * CLEAR_S)
        assert ground.shortage.level == 1
        ground.worker.state = WorkerState("ready")
        await ground.looks(CLEAR_S - 1)
        assert ground.shortage.level == 1
        await ground.looks(1)
        assert ground.shortage.level == 0

    run(work())


def test_what_cannot_be_had_is_logged_and_speech_goes_on() -> None:
    async def work() -> None:
        ground = Ground(short())

        async def fails(footing: Footing, reason: str) -> None:
            raise EngineDown("It does not fit.")

        ground.stand_on = fails  # type: ignore[method-assign]
        with logged("WARNING") as lines:
            with pytest.raises(SteppedDown):
                await ground.speak()
            await ground.shortage.ready()
        assert "It does not fit." in lines[-1]
        await ground.speak()

    run(work())


# -- the whole server, its worker scripted ---------------------------------------------------------


def backend_of(http: httpx.AsyncClient) -> SmartBackend:
    backend: SmartBackend = http._transport.app.state.backend  # type: ignore[attr-defined]
    return backend


def has_card(lane: Lane) -> bool:
    return lane.usage.card is not None


async def ladder_of(http: httpx.AsyncClient) -> dict[str, Any]:
    told: dict[str, Any] = (await http.get("/system-status")).json()["memory_ladder"]
    return told


def test_a_sentence_that_nobody_heard_is_spoken_again(tmp_path: Path) -> None:
    log, spoken = tmp_path / "log", tmp_path / "spoken"

    async def work() -> None:
        script = {"big_times": 2, "log_file": str(log), "spoken_file": str(spoken)}
        rows: list[SynthesisRow] = []
        async with client(script) as http:
            backend = backend_of(http)
            backend.monitoring._aggregates.add = rows.append  # type: ignore[method-assign,assignment]
            answer = await http.post("/tts", data=TEXT)
            assert answer.status_code == 200
            told = "memory ran short: sentence 1 was begun again with one row at a time"
            assert told in answer.headers["X-Warning"]
            assert (await ladder_of(http))["step"] == "one_row"
            assert backend.lane.rows == 1
            metrics = (await http.get("/metrics")).json()
            assert metrics["memory_ladder"] == {"level": 2, "steps_down": 2}
            text = (await http.get("/metrics/prometheus")).text
            assert "shoal_memory_steps_down_total 2.0" in text
            assert "shoal_memory_level 2.0" in text
            after = await http.post("/tts", data={"text": "And another."})
            assert "it is spoken with one row at a time" in after.headers["X-Warning"]
            assert [row.memory_step for row in rows] == ["one_row", "one_row"]
            assert [row.workers for row in rows] == ["0", "0"]
            assert all(row.success for row in rows)
        assert log.read_text().split().count("Configure") == 2
        seeds = [json.loads(line)["seed"] for line in spoken.read_text().splitlines()]
        assert len(set(seeds[:3])) == 1, "memory is no reason for another seed"

    run(work())


def test_workers_that_die_of_it_step_down_until_one_lives(tmp_path: Path) -> None:
    starts = tmp_path / "starts"

    async def work() -> None:
        script = {"starts_file": str(starts), "huge_starts": 4}
        async with client(script) as http:
            answer = await http.post("/tts", data={"text": "A huge one."})
            assert answer.status_code == 200, "more deaths than any other reason is given"
            ladder = await ladder_of(http)
            assert (ladder["level"], ladder["steps_down"]) == (4, 4)
            assert ladder["step"] == "small_cache"
            assert backend_of(http).lane.config.chunk_length == 40
            health = (await http.get("/health")).json()
            assert health["cache_stats"]["cache_limit_mb"] >= 64

    run(work())


def test_what_was_heard_is_not_said_twice() -> None:
    async def work() -> None:
        async with client({"big_times": 1}) as http:
            backend = backend_of(http)
            request = SpeechRequest("r", "Slow and slow. It is a big one.", is_streamed=True)
            async with backend.speak(request) as session:
                pieces = [piece async for piece in session]
            assert sum(len(piece.samples) for piece in pieces) > 0
            assert any("begun again" in warning for warning in session.stats.warnings)
            assert len(session.sentences) == 2

    run(work())


def test_at_the_end_of_the_ladder_the_request_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with client({"big_times": 1000}, quantization="int8") as http:
            answer = await http.post("/tts", data=TEXT)
            assert answer.status_code == 503
            assert answer.json()["detail"] == "There is not enough memory."
            assert int(answer.headers["Retry-After"]) > 0
            ladder = await ladder_of(http)
            assert ladder["step"] == ladder["steps"][-1] == "small_cache"

    run(work())


def test_memory_that_another_program_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK_S", 0.0)
    room = [1 << 30]
    monkeypatch.setattr(MemoryBudgetManager, "room_bytes", property(lambda _: room[0]))

    async def work() -> None:
        async with client() as http:
            shortage = backend_of(http).lane.shortage
            at_s = [0.0]
            shortage._clock = lambda: at_s[0]

            async def until(step: str | None) -> None:
                while shortage.status()["step"] != step:
                    at_s[0] += 1
                    await asyncio.sleep(0)

            room[0] = 1
            await until("small_cache")
            room[0] = 1 << 30
            await until(None)
            assert (await ladder_of(http))["steps_up"] == 4

    run(work())


def test_a_gpus_last_step_is_the_cpu_and_it_is_taken_back() -> None:
    async def work() -> None:
        script = {"device": "cuda:0", "big_times": 1000}
        async with client(script, found=HARDWARE["rtx_3060_8gb"]) as http:
            lane = backend_of(http).lane
            assert (await http.post("/tts", data=TEXT)).status_code == 503
            assert (await ladder_of(http))["step"] == "cpu"
            assert lane.plan.device.value == lane.running_plan.device.value == "cpu"
            assert has_card(lane) is False
            after = await http.post("/tts", data={"text": "On the CPU."})
            assert "everything on the CPU" in after.headers["X-Warning"]
            assert " cpu " in f" {after.headers['X-Optimization-Strategy']} "
            at_s = lane.shortage._clock() + CLEAR_S
            lane.shortage._clock = lambda: at_s
            await lane.shortage.tick()
            await lane.shortage.ready()
            assert lane.shortage.footing.step == "small_cache", "it is a small checkpoint"
            assert lane.plan.device.value == "cuda:0"
            assert has_card(lane) is True
            assert (await http.post("/tts", data={"text": "And back."})).status_code == 200

    run(work())


def test_without_memory_control_there_is_no_ladder() -> None:
    async def work() -> None:
        async with client({"big_times": 1}, memory_control=False) as http:
            assert (await http.post("/tts", data=TEXT)).status_code == 503
            assert (await ladder_of(http))["steps"] == []

    run(work())


# -- which deaths are for want of memory -----------------------------------------------------------


@pytest.mark.parametrize(
    ("returncode", "said", "is_it"),
    [
        (1, "MemoryError", True),
        (1, "torch.OutOfMemoryError: CUDA out of memory.", True),
        (-6, "terminate called after throwing an instance of 'std::bad_alloc'", True),
        (1, "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory", True),
        (1, "ModuleNotFoundError: No module named 'nothing'", False),
        (-11, "", False),
        (-9, "", False),
    ],
)
def test_why_it_died(returncode: int, said: str, is_it: bool) -> None:
    assert ran_out_of_memory(returncode, said, oom_kills()) is is_it


def test_a_kill_that_the_kernel_counts_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = tmp_path / "vmstat"
    counts.write_text("nr_free_pages 1\noom_kill 8\n")
    monkeypatch.setattr("backend.worker.process._KERNEL_COUNTS", counts)
    assert ran_out_of_memory(-9, "", 7)
    assert not ran_out_of_memory(-9, "", 8)
    assert not ran_out_of_memory(-15, "", 7)
    counts.unlink()
    assert ran_out_of_memory(-9, "", None), "nobody counts"
