"""`shoal bench`: real probes of a tiny checkpoint, and the order of things with ones that act."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from backend.bench import command, run
from backend.bench.command import Asked
from backend.bench.figures import Findings
from backend.bench.life import live, recording_of
from backend.bench.messages import DecodePieces, Hello, MakeFrames, Question, ReadMemory, Took
from backend.bench.partner import partner
from backend.bench.random_checkpoint import random_checkpoint
from backend.bench.report import KEYS, Report
from backend.bench.run import DEMO, WORKER, Bench
from backend.bench.subject import UPSTREAM, WEIGHTS, Held, Size
from backend.cli import app
from backend.errors import BadSetting, EngineDown, EngineFailed, ShoalError
from backend.fish_worker.install import Environment
from backend.hardware.detect import read_memory
from backend.model.checkpoint import load_checkpoint
from backend.model.config import CodecConfig
from tests import scripted
from tests.tiny import TINY, TINY_CODEC, tiny_checkpoint

SIZE = Size().quick()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("bench") / "tiny", end_scale=0.0)


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHOAL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SHOAL_NUM_THREADS", "1")


def ask(command: Sequence[str], *questions: Question) -> tuple[Hello, list[Took]]:
    async def work() -> tuple[Hello, list[Took]]:
        async with partner("it", command, {}) as asked:
            return asked.hello, [await asked.ask(question) for question in questions]

    return asyncio.run(work())


# -- real processes --------------------------------------------------------------------------------


def test_a_probe_computes_what_a_worker_would(tiny: Path) -> None:
    held = Held.look("int8", tiny, "cpu")
    hello, (one, four, late, decoded, read) = ask(
        held.probe_command(),
        MakeFrames(0.05),
        MakeFrames(0.05, rows=4, context=64),
        MakeFrames(0.05, rows=1, context=480),
        DecodePieces(0.05, 4),
        ReadMemory(1),
    )
    precision = held.deployment.plan.precision.value
    assert (hello.engine, hello.precision, hello.quantization) == ("shoal", precision, "int8")
    assert hello.threads == 1
    assert hello.weight_bytes_per_frame > 0
    for took in (one, four, late, decoded):
        assert took.amount > 0
        assert took.wall_s >= 0.05
        assert took.cpu_s > 0
    assert one.way == hello.way
    assert four.amount % 4 == 0
    assert decoded.amount % 4 == 0
    assert read.amount == 1024 * 1024


def test_rows_that_end_by_themselves_are_replaced(tmp_path: Path) -> None:
    loud = tiny_checkpoint(tmp_path / "loud", end_scale=100.0)
    _, (took,) = ask(Held.look("fp32", loud, "cpu").probe_command(), MakeFrames(0.05, rows=2))
    assert took.amount >= 2


def test_a_probe_says_what_is_wrong_with_a_checkpoint(tiny: Path, tmp_path: Path) -> None:
    broken = tiny_checkpoint(tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"no weights")
    held = Held.look("fp32", broken, "cpu")
    with pytest.raises(EngineFailed, match=r"model\.safetensors"):
        ask(held.probe_command())


def test_a_random_checkpoint_is_silent_where_nothing_is_spoken(tmp_path: Path) -> None:
    shape = {**TINY, "codebook_size": 64, "num_codebooks": 4}
    folder = random_checkpoint(tmp_path / "tiny", codec=CodecConfig(**TINY_CODEC), **shape)
    checkpoint = load_checkpoint(folder)
    begin, rows = checkpoint.tokenizer.semantic_begin_id, checkpoint.model.embeddings.weight
    speech = torch.zeros(len(rows), dtype=torch.bool)
    speech[begin : begin + 64] = True
    assert rows[~speech].norm(dim=1).max() < 0.1 * rows[speech].norm(dim=1).min()
    assert checkpoint.info.name == "random-tiny"


@pytest.mark.parametrize("encodes", [True, False])
def test_the_life_of_a_worker(tiny: Path, encodes: bool) -> None:
    held = Held.look("fp32", tiny, "cpu")
    recording = recording_of(1.5) if encodes else None
    life = asyncio.run(live(held.worker_command(), held.environment, "Hello.", recording))
    assert 0 < life.first_audio_s < life.cold_s
    assert life.rtf > 0
    assert (life.encode_s is not None) == encodes
    assert life.peak_mb >= life.speaking_mb > 50  # Python and torch alone take more
    assert life.way == "native"


@pytest.mark.parametrize("text", ["crash", "bad reference"])
def test_a_worker_that_fails_is_told_and_ended(text: str) -> None:
    with pytest.raises(ShoalError):
        asyncio.run(live(scripted.command(), {}, text, None))
    assert not scripted.children()


def test_a_worker_that_does_not_start_is_told() -> None:
    with pytest.raises(EngineDown, match="exit code"):
        asyncio.run(live(scripted.command(exit_at_start=True), {}, "hello", None))


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a child on Windows")
def test_ctrl_c_leaves_nothing_behind(tiny: Path) -> None:
    asked = ("bench", "--checkpoint", str(tiny), "--no-upstream")
    process = subprocess.Popen(
        [sys.executable, "-m", "backend.cli", *asked], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        while (line := process.stderr.readline()) != "bf16, 1 of 5\n":
            assert line, "it ended by itself"
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    finally:
        process.kill()
        process.communicate()
    assert "shoal: stopped" in rest
    assert "Traceback" not in rest
    assert process.returncode == 1
    assert not scripted.children()


# -- ratios within one process ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def rates() -> dict[str, float]:
    """Of the shipped voice in one process, what a second of processor time makes: the best of turns
    that alternate, which is the one that others disturbed least. In fp32, where reading weights is
    what rows share: in int8 they are read in no time, and four make 1.1 to 1.3 times the frames."""
    work: dict[str, Question] = {
        "one": MakeFrames(0.15, 1, 256),
        "four": MakeFrames(0.15, 4, 256),
        "late": MakeFrames(0.15, 1, 1024),
        "pieces of 16": DecodePieces(0.1, 16),
        "pieces of 4": DecodePieces(0.1, 4),
    }
    turns = 5
    _, told = ask(Held.look("fp32", None, "cpu").probe_command(), *list(work.values()) * turns)
    return {
        name: max(took.amount / took.cpu_s for took in told[index :: len(work)])
        for index, name in enumerate(work)
    }


@pytest.mark.parametrize(
    ("what", "of", "least"),
    [
        ("four", "one", 1.5),  # measured beside other jobs: 2.6 to 3.1
        ("late", "one", 0.6),  # 1.0 to 1.3
        ("pieces of 16", "pieces of 4", 1.05),  # 1.2 to 1.8
    ],
)
def test_no_ratio_has_become_worse(
    rates: dict[str, float], what: str, of: str, least: float
) -> None:
    assert rates[what] / rates[of] > least


# -- the order of things, with processes that act --------------------------------------------------


@dataclass(frozen=True)
class Acting(Held):
    """Its probe says what it is told to, its worker is the scripted one."""

    probe: tuple[str, ...] = ()
    worker: tuple[str, ...] = ()

    def probe_command(self) -> tuple[str, ...]:
        return self.probe

    def worker_command(self) -> tuple[str, ...]:
        return self.worker


def acting(name: str, folder: Path, frames_s: float, **told: Any) -> Acting:
    return acting_for(Held.look(name, folder, "cpu"), frames_s, **told)


def acting_for(real: Held, frames_s: float, **told: Any) -> Acting:
    said = json.dumps({"name": real.name, "frames_s": frames_s, **told})
    probe = (sys.executable, "-m", "tests.bench_probe", said)
    return Acting(real.name, real.settings, real.deployment, probe, scripted.command())


def measured(held: Sequence[Held], size: Size = SIZE) -> tuple[Findings, list[str]]:
    said: list[str] = []
    bench = Bench(held, None, size, said.append)

    async def work() -> None:
        async with bench:
            await bench.engine()
            if bench.findings.best:
                best = next(each for each in held if each.name == bench.findings.best)
                await bench.parts(best.name)
                await bench.lives(best, WORKER, "hello", encodes=True)

    asyncio.run(work())
    assert not scripted.children()
    return bench.findings, said


def test_the_fastest_is_measured_whole(tiny: Path) -> None:
    found, said = measured([acting("bf16", tiny, 10), acting("int8", tiny, 30)])
    assert found.best == "int8"
    assert found.troubles == {}
    assert found.about["alternates"] is True
    assert found.figures["bf16"].values == pytest.approx([10 / (1 + 256 / 4096)] * SIZE.repeats)
    assert found.median("streams_ratio") == pytest.approx(2.0)
    assert found.median("long_context_ratio") == pytest.approx((1 + 256 / 4096) / 2)
    assert found.median("codec_16_ms") == pytest.approx(16.0)
    assert found.median("read_gb_s") == pytest.approx(20.0)
    assert len(found.figures["worker_rtf"].values) == SIZE.lives
    turns = [line for line in said if line.endswith(f"of {SIZE.repeats}")]
    assert turns[:4] == ["bf16, 1 of 2", "int8, 1 of 2", "bf16, 2 of 2", "int8, 2 of 2"]


def test_without_memory_for_all_they_are_loaded_one_after_another(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "read_memory", lambda: replace(read_memory(), available_bytes=1))
    found, said = measured([acting("bf16", tiny, 10), acting("int8", tiny, 30)])
    assert found.about["alternates"] is False
    assert said[:4] == ["loading bf16", "bf16, 1 of 2", "bf16, 2 of 2", "loading int8"]
    assert found.best == "int8"
    assert found.median("streams_ratio") == pytest.approx(2.0)
    assert "one after another" in str(Report(found, SIZE).table().caption)


def test_what_fails_is_told_and_the_rest_goes_on(tiny: Path) -> None:
    missing = replace(acting("int4", tiny, 50), probe=("no-such-program",))
    dies = acting("int8", tiny, 30, dies_after=1)
    garbled = acting("fp32", tiny, 40, is_garbled=True)
    found, _ = measured([missing, garbled, dies, acting("bf16", tiny, 10)])
    assert "no-such-program cannot be started" in found.troubles["int4"]
    assert "exit code 3" in found.troubles["int8"]
    assert "no answer" in found.troubles["fp32"]
    assert found.median("bf16") is not None
    assert found.best == "int8"  # it was the fastest before it died
    assert set(json.loads(Report(found, SIZE).line())["troubles"]) >= {"int4", "int8"}


def test_nothing_at_all_can_be_measured(tiny: Path) -> None:
    found, _ = measured([replace(acting("int4", tiny, 50), probe=("no-such-program",))])
    assert found.best == ""
    line = json.loads(Report(found, SIZE).line())
    assert [line[key] for key in KEYS] == [None] * len(KEYS)


# -- the command -----------------------------------------------------------------------------------


@pytest.fixture
def all_act(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Every process acts; what was loaded."""
    loaded: list[str] = []
    look = Held.look

    def acts(name: str, folder: Path | None, device: str | None) -> Held:
        if name == "int4":
            raise BadSetting("There is no room for int4.")
        real = look(name, folder or tiny, "cpu")
        loaded.append(real.name)
        speeds = {"bf16": 10.0, "int8": 30.0, "fp32": 8.0}
        return acting_for(real, speeds[real.name])

    monkeypatch.setattr(Held, "look", acts)
    return lambda: loaded


def bench(*arguments: str) -> tuple[str, dict[str, Any]]:
    """What the command printed, and its last line."""
    result = CliRunner().invoke(app, ["bench", *arguments, "--quick", "--no-upstream"])
    assert result.exit_code == 0, result.output
    return result.stdout, json.loads(result.stdout.splitlines()[-1])


def test_the_command_ends_with_json(
    all_act: Callable[[], list[str]], tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    printed, line = bench("--checkpoint", str(tiny))
    assert set(KEYS) <= line.keys()
    assert line["int8_frames_s"] == pytest.approx(28.34, rel=1e-3)
    assert line["bf16_frames_s"] == pytest.approx(9.447, rel=1e-3)
    assert line["upstream_frames_s"] is line["int4_frames_s"] is None
    assert line["codec_ms_per_frame"] == 16.0
    assert line["read_gb_s"] == 20.0
    assert line["text_to_pcm_rtf"] > 0
    assert line["peak_mb"] > 0
    assert line["best"] == "int8"
    assert line["floor_frames_s"]["int8"] == 20e9 / 1000
    assert line["figures"][f"{DEMO}_rtf"]["values"]
    assert line["figures"]["int8"]["load"] >= 0
    assert line["troubles"] == {"int4": "There is no room for int4."}
    assert "28.3 frames/s (35.3 ms a frame, CPU 17.6 ms), spoken" in printed
    for row in ("int8, 1 stream", "4 streams at once", "text to PCM", "the shipped voice"):
        assert row in printed
    assert "There is no room for int4." in printed


def test_json_alone(all_act: Callable[[], list[str]], tiny: Path) -> None:
    printed, _ = bench("--checkpoint", str(tiny), "--json")
    assert len(printed.splitlines()) == 1


def test_the_shipped_voice_is_measured_as_it_ships(
    all_act: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOAL_TORCH_COMPILE", "off")  # on any machine it is held in full then
    _, line = bench("--demo")
    assert all_act() == ["bf16", "int8", "fp32", "fp32"]
    assert line["checkpoint"] == "shoal-demo"
    assert line["best"] == "fp32"  # which the plan chooses, though int8 was faster
    assert f"{DEMO}_rtf" not in line["figures"]


def test_a_random_checkpoint_is_made_once(
    all_act: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch, tiny: Path, tmp_path: Path
) -> None:
    made: list[Path] = []

    def make(run: Sequence[str], _: object) -> None:
        made.append(Path(run[-1]))
        tiny_checkpoint(made[-1])

    monkeypatch.setattr(command, "run_command", make)
    bench()
    bench()
    (once,) = made
    kept = tmp_path / "data" / "bench" / "s1-mini"
    assert once.name == kept.name
    assert list(kept.parent.iterdir()) == [kept]


def test_upstream_that_cannot_be_had_is_told(
    all_act: Callable[[], list[str]], tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Environment:
        raise BadSetting("pip found no network")

    monkeypatch.setattr(command, "add_engine", refuse)
    report = command.run(Asked(tiny, is_quick=True), lambda _: None)
    line = json.loads(report.line())
    assert line["troubles"][UPSTREAM] == "pip found no network"
    assert line["int8_frames_s"] > 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--demo", "--checkpoint", "."], "not both"),
        (["--checkpoint", "nowhere"], "nowhere"),
        (["--demo", "--device", "tpu"], "SHOAL_DEVICE"),
    ],
)
def test_what_cannot_be_measured_is_one_line(arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(app, ["bench", *arguments, "--no-upstream"])
    assert result.exit_code == 1
    assert says in result.stderr
    assert "Traceback" not in result.output


def test_contexts_are_those_that_a_checkpoint_has() -> None:
    assert Size().within(8192).contexts == (256, 4096)
    assert Size().within(2048).contexts == (256, 1920)
    assert Size().within(128).contexts == (60, 120)


def test_every_way_of_holding_weights_has_a_key() -> None:
    assert {f"{name}_frames_s" for name in (*WEIGHTS, UPSTREAM)} - set(KEYS) == {"fp32_frames_s"}
