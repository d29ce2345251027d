"""Compiled code as a way: what is compiled, who compiles it, how it is let in and how it leaves."""

import collections.abc
import copy
import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch
from loguru import logger
from torch import Tensor

from backend.core import SamplingParams
from backend.engine import background
from backend.engine.agreement import compare
from backend.engine.background import BackgroundCompile
from backend.engine.compiled import NAMES, CompiledWay, Run, WithWeights, piece
from backend.engine.compiler import Job, explain_text, read_job, write_job
from backend.engine.engine import Engine
from backend.engine.frame import EagerWay, State
from backend.engine.sequence import Sequence
from backend.model.dual_ar import DualAR
from backend.model.layers import stored_bytes
from tests.engines import GREEDY, run, sequence, slow_greedy, tiny
from tests.spoken import drain, frames_of
from tests.tiny import tiny_checkpoint

NO_MEMORY = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
GIVEN_UP = "torch.compile is not used"


def interpreted(model: DualAR, before: Callable[[str], None] = lambda _: None) -> dict[str, Run]:
    """The pieces as compiled code is called, run by Python; `before` hears of each call."""
    model = copy.deepcopy(model)  # a piece puts weights into its modules, which others run
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data.fill_(torch.nan)  # all that it uses is handed over

    def runs(name: str) -> Run:
        made = piece(model, name)
        function = WithWeights(made)

        def call(tensors: list[Tensor]) -> list[Tensor]:
            before(name)
            count = len(made.names)
            return list(function(tensors[:count], tensors[count:]))

        return call

    return {name: runs(name) for name in NAMES}


def engine(max_batch: int = 8) -> Engine:
    return Engine(tiny().model, max_batch)


def compiled(
    before: Callable[[str], None] = lambda _: None, max_rows: int = 8, max_batch: int = 8
) -> Engine:
    """An engine that speaks by the pieces."""
    one = engine(max_batch)
    one.runner.way = compiled_way(one.runner.state, before, max_rows)
    return one


def compiled_way(
    state: State, before: Callable[[str], None] = lambda _: None, max_rows: int = 8
) -> CompiledWay:
    return CompiledWay(state, interpreted(state.model, before), max_rows)


def is_compiled(one: Engine) -> bool:
    return one.runner.way.name == "compiled"


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    said: list[str] = []
    handler = logger.add(lambda text: said.append(str(text)), level="WARNING", format="{message}")
    yield said
    logger.remove(handler)


def crowd() -> list[Sequence]:
    """Rows of several lengths, samplings and times to live."""
    samplings = (GREEDY, SamplingParams(0.7, 0.7, 1.1, 1), SamplingParams(1.0, 1.0, 1.5, 2), GREEDY)
    return [
        sequence("word " * (1 + 3 * index), sampling, 8 + 9 * (index % 3), 7 * index)
        for index, sampling in enumerate(samplings)
    ]


def test_pieces_speak_as_the_eager_engine_does_alone_and_in_company() -> None:
    wanted, found = crowd(), crowd()
    eager, pieces = run(engine(3), *wanted), run(compiled(max_batch=3), *found)
    for before, after in zip(wanted, found, strict=True):
        assert torch.equal(eager[before], pieces[after])


def test_each_piece_runs_as_often_as_its_part_of_a_frame() -> None:
    calls: list[str] = []
    run(compiled(calls.append), sequence("a", frames=3))
    config = tiny().config
    frame = {"between": config.slow.n_layer - 1, "first": 1, "next": config.num_codebooks - 2}
    assert {name: calls.count(name) for name in NAMES} == {
        name: 3 * count for name, count in frame.items()
    }


def test_a_frame_hands_over_no_weight_more_often_than_it_is_read() -> None:
    model = tiny().model
    for layer in range(model.config.slow.n_layer - 1):
        given = piece(model, "between", layer).weights()
        assert sum(tensor.nbytes for tensor in given) == stored_bytes(model.layers[layer])
    for name in ("first", "next"):
        assert not {"model.embeddings.weight", "model.codebook_embeddings.weight"} & {
            *piece(model, name).names
        }


def test_more_rows_than_were_compiled_for_are_spoken_without() -> None:
    calls: list[str] = []
    pair = [sequence("abc", frames=9), sequence("de", frames=15)]
    frames = run(compiled(calls.append, max_rows=1), *pair)
    for each in pair:
        assert torch.equal(frames[each], slow_greedy(each.prompt, each.frame_limit))
    assert calls.count("first") == 15 - 9  # those after the other left


def test_a_way_is_swapped_between_two_steps() -> None:
    one, calls = engine(), list[str]()
    asked = sequence("Hello.", frames=12)
    one.add(asked)
    progress = [p for _ in range(4) for p in one.step()]
    one.runner.way = compiled_way(one.runner.state, calls.append)
    progress += drain(one)
    assert torch.equal(frames_of(progress)[asked], slow_greedy(asked.prompt, 12))
    assert calls.count("first") == 12 - 4


@pytest.mark.parametrize("at", [1, 5, 10])
def test_code_that_fails_while_speaking_costs_no_frame(at: int) -> None:
    count, told = 0, list[str]()

    def before(_: str) -> None:
        nonlocal count
        count += 1
        if count == 3 * at:
            raise RuntimeError("no kernel image")

    one = compiled(before)
    one.runner.on_fallback = lambda error: told.append(str(error))
    pair = [sequence("abc", frames=12), sequence("a longer one", frames=12)]
    frames = run(one, *pair)
    for each in pair:
        assert torch.equal(frames[each], slow_greedy(each.prompt, 12))
    assert told == ["no kernel image"]
    assert not is_compiled(one)
    assert count == 3 * at


def test_a_want_of_memory_is_not_blamed_on_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def before(_: str) -> None:
        raise RuntimeError("an allocation failed")

    one = compiled(before)
    one.runner.on_fallback = lambda error: pytest.fail(str(error))
    one.add(sequence("a", frames=5))
    monkeypatch.setattr(EagerWay, "frame", lambda *_: (_ for _ in ()).throw(NO_MEMORY))
    progress = drain(one)
    assert "memory" in str(progress[-1].error)
    assert is_compiled(one)


def test_what_fails_while_it_is_tried_is_not_covered_up() -> None:
    def before(_: str) -> None:
        raise RuntimeError("no kernel image")

    state = State.of(tiny().model, 3)
    with pytest.raises(RuntimeError, match="no kernel image"):
        compare(compiled_way(state, before), state)


class Skewed(EagerWay):
    """The eager way with something done to its logits and codes."""

    def __init__(
        self, state: State, logits: Callable[[Tensor], Tensor], codes: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__(state)
        self._change_logits, self._change_codes = logits, codes

    def frame(self, slots: collections.abc.Sequence[int]) -> Tensor:
        return self._change_codes(super().frame(slots))

    def logits(self, slots: collections.abc.Sequence[int]) -> list[Tensor]:
        return [self._change_logits(logits) for logits in super().logits(slots)]


def same(x: Tensor) -> Tensor:
    return x


@pytest.mark.parametrize(
    ("logits", "codes", "is_close"),
    [
        (same, same, True),
        (lambda x: x + 1e-6, same, True),
        (lambda x: x * 1.01, same, False),
        (lambda x: x * torch.nan, same, False),
        (same, lambda x: x ^ 1, False),
    ],
)
def test_only_rounding_passes_for_agreement(
    logits: Callable[[Tensor], Tensor], codes: Callable[[Tensor], Tensor], is_close: bool
) -> None:
    pauses: list[None] = []
    state = State.of(tiny().model, 3)
    agreement = compare(Skewed(state, logits, codes), state, lambda: pauses.append(None))
    assert agreement.is_close is is_close
    assert "standard deviations" in str(agreement)
    assert len(pauses) > 10
    assert state.cache.allocated_bytes == 0


def test_what_a_compiler_is_shown_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    state = State.of(tiny().model, 3)
    agreement = compare(compiled_way(state), state)
    assert agreement.is_close, agreement
    assert agreement.same_codes == 1


def test_a_job_has_the_structure_and_no_number_of_a_model() -> None:
    model = tiny().model
    pipe = io.BytesIO()
    job = Job.of(model, 4)
    write_job(job.pickled(), pipe)
    assert pipe.tell() < 200_000 < sum(p.nbytes for p in model.parameters())
    pipe.seek(0)
    sent = read_job(pipe).model
    mine, theirs = dict(model.named_parameters()), dict(sent.named_parameters())
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert theirs[name].is_meta
        assert (theirs[name].shape, theirs[name].stride()) == (tensor.shape, tensor.stride())
    assert sent.legal_head.is_meta
    assert not model.legal_head.is_meta
    assert Job.of(model, 4).key() == job.key() != Job.of(model, 5).key()


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("InvalidCxxCompiler: No working C++ compiler found in torch._inductor.config", "g++"),
        ("C++ compile error: fatal error: Python.h: No such file or directory", "python3-dev"),
        ("/lib/libc.so.6: version `GLIBC_2.38' not found", "too old"),
        ("cc1plus: out of memory allocating 65536 bytes", "memory"),
        ("KeyError: 'x'", "KeyError"),
        ("", "nothing was said"),
    ],
)
def test_reasons_are_words_for_a_user(said: str, word: str) -> None:
    assert word in explain_text(said)


class Told:
    """Hears how a background compilation ended."""

    def __init__(self) -> None:
        self.calls: list[tuple[bool, str]] = []
        self._called = threading.Event()

    def __call__(self, is_active: bool, detail: str) -> None:
        self.calls.append((is_active, detail))
        self._called.set()

    def wait(self) -> tuple[bool, str]:
        assert self._called.wait(60)
        return self.calls[-1]


def script(*lines: str) -> tuple[str, ...]:
    """A command that stands in for the compiler; `folder` is where it would write to."""
    begin = "import os, pathlib, sys, time; folder = pathlib.Path(sys.argv[1])"
    return (sys.executable, "-S", "-c", "\n".join((begin, *lines)))


WRITES = script(
    "sys.stdin.buffer.read(100)",
    "(folder / 'made').write_text('code')",
    "print('{\"seconds\": 1}')",
)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Folders that were loaded; whatever is in them stands for the pieces."""
    seen: list[Path] = []

    def load(folder: Path) -> dict[str, Run]:
        if not (folder / "made").exists():
            raise RuntimeError("the package is cut short")
        seen.append(folder)
        return interpreted(tiny().model)

    monkeypatch.setattr(background, "load_pieces", load)
    return seen


def test_compiled_code_that_agrees_is_let_in(loads: list[Path], warnings: list[str]) -> None:
    one, told = engine(), Told()
    compiling = BackgroundCompile(one, told, command=WRITES)
    compiling.start()
    speaking = sequence("meanwhile", frames=40)
    frames = run(one, speaking)
    is_active, detail = told.wait()
    assert is_active
    assert "active" in detail
    assert "standard deviations" in detail
    assert is_compiled(one)
    assert torch.equal(frames[speaking], slow_greedy(speaking.prompt, 40))
    compiling.stop()
    assert not is_compiled(one)
    assert (len(loads), warnings, len(told.calls)) == (1, [], 1)


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        (['print(\'{"reason": "there is no C++ compiler"}\')'], "C++ compiler"),
        (["sys.stderr.write('MemoryError\\n'); sys.exit(1)"], "memory"),
        (["os.kill(os.getpid(), 9)"], "killed"),
        (["os.kill(os.getpid(), 11)"], "crashes when it is loaded"),
        (["sys.exit(0)"], "nothing was said"),
        (["print('{\"seconds\": 1}')"], "cut short"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_any_failure_is_one_warning_and_speech_goes_on(
    lines: list[str], word: str, loads: list[Path], warnings: list[str]
) -> None:
    one, told = engine(), Told()
    BackgroundCompile(one, told, command=script(*lines)).start()
    is_active, detail = told.wait()
    assert not is_active
    assert detail.startswith(GIVEN_UP)
    assert word in detail
    assert [said.strip() for said in warnings] == [detail]
    asked = sequence("a", frames=5)
    assert torch.equal(run(one, asked)[asked], slow_greedy(asked.prompt, 5))


def test_code_that_computes_something_else_is_not_let_in(
    monkeypatch: pytest.MonkeyPatch, loads: list[Path], warnings: list[str]
) -> None:
    runs = interpreted(tiny().model)
    between = runs["between"]
    runs["between"] = lambda tensors: [1.01 * x for x in between(tensors)]
    monkeypatch.setattr(background, "load_pieces", lambda *_: runs)
    one, told = engine(), Told()
    BackgroundCompile(one, told, command=WRITES).start()
    is_active, detail = told.wait()
    assert not is_active
    assert "its results differ" in detail
    assert "standard deviations" in detail
    assert not is_compiled(one)
    assert len(warnings) == 1


def test_a_later_failure_is_told_once_more(
    monkeypatch: pytest.MonkeyPatch, loads: list[Path], warnings: list[str]
) -> None:
    is_broken = False

    def before(_: str) -> None:
        if is_broken:
            raise RuntimeError("misaligned address")

    runs = interpreted(tiny().model, before)
    monkeypatch.setattr(background, "load_pieces", lambda *_: runs)
    one, told = engine(), Told()
    BackgroundCompile(one, told, command=WRITES).start()
    assert told.wait()[0]
    is_broken = True
    asked = sequence("a", frames=6)
    assert torch.equal(run(one, asked)[asked], slow_greedy(asked.prompt, 6))
    assert [active for active, _ in told.calls] == [True, False]
    assert "any more" in told.calls[1][1]
    assert "misaligned address" in told.calls[1][1]
    assert len(warnings) == 1


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_leaving_ends_the_compiler_at_once(tmp_path: Path, warnings: list[str]) -> None:
    pid_file = tmp_path / "pid"
    command = script(
        "import subprocess",
        "inner = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)'])",
        f"pathlib.Path({str(pid_file)!r}).write_text(f'{{os.getpid()}} {{inner.pid}}.')",
        "time.sleep(60)",
    )
    told = Told()
    compiling = BackgroundCompile(engine(), told, command=command)
    compiling.start()
    while not pid_file.exists() or not pid_file.read_text().endswith("."):
        time.sleep(0.02)
    began_s = time.perf_counter()
    compiling.stop()
    assert time.perf_counter() - began_s < 3
    for pid in map(int, pid_file.read_text().strip(".").split()):
        while is_running(pid):  # a kill takes its time; the test's own limit bounds it
            time.sleep(0.02)
    assert (told.calls, warnings) == ([], [])


def test_what_was_compiled_is_kept_for_the_next_worker(tmp_path: Path, loads: list[Path]) -> None:
    def compile_(command: tuple[str, ...]) -> tuple[bool, str]:
        told = Told()
        BackgroundCompile(engine(), told, tmp_path, command).start()
        return told.wait()

    never = script('print(\'{"reason": "was asked to"}\')')
    assert "was asked to" in compile_(never)[1]
    assert list(tmp_path.iterdir()) == []
    assert "compiled in" in compile_(WRITES)[1]
    is_active, detail = compile_(never)
    assert is_active
    assert "compiled before" in detail
    (kept,) = tmp_path.iterdir()
    (kept / "made").unlink()  # a full disk, say
    assert "was asked to" in compile_(never)[1]
    assert "compiled in" in compile_(WRITES)[1]
    for age in range(6):
        (tmp_path / f"old{age}").mkdir()
    (kept / "made").unlink()
    assert "compiled in" in compile_(WRITES)[1]
    assert kept in tmp_path.iterdir()
    assert len(list(tmp_path.iterdir())) == background._KEPT


TRY = """
import os, sys, threading
from pathlib import Path
import torch
from backend.engine.background import BackgroundCompile
from backend.engine.engine import Engine
from backend.model.checkpoint import load_checkpoint
torch.set_num_threads(1)
folder, dtype, quantization, cache = sys.argv[1:]
checkpoint = load_checkpoint(Path(folder), dtype=getattr(torch, dtype), quantization=quantization)
done = threading.Event()
def told(is_active, detail):
    print(is_active, detail)
    done.set()
compiling = BackgroundCompile(Engine(checkpoint.model, 8), told, Path(cache))
compiling.start()
done.wait()
compiling.stop()
"""


def really_compile(
    tmp_path: Path, dtype: str, quantization: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The whole of it on a tiny checkpoint, in a process whose warnings are errors."""
    folder = tiny_checkpoint(tmp_path / "checkpoint", end_scale=0.0)
    arguments = str(folder), dtype, quantization, str(tmp_path / "kept")
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", TRY, *arguments],
        env={**os.environ, **environment},
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=900,
        check=True,
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("dtype", "quantization"),
    [("float32", "none"), ("bfloat16", "none"), ("float32", "int8"), ("bfloat16", "int4")],
)
def test_a_real_compilation_agrees(tmp_path: Path, dtype: str, quantization: str) -> None:
    answer = really_compile(tmp_path, dtype, quantization)
    assert answer.stdout.startswith("True"), answer.stderr
    assert "compiled in" in answer.stdout
    again = really_compile(tmp_path, dtype, quantization)
    assert again.stdout.startswith("True"), again.stderr
    assert "compiled before" in again.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.platform == "win32", reason="another compiler")
def test_without_a_compiler_the_reason_is_told(tmp_path: Path) -> None:
    answer = really_compile(tmp_path, "float32", "none", CXX="/nowhere/g++")
    assert answer.stdout.startswith("False")
    assert "there is no C++ compiler" in answer.stdout
    assert answer.stderr.count("WARNING") == 1
