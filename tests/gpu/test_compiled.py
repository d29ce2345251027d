"""Triton's code for a frame: compiled in the background, compared, swapped in, spoken with."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from backend.core import Quantization, SamplingParams
from backend.engine.background import BackgroundCompile
from backend.engine.engine import Engine
from backend.engine.sequence import Sequence
from tests.gpu.forced import GPU, agreement, drawn, prompts, voice

pytestmark = GPU

CASES: tuple[tuple[str, Quantization], ...] = (
    ("fp32", "none"),
    ("bf16", "none"),
    ("fp16", "int8"),
    ("bf16", "int4"),
)


@dataclass
class Case:
    """One background compilation, begun with the others."""

    engine: Engine
    answer: tuple[bool, str] = (False, "")
    done: threading.Event = field(default_factory=threading.Event)

    def told(self, is_active: bool, detail: str) -> None:
        self.answer = is_active, detail
        self.done.set()


@pytest.fixture(scope="module")
def cases() -> Iterator[dict[tuple[str, Quantization], Case]]:
    """All cases compile at the same time, each in a process of its own."""
    begun = {case: Case(Engine(voice("cuda", *case).model, 8)) for case in CASES}
    compiling = [BackgroundCompile(case.engine, case.told) for case in begun.values()]
    for each in compiling:
        each.start()
    yield begun
    for each in compiling:
        each.stop()


def speak(engine: Engine, rows: int) -> float:
    """The median seconds of a step with `rows` rows."""
    for row in range(rows):
        engine.add(Sequence(prompts()[2], SamplingParams(0.7, 0.7, 1.1, row), 60, 2048))
    steps = []
    while not engine.is_idle:
        step = engine.step()
        assert all(progress.error is None for progress in step.progress)
        if engine.running == rows:
            steps.append(step.decode_s)
    return sorted(steps)[len(steps) // 2]


@pytest.mark.parametrize("case", CASES)
def test_it_is_swapped_in_and_speaks(
    cases: dict[tuple[str, Quantization], Case], case: tuple[str, Quantization]
) -> None:
    mine = cases[case]
    while not mine.done.is_set():
        speak(mine.engine, 2)  # eager speech goes on meanwhile
        time.sleep(0.5)
    is_active, detail = mine.answer
    print(case, detail)
    assert is_active, detail
    compiled = mine.engine._runner._compiled
    assert compiled is not None
    eager = {}
    for rows in (1, 8):
        mine.engine.use_compiled(None, lambda _: None)
        speak(mine.engine, rows)
        eager[rows] = speak(mine.engine, rows)
        mine.engine.use_compiled(compiled, lambda error: pytest.fail(str(error)))
        speak(mine.engine, rows)
        now_s = speak(mine.engine, rows)
        print(f"{case} {rows} rows: eager {eager[rows] * 1e3:.2f} ms, compiled {now_s * 1e3:.2f}")
        assert now_s < eager[rows]
    model = voice("cuda", *case).model
    result = agreement(drawn(model, [0, 2]), drawn(model, [0, 2], compiled))
    print(case, result)
    assert result.same_codes >= 0.9
