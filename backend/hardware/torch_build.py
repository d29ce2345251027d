"""Whether the installed torch can use the GPUs: told from its version, without importing it."""

import re
from dataclasses import dataclass

from backend.hardware.machine import Gpu, Hardware

_INDEX = "https://download.pytorch.org/whl"


@dataclass(frozen=True, slots=True)
class _Build:
    """One kind of CUDA wheel: which cards and drivers it works with."""

    least_capability: tuple[int, int]
    least_driver: int
    """Major version of NVIDIA's driver."""
    most_capability: tuple[int, int] = (99, 0)
    requirement: str = "torch"
    """What to ask pip for."""


_BUILDS = {
    # Published up to torch 2.14, and the only one with kernels for cards older than Turing.
    "cu126": _Build((5, 0), 525, (9, 0), "torch>=2.8,<2.15"),
    "cu128": _Build((7, 0), 525),  # up to torch 2.11, which dropped Volta from it
    "cu129": _Build((7, 0), 525),
    "cu130": _Build((7, 5), 580),
    "cu132": _Build((7, 5), 580),
}
"""PyTorch's support matrix (RELEASE.md of pytorch/pytorch) by the tag of the version."""
_OFFERED = ("cu130", "cu126")
"""Which are advised, the better first."""


def installed_version(metadata_version: str, version_file: str, system: str) -> str:
    """Version with the tag of its build: "2.13.0+cpu", "2.13.0+cu130"; "" if there is no torch.

    The package's metadata may leave the tag out, torch/version.py seldom does. macOS has none.
    """
    told = re.search(r"^__version__\b[^=\n]*=\s*['\"]([^'\"]+)", version_file, re.MULTILINE)
    version = told[1] if told else metadata_version
    if not told or "+cu" in version or "+cpu" in version or system == "Darwin":
        return version
    for platform, tag in (("cuda", "cu"), ("hip", "rocm")):
        if match := re.search(
            rf"^{platform}\b[^=\n]*=\s*['\"]([\d.]+)", version_file, re.MULTILINE
        ):
            digits = match[1].replace(".", "") if tag == "cu" else match[1]
            return version if "+" in version else f"{version}+{tag}{digits}"
    return version if "+" in version else f"{version}+cpu"


def torch_refuses(torch_version: str, gpu: Gpu) -> str:
    """Why this build of torch cannot use `gpu`; "" if it can, or if nothing is known against it."""
    tag = torch_version.partition("+")[2]
    if tag == "cpu":
        return f"torch {torch_version} is a CPU-only build"
    if tag.startswith("rocm"):
        return f"torch {torch_version} is a build for AMD cards"
    if not (match := re.fullmatch(r"cu(\d\d)\d", tag)):
        return ""
    least_driver = _BUILDS["cu130" if int(match[1]) >= 13 else "cu126"].least_driver
    if _driver(gpu) < least_driver:
        return f"torch {torch_version} needs driver {least_driver} or newer, here is {gpu.driver}"
    build = _BUILDS.get(tag)
    if build is None or gpu.capability is None:
        return ""
    if build.least_capability <= gpu.capability <= build.most_capability:
        return ""
    return f"torch {torch_version} has no kernels for compute capability {_dotted(gpu)}"


def torch_mismatch(hardware: Hardware) -> str:
    """What is wrong between GPUs and torch, and what mends it; "" if at least one can be used.

    Also "" without GPUs, and where no torch is installed beside the server: its worker may run
    under another Python.
    """
    if not hardware.torch_version:
        return ""
    refusals = [torch_refuses(hardware.torch_version, gpu) for gpu in hardware.gpus]
    if not all(refusals) or not refusals:
        return ""
    newest = max(hardware.gpus, key=lambda gpu: gpu.capability or (0, 0))
    refusal = refusals[hardware.gpus.index(newest)]
    return f"⚠️ {newest.name} is not used: {refusal} - {_fix(newest)}"


def _fix(gpu: Gpu) -> str:
    capability = gpu.capability or (8, 0)
    fitting = [
        tag
        for tag in _OFFERED
        if _BUILDS[tag].least_capability <= capability <= _BUILDS[tag].most_capability
    ]
    if not fitting:
        return f"no published torch has kernels for compute capability {_dotted(gpu)}"
    usable = [tag for tag in fitting if _driver(gpu) >= _BUILDS[tag].least_driver]
    tag = (usable or fitting)[0]
    build = _BUILDS[tag]
    command = f'pip install --force-reinstall "{build.requirement}" --index-url {_INDEX}/{tag}'
    if usable:
        return f"Install with: {command}"
    return f"Update the NVIDIA driver to {build.least_driver} or newer, then: {command}"


def _driver(gpu: Gpu) -> int:
    """Major version; one that cannot be read counts as new enough."""
    match = re.match(r"\d+", gpu.driver)
    return int(match[0]) if match else 10**6


def _dotted(gpu: Gpu) -> str:
    return "{}.{}".format(*gpu.capability) if gpu.capability else "unknown"
