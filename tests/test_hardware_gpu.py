"""CUDA_VISIBLE_DEVICES as CUDA reads it."""

import pytest

from backend.hardware.gpu import visible_gpus
from backend.hardware.machine import GIB
from backend.nvml import GpuReading


def card(index: int, uuid: str) -> GpuReading:
    return GpuReading(index, uuid, "A card", GIB, GIB, 0, (8, 6), "580.95.05", None, None)


CARDS = [card(0, "GPU-aa11"), card(1, "GPU-aa22"), card(2, "GPU-bb33")]


@pytest.mark.parametrize(
    ("visible", "indices"),
    [
        (None, [0, 1, 2]),
        ("0,1,2", [0, 1, 2]),
        ("2,0", [0, 2]),
        (" 1 , 2 ", [1, 2]),
        ("+1", [1]),
        ("", []),
        ("-1", []),
        ("0,-1,2", [0]),
        ("3", []),
        ("0,9,1", [0]),
        ("0,0", []),
        ("1,GPU-aa22", []),
        ("GPU-bb33", [2]),
        ("GPU-bb", [2]),
        ("GPU-aa22,GPU-aa11", [0, 1]),
        ("GPU-aa", []),
        ("GPU-cc", []),
        ("gpu-bb33", []),
        ("MIG-0f4b", []),
        ("all", []),
        ("none", []),
        ("NoDevFiles", []),
        ("1x", [1]),
        (",1", []),
    ],
)
def test_cuda_visible_devices(visible: str | None, indices: list[int]) -> None:
    assert [gpu.index for gpu in visible_gpus(CARDS, visible)] == indices


def test_a_gap_in_the_cards_keeps_their_numbers() -> None:
    """A lost card 0 leaves card 1 being card 1."""
    assert [gpu.index for gpu in visible_gpus(CARDS[1:], "1")] == [1]
