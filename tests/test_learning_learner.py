"""What the request log teaches, and the process that learns it; needs river."""

import json
import math
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backend.hardware.measurements import Key
from backend.learning.case import Case, Foreseen, Formula, Target
from backend.learning.learned import MAX_FEATURES, Learned, read_learned, write_learned
from backend.learning.lessons import MAX_LESSONS, Lesson, read_lessons
from backend.monitoring.csv_log import CsvLog
from backend.monitoring.rows import SynthesisRow
from backend.monitoring.sample import Observed
from backend.monitoring.synthesis import Ending, synthesis_row
from tests.documents import ROOT
from tests.monitored import plan, start, stats

KEY = Key("machine", "checkpoint", "version")
PER_CHARACTER = {"en": 1.0, "de": 1.3, "zh": 0.8}
"""Frames, against an unhurried reading at ten a second."""


def lesson(number: int, chance: random.Random, language: str | None = None) -> Lesson:
    """One whose frames depend on its language, in a noise of 5 %."""
    language = language or chance.choice(list(PER_CHARACTER))
    case = Case(chance.randint(10, 300), language=language, script="latin", chunk_length=200)
    noise = math.exp(chance.gauss(0, 0.05))
    frames = 10 * case.reading_s * PER_CHARACTER[language] * noise
    took: dict[Target, float] = {"frames": frames, "seconds": frames / 50, "memory": 400.0}
    formula = Formula(frames / 20, 10 * case.reading_s, 400.0)
    return Lesson(f"2026-11-26T00:00:00.{number:05}Z", case, formula, took)


def test_it_learns_what_a_language_takes() -> None:
    learner = pytest.importorskip("backend.learning.learner")
    chance = random.Random(1)
    models = learner.learn([lesson(n, chance) for n in range(200)])
    frames = models["frames"]
    assert frames.is_better
    assert frames.rows == 200
    for language, times in PER_CHARACTER.items():
        case = Case(80, language=language, script="latin", chunk_length=200)
        assert frames.times(case) == pytest.approx(10 * times, rel=0.06)
    # What nobody has spoken yet lies among those that were.
    unknown = Case(80, language="pl", script="latin", chunk_length=200)
    assert 0.75 * 10 < frames.times(unknown) < 1.35 * 10
    assert models["seconds"].is_better
    assert not models["memory"].is_better, "the formula has it right"


def test_predictions_are_those_of_the_library() -> None:
    learner = pytest.importorskip("backend.learning.learner")
    chance = random.Random(2)
    lessons = [lesson(n, chance) for n in range(50)]
    model = learner.learn(lessons)["frames"]
    theirs = learner.BayesianLinearRegression(alpha=1, beta=1 / learner.NOISE**2)
    for each in lessons:
        truth = math.log(each.took["frames"] / each.case.reading_s)
        theirs.learn_one(each.case.features(), truth)
    for each in lessons:
        told = math.log(model.times(each.case))
        assert told == pytest.approx(theirs.predict_one(each.case.features()), abs=1e-3)


def test_lies_among_the_rows_do_not_carry_it_away() -> None:
    learner = pytest.importorskip("backend.learning.learner")
    chance = random.Random(3)
    lessons = [lesson(n, chance, "en") for n in range(200)]
    lies = [
        Lesson(each.at, each.case, each.formula, {"frames": wrong, "seconds": wrong})
        for each, wrong in zip(lessons[::20], [1e-9, 1e9] * 5, strict=True)
    ]
    model = learner.learn(sorted(lessons + lies, key=lambda each: each.at))["frames"]
    case = Case(80, language="en", script="latin", chunk_length=200)
    assert 10 / 1.5 < model.times(case) < 10 * 1.5


def test_more_features_than_fit_are_left_out() -> None:
    learner = pytest.importorskip("backend.learning.learner")
    chance = random.Random(4)
    lessons = []
    for number in range(100):
        one = lesson(number, chance)
        case = Case(one.case.characters, strategy=f"plan {number}")
        lessons.append(Lesson(one.at, case, one.formula, one.took))
    model = learner.learn(lessons)["frames"]
    assert len(model.weights) <= MAX_FEATURES
    assert model.rows < 100


def test_of_few_requests_nothing_is_told() -> None:
    learner = pytest.importorskip("backend.learning.learner")
    chance = random.Random(5)
    assert learner.learn([lesson(n, chance) for n in range(8)]) == {}
    assert learner.learn([]) == {}


# -- from the log ----------------------------------------------------------------------------------


def row(number: int = 0, *, beside: int = 0, **values: Any) -> SynthesisRow:
    """A request of 100 characters that was spoken whole."""
    case = Case(100, language="de", script="latin", chunk_length=200)
    observed = Observed()
    observed.beside = beside
    took = stats(**{"frames": 150, "generated_tokens": 152, "finish_reasons": ("end",) * 2})
    ending = Ending("success", 2.0, 200, first_audio_s=0.1, audio_s=7.0, stats=took)
    begun = start(
        f"r{number}",
        plan=plan(device="cpu"),
        spoken_length=100,
        foreseen=Foreseen(case, Formula(3.0, 140.0, 400.0)),
    )
    made = synthesis_row(begun, ending, observed, at_s=1_790_000_000.0 + number)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


def logged(folder: Path, *rows: SynthesisRow) -> list[Lesson]:
    log = CsvLog(folder, "tier", 1 << 24)
    for each in rows:
        log.append(each)
    log.close()
    return read_lessons(folder, "shoal/demo", "cpu", "")


def test_a_row_is_a_lesson(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backend.learning.lessons.PEAKS_BEGIN_ANEW", True)
    (found,) = logged(tmp_path, row())
    plain = plan(device="cpu")
    assert found.case == Case(
        100, 0, 0, "de", "latin", 0, plain.chunk_length.value, plain.strategy, 4
    )
    assert found.formula == Formula(3.0, 140.0, 400.0)
    assert found.took == {"frames": 150, "seconds": 2.0, "memory": 7800.0}


def test_of_several_gpus_each_teaches(tmp_path: Path) -> None:
    gpus = [row(0, device="cuda:0"), row(1), row(2, device="cuda:1")]
    assert len(logged(tmp_path, *gpus)) == 1
    found = read_lessons(tmp_path, "shoal/demo", "cuda", "")
    assert [each.at for each in found] == [gpus[0].timestamp, gpus[2].timestamp]


def test_of_one_that_shared_the_machine_only_the_frames(tmp_path: Path) -> None:
    (found,) = logged(tmp_path, row(beside=2))
    assert found.took == {"frames": 150}


def test_peaks_that_never_begin_anew_teach_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.learning.lessons.PEAKS_BEGIN_ANEW", False)
    (found,) = logged(tmp_path, row())
    assert found.took == {"frames": 150, "seconds": 2.0}


NO_LESSONS: dict[str, dict[str, Any]] = {
    "it failed": {"outcome": "failed"},
    "it was refused": {"outcome": "refused"},
    "a sentence was spoken again": {"retries": 1},
    "a sentence was stopped": {"finish_reasons": "end;frame_limit"},
    "nothing of the text is known": {"wide_share": None},
    "no length": {"spoken_length": 0},
    "no frames": {"generated_tokens": 2},
    "frames without end": {"generated_tokens": 10**9},
    "a share above all": {"digit_share": 1.5},
    "a formula of nothing": {"formula_s": 0.0},
    "another engine": {"engine": "shoal/other"},
    "another device": {"device": "cuda:0"},
}


@pytest.mark.parametrize("why", NO_LESSONS)
def test_what_is_no_lesson(tmp_path: Path, why: str) -> None:
    assert len(logged(tmp_path, row(0), row(1, **NO_LESSONS[why]))) == 1


def test_a_log_that_was_tampered_with_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    logged(tmp_path, row(0), row(1))
    (file,) = tmp_path.glob("synthesis_*.csv")
    whole = file.read_bytes()
    file.write_bytes(whole + b"nan,inf,\x00\xff\n" + b'"' + b"x" * 200_000 + b"\n")
    assert len(read_lessons(tmp_path, "shoal/demo", "cpu", "")) <= 2
    file.write_bytes(whole.replace(b",150.0,", b",nan,").replace(b"140.0", b"inf"))
    assert read_lessons(tmp_path, "shoal/demo", "cpu", "") == []
    file.write_bytes(b"\x00" * 1000)
    assert read_lessons(tmp_path, "shoal/demo", "cpu", "") == []


def test_the_newest_are_read_and_none_from_before(tmp_path: Path) -> None:
    rows = [row(n) for n in range(MAX_LESSONS + 5)]
    found = logged(tmp_path, *rows)
    assert [each.at for each in found] == [each.timestamp for each in rows[5:]]
    since = rows[MAX_LESSONS].timestamp
    assert len(read_lessons(tmp_path, "shoal/demo", "cpu", since)) == 5


def test_the_process_learns_and_leaves_the_file(tmp_path: Path) -> None:
    pytest.importorskip("river")
    logged(tmp_path, *(row(n) for n in range(40)))
    file = tmp_path / "learned.json"
    asked = {
        "key": {"machine": "machine", "checkpoint": "checkpoint", "version": "version"},
        "file": str(file),
        "metrics_dir": str(tmp_path),
        "engine": "shoal/demo",
        "device_kind": "cpu",
    }
    command = (sys.executable, "-m", "backend.learning.learner", json.dumps(asked))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "not of this machine" in done.stderr
    write_learned(file, Learned(KEY, since=""))
    subprocess.run(command, cwd=ROOT, check=True)
    learned = read_learned(file, KEY)
    assert learned is not None and learned.at == row(39).timestamp
    assert {model.rows for model in learned.models.values()} == {40}
    assert {"frames", "seconds"} <= learned.models.keys()
    case = Case(100, language="de", script="latin", chunk_length=200, num_threads=4)
    assert learned.models["frames"].times(case) * case.reading_s == pytest.approx(150, rel=0.05)
