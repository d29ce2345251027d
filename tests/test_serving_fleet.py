"""Several workers behind one server, each a process: shared, killed, unloaded, shown."""

import asyncio
import math
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil

from backend.core import SpeechRequest
from backend.errors import EngineDown
from backend.hardware.deployment import Deployment
from backend.hardware.memory import Demand
from backend.learning.learned import Learned, Model, write_learned
from backend.learning.lessons import read_lessons
from backend.serving.fleet import Fleet
from backend.serving.lane import Lane
from backend.smart_backend import SmartBackend
from tests.scripted import children, client, hardware, settings
from tests.test_hardware_plans_of_machines import HARDWARE
from tests.tiny import tiny_checkpoint

EIGHT_CORES = HARDWARE["amd_ryzen7_5800x"]
TWO_GPUS = HARDWARE["two_gpus"]
TEXT = {"text": "Hello there."}
DEMAND = Demand(100, 100)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)
    assert not children()


def backend_of(http: httpx.AsyncClient) -> SmartBackend:
    backend: SmartBackend = http._transport.app.state.backend  # type: ignore[attr-defined]
    return backend


async def all_ready(fleet: Fleet) -> None:
    await asyncio.gather(*(lane.ready() for lane in fleet.lanes))


def process_of(lane: Lane) -> psutil.Process:
    assert lane.worker.pid is not None
    return psutil.Process(lane.worker.pid)


def test_each_is_a_process_and_is_shown_everywhere() -> None:
    async def work() -> None:
        async with client(found=EIGHT_CORES, workers="2") as http:
            fleet = backend_of(http).fleet
            await all_ready(fleet)
            assert len(children()) == 2
            answers = await asyncio.gather(*(http.post("/tts", data=TEXT) for _ in range(8)))
            assert {answer.status_code for answer in answers} == {200}
            assert not any("X-Worker-Start-Ms" in answer.headers for answer in answers)
            told = (await http.get("/hardware")).json()["workers"]
            assert (told["count"], told["source"]) == (2, "user")
            assert [each["worker"] for each in told["each"]] == [0, 1]
            status = (await http.get("/system-status")).json()["workers"]
            assert [each["state"] for each in status] == ["ready", "ready"]
            pids = {lane.worker.pid for lane in fleet.lanes}
            assert {each["pid"] for each in status} == pids
            assert all(each["memory_ladder"]["level"] == 0 for each in status)
            metrics = (await http.get("/metrics")).json()
            assert [each["worker"] for each in metrics["workers"]] == [0, 1]
            assert metrics["worker"]["ready"] is True
            text = (await http.get("/metrics/prometheus")).text
            for number in ("0", "1"):
                assert f'shoal_each_worker_up{{device="cpu",worker="{number}"}} 1.0' in text

    run(work())


def test_one_alone_is_shown_as_ever_and_as_the_only_one() -> None:
    async def work() -> None:
        async with client(workers="1") as http:
            assert len(children()) == 1
            assert len((await http.get("/system-status")).json()["workers"]) == 1
            assert (await http.get("/hardware")).json()["workers"]["count"] == 1

    run(work())


def test_sentences_are_spoken_side_by_side_by_both() -> None:
    async def work() -> None:
        async with client(found=EIGHT_CORES, workers="2") as http:
            fleet = backend_of(http).fleet
            await all_ready(fleet)
            text = {"text": "Please wait."}
            waiting = [asyncio.create_task(http.post("/tts", data=text)) for _ in range(4)]
            while fleet.admission.speaking < 4:
                await asyncio.sleep(0.01)
            assert [fleet.admission.at_work(lane) for lane in fleet.lanes] == [2, 2]
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    run(work())


def test_of_one_that_dies_under_twenty_requests_none_is_lost() -> None:
    async def work() -> None:
        script = {"pause_s": 0.02}
        async with client(script, found=EIGHT_CORES, workers="2", restart_delay_s=0.05) as http:
            fleet = backend_of(http).fleet
            await all_ready(fleet)
            long = {"text": "Slow and slow. And one more that is slow. The end.", "seed": "3"}
            speaking = [asyncio.create_task(http.post("/tts", data=long)) for _ in range(20)]
            dying, living = fleet.lanes
            while min(map(fleet.admission.at_work, fleet.lanes)) < 3:
                await asyncio.sleep(0.01)
            process_of(dying).kill()
            while dying.is_able:
                await asyncio.sleep(0.01)
            answers = await asyncio.gather(*speaking)
            assert {answer.status_code for answer in answers} == {200}
            assert len({answer.content for answer in answers}) == 1, "nothing of it is missing"
            assert (dying.worker.state.restarts, living.worker.state.restarts) == (1, 0)
            await dying.ready()
            metrics = (await http.get("/metrics")).json()
            assert metrics["worker"]["restarts"] == 1
            assert [each["restarts"] for each in metrics["workers"]] == [1, 0]
            assert metrics["since_start"]["outcomes"]["success"] == 20
            text = (await http.get("/metrics/prometheus")).text
            assert 'shoal_each_worker_restarts_total{device="cpu",worker="0"} 1.0' in text

    run(work())


def test_a_death_takes_only_what_was_heard_of_it() -> None:
    async def work() -> None:
        async with client({"pause_s": 0.02}, found=EIGHT_CORES, workers="2") as http:
            backend = backend_of(http)
            fleet = backend.fleet
            await all_ready(fleet)

            async def listen(number: int) -> int:
                request = SpeechRequest(f"r{number}", "Slow and slow.", is_streamed=True)
                size = 0
                async with backend.speak(request) as session:
                    async for piece in session:
                        size += len(piece.samples)
                        heard[number] = size
                return size

            heard: dict[int, int] = {}
            tasks = [asyncio.create_task(listen(number)) for number in range(4)]
            while len(heard) < 4:
                await asyncio.sleep(0.01)
            process_of(fleet.lanes[0]).kill()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            lost = [end for end in ends if isinstance(end, EngineDown)]
            assert len(lost) == 2, "those that it was speaking"
            assert len({end for end in ends if isinstance(end, int)}) == 1

    run(work())


def test_while_one_is_down_the_others_take_all() -> None:
    async def work() -> None:
        async with client(found=EIGHT_CORES, workers="2") as http:
            fleet = backend_of(http).fleet
            await all_ready(fleet)
            await fleet.lanes[0].worker.close("it is being looked at")
            assert backend_of(http).lane is fleet.lanes[1]
            assert (await http.get("/health")).json()["status"] == "ok"
            assert (await http.get("/health/ready")).status_code == 200
            answers = await asyncio.gather(*(http.post("/tts", data=TEXT) for _ in range(20)))
            assert {answer.status_code for answer in answers} == {200}
            told = (await http.get("/system-status")).json()["workers"]
            assert [each["state"] for each in told] == ["stopped", "ready"]
            assert told[0]["reason"] == "it is being looked at"
            assert (await http.post("/cache/clear")).status_code == 200
            assert (await http.post("/optimize-for-hardware")).status_code == 200
            await fleet.lanes[1].worker.close("so is it")
            assert (await http.post("/tts", data=TEXT)).status_code == 503

    run(work())


def test_a_sentence_that_kills_its_worker_is_given_up_after_three() -> None:
    async def work() -> None:
        async with client(found=EIGHT_CORES, workers="2") as http:
            fleet = backend_of(http).fleet
            await all_ready(fleet)
            deadly = asyncio.create_task(http.post("/tts", data={"text": "It will crash."}))
            answers = await asyncio.gather(*(http.post("/tts", data=TEXT) for _ in range(10)))
            assert {answer.status_code for answer in answers} == {200}
            assert (await deadly).status_code == 503
            while not all(lane.is_able for lane in fleet.lanes):
                await asyncio.sleep(0.01)
            assert sum(lane.worker.state.restarts for lane in fleet.lanes) == 3

    run(work())


def test_one_that_kills_workers_takes_nobody_along() -> None:
    async def work() -> None:
        script = {"pause_s": 0.01}
        async with client(script, found=EIGHT_CORES, workers="2", restart_delay_s=0.05) as http:
            fleet = backend_of(http).fleet
            await all_ready(fleet)
            slow = {"text": "It is slow, and it is long."}
            innocent = [asyncio.create_task(http.post("/tts", data=slow)) for _ in range(12)]
            while min(map(fleet.admission.at_work, fleet.lanes)) < 3:
                await asyncio.sleep(0.01)
            deadly = asyncio.create_task(http.post("/tts", data={"text": "It will crash."}))
            answers = await asyncio.gather(*innocent)
            assert {answer.status_code for answer in answers} == {200}
            assert (await deadly).status_code == 503
            assert 1 <= sum(lane.worker.state.restarts for lane in fleet.lanes) <= 3

    run(work())


def test_a_voice_is_spoken_where_it_was_spoken_before() -> None:
    async def work() -> None:
        async with client(found=EIGHT_CORES, workers="2") as http:
            fleet = backend_of(http).fleet
            await all_ready(fleet)
            voice = {"name": "Anna", "transcript": "Who I am."}
            files = {"audio": ("voice.wav", b"RIFF anna")}
            assert (await http.post("/voices", data=voice, files=files)).status_code == 201
            for _ in range(4):
                answer = await http.post("/tts", data={**TEXT, "voice": "Anna"})
                assert answer.status_code == 200
            spoken = [len(lane._voices._voices) for lane in fleet.lanes]
            assert sorted(spoken) == [0, 1]

    run(work())


def test_they_end_when_nobody_asks_and_the_next_request_starts_them() -> None:
    async def work() -> None:
        async with client(found=EIGHT_CORES, workers="2", unload_after_s=0.1) as http:
            fleet = backend_of(http).fleet
            while {lane.worker.state.phase for lane in fleet.lanes} != {"unloaded"}:
                await asyncio.sleep(0.02)
            assert not children()
            answers = await asyncio.gather(*(http.post("/tts", data=TEXT) for _ in range(4)))
            assert {answer.status_code for answer in answers} == {200}
            assert all(float(answer.headers["X-Worker-Start-Ms"]) > 0 for answer in answers)

    run(work())


def test_a_gpu_that_torch_cannot_use_loses_its_worker_and_the_last_goes_to_the_cpu() -> None:
    async def work() -> None:
        async with client({"device": "cpu"}, found=TWO_GPUS, workers="auto") as http:
            backend = backend_of(http)
            assert len(backend.fleet.lanes) == 1
            assert backend.plan.device.value == "cpu"
            assert (await http.get("/hardware")).json()["workers"]["count"] == 1
            assert (await http.post("/tts", data=TEXT)).status_code == 200
            while len(children()) > 1:
                await asyncio.sleep(0.01)

    run(work())


def test_two_gpus_have_a_worker_each_and_memory_of_their_own() -> None:
    async def work() -> None:
        async with client({"device": "cuda:0"}, found=TWO_GPUS, workers="auto") as http:
            fleet = backend_of(http).fleet
            await all_ready(fleet)
            uuids = [process_of(lane).environ()["CUDA_VISIBLE_DEVICES"] for lane in fleet.lanes]
            assert uuids == [gpu.uuid for gpu in reversed(TWO_GPUS.gpus)]
            assert not any(lane.beside for lane in fleet.lanes)
            assert "cpu" not in fleet.lanes[0].shortage.status()["steps"], "another GPU is there"
            answers = await asyncio.gather(*(http.post("/tts", data=TEXT) for _ in range(8)))
            assert {answer.status_code for answer in answers} == {200}

    run(work())


def test_what_each_takes_is_learned_together_and_foretold_by_its_own_plan(tmp_path: Path) -> None:
    async def work() -> None:
        script, log = {"device": "cuda:0"}, tmp_path / "log"
        values: dict[str, Any] = {"metrics": True, "metrics_dir": log, "data_dir": tmp_path}
        async with client(script, found=TWO_GPUS, workers="auto", **values) as http:
            fleet = backend_of(http).fleet
            await all_ready(fleet)
            first, second = fleet.lanes
            plans = [lane.running_plan.strategy for lane in fleet.lanes]
            assert (await http.post("/tts", data=TEXT)).status_code == 200
            await first.worker.close("it is being looked at")
            assert fleet.lead is second
            assert (await http.post("/tts", data=TEXT)).status_code == 200
            # The last row is written as the server ends.
            engine = "{0.engine}/{0.checkpoint}".format(second.worker.loaded())
            key = await fleet.foresight.open()
            assert fleet.foresight.file.name == "cuda-learned.json"

            usual = [lane.memory.need_bytes(DEMAND) for lane in fleet.lanes]
            of_second = {f"plan={plans[1]}": math.log(3)}
            high = Model(40, of_second, above=0.0, error=0.1, formula_error=0.5)
            write_learned(fleet.foresight.file, Learned(key, since="", models={"memory": high}))
            await fleet.foresight.open()
            assert first.memory.need_bytes(DEMAND) == usual[0]
            assert second.memory.need_bytes(DEMAND) > usual[1]
        lessons = read_lessons(log, engine, "cuda", since="")
        assert [each.case.strategy for each in lessons] == plans

    run(work())


def test_two_real_workers_speak_a_tiny_model_and_survive_a_kill(tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path)

    async def work() -> None:
        values: dict[str, Any] = {"torch_compile": "off", "worker_start_timeout_s": 100.0}
        chosen = settings(model_dir=tmp_path, workers="2", num_threads=1, **values)
        machine = Deployment.look(chosen, hardware())
        async with SmartBackend(chosen, deployment=machine) as backend:
            await backend.ready()
            await all_ready(backend.fleet)
            both = backend.fleet.lanes

            async def say(number: int) -> bytes:
                text = "One sentence here. And there is another."
                request = SpeechRequest(f"r{number}", text)
                request = _seeded(request)
                async with backend.speak(request) as session:
                    return b"".join([piece.samples async for piece in session])

            first = await say(0)
            speaking = [asyncio.create_task(say(number)) for number in range(1, 21)]
            while not all(map(backend.fleet.admission.at_work, both)):
                await asyncio.sleep(0)
            process_of(both[1]).kill()
            spoken = await asyncio.gather(*speaking)
            assert {len(samples) for samples in spoken} == {len(first)}
            await both[1].ready()
            assert both[1].worker.state.restarts == 1
            assert both[0].worker.state.restarts == 0

    run(work())


def _seeded(request: SpeechRequest) -> SpeechRequest:
    return replace(request, sampling=replace(request.sampling, seed=11))
