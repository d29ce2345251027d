"""The fused way's kernels compiled for GPUs that are not here: with the arguments that they get at
openaudio-s1-mini's width, and within the memory that the threads of a program share there."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from backend.bench.random_checkpoint import S1_MINI
from backend.engine import fused, fused_stack
from backend.engine.frame import State
from backend.engine.kernels import attention, products, sampling
from backend.model.checkpoint import load_checkpoint
from tests.tiny import tiny_checkpoint

SLOTS = 16
SHAPE = S1_MINI | {"n_layer": 1, "n_fast_layer": 1, "vocab_size": 5000, "max_seq_len": 1024}
TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.int64: "i64"}
TYPES |= {torch.int32: "i32"}


@dataclass(frozen=True, slots=True)
class Gpu:
    """What a kernel is compiled for."""

    capability: int
    shared_kib: int
    """That one program may have, by NVIDIA's table of compute capabilities."""
    dtype: torch.dtype


GPUS = {
    "Volta": Gpu(70, 96, torch.float16),
    "Turing": Gpu(75, 64, torch.float16),
    "A100": Gpu(80, 163, torch.bfloat16),
    "RTX 3090": Gpu(86, 99, torch.bfloat16),
    "RTX 4090": Gpu(89, 99, torch.bfloat16),
    "Hopper": Gpu(90, 227, torch.bfloat16),
    "Hopper in fp32": Gpu(90, 227, torch.float32),
    "RTX 5090": Gpu(120, 99, torch.bfloat16),
}
QUICK = ("Hopper",)
OPTIONS = {"enable_fp_fusion": True}
"""As the Triton of every torch that is out there has it by default."""


class Launches:
    """Stands in a kernel's place and notes what it is launched with; computes nothing."""

    def __init__(self, kernel: Any, noted: dict[str, tuple[Any, ASTSource, int]]) -> None:
        self._kernel, self._noted = kernel, noted

    def __getitem__(self, grid: object) -> Callable[..., None]:
        return self._launch

    def _launch(self, *arguments: object, num_warps: int = 4) -> None:
        signature, known, attributes = {}, {}, {}
        for index, (name, value) in enumerate(zip(self._kernel.arg_names, arguments, strict=True)):
            if self._kernel.params[index].is_constexpr or (type(value) is int and value == 1):
                signature[name], known[name] = "constexpr", value
            elif isinstance(value, Tensor):
                signature[name] = f"*{TYPES[value.dtype]}"
                attributes[index,] = [["tt.divisibility", 16]]
            else:
                signature[name] = "fp32" if isinstance(value, float) else "i32"
        source = ASTSource(self._kernel, signature, known, attributes)
        self._noted[f"{source.hash()} {num_warps}"] = (self._kernel, source, num_warps)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, tuple[Any, ASTSource, int]]]:
    """What was launched, each different one once."""
    noted: dict[str, tuple[Any, ASTSource, int]] = {}
    for module, names in (
        (attention, ("embed", "turn", "attend")),
        (products, ("linear", "rms_norm", "gate")),
        (sampling, ("sample",)),
    ):
        for name in names:
            monkeypatch.setattr(module, name, Launches(getattr(module, name), noted))
    for module in (fused, fused_stack):
        monkeypatch.setattr(
            module, "launch_options", lambda _, num_warps=4: {"num_warps": num_warps}
        )
    yield noted


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in GPUS]
)
@pytest.mark.timeout(600)
@torch.inference_mode()
def test_every_kernel_compiles_and_fits(
    name: str,
    launched: dict[str, tuple[Any, ASTSource, int]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    gpu = GPUS[name]
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "built"))
    monkeypatch.setattr(fused_stack, "shared_bytes", lambda _: gpu.shared_kib << 10)
    for module in (fused, fused_stack):
        monkeypatch.setattr(module, "has_pdl", lambda _: gpu.capability >= 90)
    checkpoint = load_checkpoint(tiny_checkpoint(tmp_path, **SHAPE), dtype=gpu.dtype)
    state = State.of(checkpoint.model, SLOTS)
    way = fused.FusedWay(state)
    tokens = torch.full((20,), checkpoint.model.semantic_begin_id)
    for slot in range(SLOTS):
        state.cache.open(slot, 40)
        state.cache.extend([slot], 20)
    way.read(0, tokens, torch.zeros((20, checkpoint.config.num_codebooks), dtype=torch.int64))
    for rows in (1, 2, SLOTS):
        way.frame(range(rows))
    used = {kernel.__name__ for kernel, _, _ in launched.values()}
    assert used == {"embed", "turn", "attend", "linear", "rms_norm", "gate", "sample"}
    target = GPUTarget("cuda", gpu.capability, 32)
    for kernel, source, warps in launched.values():
        built = triton.compile(source, target=target, options={**OPTIONS, "num_warps": warps})
        shared_kib = built.metadata.shared / 1024
        print(name, kernel.__name__, warps, "warps", f"{shared_kib:.1f} KiB")
        assert shared_kib <= gpu.shared_kib
