"""The cluster without Ray: the app in front of replicas that come, die and go."""

import asyncio
import sys
from dataclasses import replace

import pytest

import backend.cluster
from backend.cluster.allotted import kinds_in, settings_for
from backend.errors import BadSetting
from tests.replicas import cluster, leave, run, until
from tests.scripted import settings

TEXT = {"text": "Hello there."}


def test_both_speak_and_are_shown_everywhere() -> None:
    async def work() -> None:
        async with cluster({}, {}) as (http, _, fleet):
            await until(lambda: len(fleet.lanes) == 2)
            answers = await asyncio.gather(*(http.post("/tts", data=TEXT) for _ in range(8)))
            assert {answer.status_code for answer in answers} == {200}
            assert not any("X-Worker-Start-Ms" in answer.headers for answer in answers)
            status = (await http.get("/system-status")).json()["workers"]
            assert {each["replica"] for each in status} == {"r0", "r1"}
            assert {each["state"] for each in status} == {"ready"}
            assert len({each["pid"] for each in status}) == 2
            assert {each["memory_ladder"]["level"] for each in status} == {0}
            text = (await http.get("/metrics/prometheus")).text
            for number in ("0", "1"):
                where = f'device="cpu",node="n{number}",replica="r{number}",worker="{number}"'
                assert f"shoal_each_worker_up{{{where}}} 1.0" in text
            workers = (await http.get("/metrics")).json()["workers"]
            assert [(each["replica"], each["rows"]) for each in workers] == [("r0", 16), ("r1", 16)]

    run(work())


def test_one_that_dies_costs_no_sentence() -> None:
    async def work() -> None:
        async with cluster({}, {}) as (http, replicas, fleet):
            await until(lambda: len(fleet.lanes) == 2)
            slow = {"text": "slow"}
            posts = [asyncio.create_task(http.post("/tts", data=slow)) for _ in range(8)]
            lane = next(each for each in fleet.lanes if fleet.number(each) == 1)
            await until(lambda: fleet.admission.at_work(lane) > 0)
            await replicas.kill("r1")
            answers = await asyncio.gather(*posts)
            assert {answer.status_code for answer in answers} == {200}
            assert len({len(answer.content) for answer in answers}) == 1
            await until(lambda: len(fleet.lanes) == 1)

    run(work())


def test_one_that_is_to_end_finishes_what_it_speaks_and_gets_nothing_more() -> None:
    async def work() -> None:
        async with cluster({}, {}) as (http, replicas, fleet):
            await until(lambda: len(fleet.lanes) == 2)
            leaving = next(each for each in fleet.lanes if fleet.number(each) == 0)
            assert {lane.name for lane in fleet.lanes} == {"r0", "r1"}  # in the log of requests
            slow = {"text": "slow"}
            posts = [asyncio.create_task(http.post("/tts", data=slow)) for _ in range(4)]
            await until(lambda: leaving.worker.is_at_work)
            replicas.leave("r0")
            await until(lambda: len(fleet.lanes) == 1)
            assert leaving.worker.is_at_work
            posts += [asyncio.create_task(http.post("/tts", data=TEXT)) for _ in range(4)]
            answers = await asyncio.gather(*posts)
            assert {answer.status_code for answer in answers} == {200}
            assert replicas.given_up == 0
            await until(lambda: leaving.worker.state.phase == "stopped")
            assert fleet.lead.worker.state.phase == "ready"
            text = (await http.get("/metrics/prometheus")).text
            assert 'replica="r1"' in text and 'replica="r0"' not in text

    run(work())


def test_the_next_request_has_one_started_where_there_is_none_and_is_told() -> None:
    async def work() -> None:
        async with cluster({}) as (http, replicas, fleet):
            await until(lambda: fleet.lead.is_able)
            assert "X-Worker-Start-Ms" not in (await http.post("/tts", data=TEXT)).headers
            replicas.leave("r0")
            await replicas.kill("r0")
            await until(lambda: fleet.lead.worker.state.phase == "unloaded")
            assert (await http.get("/health")).json()["worker"]["state"] == "unloaded"
            answers = await asyncio.gather(*(http.post("/tts", data=TEXT) for _ in range(3)))
            assert {answer.status_code for answer in answers} == {200}
            assert all(float(each.headers["X-Worker-Start-Ms"]) > 0 for each in answers)
            assert replicas.woken == 1

    run(work())


def test_the_only_one_that_dies_is_followed_by_another_which_speaks_it_all() -> None:
    async def work() -> None:
        async with cluster({}) as (http, replicas, fleet):
            await until(lambda: fleet.lead.is_able)
            posts = [asyncio.create_task(http.post("/tts", data={"text": "slow"})) for _ in "12"]
            await until(lambda: fleet.lead.worker.is_at_work)
            await replicas.kill("r0")
            answers = await asyncio.gather(*posts)
            assert {answer.status_code for answer in answers} == {200}

    run(work())


def test_a_client_that_leaves_is_given_up_in_the_worker() -> None:
    async def work() -> None:
        async with cluster({}) as (http, replicas, fleet):
            await leave(http, replicas, fleet)
            await until(lambda: not fleet.lead.worker.is_at_work)
            assert (await http.post("/tts", data=TEXT)).status_code == 200

    run(work())


def test_one_that_does_not_answer_is_passed_over_until_it_does() -> None:
    async def work() -> None:
        async with cluster({}, {}, worker_silent_s=1.0) as (http, replicas, fleet):
            await until(lambda: len(fleet.lanes) == 2)
            lane = next(each for each in fleet.lanes if fleet.number(each) == 0)
            replicas.mute.add("r0")
            await until(lambda: lane.worker.state.phase == "silent")
            assert not lane.is_able
            assert (await http.post("/tts", data=TEXT)).status_code == 200
            replicas.mute.clear()
            await until(lambda: lane.is_able)

    run(work())


def test_what_waits_is_told_to_the_autoscaler() -> None:
    async def work() -> None:
        async with cluster({}, max_batch=1) as (http, replicas, fleet):
            await until(lambda: fleet.lead.is_able)
            posts = [asyncio.create_task(http.post("/tts", data={"text": "slow"})) for _ in "1234"]
            await until(lambda: any(each.inside == 4 for each in replicas.pressures))
            told = replicas.engines["r0"].stats()
            assert (told["rows"], told["inside"]) == (1.0, 4.0)
            await asyncio.gather(*posts)
            await until(lambda: replicas.engines["r0"].stats()["inside"] == 0.0)

    run(work())


def test_caches_are_cleared_in_every_replica() -> None:
    async def work() -> None:
        async with cluster({}, {}) as (http, _, fleet):
            await until(lambda: len(fleet.lanes) == 2)
            answer = await http.post("/optimize-for-hardware")
            assert answer.status_code == 200, answer.text
            assert await fleet.clear_caches() >= 0

    run(work())


def test_hardware_tells_each_replica_and_each_of_their_machines() -> None:
    async def work() -> None:
        async with cluster({}, {}) as (http, replicas, fleet):
            await until(lambda: len(fleet.lanes) == 2)
            told = (await http.get("/hardware")).json()
            each = told["workers"]["each"]
            assert (told["workers"]["count"], [one["worker"] for one in each]) == (2, [0, 1])
            assert [(one["replica"], one["node"]) for one in each] == [("r0", "n0"), ("r1", "n1")]
            assert {one["device"] for one in each} == {"cpu"}
            assert set(told["machines"]) == {"n0", "n1"}
            assert told["machines"]["n1"]["cpu"] == told["hardware_profile"]["cpu"]
            for name in ("r0", "r1"):
                replicas.leave(name)
                await replicas.kill(name)
            await until(lambda: fleet.lead.worker.state.phase == "unloaded")
            told = (await http.get("/hardware")).json()
            assert (told["workers"]["count"], told["workers"]["each"]) == (0, [])
            assert told["machines"] == {}

    run(work())


def test_what_would_be_done_on_the_ingress_machine_is_refused() -> None:
    async def work() -> None:
        async with cluster({}, {}) as (http, _, fleet):
            await until(lambda: len(fleet.lanes) == 2)
            answer = await http.post("/optimize-for-hardware?measure=true")
            assert answer.status_code == 422
            assert "run `shoal tune` on each of their machines" in answer.json()["detail"]
            forced = {**TEXT, "force_cpu": "true"}
            assert (await http.post("/tts", data=forced)).status_code == 200, "all are on CPUs"
            lane = fleet.lanes[1]
            lane.deployment = replace(lane.deployment, plan=replace(lane.plan, device_uuid="GPU-1"))
            answer = await http.post("/tts", data=forced)
            assert answer.status_code == 422
            assert "have replicas on CPUs alone" in answer.json()["detail"]

    run(work())


def test_a_replica_computes_with_the_cores_that_it_was_given() -> None:
    told = settings_for(settings(), cpus=2.0, cpus_of_node=16.0)
    assert (told.num_threads, told.cpu_affinity) == (2, "off")
    assert settings_for(settings(num_threads=3), 2.0, 16.0).num_threads == 3
    assert settings_for(settings(), 16.0, 16.0) == settings()


def test_kinds_of_replicas_are_named_one_by_one_and_others_refused() -> None:
    assert (kinds_in("gpu, cpu"), kinds_in("")) == (["gpu", "cpu"], [])
    with pytest.raises(BadSetting, match="tpu is neither cpu nor gpu"):
        kinds_in("gpu,tpu")


def test_without_ray_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "backend.cluster.application", raising=False)
    with pytest.raises(BadSetting, match=r'pip install "shoal-tts\[cluster\]"'):
        _ = backend.cluster.app
