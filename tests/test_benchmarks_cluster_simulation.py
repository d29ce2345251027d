"""A replica's figures are found in runs of one, and runs of two follow from them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import simpy

from benchmarks.cluster_simulation import (
    KINDS,
    LEAST_SHARE,
    WITHIN,
    as_sentences,
    most_listeners,
    sentences_of,
    simulated,
    told,
)
from benchmarks.fitted import Run, alone, fitted, share_of_core, spent_beside
from benchmarks.simulated import Figures, Host, Queue, Replica, clients

MACHINES = Path(__file__).parent / "machines"
RECORDED = MACHINES / "two_workers.jsonl"
"""What `python -m benchmarks.workers --record` kept of the shipped voice on two cores."""
SPARE = MACHINES / "two_workers_of_sixteen_cores.jsonl"
"""And on sixteen, of the plain server and under Ray Serve."""


def run_of(figures: Figures, clients: int, workers: int = 1, rows: int = 16) -> Run:
    """What `benchmarks.workers --record` would keep of replicas with these figures."""
    serving = {"server_cpu_pct": 5.0, "clients_cpu_pct": 1.0, "frames_per_s": 600.0}
    busy = {"worker_cpu_pct": 100.0, "machine_cpu_pct": 106.0}
    asked: Run = {
        **serving,
        **busy,
        "workers": workers,
        "rows": rows,
        "clients": clients,
        "answers": [{"frames": frames, "began_s": 20.0} for frames in (80, 120, 160)],
    }
    spoken = simulated(asked, figures, 0.0, cores=8.0)
    answers = [
        {
            "began_s": each.asked_s,
            "first_s": each.first_s,
            "ended_s": each.ended_s,
            "queue_s": each.begun_s - each.asked_s,
            "frames": each.frames,
        }
        for each in spoken
    ]
    return {**asked, "answers": answers}


def test_the_figures_of_a_replica_are_found_in_its_runs() -> None:
    true = Figures(step_s=0.008, row_step_s=0.0015, rows=16, first_frames=3.0)
    runs = [run_of(true, clients) for clients in (2, 6, 16)]
    found, host = fitted(runs)
    assert found.step_s == pytest.approx(true.step_s, rel=0.02)
    assert found.row_step_s == pytest.approx(true.row_step_s, rel=0.02)
    assert found.first_frames == pytest.approx(true.first_frames, rel=0.15)
    assert host.serving_s == pytest.approx(0.06 / 600)


def test_time_is_told_apart_by_how_many_speak() -> None:
    answers = [
        {"began_s": 0.0, "queue_s": 1.0, "ended_s": 5.0},
        {"began_s": 2.0, "queue_s": 0.0, "ended_s": 4.0},
        {"began_s": 3.0, "queue_s": 0.0, "ended_s": 9.0},
    ]
    run: Run = {"answers": answers}
    assert spent_beside(answers[0], run) == pytest.approx([1.0, 2.0, 1.0])
    assert spent_beside(answers[2], run) == pytest.approx([4.0, 1.0, 1.0])


@pytest.mark.parametrize(("recorded", "cores"), [(RECORDED, 2.0), (SPARE, 32.0)])
def test_two_workers_are_what_was_measured(recorded: Path, cores: float) -> None:
    runs: list[Run] = [json.loads(line) for line in recorded.read_text("utf-8").splitlines()]
    figures, host = fitted(alone(runs))
    several = [run for run in runs if run["workers"] > 1 and share_of_core(run) >= LEAST_SHARE]
    assert several
    for run in several:
        last_s = max(each["began_s"] for each in run["answers"])
        between = (last_s - run["seconds"], last_s)
        rate_hz = KINDS["cpu"].frame_rate_hz
        there = told(as_sentences(run), *between, rate_hz)
        here = told(simulated(run, figures, host.serving_s, cores), *between, rate_hz)
        for name in ("frames_per_s", "rtf_p50"):
            assert here[name] == pytest.approx(there[name], rel=WITHIN), (run["rows"], name)


def test_the_figures_of_a_cpu_are_those_that_were_recorded() -> None:
    runs: list[Run] = [json.loads(line) for line in RECORDED.read_text("utf-8").splitlines()]
    found, _ = fitted(alone(runs))
    kept = KINDS["cpu"].figures
    assert kept.step_s == pytest.approx(found.step_s, rel=0.02)
    assert kept.row_step_s == pytest.approx(found.row_step_s, rel=0.02)


@pytest.mark.parametrize(
    ("asking", "frames_per_s", "first_ms"), [(64, 10_439, 45), (256, 11_961, 68)]
)
def test_an_h100_is_what_was_measured(asking: int, frames_per_s: int, first_ms: int) -> None:
    """MDs/BENCHMARKS.md, "The engine on a GPU": each client had a row."""
    kind = KINDS["h100"]
    queue = Queue(simpy.Environment())
    queue.join(Replica(queue.env, replace(kind.figures, rows=256), Host()))
    clients(queue, asking, sentences_of(kind), 30.0, kind.figures.delay_s, seed=0)
    queue.env.run()
    heard = told(queue.spoken, 10.0, 30.0, kind.frame_rate_hz)
    assert heard["frames_per_s"] == pytest.approx(frames_per_s, rel=0.03)
    assert heard["first_audio_p50_ms"] == pytest.approx(first_ms, rel=0.3)


def on_gpus(clients: int, workers: int = 1) -> Run:
    """As `benchmarks.workers --record` on a machine of 32 cores, of which others take four: workers
    wait for their GPUs for a third of the time."""
    figures = Figures(step_s=0.001, row_step_s=0.0001, rows=64, first_frames=3.0)
    ours = {"worker_cpu_pct": 65.0 * workers, "machine_cpu_pct": 65.0 * workers + 406.0}
    run = run_of(figures, clients, workers, rows=64)
    return {**run, **ours, "devices": [f"cuda:{n}" for n in range(workers)], "cores": 32}


def test_workers_on_gpus_are_checked_as_others_are() -> None:
    found, host = fitted([on_gpus(clients) for clients in (4, 16, 64)])
    assert found.row_step_s == pytest.approx(0.0001, rel=0.05)
    run = on_gpus(64, workers=2)
    assert share_of_core(run) >= LEAST_SHARE
    spoken = simulated(run, found, host.serving_s, cores=2.0)  # it says that it had more
    assert len(spoken) == pytest.approx(len(run["answers"]), rel=WITHIN)


def test_more_cores_than_there_are_cannot_be_taken() -> None:
    run = on_gpus(4)
    del run["cores"]
    with pytest.raises(SystemExit, match=r"4\.0 cores .* machine of 2: --cores"):
        simulated(run, Figures(0.001, 0.0001, rows=64), 0.0, cores=2.0)


def test_twice_the_replicas_speak_to_twice_the_listeners_and_a_few_more() -> None:
    kind = replace(KINDS["cpu"], figures=Figures(0.005, 0.002, rows=8, first_frames=3))
    one, _ = most_listeners(kind, 1, first_ms=500, seconds=200)
    two, heard = most_listeners(kind, 2, first_ms=500, seconds=200)
    assert 2 * one <= two <= 2 * kind.figures.frames_per_s(8) / kind.frame_rate_hz
    assert heard["first_audio_p95_ms"] <= 500 and heard["rtf_p95"] <= 1.0
