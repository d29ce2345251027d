"""Which build of torch is installed, what it refuses, and the command that mends it."""

import pytest

from backend.hardware.detect import detect
from backend.hardware.machine import GIB, Gpu
from backend.hardware.readings import Readings
from backend.hardware.torch_build import installed_version, torch_mismatch, torch_refuses
from backend.nvml import GpuReading

VERSION_PY = """from typing import Optional

__version__ = '{version}'
debug = False
cuda: Optional[str] = {cuda}
hip: Optional[str] = {hip}
"""


@pytest.mark.parametrize(
    ("metadata", "version", "cuda", "hip", "system", "expected"),
    [
        ("2.13.0+cpu", "2.13.0+cpu", "None", "None", "Linux", "2.13.0+cpu"),
        ("2.13.0", "2.13.0+cpu", "None", "None", "Windows", "2.13.0+cpu"),
        ("2.13.0", "2.13.0+cu130", "'13.0'", "None", "Linux", "2.13.0+cu130"),
        ("2.13.0", "2.13.0", "'12.6'", "None", "Linux", "2.13.0+cu126"),
        ("2.13.0", "2.13.0", "None", "None", "Linux", "2.13.0+cpu"),
        ("2.13.0", "2.13.0", "None", "None", "Darwin", "2.13.0"),
        ("2.9.0", "2.9.0", "None", "'6.4'", "Linux", "2.9.0+rocm6.4"),
        ("2.14.0a0", "2.14.0a0+gitcf30153", "'13.0'", "None", "Linux", "2.14.0a0+gitcf30153"),
    ],
)
def test_torch_version(
    metadata: str, version: str, cuda: str, hip: str, system: str, expected: str
) -> None:
    text = VERSION_PY.format(version=version, cuda=cuda, hip=hip)
    assert installed_version(metadata, text, system) == expected


def test_torch_version_without_its_file_or_without_torch() -> None:
    assert installed_version("2.13.0+cpu", "", "Linux") == "2.13.0+cpu"
    assert installed_version("2.13.0", "", "Linux") == "2.13.0"
    assert installed_version("", "", "Linux") == ""


@pytest.mark.parametrize(
    ("torch_version", "capability", "driver", "refusal"),
    [
        ("2.13.0+cpu", (8, 9), "580.95.05", "CPU-only"),
        ("2.13.0+rocm6.4", (8, 9), "580.95.05", "AMD"),
        ("2.13.0+cu130", (8, 9), "580.95.05", ""),
        ("2.13.0+cu130", (8, 9), "575.64", "needs driver 580"),
        ("2.13.0+cu132", (7, 0), "580.95.05", "no kernels for compute capability 7.0"),
        ("2.13.0+cu126", (7, 0), "535.183.01", ""),
        ("2.13.0+cu126", (6, 1), "470.256.02", "needs driver 525"),
        ("2.13.0+cu126", (12, 0), "580.95.05", "no kernels for compute capability 12.0"),
        ("2.13.0+cu126", (3, 5), "580.95.05", "no kernels for compute capability 3.5"),
        ("2.10.0+cu128", (7, 0), "570.86.10", ""),
        ("2.13.0+cu130", None, "580.95.05", ""),
        ("2.13.0+cu130", (8, 9), "", ""),
        ("2.20.0+cu145", (5, 0), "999", ""),
        ("2.14.0a0+gitcf30153", (8, 9), "580.95.05", ""),
        ("2.13.0", (8, 9), "580.95.05", ""),
        ("", (8, 9), "580.95.05", ""),
    ],
)
def test_torch_refuses(
    torch_version: str, capability: tuple[int, int] | None, driver: str, refusal: str
) -> None:
    told = torch_refuses(torch_version, Gpu(0, "GPU-0", "A card", GIB, GIB, capability, driver))
    assert refusal in told
    assert bool(told) is bool(refusal)


def mismatch(capability: tuple[int, int], driver: str, torch_version: str = "2.13.0+cpu") -> str:
    reading = GpuReading(0, "GPU-0", "A card", GIB, GIB, 0, capability, driver, None, None)
    told = Readings("Linux", "x86_64", gpus=(reading,), torch_metadata_version=torch_version)
    return torch_mismatch(detect(told))


@pytest.mark.parametrize(
    ("capability", "driver", "fix"),
    [
        ((8, 9), "580.95.05", '"torch" --index-url https://download.pytorch.org/whl/cu130'),
        (
            (8, 9),
            "535.183.01",
            '"torch>=2.8,<2.15" --index-url https://download.pytorch.org/whl/cu126',
        ),
        ((7, 0), "580.95.05", "whl/cu126"),
        ((12, 0), "580.95.05", "whl/cu130"),
        ((12, 0), "570.86.10", "Update the NVIDIA driver to 580 or newer, then: pip install"),
        ((6, 1), "470.256.02", "Update the NVIDIA driver to 525 or newer, then: pip install"),
        ((3, 5), "470.256.02", "no published torch has kernels for compute capability 3.5"),
    ],
)
def test_the_fix_fits_card_and_driver(capability: tuple[int, int], driver: str, fix: str) -> None:
    assert fix in mismatch(capability, driver)


def test_no_mismatch_where_nothing_is_known_against_it() -> None:
    assert mismatch((8, 9), "580.95.05", "2.13.0+cu130") == ""
    assert mismatch((8, 9), "580.95.05", "") == ""
