"""Weights in 8 and 4 bits: how they are rounded, multiplied, and loaded."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from backend.bench.random_checkpoint import random_checkpoint
from backend.core import Quantization
from backend.engine.engine import Engine
from backend.errors import BadCheckpoint
from backend.model import quantize
from backend.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from backend.model.config import CodecConfig, transformer
from backend.model.dual_ar import DualAR
from backend.model.packed import PackedLinear
from backend.model.quantize import (
    GROUP_SIZE,
    Bits,
    Int8Linear,
    QuantizedLinear,
    QuantizedMatrix,
    has_kernel,
    quantize_matrix,
    quantized_linear,
)
from tests.engines import run, sequence
from tests.kernels_in_c import native_pool
from tests.tiny import TINY_CODEC, tiny_checkpoint

CPU = torch.device("cpu")
WAYS: tuple[Quantization, ...] = ("int8", "int4")
BITS: tuple[Bits, ...] = (8, 6, 4)


def _weight(rows: int, columns: int, seed: int = 0) -> Tensor:
    made = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    return made.div(columns**0.5)


def _x(rows: int, columns: int) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(99))


def _off(found: Tensor, wanted: Tensor) -> float:
    """Root of the squared error's share."""
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


@pytest.fixture
def asked_anew() -> Iterator[None]:
    """What is known of kernels is forgotten before and after."""
    has_kernel.cache_clear()
    yield
    has_kernel.cache_clear()


@pytest.mark.parametrize("bits", BITS)
def test_no_weight_is_further_off_than_half_a_step(bits: Bits) -> None:
    weight = _weight(70, 192)
    matrix = quantize_matrix(weight, bits)
    group = GROUP_SIZE if bits == 4 else 192
    assert matrix.group_size == group
    assert matrix.scales.shape == matrix.offsets.shape == (70, 192 // group)
    steps = matrix.scales.float().abs().repeat_interleave(group, 1)
    off = (matrix.dequantized() - weight).abs()
    # Scale and offset are themselves rounded to 8 bits, so the range may end a little early.
    slack = weight.abs().amax() * 2**-8
    # Of six bits there is a step less on one side, where a weight as large as the largest may be.
    assert ((off <= steps / 2 + slack) | (matrix.values == 31)).all()
    assert (off <= steps + slack).all()
    assert off.square().mean() < 1.05 * steps.square().mean() / 12


def test_values_use_the_whole_range() -> None:
    eight, six, four = (quantize_matrix(_weight(64, 256), bits) for bits in BITS)
    assert eight.values.abs().amax(1).min() >= 126
    assert six.values.amin(1).eq(-32).all()
    assert set(six.values.flatten().tolist()) == set(range(-32, 32))
    assert {*six.scales.sign().flatten().tolist()} == {-1.0, 1.0}
    assert set(four.values.flatten().tolist()) == set(range(16))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("value", [0.0, 1.0, -3.0])
def test_equal_weights_stay_what_they_are(bits: Bits, value: float) -> None:
    weight, used = torch.full((8, 64), value), torch.ones(64)
    for importance in (None, used, 0 * used):
        found = quantize_matrix(weight, bits, importance).dequantized()
        assert torch.allclose(found, weight, rtol=0.01, atol=1e-6)


def _cost(matrix: QuantizedMatrix, weight: Tensor, importance: Tensor) -> Tensor:
    """Squared error of the outputs, [out]."""
    return ((matrix.dequantized() - weight).square() * importance).sum(1)


def test_four_bits_are_fitted_to_how_columns_are_used() -> None:
    weight = _weight(32, 256)
    plain = quantize_matrix(weight, 4)
    even = torch.ones(256)
    fitted = quantize_matrix(weight, 4, even)
    assert _cost(fitted, weight, even).sum() < 0.95 * _cost(plain, weight, even).sum()
    # One column of a group is as large as all others together, and hardly used.
    weight[:, ::GROUP_SIZE] = 1.2 * weight.abs().amax(1, keepdim=True)
    uneven = even.clone()
    uneven[::GROUP_SIZE] = 1e-6
    plain, fitted = quantize_matrix(weight, 4), quantize_matrix(weight, 4, uneven)
    assert (_cost(fitted, weight, uneven) <= _cost(plain, weight, uneven) * 1.001).all()
    assert _cost(fitted, weight, uneven).sum() < 0.9 * _cost(plain, weight, uneven).sum()


@pytest.mark.parametrize("bits", [8, 6])
def test_of_what_has_one_scale_the_use_does_not_count(bits: Bits) -> None:
    plain, asked = (quantize_matrix(_weight(8, 64), bits, use) for use in (None, torch.rand(64)))
    assert torch.equal(plain.values, asked.values)
    assert torch.equal(plain.scales, asked.scales)


def test_columns_that_no_group_divides_are_held_in_int8() -> None:
    matrix = quantize_matrix(_weight(64, GROUP_SIZE + 8), 4)
    assert matrix.bits == 8
    assert isinstance(quantized_linear(matrix), Int8Linear)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(64, 128), (320, 192), (65, 64), (1025, 256), (700, 32)])
@pytest.mark.parametrize("bits", BITS)
def test_every_way_to_multiply_agrees_with_the_plain_matrix(
    bits: Bits, shape: tuple[int, int], dtype: torch.dtype
) -> None:
    matrix = quantize_matrix(_weight(*shape), bits)
    bias = _x(1, shape[0])[0].to(dtype)
    for uses_kernel in {False, has_kernel(matrix.bits, CPU)}:
        linear = quantized_linear(matrix, bias, uses_kernel)
        for rows in (1, 3, 16, 40):
            x = _x(rows, shape[1]).to(dtype)
            wanted = F.linear(x.double(), matrix.dequantized().double(), bias.double())
            y = linear(x.view(1, rows, -1))
            assert y.dtype == dtype
            assert y.shape == (1, rows, shape[0])
            # Kernels take and give bfloat16, whatever the activations are.
            exact = dtype == torch.float32 and not uses_kernel
            assert _off(y[0], wanted) < (1e-5 if exact else 4e-3)


@pytest.mark.parametrize("bits", BITS)
def test_a_part_of_a_larger_tensor_is_multiplied_as_it_is(bits: Bits) -> None:
    """The kernels want their inputs in one piece, and aligned."""
    matrix = quantize_matrix(_weight(64, 96), bits)
    linear = quantized_linear(matrix)
    whole = _x(6, 5 * 96).view(6, 5, 96).to(torch.bfloat16)
    for x in (whole[:, -1], whole[1:, 2:], whole[..., :96].transpose(0, 1)):
        wanted = F.linear(x.float(), matrix.dequantized())
        assert _off(linear(x), wanted) < 4e-3


@pytest.mark.parametrize("bits", BITS)
def test_a_row_is_multiplied_alike_in_any_company(bits: Bits) -> None:
    linear = quantized_linear(quantize_matrix(_weight(192, 320), bits))
    x = _x(16, 320)
    alone = torch.cat([linear(row[None]) for row in x])
    for rows in range(2, 17):
        assert torch.equal(linear(x[:rows]), alone[:rows])


def test_float16_does_not_overflow() -> None:
    linear = quantized_linear(quantize_matrix(_weight(64, 2048), 8), uses_kernel=False)
    x = torch.full((2, 2048), 30.0, dtype=torch.float16)
    wanted = F.linear(x.float(), quantize_matrix(_weight(64, 2048), 8).dequantized())
    assert _off(linear(x), wanted) < 4e-3


def test_a_kernel_is_not_given_columns_it_would_read_past() -> None:
    assert not quantized_linear(quantize_matrix(_weight(64, 40), 8)).uses_kernel
    assert quantized_linear(quantize_matrix(_weight(64, 64), 8)).uses_kernel == has_kernel(8, CPU)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_kernel_that_is_wrong_refuses_or_is_absent_is_not_used(
    bits: Bits, monkeypatch: pytest.MonkeyPatch, asked_anew: None
) -> None:
    monkeypatch.setattr(quantize, "_is_worth_trying", lambda bits, device: True)
    kind = Int8Linear if bits == 8 else quantize.Int4Linear
    right = kind._product
    outcomes: list[Any] = [
        lambda self, rows: F.linear(rows, quantized_weight(rows)),
        lambda self, rows: right(self, rows) * 1.1,
        _raises(RuntimeError("not implemented for this device")),
        _raises(AttributeError("no such operation")),
    ]

    def quantized_weight(rows: Tensor) -> Tensor:
        weight = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
        return quantize_matrix(weight, bits).dequantized(rows.dtype)

    believed = []
    for outcome in outcomes:
        has_kernel.cache_clear()
        monkeypatch.setattr(kind, "_product", outcome)
        believed.append(has_kernel(bits, CPU))
    assert believed == [True, False, False, False]


def _raises(error: Exception) -> Any:
    def product(self: QuantizedLinear, rows: Tensor) -> Tensor:
        raise error

    return product


def test_on_windows_no_kernel_is_used(monkeypatch: pytest.MonkeyPatch, asked_anew: None) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert not has_kernel(8, CPU)
    assert not has_kernel(4, CPU)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("voice"), end_scale=0.0)


@torch.inference_mode()
def _logits(checkpoint: Checkpoint) -> tuple[Tensor, Tensor]:
    """Slow and fast logits of one text and made-up frames."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.tensor([checkpoint.tokenizer.encode("The quick brown fox.")])
    codes = torch.zeros(1, tokens.shape[1], 4, dtype=torch.int64)
    hidden = checkpoint.model.slow(tokens, codes)[0]
    frames = torch.randint(0, 64, (hidden.shape[0], 4), generator=generator)
    return checkpoint.model.slow_logits(hidden), checkpoint.model.fast(hidden, frames)[:, 1:]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_logits_stay_near_the_full_ones(folder: Path, dtype: torch.dtype) -> None:
    wanted = _logits(load_checkpoint(folder))
    for way, bound in (("int8", 0.04), ("int4", 0.3)):
        quantized = load_checkpoint(folder, dtype=dtype, quantization=way)  # type: ignore[arg-type]
        off = [_off(found, full) for found, full in zip(_logits(quantized), wanted, strict=True)]
        assert max(off) < bound, f"{way}: {off}"


@pytest.mark.parametrize("way", WAYS)
def test_that_bound_notices_wrong_scales(folder: Path, way: Quantization) -> None:
    wanted = _logits(load_checkpoint(folder))
    quantized = load_checkpoint(folder, quantization=way)
    for module in quantized.model.modules():
        if isinstance(module, QuantizedLinear):
            module.scales *= 1.2
    off = [_off(found, full) for found, full in zip(_logits(quantized), wanted, strict=True)]
    assert max(off) > (0.04 if way == "int8" else 0.3)


MATRICES = ("attention.wqkv", "attention.wo", *(f"feed_forward.w{i}" for i in (1, 2, 3)))


def _bits(model: DualAR) -> dict[str, int]:
    """Of every matrix that is held in integers."""
    return {
        name: module.bits
        for name, module in model.named_modules()
        if isinstance(module, QuantizedLinear)
        or (isinstance(module, PackedLinear) and module.packed.dtype == torch.uint8)
    }


def _wanted_bits(slow: int, last: int | None = None, head: int = 8) -> dict[str, int]:
    return {
        **{f"layers.0.{name}": slow for name in MATRICES},
        **{f"layers.1.{name}": last or slow for name in MATRICES},
        **{f"fast_layers.{layer}.{name}": 8 for layer in range(2) for name in MATRICES},
        "fast_output": 8,
        "head": head,
    }


def test_what_is_quantized_and_what_is_not(folder: Path) -> None:
    model = load_checkpoint(folder, quantization="int4").model
    assert _bits(model) == _wanted_bits(4)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in model.parameters())


def test_of_a_small_checkpoint_the_native_kernels_have_sixteen_bits_at_its_end(
    folder: Path,
) -> None:
    for way in WAYS:
        found = _bits(load_checkpoint(folder, quantization=way, pool=native_pool()).model)
        assert found == _wanted_bits(8 if way == "int8" else 6, last=16, head=16)


def test_the_native_kernels_have_six_bits_for_int4_and_eight_at_its_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transformer, "SMALL_PARAMETERS", 0)
    checkpoint = load_checkpoint(folder, quantization="int4", pool=native_pool())
    assert _bits(checkpoint.model) == _wanted_bits(6, last=8, head=16)
    (note,) = checkpoint.quantization_notes
    assert "six bits" in note
    eight = load_checkpoint(folder, quantization="int8", pool=native_pool())
    assert _bits(eight.model) == _wanted_bits(8, head=16)
    assert not eight.quantization_notes
    wanted = _logits(load_checkpoint(folder))
    off = [_off(found, full) for found, full in zip(_logits(checkpoint), wanted, strict=True)]
    assert 0.01 < max(off) < 0.1


@pytest.mark.parametrize("way", WAYS)
def test_parameters_and_bytes_are_the_true_ones(folder: Path, way: Quantization) -> None:
    full, quantized = load_checkpoint(folder), load_checkpoint(folder, quantization=way)
    assert full.quantization == "none"
    assert quantized.quantization == way
    assert quantized.parameters == full.parameters
    assert full.unquantized_weight_bytes == full.weight_bytes == 4 * full.parameters
    assert quantized.unquantized_weight_bytes == full.weight_bytes
    config = full.config
    saved = 0
    for stack, bits in ((config.slow, 8 if way == "int8" else 4), (config.fast, 8)):
        for out, columns in stack.matrices * stack.n_layer:
            saved += 4 * out * columns - _held_bytes(out, columns, bits)
    saved += 4 * 64 * 32 - _held_bytes(64, 32, 8)  # fast_output
    assert full.weight_bytes - quantized.weight_bytes == saved


def _held_bytes(out: int, columns: int, bits: int) -> int:
    if bits == 8:
        return out * columns + 2 * out
    if has_kernel(4, CPU):
        out = -(-out // 64) * 64  # whole blocks
    return out * columns // 2 + 4 * out * columns // GROUP_SIZE


def test_a_frame_reads_what_its_layers_hold(folder: Path) -> None:
    full, eight = load_checkpoint(folder), load_checkpoint(folder, quantization="int8")
    config = full.config
    legal = config.codebook_size + 1
    assert full.model.weight_bytes_per_frame() == 4 * config.weights_read_per_frame(legal)
    times = {"slow": 1, "fast": config.num_codebooks - 1}
    wanted = _held_bytes(legal, 64, 8) + times["fast"] * _held_bytes(64, 32, 8)
    for name, count in times.items():
        stack = getattr(config, name)
        held = sum(_held_bytes(out, columns, 8) for out, columns in stack.matrices)
        norms = 4 * (stack.layer_parameters - sum(a * b for a, b in stack.matrices))
        wanted += count * stack.n_layer * (held + norms)
    assert eight.model.weight_bytes_per_frame() == wanted


def test_a_quantized_checkpoint_is_not_saved(folder: Path, tmp_path: Path) -> None:
    quantized = load_checkpoint(folder, quantization="int8")
    with pytest.raises(BadCheckpoint, match="int8 cannot be saved"):
        save_checkpoint(tmp_path / "copy", quantized, torch.float32)
    assert not (tmp_path / "copy").exists()


def test_odd_sizes_are_told(tmp_path: Path) -> None:
    odd = tiny_checkpoint(tmp_path, intermediate_size=120, attention_qkv_bias=True)
    checkpoint = load_checkpoint(odd, quantization="int4")
    (note, *others) = checkpoint.quantization_notes
    assert note.startswith("2 of 10 matrices are held in int8, because groups of 32")
    assert "120 columns" in note
    # int8 has its kernel for multiples of 32 only.
    assert len(others) == 1
    wanted = _logits(load_checkpoint(odd))
    for found, full in zip(_logits(checkpoint), wanted, strict=True):
        assert _off(found, full) < 0.3
    assert not load_checkpoint(tmp_path).quantization_notes


@pytest.mark.parametrize("way", WAYS)
def test_it_speaks(folder: Path, way: Quantization) -> None:
    checkpoint = load_checkpoint(folder, quantization=way)
    alone = sequence("Hello there.", frames=20)
    frames = run(Engine(checkpoint.model, 8), alone)[alone]
    assert frames.shape == (20, 4)
    assert int(frames.min()) >= 0
    assert int(frames.max()) < 64
    again, other = sequence("Hello there.", frames=20), sequence("Something else.", frames=9)
    assert torch.equal(run(Engine(checkpoint.model, 8), other, again)[again], frames)


@pytest.mark.parametrize("way", WAYS)
def test_the_official_layout_is_quantized_alike(folder: Path, way: Quantization) -> None:
    ours, theirs = (
        load_checkpoint(place, quantization=way, calibration_samples=4)
        for place in (folder, _as_official(folder))
    )
    assert ours.quality_cost == theirs.quality_cost
    mine = dict(ours.model.named_buffers())
    assert all(torch.equal(mine[name], b) for name, b in theirs.model.named_buffers())


PROBE = """
import json, sys, threading
from pathlib import Path
from backend.worker.allocator import keep_memory_predictable
keep_memory_predictable()  # as the worker does, before torch is imported
import psutil, torch
from backend.model import weights
from backend.model.checkpoint import load_checkpoint
from backend.worker.process_memory import give_back_unused

torch.set_num_threads(1)
weights._REMAP_BYTES = 4 << 20
process, peak, done = psutil.Process(), [0], threading.Event()

def watch():
    while not done.wait(0.001):
        peak[0] = max(peak[0], process.memory_info().rss)

small, folder, options = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
load_checkpoint(small, **options)  # libraries are loaded, kernels tried
give_back_unused(torch.device("cpu"))
before = process.memory_info().rss
watcher = threading.Thread(target=watch)
watcher.start()
held = load_checkpoint(folder, **options)
done.set()
watcher.join()
give_back_unused(torch.device("cpu"))
print(json.dumps({
    "peak": peak[0] - before,
    "final": process.memory_info().rss - before,
    "weights": held.weight_bytes,
    "unquantized": held.unquantized_weight_bytes,
}))
"""


@pytest.fixture(scope="module")
def mid_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """25 million weights, no matrix of more than half a million."""
    return random_checkpoint(
        tmp_path_factory.mktemp("mid"),
        n_layer=12,
        dim=384,
        intermediate_size=1152,
        n_head=6,
        n_local_heads=3,
        head_dim=64,
        n_fast_layer=1,
        fast_dim=384,
        fast_n_head=6,
        fast_n_local_heads=3,
        fast_intermediate_size=1152,
        vocab_size=1300,
        codebook_size=1024,
        num_codebooks=4,
        codec=CodecConfig(**{**TINY_CODEC, "semantic_codebook_size": 1024}),
    )


@pytest.mark.parametrize(("way", "official"), [("none", False), ("int8", False), ("int4", True)])
def test_memory_never_holds_two_copies(
    folder: Path, mid_size: Path, way: str, official: bool
) -> None:
    if official:
        mid_size = _as_official(mid_size)
    options = json.dumps({"quantization": way, "calibration_samples": 2})
    command = [sys.executable, "-c", PROBE, str(folder), str(mid_size), options]
    probe = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(probe.stdout)
    full = found["unquantized"]
    # What is in work takes a quarter to a half of the full one, by how its memory is given back. A
    # second copy, even as the file has it in bfloat16, would be half of it on top.
    assert found["peak"] - found["final"] < 0.6 * full, found
    assert found["final"] < found["weights"] + 0.15 * full, found
    assert found["weights"] < {"none": 1.01, "int8": 0.4, "int4": 0.32}[way] * full


def _as_official(folder: Path) -> Path:
    """The same checkpoint as .pth files, written once."""
    official = folder / "official"
    if not official.exists():
        official.mkdir()
        for file in folder.glob("*.*"):
            if file.suffix == ".safetensors":
                torch.save(load_file(file), official / f"{file.stem}.pth")
            else:
                (official / file.name).write_bytes(file.read_bytes())
    return official
