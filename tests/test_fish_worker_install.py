import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from backend.errors import BadSetting
from backend.fish_worker import install
from backend.fish_worker.install import (
    add_engine,
    find_engine,
    fish_worker_command,
    list_engines,
    remove_engine,
    run_command,
)
from backend.settings import Settings
from backend.worker.messages import WorkerConfig

NAME = "fish-speech"
TORCH = importlib.metadata.version("torch")
INSTALLED = {"package": "fish-speech 0.1.0", "torch": TORCH, "torchaudio": ""}


class Machine:
    """Stands in for venv and pip: notes what is run, and leaves an interpreter behind."""

    def __init__(self, data_dir: Path) -> None:
        self.python = find_engine(NAME, data_dir).python
        self.commands: list[str] = []
        self.fails: Callable[[str], bool] = lambda command: False
        self.meanwhile: Callable[[], object] = lambda: None

    def run(self, command: Sequence[str], on_line: install.OnLine) -> None:
        line = " ".join(command)
        self.commands.append(line)
        self.meanwhile()
        if self.fails(line):
            raise BadSetting("no space left on device")
        if " -m venv " in line:
            self.python.parent.mkdir(parents=True)
            self.python.touch()
        if line.endswith("backend.fish_worker.package"):
            on_line("a warning of some library")
            on_line(json.dumps(INSTALLED))

    def pip(self) -> list[list[str]]:
        """The arguments of each `pip install`, without its options for the output."""
        found = [command.split(" install ")[1] for command in self.commands if " pip " in command]
        return [line.split()[2:] for line in found]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def add(machine: Machine, data_dir: Path) -> install.Environment:
    return add_engine(NAME, data_dir, lambda line: None, machine.run)


def torch_is(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)


def settings(data_dir: Path, **values: Any) -> Settings:
    return Settings(_env_file=None, data_dir=data_dir, engine="fish-speech", **values)


def test_it_installs_the_very_torch_of_the_server_then_the_lists_then_tries_it(
    machine: Machine, tmp_path: Path
) -> None:
    assert list_engines(tmp_path)[0].state == "missing"
    made = add(machine, tmp_path)
    assert made == find_engine(NAME, tmp_path) == list_engines(tmp_path)[0]
    assert (made.state, made.package, made.torch_version) == ("ready", "fish-speech 0.1.0", TORCH)
    first, second, third = machine.pip()
    assert first == [f"torch=={TORCH}"]
    assert second[0] == "-r"
    assert second[1].endswith("requirements.txt")
    assert second[2] == f"torch=={TORCH}", "nothing else may choose another"
    assert third[:2] == ["--no-deps", "-r"]
    assert machine.commands[-1].startswith(f"{made.python} -I ")
    assert all(" -I " in command for command in machine.commands)


def test_one_that_is_ready_is_left_alone(machine: Machine, tmp_path: Path) -> None:
    add(machine, tmp_path)
    machine.commands.clear()
    assert add(machine, tmp_path).state == "ready"
    assert not machine.commands


@pytest.mark.parametrize("fails", ["-m venv", "torch==", "--no-deps", "fish_worker.package"])
def test_one_that_was_not_completed_is_made_anew(
    machine: Machine, tmp_path: Path, fails: str
) -> None:
    machine.fails = lambda command: fails in command
    with pytest.raises(BadSetting, match="no space left"):
        add(machine, tmp_path)
    assert find_engine(NAME, tmp_path).state == ("missing" if fails == "-m venv" else "unfinished")
    left_over = machine.python.parent / "left over"
    if left_over.parent.exists():
        left_over.touch()
    machine.fails = lambda command: False
    assert add(machine, tmp_path).state == "ready"
    assert not left_over.exists()


def test_a_build_that_pip_does_not_find_is_asked_of_pytorch(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch_is(monkeypatch, "2.13.0+cu126")
    machine.fails = lambda command: " torch==" in command and len(machine.pip()) == 1
    add(machine, tmp_path)
    first, second, *_ = machine.pip()
    assert first == ["torch==2.13.0+cu126"]
    assert second == [*first, "--extra-index-url", "https://download.pytorch.org/whl/cu126"]


def test_a_plain_torch_that_pip_does_not_find_is_an_error(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch_is(monkeypatch, "2.13.0")
    machine.fails = lambda command: " torch==" in command
    with pytest.raises(BadSetting):
        add(machine, tmp_path)
    assert len(machine.pip()) == 1


def test_another_torch_makes_it_outdated(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(machine, tmp_path)
    torch_is(monkeypatch, "2.99.0")
    assert find_engine(NAME, tmp_path).state == "outdated"
    with pytest.raises(BadSetting, match=r"the server 2\.99\.0.*shoal engine add fish-speech"):
        fish_worker_command(settings(tmp_path), WorkerConfig("x"))
    add(machine, tmp_path)
    assert machine.pip()[-3] == ["torch==2.99.0"]
    assert find_engine(NAME, tmp_path).state == "ready"


def test_half_of_a_new_one_does_not_pass_for_the_old(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(machine, tmp_path)
    with monkeypatch.context() as patched:
        torch_is(patched, "2.99.0")
        machine.fails = lambda command: "--no-deps" in command
        with pytest.raises(BadSetting):
            add(machine, tmp_path)
    assert find_engine(NAME, tmp_path).state == "unfinished"


@pytest.mark.parametrize("damage", ["{", "[]", "{}"])
def test_a_damaged_stamp_is_no_stamp(machine: Machine, tmp_path: Path, damage: str) -> None:
    made = add(machine, tmp_path)
    (made.folder / "installed.json").write_text(damage, "utf-8")
    assert find_engine(NAME, tmp_path).state == "unfinished"


def test_an_interpreter_that_is_gone_is_noticed(machine: Machine, tmp_path: Path) -> None:
    add(machine, tmp_path).python.unlink()
    assert find_engine(NAME, tmp_path).state == "unfinished"


def test_two_at_once_are_one(machine: Machine, tmp_path: Path) -> None:
    def too() -> None:
        with pytest.raises(BadSetting, match="Another process is at work"):
            add_engine(NAME, tmp_path, lambda line: None, lambda command, on_line: None)

    machine.meanwhile = too
    assert add(machine, tmp_path).state == "ready"


_HOLDER = """
import sys
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_lock_ends_with_its_process(machine: Machine, tmp_path: Path) -> None:
    lock = tmp_path / "engines" / "fish-speech.lock"
    lock.parent.mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        for _ in range(2):  # a refusal takes nothing from who holds it
            with pytest.raises(BadSetting, match="Another process is at work"):
                add(machine, tmp_path)
        holder.kill()
        holder.wait()
        assert add(machine, tmp_path).state == "ready"


def test_remove(machine: Machine, tmp_path: Path) -> None:
    assert not remove_engine(NAME, tmp_path)
    made = add(machine, tmp_path)
    made.converted.mkdir()
    assert remove_engine(NAME, tmp_path)
    assert not made.folder.exists()
    assert find_engine(NAME, tmp_path).state == "missing"


def test_unknown_engine_names_the_nearest(tmp_path: Path) -> None:
    for act in (find_engine, remove_engine):
        with pytest.raises(BadSetting, match="did you mean fish-speech"):
            act("fishspeech", tmp_path)


def test_a_data_dir_that_cannot_be_written_is_told(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "engines").write_text("a file, no folder", "utf-8")
    with pytest.raises(BadSetting, match="cannot be written"):
        add(machine, tmp_path)


def test_command_of_the_worker(machine: Machine, tmp_path: Path) -> None:
    made = add(machine, tmp_path)
    asked = WorkerConfig("/a checkpoint", num_threads=3, quantization="int8", calibration_samples=8)
    python, isolated, script, module, *options = fish_worker_command(settings(tmp_path), asked)
    assert (python, isolated) == (str(made.python), "-I")
    assert Path(script).is_file()
    assert module == "backend.fish_worker.main"
    assert options[:2] == ["--converted", str(made.converted)]
    got = WorkerConfig.from_json(options[3])
    assert got == WorkerConfig("/a checkpoint", num_threads=3)


def test_command_without_an_environment_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"no environment yet; run: shoal engine add fish-speech"):
        fish_worker_command(settings(tmp_path), WorkerConfig("x"))


@pytest.mark.parametrize("wanted", ["int8", "int4"])
def test_quantization_that_a_user_asks_for_is_refused(
    machine: Machine, tmp_path: Path, wanted: str
) -> None:
    add(machine, tmp_path)
    with pytest.raises(BadSetting, match=f"QUANTIZATION={wanted}"):
        fish_worker_command(settings(tmp_path, quantization=wanted), WorkerConfig("x"))


def test_a_command_that_fails_shows_its_last_lines() -> None:
    code = "print(*range(50), sep='\\n'); import sys; print('disk full', file=sys.stderr); exit(7)"
    lines: list[str] = []
    with pytest.raises(BadSetting, match="exit code 7") as error:
        run_command([sys.executable, "-I", "-c", code], lines.append)
    assert "disk full" in str(error.value)
    assert "  49" in str(error.value)
    assert "  30" not in str(error.value)
    assert "30" in lines


def test_a_command_sees_none_of_what_would_lead_it_astray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("PIP_TARGET", "/elsewhere")
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    code = "import os; print(*(n for n in os.environ if n.startswith(('PYTHON', 'PIP_'))))"
    lines: list[str] = []
    run_command([sys.executable, "-c", code], lines.append)
    seen = set(lines[0].split())
    assert not seen & {"PYTHONPATH", "PIP_TARGET"}
    assert "PIP_INDEX_URL" in seen, "a mirror that the user has set up is used"


def test_ctrl_c_leaves_no_process() -> None:
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    pids: list[int] = []

    def interrupt(line: str) -> None:
        pids.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_command([sys.executable, "-I", "-c", code], interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_requirements_are_pinned_and_leave_torch_to_the_server() -> None:
    names = []
    for file in (install._BESIDE, install._ALONE):
        for line in file.read_text("utf-8").splitlines():
            if line and not line.startswith("#"):
                name, pinned, version = line.partition("==")
                assert pinned, f"{line} is not pinned"
                assert version[0].isdigit()
                names.append(name)
    assert "torch" not in names
    assert len(names) == len(set(names))


def test_start_makes_backend_importable_and_nothing_beside_it() -> None:
    # -S: without site-packages, as in an environment in which Shoal is not installed.
    start = str(install._START)
    run_command([sys.executable, "-I", "-S", start, "backend.core"], lambda line: None)
    with pytest.raises(BadSetting, match="No module named 'msgspec'"):
        run_command([sys.executable, "-I", "-S", start, "backend.worker.messages"], print)
