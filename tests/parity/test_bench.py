"""The published package beside ours in `shoal bench`: the same random weights, frame by frame."""

import asyncio
from pathlib import Path

import pytest

from backend.bench.messages import DecodePieces, MakeFrames, ReadMemory
from backend.bench.partner import partner
from backend.bench.random_checkpoint import random_checkpoint
from backend.errors import EngineFailed
from backend.fish_worker.install import fish_command
from backend.model.config import CodecConfig
from backend.worker.messages import WorkerConfig
from tests.parity.oracle import oracle_python
from tests.tiny import TINY, TINY_CODEC


def test_upstream_stands_still_until_it_is_asked(tmp_path: Path) -> None:
    folder = random_checkpoint(tmp_path / "tiny", codec=CodecConfig(**TINY_CODEC), **TINY)
    config = WorkerConfig(str(folder), device="cpu", precision="bf16", num_threads=1)
    command = fish_command(
        oracle_python(), tmp_path / "converted", config, "backend.bench.upstream"
    )

    async def work() -> None:
        async with partner("upstream", command, {}) as upstream:
            hello = upstream.hello
            assert (hello.engine, hello.precision, hello.threads) == ("fish-speech", "bf16", 1)
            some = await upstream.ask(MakeFrames(0.0))
            more = await upstream.ask(MakeFrames(0.2))
            decoded = await upstream.ask(DecodePieces(0.05, 4))
            again = await upstream.ask(MakeFrames(0.0))
            assert some.amount == again.amount == 1
            assert more.amount > 1
            assert more.wall_s >= 0.2
            assert decoded.amount % 4 == 0
            with pytest.raises(EngineFailed, match="not asked for ReadMemory"):
                await upstream.ask(ReadMemory(1))

    asyncio.run(work())
