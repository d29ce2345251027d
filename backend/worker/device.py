"""Where the worker computes, in which type, and with how many threads."""

from dataclasses import dataclass

import psutil
import torch

from backend.errors import BadSetting

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_CUDA_CAPABILITY_BF16 = (8, 0)


@dataclass(frozen=True, slots=True)
class Place:
    """A device and the type of the weights on it."""

    device: torch.device
    dtype: torch.dtype
    reason: str

    @property
    def precision(self) -> str:
        """The name of the type in settings and answers."""
        return next(name for name, dtype in _DTYPES.items() if dtype == self.dtype)


def resolve(device: str, precision: str, may_fall_back: bool = False) -> Place:
    """The place that the plan asks for; `BadSetting` where this machine has none.

    With `may_fall_back` a GPU that torch cannot use is no error but the CPU.
    """
    try:
        found = _device(device)
    except BadSetting as error:
        if not may_fall_back:
            raise
        return Place(torch.device("cpu"), torch.float32, f"not {device}: {error}")
    if precision != "auto":
        if precision not in _DTYPES:
            raise BadSetting(f"precision {precision!r} is none of auto, {', '.join(_DTYPES)}")
        return Place(found, _DTYPES[precision], "as configured")
    if found.type == "cuda":
        if torch.cuda.get_device_capability(found) >= _CUDA_CAPABILITY_BF16:
            return Place(found, torch.bfloat16, "half the bytes, the range of float32")
        return Place(found, torch.float16, "a GPU too old for bfloat16")
    if found.type == "mps":
        return Place(found, torch.float32, "16-bit kernels on MPS are incomplete")
    return Place(found, torch.float32, "no 16-bit arithmetic can be assumed of a CPU")


def use_threads(num_threads: int | None) -> int:
    """Let torch use that many threads, or one for each physical core we may run on; how many."""
    count = num_threads or _physical_cores()
    torch.set_num_threads(count)
    return count


def _device(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BadSetting(f"device {name!r} is none of auto, cpu, cuda, cuda:N, mps") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BadSetting(f"device {name!r} is not there: {torch.cuda.device_count()} CUDA devices")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise BadSetting("device 'mps' is not there")
    if device.type not in ("cpu", "cuda", "mps"):
        raise BadSetting(f"device {name!r} is none of auto, cpu, cuda, cuda:N, mps")
    return device


def _physical_cores() -> int:
    physical = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    process = psutil.Process()
    # A container or taskset may allow fewer; macOS cannot say.
    allowed = len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else physical
    return max(1, min(physical, allowed))
