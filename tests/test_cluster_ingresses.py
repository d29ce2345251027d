"""Several ingresses before the same replicas, each with a queue of its own."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from backend.cluster import engine as engine_module
from backend.cluster.exposition import told_by
from backend.cluster.told import Pressure
from backend.cluster.wire import asking
from tests.replicas import LocalReplicas, ingresses, run, until
from tests.scripted import speak

TEXT = {"text": "Hello there."}
WAIT = {"text": "wait"}
"""Speaks until it is given up."""


async def give_up(*posts: "asyncio.Task[Any]") -> None:
    for post in posts:
        post.cancel()
    await asyncio.gather(*posts, return_exceptions=True)


def test_rows_of_a_replica_are_given_once_and_in_turns() -> None:
    async def work() -> None:
        async with ingresses(2, {}, max_batch=4, max_batch_per_client=16) as (replicas, fronts):
            (first, of_first), (second, of_second) = fronts
            await until(lambda: of_first.admission.queues == of_second.admission.queues == 2)
            engine = replicas.engines["r0"]
            spoken = engine._fleet.admission  # what the replica itself has given
            greedy = [asyncio.create_task(first.post("/tts", data=WAIT)) for _ in range(6)]
            await until(lambda: spoken.speaking == 4)
            modest = [asyncio.create_task(second.post("/tts", data=WAIT)) for _ in range(2)]
            await until(lambda: spoken.waiting == 2)
            assert spoken.speaking == 4, "no row more than the replica has"
            await until(lambda: of_first.lanes[0].elsewhere == 2)
            # Two of the first end: theirs are the rows, not those that wait in its own queue.
            at_work = [post for post in greedy if not post.done()][:4]
            await give_up(*at_work[:2])
            await until(lambda: spoken.waiting == 0)
            assert engine.report("i0").elsewhere == engine.report("i1").elsewhere == 2
            assert of_first.admission.waiting == 2
            await give_up(*modest)
            await until(lambda: spoken.speaking == 4)  # what nobody else wants is one's own
            assert of_first.admission.waiting == 0
            await give_up(*greedy)
            await until(lambda: spoken.speaking == 0)
            both = await asyncio.gather(*(http.post("/tts", data=TEXT) for http, _ in fronts))
            assert {answer.status_code for answer in both} == {200}

    run(work())


def test_who_has_sent_more_than_fits_waits_for_the_turn_of_the_other() -> None:
    async def heard(replicas: LocalReplicas, text: str, number: int) -> None:
        async with aclosing(replicas.ask("r0", asking(speak(text, f"s{number}")))) as answer:
            async for _ in answer:
                pass

    async def work() -> None:
        async with ingresses(1, {}, max_batch=1) as (replicas, _):
            spoken = replicas.engines["r0"]._fleet.admission
            greedy = [asyncio.create_task(heard(replicas, "wait", n)) for n in range(3)]
            await until(lambda: (spoken.speaking, spoken.waiting) == (1, 2))
            modest = asyncio.create_task(heard(replicas.as_of("i1"), "Hello there.", 3))
            await until(lambda: spoken.waiting == 3)
            # The first was served before the other came; its next is, once, and then the other.
            await give_up(greedy[0])
            await until(lambda: (spoken.speaking, spoken.waiting) == (1, 2))
            await give_up(greedy[1])
            await asyncio.wait_for(modest, 20.0)
            await give_up(greedy[2])

    run(work())


def test_a_replica_that_others_fill_is_gone_around() -> None:
    async def work() -> None:
        async with ingresses(2, {}, {}, max_batch=8, max_batch_per_client=32) as (_, fronts):
            (first, of_first), (second, of_second) = fronts
            await until(lambda: len(of_first.lanes) == len(of_second.lanes) == 2)
            await until(lambda: of_first.admission.queues == 2)
            posts = [asyncio.create_task(first.post("/tts", data=WAIT))]
            await until(lambda: sum(lane.elsewhere for lane in of_second.lanes) == 1)
            free = next(lane for lane in of_second.lanes if not lane.elsewhere)
            posts.append(asyncio.create_task(second.post("/tts", data=WAIT)))
            await until(lambda: of_second.admission.at_work(free) == 1)
            await give_up(*posts)

    run(work())


def test_bounds_of_a_queue_are_shared_out() -> None:
    async def work() -> None:
        told: dict[str, Any] = {"max_batch": 4, "max_batch_per_client": 2, "queue_limit": 4}
        async with ingresses(2, {}, **told) as (_, ((first, fleet), (_, other))):
            await until(lambda: fleet.admission.queues == other.admission.queues == 2)
            posts = [asyncio.create_task(first.post("/tts", data=WAIT)) for _ in range(4)]
            await until(lambda: fleet.admission.waiting == 3)  # of a client one at work, not two
            assert (await first.post("/tts", data=TEXT)).status_code == 503
            await give_up(*posts)

    run(work())


def test_the_autoscaler_hears_of_all_that_tell_and_of_none_that_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def work() -> None:
        async with ingresses(2, {}, max_batch=4) as (replicas, fronts):
            (first, fleet), (second, _) = fronts
            engine = replicas.engines["r0"]
            await until(lambda: len(engine.report("").ingresses) == 2)
            posts = [
                asyncio.create_task(http.post("/tts", data=WAIT)) for http in (first, first, second)
            ]
            await until(lambda: engine.stats()["inside"] == 3.0)
            engine.take(Pressure("a third", 5, 2.5))
            assert (engine.stats()["inside"], engine.stats()["wait_s"]) == (8.0, 2.5)
            other = {"ingress": "i1", "inside": 1, "wait_s": 0.0}
            await until(lambda: other in fleet.beside()["ingresses"])
            told = (await first.get("/system-status")).json()
            assert (told["ingress"], other in told["ingresses"]) == ("i0", True)
            await give_up(*posts)
            monkeypatch.setattr(engine_module, "PRESSURE_S", 0.0)
            assert engine.stats()["inside"] == 0.0

    run(work())


def test_each_sentence_of_both_is_spoken_though_their_replica_dies() -> None:
    async def work() -> None:
        async with ingresses(2, {}, {}) as (replicas, fronts):
            await until(lambda: all(len(fleet.lanes) == 2 for _, fleet in fronts))
            dying = replicas.engines["r1"]
            slow = {"text": "slow"}
            posts = [
                asyncio.create_task(http.post("/tts", data=slow))
                for http, _ in fronts
                for _ in range(4)
            ]
            await until(lambda: all(dying.report(name).elsewhere for name in ("i0", "i1")))
            await replicas.kill("r1")
            answers = await asyncio.gather(*posts)
            assert {answer.status_code for answer in answers} == {200}
            assert len({len(answer.content) for answer in answers}) == 1

    run(work())


def test_what_each_tells_is_one_text_with_their_names() -> None:
    text = b"""# HELP shoal_requests_total Requests by how they ended.
# TYPE shoal_requests_total counter
shoal_requests_total{outcome="success"} 3.0
# HELP shoal_queue_depth Requests that wait.
# TYPE shoal_queue_depth gauge
shoal_queue_depth 2.0
"""
    found = {
        family.name: {tuple(sorted(each.labels.items())): each.value for each in family.samples}
        for family in text_string_to_metric_families(told_by({"a": text, "b": text}, 1).decode())
    }
    assert found["shoal_requests"] == {
        (("ingress", name), ("outcome", "success")): 3.0 for name in "ab"
    }
    assert found["shoal_queue_depth"] == {(("ingress", name),): 2.0 for name in "ab"}
    assert found["shoal_ingresses"] == {(("metrics", "told"),): 2, (("metrics", "missing"),): 1}
