"""Detection on the machine that runs the tests, and what other systems tell."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import psutil
import pytest

from backend.hardware import readings
from backend.hardware.detect import detect, read_memory
from backend.hardware.machine import GIB
from backend.hardware.readings import Readings, read_files, read_machine

ROOT = Path(__file__).parent.parent


def test_this_machine() -> None:
    told = read_machine()
    hardware = detect(told)
    assert hardware.memory.total_bytes == psutil.virtual_memory().total
    assert 0 < hardware.memory.available_bytes <= hardware.memory.limit_bytes
    assert hardware.cpu.logical_cores == psutil.cpu_count()
    assert hardware.cpu.performance_cores + hardware.cpu.efficiency_cores == (
        hardware.cpu.physical_cores
    )
    assert hardware.cpu.model
    shared = [cpu for core in hardware.cpu.topology for cpu in core.logical]
    assert len(set(shared)) == len(shared)
    assert not shared or set(hardware.cpu.allowed) <= set(shared)
    assert msgspec.json.decode(msgspec.json.encode(told), type=Readings) == told


def test_torch_of_this_environment_is_named_as_it_names_itself() -> None:
    code = "import torch; print(torch.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert detect(read_machine()).torch_version == done.stdout.strip()


def test_detection_never_imports_torch() -> None:
    code = (
        "import sys; from backend.hardware.detect import detect; "
        "from backend.hardware.readings import read_machine; "
        "detect(read_machine()); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_detection_is_cheap() -> None:
    """Ten times what it takes on a busy machine, so that only a real change fails."""
    durations = []
    for _ in range(3):
        start = time.perf_counter()
        detect(read_machine())
        durations.append(time.perf_counter() - start)
    assert min(durations) < 0.5


def test_memory_read_again_is_that_of_detection() -> None:
    once, again = detect(read_machine()).memory, read_memory()
    assert (again.total_bytes, again.limit_bytes) == (once.total_bytes, once.limit_bytes)
    assert again.limit_source == once.limit_source
    assert abs(again.available_bytes - once.available_bytes) < 2 * GIB


def test_missing_files_are_absent(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_bytes(b"caf\xe9\n")
    found = read_files((str(there), str(tmp_path / "not"), str(tmp_path)))
    assert found == {str(there): "caf\ufffd\n"}


def test_nvidia_cards_are_found_on_the_pci_bus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for address, vendor, kind in (
        ("0000:00:02.0", "0x8086", "0x030000"),
        ("0000:01:00.0", "0x10de", "0x030000"),
        ("0000:01:00.1", "0x10de", "0x040300"),  # its sound
    ):
        folder = tmp_path / address.replace(":", "_")
        folder.mkdir()
        for name, text in (("vendor", vendor), ("class", kind), ("device", "0x2504")):
            (folder / name).write_text(text + "\n")
    monkeypatch.setattr(readings, "_PCI_FOLDER", tmp_path)
    monkeypatch.setattr(readings, "_GPU_TRACES", ())
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert list(readings._read_gpu_traces()) == ["pci 0000_01_00.0 0x10de 0x030000 0x2504"]


SYSCTL = """hw.ncpu: 8
hw.model: Mac14,2
hw.memsize: 8589934592
hw.perflevel0.physicalcpu: 4
hw.optional.arm.FEAT_BF16: 1
machdep.cpu.brand_string: Apple M2
machdep.cpu.core_count: 8
"""
PROFILE = """Hardware:

    Hardware Overview:

      Model Name: MacBook Air
      Model Identifier: Mac14,2
      Serial Number (system): C02XXXXXXXXX
"""


def test_what_macos_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: tuple[str, ...], **how: object) -> subprocess.CompletedProcess[str]:
        assert how["timeout"]
        told = SYSCTL if command[0].endswith("sysctl") else PROFILE
        return subprocess.CompletedProcess(command, 0, told, "")

    monkeypatch.setattr(subprocess, "run", run)
    assert readings._read_model_name() == "MacBook Air"
    assert readings._read_sysctl() == {
        "hw.model": "Mac14,2",
        "hw.memsize": "8589934592",
        "hw.perflevel0.physicalcpu": "4",
        "hw.optional.arm.FEAT_BF16": "1",
        "machdep.cpu.brand_string": "Apple M2",
    }


def test_a_command_that_is_not_there_or_too_slow_tells_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert readings._output("/no/such/command") == ""
    monkeypatch.setattr(readings, "_COMMAND_TIMEOUT_S", 0.2)
    assert readings._output(sys.executable, "-c", "import time; time.sleep(30)") == ""


@pytest.mark.parametrize(
    ("machine", "macos", "has_mps"),
    [
        ("arm64", "12.3", True),
        ("arm64", "12.2.1", False),
        ("arm64", "15.1", True),
        ("arm64", "", False),
        ("x86_64", "15.1", False),
    ],
)
def test_mps(machine: str, macos: str, has_mps: bool) -> None:
    assert detect(Readings("Darwin", machine, macos_version=macos)).has_mps is has_mps


@pytest.mark.parametrize(
    ("version", "is_wsl"),
    [
        ("Linux version 5.15.167.4-microsoft-standard-WSL2 (root@f9c8)", True),
        ("Linux version 4.4.0-19041-Microsoft (Microsoft@Microsoft.com)", True),
        ("Linux version 6.6.0-custom-wsl (me@home)", True),
        ("Linux version 6.5.0-1025-azure (buildd@lcy02)", False),
        ("", False),
    ],
)
def test_wsl(version: str, is_wsl: bool) -> None:
    told = Readings("Linux", "x86_64", files={"/proc/version": version})
    assert detect(told).is_wsl is is_wsl


def test_a_machine_that_tells_nothing_is_still_one() -> None:
    hardware = detect(Readings("FreeBSD", "amd64"))
    assert hardware.system == "Linux"
    assert (hardware.cpu.physical_cores, hardware.cpu.performance_cores) == (1, 1)
    assert (hardware.gpus, hardware.gpu_problem, hardware.torch_version) == ((), "", "")
    assert json.loads(msgspec.json.encode(hardware))["board"] == ""
