"""A replica's figures, found in recorded runs of one worker."""

import itertools
import math
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.simulated import Figures, Host

_ALONE = 0.95
Run = dict[str, Any]
"""A line of what `benchmarks.workers --record` keeps."""


def fitted(runs: Sequence[Run]) -> tuple[Figures, Host]:
    """What `runs` of one worker say of it: its step as it depends on the rows, and how long a
    sentence takes beside; and what the server takes of the machine's cores for a frame."""
    shares = [
        [each * share_of_core(run) for each in spent_beside(answer, run)]
        for run in runs
        for answer in run["answers"]
    ]
    frames = np.array([answer["frames"] for run in runs for answer in run["answers"]], float)
    widest = max(len(each) for each in shares)
    spent_s = np.array([np.pad(each, (0, widest - len(each))) for each in shares])
    rows = np.arange(1, widest + 1)
    step_s, row_step_s = 0.01, 0.002
    for _ in range(100):  # Gauss and Newton: frames = sum of seconds / (step + rows * row_step)
        speed = 1 / (step_s + rows * row_step_s)
        slopes = np.stack([-spent_s @ speed**2, -spent_s @ (rows * speed**2)], axis=1)
        change = np.linalg.lstsq(slopes, frames - spent_s @ speed, rcond=None)[0]
        step_s = max(1e-6, step_s + 0.5 * change[0])
        row_step_s = max(1e-6, row_step_s + 0.5 * change[1])
    delay_s, first_frames = first_audio(runs, step_s, row_step_s)
    serving = statistics.median(
        (run["server_cpu_pct"] + run["clients_cpu_pct"]) / 100 / run["frames_per_s"] for run in runs
    )
    figures = Figures(step_s, row_step_s, runs[0]["rows"], delay_s, first_frames)
    return figures, Host(math.inf, serving)


def alone(runs: Sequence[Run]) -> list[Run]:
    """Those of one worker."""
    return [run for run in runs if run["workers"] == 1]


def share_of_core(run: Run) -> float:
    """That each worker had of the one in which it computes: all of it, unless others wanted it.

    What a GPU computes does not wait for a core of its own.
    """
    if any(device.startswith("cuda") for device in run.get("devices", ())):
        return 1.0
    return min(1.0, float(run["worker_cpu_pct"]) / 100 / int(run["workers"]))


def spent_beside(answer: dict[str, float], run: Run) -> list[float]:
    """Seconds that a sentence was spoken with 0, 1, 2 … others beside it."""
    begun = [each["began_s"] + each["queue_s"] for each in run["answers"]]
    ended = [each["ended_s"] for each in run["answers"]]
    from_s, to_s = answer["began_s"] + answer["queue_s"], answer["ended_s"]
    moments = sorted({from_s, to_s, *(t for t in (*begun, *ended) if from_s < t < to_s)})
    spent = [0.0] * len(run["answers"])
    for one, next_ in itertools.pairwise(moments):
        at_s = (one + next_) / 2
        beside = sum(b < at_s < e for b, e in zip(begun, ended, strict=True)) - 1
        spent[beside] += next_ - one
    while spent and not spent[-1]:
        spent.pop()
    return spent


def first_audio(runs: Sequence[Run], step_s: float, row_step_s: float) -> tuple[float, float]:
    """Seconds and frames until a sentence is heard, from the medians of runs; of those in which
    workers had their cores, if there are any: the server waits for its own too."""
    steps, heard = [], []
    free = [run for run in runs if share_of_core(run) > _ALONE]
    for run in free or runs:
        busy = min(run["rows"], run["clients"])
        steps.append((step_s + busy * row_step_s) / share_of_core(run))
        waits = [each["first_s"] - each["began_s"] - each["queue_s"] for each in run["answers"]]
        heard.append(statistics.median(waits))
    if len(set(steps)) < 2:
        return 0.0, statistics.fmean(heard) / steps[0]
    first_frames, delay_s = np.polyfit(steps, heard, 1)
    return max(0.0, float(delay_s)), max(1.0, float(first_frames))
