"""Where torch.compile is tried: the changelog's table, its log lines word for word."""

import pytest

from backend.errors import BadSetting
from backend.hardware.compile_gate import gate, gate_for
from backend.hardware.machine import Hardware
from backend.hardware.need import CheckpointShape
from backend.hardware.placement import place
from backend.settings import Settings
from tests.computers import DEMO, I5, I7, S1, SIZED, V100, Given, computer, cpu_of, gpu_of, mac

AUTO = Given()
FORCED = Given(force_torch_compile=True)
OFF = Given(torch_compile="off")

OLD_CARD = gpu_of("NVIDIA GeForce GTX 1080", 8, capability=(6, 1))
WSL = (
    "INFO",
    "🚀 WSL2 + NVIDIA GPU detected - enabling torch.compile with Triton (20-30% speedup!)",
)
NATIVE = ("INFO", "🚀 Native Linux/macOS detected - enabling torch.compile with Triton")
WINDOWS = (
    "WARNING",
    "⚠️ Windows detected: torch.compile disabled (Triton not available, use WSL2 for 20-30% "
    "speedup)",
)


@pytest.mark.parametrize(
    ("hardware", "device", "is_tried", "line"),
    [
        (computer(I7, 32, V100, is_wsl=True), "cuda:0", True, WSL),
        (computer(I7, 32, is_wsl=True), "cpu", True, NATIVE),
        (computer(I7, 32, V100), "cuda:0", True, NATIVE),
        (computer(I7, 32), "cpu", True, NATIVE),
        (mac(), "mps", True, NATIVE),
        (computer(I7, 32, V100, system="Windows"), "cuda:0", False, WINDOWS),
        (computer(I7, 32, system="Windows"), "cpu", False, WINDOWS),
    ],
)
def test_the_changelogs_platforms(
    hardware: Hardware, device: str, is_tried: bool, line: tuple[str, str]
) -> None:
    choice, told = gate(hardware, device, AUTO)
    assert (choice.value, choice.source) == (is_tried, "machine")
    assert told == line


def test_the_user_wins_on_every_platform() -> None:
    windows = computer(I7, 32, V100, system="Windows")
    choice, (level, text) = gate(windows, "cuda:0", FORCED)
    assert (choice.value, choice.source, level) == (True, "user", "INFO")
    assert "FORCE_TORCH_COMPILE" in text
    choice, (_, text) = gate(computer(I7, 32, V100), "cuda:0", OFF)
    assert (choice.value, choice.source) == (False, "user")
    assert "SHOAL_TORCH_COMPILE=off" in text


def test_both_at_once_is_refused() -> None:
    both = Given(force_torch_compile=True, torch_compile="off")
    with pytest.raises(BadSetting, match="contradict"):
        gate(mac(), "mps", both)


@pytest.mark.parametrize(
    ("hardware", "shape", "settings", "is_tried", "reason"),
    [
        (computer(I7, 32), S1, AUTO, True, "a C compiler"),
        (computer(I7, 32, system="Windows"), S1, AUTO, True, "a C compiler"),
        (computer(I7, 32), DEMO, AUTO, True, "a C compiler"),
        (computer(I7, 32), DEMO, OFF, False, "SHOAL_TORCH_COMPILE=off"),
        (computer(I7, 32, V100), DEMO, AUTO, True, "has Triton"),
        (computer(I7, 32, V100, system="Windows"), DEMO, AUTO, False, "WSL2 has it"),
        (computer(I7, 32, OLD_CARD), DEMO, AUTO, False, "needs compute capability 7.0"),
        (mac(), DEMO, AUTO, True, ""),
        (computer(I7, 32), S1, Given(engine="fish-speech"), False, "as it was published"),
        (computer(I5, 32, limit_gib=3.9), DEMO, AUTO, True, "a C compiler"),
        (computer(cpu_of("ARM", vendor="arm"), 4.4), SIZED, FORCED, True, "FORCE_TORCH_COMPILE"),
    ],
)
def test_on_a_cpu_the_kernels_are_in_c_and_on_a_gpu_triton_has_its_say(
    hardware: Hardware, shape: CheckpointShape, settings: Settings, is_tried: bool, reason: str
) -> None:
    choice, _ = gate_for(hardware, place(hardware, settings, shape), settings)
    assert choice.value is is_tried
    assert reason in choice.reason
