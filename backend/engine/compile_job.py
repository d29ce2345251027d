"""What a compiler is told of a model: its structure, without a single number of it."""

import copy
import hashlib
import io
import pickle
import platform
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch
from torch import Tensor, nn

from backend.model.dual_ar import DualAR

_LENGTH = struct.Struct("<Q")
_SOURCES = (
    *("compile_job.py", "compile_pieces.py", "compiled.py", "frame.py", "pieces.py", "rows.py"),
    *("sampler.py", "../model/dual_ar.py", "../model/layers.py", "../model/quantize.py"),
)
"""Files beside this one that decide what is compiled."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to compile."""

    model: DualAR
    """All tensors are on the meta device, with their shapes, strides and types."""
    device: str
    max_rows: int

    @classmethod
    def of(cls, model: DualAR, max_rows: int) -> "Job":
        """The job for `model` on its device, for up to `max_rows` rows."""
        tensors = (*model.parameters(), *model.buffers())
        # What deepcopy finds in its memo it takes for copied: no number is.
        skeleton = copy.deepcopy(model, {id(tensor): _on_meta(tensor) for tensor in tensors})
        return cls(skeleton, str(model.embeddings.weight.device), max_rows)

    def pickled(self) -> bytes:
        """The job for a child process of our own; its modules may be of any class."""
        return pickle.dumps(self)

    def key(self) -> str:
        """A name for what comes of it: another for anything that may change that."""
        # Not of the pickle: that may differ from process to process for the same structure.
        digest = hashlib.sha256(repr((self.device, self.max_rows, self.model.config)).encode())
        for name, module in self.model.named_modules():
            digest.update(f"{name} {type(module).__qualname__}\n".encode())
        for name, like in (*self.model.named_parameters(), *self.model.named_buffers()):
            layout = (tuple(like.shape), like.stride(), str(like.dtype))
            digest.update(f"{name} {layout}\n".encode())
        for part in (sys.version, str(torch.__version__), platform.platform(), *self._processor()):
            digest.update(part.encode())
        for source in _SOURCES:
            digest.update((Path(__file__).parent / source).read_bytes())
        return digest.hexdigest()[:32]

    def _processor(self) -> tuple[str, ...]:
        cpu = torch.backends.cpu.get_cpu_capability()
        device = torch.device(self.device)
        if device.type != "cuda":
            return (cpu,)
        return cpu, torch.cuda.get_device_name(device), str(torch.version.cuda)


def write_job(pickled: bytes, pipe: IO[bytes]) -> None:
    """Send a job through `pipe`, which stays open."""
    pipe.write(_LENGTH.pack(len(pickled)) + pickled)
    pipe.flush()


def read_job(pipe: IO[bytes]) -> Job:
    """What `write_job` sent."""
    (length,) = _LENGTH.unpack(pipe.read(_LENGTH.size))
    job = pickle.load(io.BytesIO(pipe.read(length)))
    assert isinstance(job, Job)
    return job


def _on_meta(tensor: Tensor) -> Tensor:
    meta = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(meta, requires_grad=False)
    return meta
