"""Work that is asked of a GPU again and again, recorded once as a CUDA graph."""

from collections.abc import Callable
from functools import cache

import torch


def captured(
    work: Callable[[], None], like: torch.cuda.CUDAGraph | None = None
) -> torch.cuda.CUDAGraph:
    """A graph of what `work` asks for; it is run twice, once before and once while recorded.

    It may use the memory of `like` again, which never runs at the same time. Other threads may use
    the GPU meanwhile.
    """
    stream = _recording_stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        work()  # what is compiled, loaded or allocated at first use is not to be recorded
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    pool = None if like is None else like.pool()
    with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
        work()
    return graph


@cache
def _recording_stream() -> torch.cuda.Stream:
    """One for all: cuBLAS keeps 32 MiB for each stream that it was ever used on."""
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]
