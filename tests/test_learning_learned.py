"""What is kept of what was learned: plain JSON that is bounded, checked, and believed in bounds."""

import json
from pathlib import Path
from typing import Any

import pytest

from backend.hardware.measurements import Key
from backend.learning.case import Case, case_of, script_of
from backend.learning.learned import (
    LEAST_ROWS,
    MAX_FEATURES,
    MAX_FILE_BYTES,
    Learned,
    Model,
    read_learned,
    write_learned,
)
from tests.monitored import plan

KEY = Key("machine", "checkpoint", "version")
SINCE = "2026-11-26T00:00:00.000Z"
GOOD = Model(LEAST_ROWS, {"any": 0.1, "language=de": 0.2}, above=0.1, error=0.05, formula_error=0.3)


def learned(**values: Any) -> Learned:
    return Learned(KEY, **{"since": SINCE, "models": {"frames": GOOD}, **values})


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "new" / "learned.json"
    write_learned(file, learned())
    assert read_learned(file, KEY) == learned()
    json.loads(file.read_bytes())
    assert [each.name for each in file.parent.iterdir()] == ["learned.json"]


@pytest.mark.parametrize("part", ["machine", "checkpoint", "version"])
def test_of_another_machine_checkpoint_or_version_nothing_is_known(
    tmp_path: Path, part: str
) -> None:
    file = tmp_path / "learned.json"
    write_learned(file, learned())
    told = {"machine": "machine", "checkpoint": "checkpoint", "version": "version"}
    assert read_learned(file, Key(**{**told, part: "other"})) is None


def changed(**values: Any) -> bytes:
    model = {"rows": 40, "weights": {"any": 0.1}, "above": 0, "error": 0.1, "formula_error": 0.3}
    told = {"key": {"machine": "machine", "checkpoint": "checkpoint", "version": "version"}}
    return json.dumps({**told, "since": SINCE, "models": {"frames": {**model, **values}}}).encode()


DAMAGED = {
    "empty": b"",
    "cut": changed()[:-9],
    "binary": bytes(range(256)),
    "pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "a list": b"[]",
    "deep": b"[" * 50_000,
    "long": changed() + b" " * MAX_FILE_BYTES,
    "not a number": changed(error=float("nan")),
    "infinite": changed(weights={"any": float("inf")}),
    "huge": changed(weights={"any": 1e308}),
    "negative": changed(rows=-1),
    "many": changed(weights={f"language={n}": 0.1 for n in range(MAX_FEATURES + 1)}),
    "a long name": changed(weights={"x" * 201: 0.1}),
    "a word": changed(weights={"any": "0.1"}),
    "a stranger": changed(extra=1),
    "another target": changed().replace(b"frames", b"prices"),
    "another format": changed()[:-1] + b', "format": 2}',
}


@pytest.mark.parametrize("what", DAMAGED)
def test_what_is_damaged_is_as_good_as_not_there(tmp_path: Path, what: str) -> None:
    file = tmp_path / "learned.json"
    file.write_bytes(changed())
    assert read_learned(file, KEY) is not None
    file.write_bytes(DAMAGED[what])
    assert read_learned(file, KEY) is None


def test_a_link_and_a_folder_are_not_read(tmp_path: Path) -> None:
    file, real = tmp_path / "learned.json", tmp_path / "real.json"
    real.write_bytes(changed())
    file.symlink_to(real)
    assert read_learned(file, KEY) is None
    file.unlink()
    file.mkdir()
    assert read_learned(file, KEY) is None


def test_what_it_tells_is_a_multiple_of_the_base() -> None:
    case = Case(100, language="de")
    assert GOOD.times(case) == pytest.approx(2.718281828 ** (8 * 0.1 + 0.2))
    assert GOOD.times(Case(100, language="fr")) == pytest.approx(2.718281828**0.8)
    wild = Model(LEAST_ROWS, {"any": 20.0}, above=0, error=0, formula_error=1)
    assert wild.times(case) == pytest.approx(2.718281828**10)


def test_what_has_seen_little_or_errs_as_much_is_not_better() -> None:
    assert GOOD.is_better
    assert not Model(LEAST_ROWS - 1, {}, above=0, error=0.1, formula_error=0.3).is_better
    assert not Model(1000, {}, above=0, error=0.3, formula_error=0.3).is_better


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Hello, 1984!", "latin"),
        ("Привет, Anna, как дела?", "cyrillic"),
        ("你好！", "cjk"),
        ("おはよう", "hiragana"),
        ("안녕하세요", "hangul"),
        ("مرحبا", "arabic"),
        ("1984 …", ""),
        ("\ue000\ue000", ""),
        ("", ""),
    ],
)
def test_scripts(text: str, script: str) -> None:
    assert script_of(text) == script


def test_a_case_holds_nothing_of_the_text_but_figures() -> None:
    text = "Im Jahr 1984 waren es 12, sagt man."
    case = case_of(text, "de", plan(), reference_s=6.0)
    assert (case.characters, case.language, case.script) == (len(text), "de", "latin")
    assert case.digit_share == case.wide_share == 6 / len(text)
    assert (case.strategy, case.num_threads, case.chunk_length) == (plan().strategy, 4, 200)
    features = case.features()
    assert {"language=de", "script=latin", f"plan={plan().strategy}"} < features.keys()
    assert all(0 <= value <= 8 for value in features.values())


def test_what_a_row_may_say_cannot_make_features_without_end() -> None:
    case = Case(10**9, 1.0, 1.0, "klingon", "a=b; c", 1e9, 1, "x" * 10_000, 10**6)
    features = case.features()
    assert not any(name.startswith(("language=", "script=")) for name in features)
    assert max(map(len, features)) < 200
    assert all(value < 10 for value in features.values())
