"""The simulation of many replicas: queueing theory's own figures, and the fleet's routing rule."""

import asyncio
import heapq
import math
import random
from collections import Counter
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import simpy

from backend.hardware.memory import Demand
from backend.serving.slots import PendingSlot
from backend.serving.stations import Stations
from benchmarks.simulated import (
    Autoscaler,
    Figures,
    Host,
    Lengths,
    Queue,
    Replica,
    Scaling,
    Sentence,
    arrivals,
    clients,
    soonest,
)

SECONDS = Figures(step_s=1.0, row_step_s=0.0, rows=1)
"""A row at a time, a frame a second: a sentence of n frames takes n seconds."""


def queue_of(*figures: Figures, host: Host | None = None) -> Queue:
    queue = Queue(simpy.Environment())
    for each in figures:
        queue.join(Replica(queue.env, each, host or Host()))
    return queue


def erlang_c(servers: int, load: float) -> float:
    """The share of customers that wait in M/M/c, of `load` = arrivals a second × seconds each."""
    terms = [load**k / math.factorial(k) for k in range(servers)]
    last = load**servers / math.factorial(servers) * servers / (servers - load)
    return last / (sum(terms) + last)


@pytest.mark.parametrize(("servers", "load"), [(1, 0.5), (1, 0.8), (3, 2.4), (8, 6.0)])
def test_waiting_is_that_of_erlang(servers: int, load: float) -> None:
    waits: list[float] = []
    for seed in range(3):
        queue = queue_of(*[SECONDS] * servers)
        lengths: Lengths = lambda chance: chance.expovariate(1.0)  # noqa: E731
        arrivals(queue, lambda _: load, lengths, 15_000 / load, seed)
        queue.env.run()
        told = [each.waited_s for each in queue.spoken]
        assert told == pytest.approx(waits_of(servers, queue.spoken), abs=1e-6)
        waits += told
    share = erlang_c(servers, load)
    assert sum(wait > 1e-6 for wait in waits) / len(waits) == pytest.approx(share, rel=0.1)
    assert sum(waits) / len(waits) == pytest.approx(share / (servers - load), rel=0.3)


def waits_of(servers: int, customers: Sequence[Sentence]) -> list[float]:
    """What each waits by the rule of Kiefer and Wolfowitz: until the first server is free."""
    free_s, waits = [0.0] * servers, []
    for each in customers:
        begun_s = max(heapq.heappop(free_s), each.asked_s)
        waits.append(begun_s - each.asked_s)
        heapq.heappush(free_s, begun_s + each.frames)
    return waits


def test_rows_that_share_a_step_are_a_shared_processor() -> None:
    """With time for rows alone it is M/M/1 with a shared processor: one that is n seconds long
    alone takes n / (1 - load) on average."""
    load = 0.6
    queue = queue_of(Figures(step_s=0.0, row_step_s=1.0, rows=10_000))
    arrivals(queue, lambda _: load, lambda chance: chance.expovariate(1.0), 60_000, seed=2)
    queue.env.run()
    longest = sorted(queue.spoken, key=lambda each: each.frames)[-2000:]
    slowed = sum(each.ended_s - each.asked_s for each in longest) / sum(
        each.frames for each in longest
    )
    assert slowed == pytest.approx(1 / (1 - load), rel=0.05)


def test_a_step_takes_longer_the_more_rows_there_are() -> None:
    figures = Figures(step_s=0.02, row_step_s=0.01, rows=4, first_frames=3)
    queue = queue_of(figures)
    both = [Sentence(10, 0.0), Sentence(20, 0.0)]
    for each in both:
        queue.ask(each)
    queue.env.run()
    assert [each.first_s for each in both] == pytest.approx([0.12, 0.12])
    assert [each.ended_s for each in both] == pytest.approx([0.4, 0.4 + 10 * 0.03])
    assert figures.frames_per_s(2) == pytest.approx(50)


def test_replicas_of_one_machine_share_its_cores() -> None:
    """Two want two cores and what serves them half a one, where there are two: each has 0.8."""
    host = Host(cores=2.0, serving_s_per_frame=0.25)
    queue = queue_of(SECONDS, SECONDS, host=host)
    for _ in range(2):
        queue.ask(Sentence(8, 0.0))
    queue.env.run()
    assert [each.ended_s for each in queue.spoken] == pytest.approx([10.0, 10.0])


def test_a_client_asks_again_once_it_has_heard_all() -> None:
    queue = queue_of(Figures(step_s=0.1, row_step_s=0.0, rows=8))
    clients(queue, 4, lambda _: 9.0, until_s=10.0, delay_s=0.1, seed=0)
    queue.env.run()
    assert len(queue.spoken) == 4 * 10
    assert {round(each.ended_s - each.asked_s, 6) for each in queue.spoken} == {1.0}


# -- what it has of the server ---------------------------------------------------------------------


class Lane:
    """A station as the queue of the server sees it."""

    is_able, elsewhere = True, 0

    def __init__(self, replica: Replica, at_work: int, voices: set[int]) -> None:
        self.rows, self.rtf = replica.figures.rows, replica.figures.rtf
        self.memory = SimpleNamespace(lease=lambda _: "a lease")
        self.at_work = at_work
        self.has_voice = voices.__contains__


def test_a_sentence_goes_where_the_servers_queue_sends_it() -> None:
    async def compare() -> None:
        chance, placed = random.Random(3), 0
        for _ in range(2000):
            stations, lanes, queue = Stations(), [], Queue(simpy.Environment())
            for _ in range(chance.randint(1, 5)):
                figures = Figures(1.0, 0.0, chance.randint(1, 6), rtf=chance.choice([0.1, 0.3]))
                replica = Replica(queue.env, figures, Host())
                at_work = chance.randint(0, figures.rows)
                voices = {voice for voice in range(3) if chance.random() < 0.4}
                for voice in voices:
                    replica.begin(Sentence(1.0, 0.0, voice))
                replica.at_work = [Sentence(1.0, 0.0) for _ in range(at_work)]
                queue.replicas.append(replica)
                lanes.append(Lane(replica, at_work, voices))
                lane: Any = lanes[-1]
                stations.join(lane, rows=figures.rows, most_rows=figures.rows, characters_per_s=1.0)
            wish = chance.choice([None, 0, 1, 2])
            granted = asyncio.get_running_loop().create_future()
            held: Any = Counter({(lane, "speak"): lane.at_work for lane in lanes})
            there = stations.place(PendingSlot(Demand(1, 1), "speak", wish, granted), held)
            ours = soonest(queue.replicas, wish)
            assert (there is None) == (ours is None)
            if there is not None and ours is not None:
                placed += 1
                station: Any = there[0]
                assert lanes.index(station) == queue.replicas.index(ours)
        assert placed > 1000

    asyncio.run(compare())


def test_replicas_come_after_their_start_and_go_once_they_are_done() -> None:
    queue = Queue(simpy.Environment())
    figures = Figures(step_s=0.1, row_step_s=0.0, rows=4)
    scaling = Scaling(1, 3, cold_start_s=5.0, up_after_s=2.0, down_after_s=4.0)
    scaler = Autoscaler(queue, figures, scaling)
    for _ in range(12):
        queue.ask(Sentence(200, 0.0))  # 20 s each, four at a time
    queue.env.run(until=60)
    assert scaler.counted[:6] == [1, 1, 1, 3, 3, 3]  # those that start count
    begun = sorted({round(each.begun_s, 3) for each in queue.spoken})
    assert begun == [0.0, 7.0]  # two seconds until it is believed, five to start
    assert all(each.ended_s == pytest.approx(each.begun_s + 20) for each in queue.spoken)
    assert len(queue.replicas) == scaler.counted[-1] == 1
