"""Processes that learn one model, each on a device of its own and from speech of its own."""

from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

_PATIENCE = timedelta(minutes=8)
"""They wait for each other: one may encode its speech sooner than another."""


class Together:
    """`count` processes, this one the `rank`-th, that meet at a file; one alone needs nobody."""

    def __init__(self, rank: int = 0, count: int = 1, meeting: Path | None = None) -> None:
        self.rank, self.count = rank, count
        if count > 1:
            assert meeting is not None
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            dist.init_process_group(
                backend, init_method=meeting.absolute().as_uri(), rank=rank, world_size=count,
                timeout=_PATIENCE,
            )  # fmt: skip

    @property
    def leads(self) -> bool:
        """Whether it is this one that looks, writes and decides."""
        return self.rank == 0

    def average_(self, tensors: list[Tensor]) -> None:
        """Each becomes its mean over all processes."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.count
        parts = flat.split([tensor.numel() for tensor in tensors])
        torch._foreach_copy_(
            tensors, [part.view_as(t) for part, t in zip(parts, tensors, strict=True)]
        )

    def agreed(self, value: float) -> float:
        """What the leader says of it: clocks differ, and all must end with the same step."""
        if self.count == 1:
            return value
        said = torch.tensor([value], dtype=torch.float64)
        dist.broadcast(said, 0)
        return float(said)

    def close(self) -> None:
        """Part, when all are done."""
        if self.count > 1:
            dist.barrier()
            dist.destroy_process_group()
