"""Learns from the request log, in a process of its own that ends: the library takes 80 MB.

    python -P -m backend.learning.learner '{"metrics_dir": …}'

river's Bayesian linear regression sees one request after another, the oldest first. Each is
predicted before it is learned, which tells how far off predictions are.
"""

import json
import math
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import psutil
from river.linear_model import BayesianLinearRegression

from backend.hardware.measurements import Key
from backend.learning.case import TARGETS, Target
from backend.learning.learned import (
    MAX_FEATURES,
    Learned,
    Model,
    read_learned,
    write_learned,
)
from backend.learning.lessons import Lesson, read_lessons

NOISE = 0.2
"""Of the logarithm of what a request takes, one standard deviation: two readings of a text."""
_MOST = math.log(64)
"""No multiple is learned that is larger; nor smaller than one in so many."""
_JUDGED = 200
"""The last requests that tell how good predictions are."""
_LEAST_JUDGED = 8
"""Requests that are learned from before the first prediction counts."""
_NICE = 10


def learn(lessons: Sequence[Lesson]) -> dict[Target, Model]:
    """What `lessons`, the oldest first, teach."""
    return {target: model for target in TARGETS if (model := _learn(target, lessons)) is not None}


def _learn(target: Target, lessons: Iterable[Lesson]) -> Model | None:
    model = BayesianLinearRegression(alpha=1, beta=1 / NOISE**2)
    names: dict[str, None] = {}
    errors, formula_errors, above = list[float](), list[float](), list[float]()
    rows = 0
    for lesson in lessons:
        took = lesson.took.get(target)
        features = lesson.case.features()
        if took is None or len(names | dict.fromkeys(features)) > MAX_FEATURES:
            continue
        base = lesson.formula.base(target, lesson.case)
        truth = min(max(math.log(took / base), -_MOST), _MOST)
        if rows >= _LEAST_JUDGED:
            told = model.predict_one(features)
            errors.append(abs(math.expm1(told - truth)))
            formula_errors.append(abs(lesson.formula.of(target) / took - 1))
            above.append(truth - told)
        model.learn_one(features, truth)
        names |= dict.fromkeys(features)
        rows += 1
    if not errors:
        return None
    return Model(
        rows=rows,
        # It is linear: a feature alone tells its weight.
        weights={name: _rounded(model.predict_one({name: 1.0}), 20.0) for name in names},
        above=_rounded(max(0.0, _quantile(above[-_JUDGED:], 0.99)), 3.0),
        error=_rounded(statistics.median(errors[-_JUDGED:]), 1000.0),
        formula_error=_rounded(statistics.median(formula_errors[-_JUDGED:]), 1000.0),
    )


def _rounded(value: float, most: float) -> float:
    return round(min(max(value, -most), most), 5)


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, math.floor(share * len(values)))]


def main(asked: dict[str, Any]) -> None:
    """Read the log, learn, and leave the outcome in the file."""
    if sys.platform == "win32":
        psutil.Process().nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
    else:
        psutil.Process().nice(_NICE)
    key, file = Key(**asked["key"]), Path(asked["file"])
    learned = read_learned(file, key)
    if learned is None:
        raise SystemExit(f"{file} is not of this machine and checkpoint any more")
    lessons = read_lessons(
        Path(asked["metrics_dir"]), asked["engine"], asked["device_kind"], learned.since
    )
    if lessons:
        at = lessons[-1].at
        write_learned(file, Learned(key, learned.since, at, models=learn(lessons)))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
