"""Heat: fewer threads in the running worker, what is said of it, and all of them again."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

from backend.core import SpeechRequest
from backend.errors import EngineDown
from backend.hardware.usage import MachineUsage
from backend.serving import cooling as module
from backend.serving.cooling import Cooling
from backend.serving.launch import worker_command
from backend.smart_backend import SmartBackend
from backend.thermometer import Heat
from tests.monitored import logged
from tests.scripted import client
from tests.test_hardware_plans_of_machines import HARDWARE


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


class Machine:
    """What one worker computes on, in seconds that the test counts."""

    def __init__(self, **values: Any) -> None:
        self.heat: Heat | None = None
        self.now_s, self.is_busy, self.error = 0.0, True, None
        self.applied: list[int] = []
        settings = {"may_lower": True, **values}
        self.cooling = Cooling(
            lambda: self.heat,
            4,
            lambda: self.is_busy,
            self._changed,
            clock=lambda: self.now_s,
            **settings,
        )

    async def _changed(self) -> None:
        self.applied.append(self.cooling.threads)
        raise EngineDown("It starts.")

    async def stays(self, heat: Heat | None, seconds: int) -> None:
        self.heat = heat
        for _ in range(seconds):
            self.now_s += 1
            await self.cooling.tick()

    async def rises(self, start_c: float, rate_c: float, seconds: int, point_c: float) -> None:
        for second in range(seconds):
            await self.stays(Heat("coretemp", start_c + rate_c * second, point_c), 1)


def test_each_step_is_applied_logged_and_counted() -> None:
    async def work() -> None:
        machine = Machine()
        with logged() as lines:
            await machine.rises(60.0, 0.5, 80, 100.0)
            assert machine.applied == [3, 2, 1]
            assert machine.cooling.steps_back == 3
            await machine.stays(Heat("coretemp", 60.0, 100.0), 200)
        assert machine.applied == [3, 2, 1, 2, 3, 4]
        assert machine.cooling.steps_back == 3
        assert lines[0].startswith("WARNING coretemp is at ")
        assert "throttles at 100 °C, in " in lines[0]
        assert lines[0].rstrip().endswith("s. 3 of 4 threads compute.")
        assert lines[-1].rstrip() == "INFO It is cool enough for 4 threads again, after 3."

    run(work())


def test_the_first_step_comes_before_the_point() -> None:
    async def work() -> None:
        machine = Machine()
        for second in range(200):
            temperature_c = 60.0 + 0.3 * second
            await machine.stays(Heat("coretemp", temperature_c, 100.0), 1)
            if machine.applied:
                break
        assert 92 < temperature_c < 98
        status = machine.cooling.status()
        assert status["lowered"] == {"num_threads": 3}
        assert status["is_controlled"] is True

    run(work())


def test_what_is_said() -> None:
    async def work() -> None:
        machine = Machine()
        nothing = machine.cooling.status()
        assert nothing == {
            "sensor": None,
            "temperature_c": None,
            "throttles_at_c": None,
            "pressure": None,
            "seconds_until_throttling": None,
            "is_controlled": True,
            "lowered": {},
            "steps_back": 0,
        }
        machine.is_busy = False
        await machine.rises(50.0, 0.5, 61, 100.0)
        told = machine.cooling.status()
        assert (told["sensor"], told["temperature_c"]) == ("coretemp", 80.0)
        assert told["seconds_until_throttling"] == pytest.approx(40.0, abs=0.5)
        assert machine.cooling.warning() == ""
        assert told["lowered"] == {}, "nothing is spoken"
        await machine.stays(Heat("coretemp", 101.0, 100.0), 3)
        assert machine.cooling.status()["seconds_until_throttling"] == 0.0
        assert machine.cooling.warning() == "coretemp is at 101 °C and throttles from 100 °C on."
        await machine.stays(Heat("thermal pressure", pressure=2), 1)
        assert machine.cooling.warning() == "macOS tells of thermal pressure (level 2)."
        assert machine.cooling.status()["pressure"] == 2
        await machine.stays(Heat("thermal zone A", 90.0, pressure=1), 1)
        said = "Windows lowers the clock for thermal zone A (level 1)."
        assert machine.cooling.warning() == said

    run(work())


def test_the_users_throttling_point_counts_in_place_of_the_sensors() -> None:
    async def work() -> None:
        machine = Machine(throttles_at_c=70.0)
        await machine.stays(Heat("k10temp", 69.0), 10)
        assert machine.cooling.status()["throttles_at_c"] == 70.0
        assert machine.applied
        zone = Machine(throttles_at_c=70.0)
        await zone.stays(Heat("thermal zone A", 69.0, pressure=0), 10)
        assert (zone.cooling.status()["pressure"], zone.applied) == (None, machine.applied)
        machine = Machine(throttles_at_c=95.0)
        await machine.stays(Heat("coretemp", 69.0, 70.0), 10)
        assert machine.applied == []

    run(work())


@pytest.mark.parametrize("heat", [Heat("coretemp", 99.0, 100.0), Heat("p", pressure=3)])
def test_switched_off_or_on_a_gpu_it_only_predicts(heat: Heat) -> None:
    async def work() -> None:
        machine = Machine(may_lower=False)
        await machine.stays(heat, 300)
        assert machine.applied == []
        assert machine.cooling.threads == 4
        assert machine.cooling.status()["is_controlled"] is False

    run(work())


def test_a_sensor_that_is_stuck_is_told_once() -> None:
    async def work() -> None:
        machine = Machine()
        with logged("WARNING") as lines:
            await machine.stays(Heat("coretemp", 127.0, 100.0), 2000)
        assert machine.applied == [3, 2, 1, 4]
        assert [line for line in lines if "is not believed" in line] == [
            "WARNING coretemp tells the same whatever is done and is not believed: "
            "all 4 threads compute.\n"
        ]

    run(work())


def test_it_looks_by_itself_until_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK_S", 0.0)

    async def work() -> None:
        looks = asyncio.Semaphore(0)
        machine = Machine()

        def heat() -> Heat | None:
            looks.release()
            return None

        machine.cooling._heat = heat
        machine.cooling.start()
        for _ in range(3):
            await looks.acquire()
        await machine.cooling.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await machine.cooling.close()

    run(work())


# -- the whole server, its worker scripted ---------------------------------------------------------


def backend_of(http: httpx.AsyncClient) -> SmartBackend:
    backend: SmartBackend = http._transport.app.state.backend  # type: ignore[attr-defined]
    return backend


async def heated(backend: SmartBackend, temperature_c: float, seconds: int) -> None:
    """So many seconds with that temperature, one look each."""
    cooling = backend.lane.cooling
    await cooling.close()
    start_s = cooling._clock()
    for second in range(1, seconds + 1):
        cooling._clock = lambda at_s=start_s + second: at_s  # type: ignore[misc]
        cooling._heat = lambda: Heat("coretemp", temperature_c, 100.0)
        await cooling.tick()


def test_a_hot_machine_speaks_with_fewer_threads_and_says_so(tmp_path: Path) -> None:
    log = tmp_path / "messages"

    async def work() -> None:
        async with client({"log_file": str(log)}, num_threads=2) as http:
            backend = backend_of(http)
            async with backend.speak(SpeechRequest("r", "wait", client="another")):
                await heated(backend, 99.0, 10)
            assert log.read_text().split().count("Configure") == 1
            status = (await http.get("/system-status")).json()
            assert status["thermal"]["lowered"] == {"num_threads": 1}
            assert status["thermal"]["steps_back"] == 1
            told = (await http.get("/hardware")).json()
            assert told["running_configuration"]["num_threads"] == 1
            assert told["selected_configuration"]["num_threads"] == 2
            spoken = await http.post("/tts", data={"text": "Hello."})
            assert spoken.status_code == 200
            metrics = (await http.get("/metrics")).json()
            assert metrics["thermal"] == {"level": 1, "steps_back": 1}
            text = (await http.get("/metrics/prometheus")).text
            assert "shoal_thermal_steps_back_total 1.0" in text
            assert "shoal_thermal_level 1.0" in text
            command = worker_command(backend.settings, backend.plan, backend.lane.config)
            assert '"num_threads":1,' in command[-1], "a worker that starts now has one too"
            await heated(backend, 60.0, 90)
            assert log.read_text().split().count("Configure") == 2
            told = (await http.get("/hardware")).json()
            assert told["running_configuration"]["num_threads"] == 2

    run(work())


def test_heat_and_pressure_do_not_undo_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = MachineUsage.resources
    cpu_pct = [20.0]

    def resources(live: MachineUsage) -> dict[str, Any]:
        return measured(live) | {
            "memory_percent": 20.0,
            "cpu_percent": cpu_pct[0],
            "temperatures_c": {},
        }

    monkeypatch.setattr(MachineUsage, "resources", resources)

    async def threads(http: httpx.AsyncClient) -> int:
        told = (await http.get("/hardware")).json()
        number: int = told["running_configuration"]["num_threads"]
        return number

    async def work() -> None:
        async with client(num_threads=2) as http:
            backend = backend_of(http)
            async with backend.speak(SpeechRequest("r", "wait", client="another")):
                await heated(backend, 99.0, 10)
            assert await threads(http) == 1
            told = (await http.post("/optimize-for-hardware")).json()
            assert (told["status"], told["new_config"]["num_threads"]) == ("adjusted", 1)
            cpu_pct[0] = 95.0
            await http.post("/optimize-for-hardware")
            await heated(backend, 60.0, 90)
            assert await threads(http) == 1, "the CPU is still maxed"
            cpu_pct[0] = 20.0
            told = (await http.post("/optimize-for-hardware")).json()
            assert (told["status"], told["new_config"]["num_threads"]) == ("optimal", 2)

    run(work())


def test_heat_that_is_to_come_is_a_risk_with_its_reason() -> None:
    async def work() -> None:
        async with client(num_threads=2) as http:
            await heated(backend_of(http), 99.5, 5)
            await heated(backend_of(http), 100.5, 5)
            status = (await http.get("/system-status")).json()
            assert status["throttling_risk"]["thermal_likely"] is True
            reason = status["throttling_risk"]["reasons"][-1]
            assert reason == "coretemp is at 100 °C and throttles from 100 °C on."
            assert status["thermal"]["seconds_until_throttling"] == 0.0
            assert status["recommended_action"] == "Wait for system to cool"

    run(work())


def test_it_can_be_switched_off() -> None:
    async def work() -> None:
        async with client(num_threads=2, thermal_control=False) as http:
            backend = backend_of(http)
            async with backend.speak(SpeechRequest("r", "wait", client="another")):
                await heated(backend, 99.0, 30)
            status = (await http.get("/system-status")).json()
            assert status["thermal"]["lowered"] == {}
            assert status["thermal"]["is_controlled"] is False

    run(work())


def test_a_gpus_own_sensor_counts_and_nothing_is_lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MachineUsage, "heat", lambda live: Heat("RTX 3060", 92.5, 93.0))

    async def work() -> None:
        async with client({"device": "cuda:0"}, found=HARDWARE["rtx_3060_8gb"]) as http:
            await backend_of(http).lane.cooling.tick()
            thermal = (await http.get("/system-status")).json()["thermal"]
            assert (thermal["sensor"], thermal["throttles_at_c"]) == ("RTX 3060", 93.0)
            assert (thermal["is_controlled"], thermal["lowered"]) == (False, {})

    run(work())
