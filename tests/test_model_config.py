"""Arithmetic of shapes: what the configs compute is what the modules hold."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from backend.bench.random_checkpoint import S1_MINI
from backend.model.config import (
    DECODE_FRAMES,
    ENCODE_FRAMES,
    STAGE_FRAMES,
    CodecConfig,
    DualARConfig,
    WindowConfig,
)
from backend.model.dac import DAC
from backend.model.dual_ar import DualAR
from backend.model.kv_cache import KVCache
from backend.model.layers import lay_out_for_cpu_
from backend.model.stored_codec import DECODING, ENCODING
from backend.model.stream import Stream
from tests.computers import DEMO
from tests.tiny import TINY, TINY_CODEC

CPU = torch.device("cpu")
PROJECTED = {"pre": WindowConfig(48, 1, 3, 16, 64, window=5), "latent_dim": 48}
WITH_TRANSFORMER = {
    "encoder_dim": 32,
    "encoder_rates": (4, 5),
    "encoder_transformer_layers": (0, 2),
    "encoder_window": 20,
}


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture
def unfilled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Embeddings on the meta device stay as they are: filling them imports torch's compiler."""
    monkeypatch.setattr(nn.init, "normal_", lambda tensor, *_, **__: tensor)


def parameters(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


@pytest.mark.usefixtures("unfilled")
@pytest.mark.parametrize(
    "config",
    [
        CodecConfig(),
        DEMO.codec,
        CodecConfig(**TINY_CODEC),
        CodecConfig(**{**TINY_CODEC, **PROJECTED}),
        CodecConfig(**{**TINY_CODEC, **WITH_TRANSFORMER}),
    ],
    ids=["official", "demo", "tiny", "projected", "with transformer"],
)
def test_parameters_of_the_codec(config: CodecConfig) -> None:
    with torch.device("meta"):
        codec = DAC(config)
    assert config.parameters == parameters(codec)
    encoding = sum(parameters(codec.get_submodule(name)) for name in ENCODING)
    decoding = sum(parameters(codec.get_submodule(name)) for name in DECODING)
    assert (config.encoding_parameters, config.decoding_parameters) == (encoding, decoding)


@pytest.mark.usefixtures("unfilled")
@pytest.mark.parametrize(
    "raw",
    [
        S1_MINI,
        TINY,
        {**TINY, "tie_word_embeddings": False, "fast_dim": 64},
        {**TINY, "attention_qkv_bias": True, "attention_o_bias": True},
    ],
    ids=["s1-mini", "tiny", "untied", "biases"],
)
def test_parameters_of_the_transformer(raw: dict[str, Any]) -> None:
    config = DualARConfig.from_json(raw)
    with torch.device("meta"):
        model = DualAR(config, 8, 4)
    assert config.parameters == parameters(model)
    linears = [m for m in model.layers.modules() if isinstance(m, nn.Linear)]
    shapes = [tuple(linear.weight.shape) for linear in linears]
    assert sorted(shapes) == sorted(config.slow.matrices * config.slow.n_layer)


@pytest.mark.parametrize("config", [CodecConfig(**TINY_CODEC), DEMO.codec], ids=["tiny", "demo"])
def test_bytes_of_a_stream(config: CodecConfig) -> None:
    codec, stream = DAC(config), Stream()
    for _ in range(3):
        codes = torch.zeros(1, config.num_codebooks, DECODE_FRAMES, dtype=torch.long)
        codec.decode(codes, stream)
    assert stream.stored_bytes == config.stream_bytes


@pytest.mark.parametrize("config", [CodecConfig(**TINY_CODEC), DEMO.codec], ids=["tiny", "demo"])
def test_bytes_of_a_stage(config: CodecConfig) -> None:
    codec, sequences = DAC(config), 3
    slots = Stream(sequences + 1)
    slots.select(torch.arange(sequences))
    codec.decode(torch.zeros(sequences, config.num_codebooks, 2, dtype=torch.long), slots)
    calls = STAGE_FRAMES * sequences * 4 * max(_columns(config)) * 4
    assert config.stage_bytes(sequences, 4) == slots.stored_bytes + calls
    assert config.stage_bytes(64) - config.stage_bytes(63) == config.stream_bytes // 2


def _columns(config: CodecConfig) -> Iterator[int]:
    """Numbers that a frame is after each block."""
    columns, channels = math.prod(config.downsample_factor), config.decoder_dim
    for stride in config.decoder_rates:
        columns, channels = columns * stride, channels // 2
        yield columns * channels


def peak_bytes(work: Any) -> int:
    """The most that torch's allocator gave out at a time during `work`, beyond what it had."""
    work()  # what is kept for later is not counted
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    assert profiled.profiler is not None
    events = profiled.profiler.kineto_results.events()
    given = sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns())
    held = most = 0
    for event in given:
        held += event.nbytes()
        most = max(most, held)
    return most


def assert_close(predicted: int, measured: int) -> None:
    """Kernels differ from CPU to CPU in what they copy."""
    assert math.isclose(predicted, measured, rel_tol=1 / 3), (predicted, measured)


@pytest.mark.parametrize("frames", [8, DECODE_FRAMES])
def test_workspace_of_decoding(frames: int) -> None:
    codec, stream = DAC(DEMO.codec), Stream()
    codes = torch.zeros(1, DEMO.codec.num_codebooks, frames, dtype=torch.long)
    measured = peak_bytes(lambda: codec.decode(codes, stream))
    assert_close(DEMO.codec.decode_workspace_bytes(frames), measured)


def test_workspace_of_encoding_does_not_grow_with_the_recording() -> None:
    codec = DAC(DEMO.codec)
    measured = [
        peak_bytes(lambda n=n: codec.encode(torch.zeros(1, n * codec.config.frame_samples)))
        for n in (ENCODE_FRAMES, 3 * ENCODE_FRAMES)
    ]
    for each in measured:
        assert_close(DEMO.codec.encode_workspace_bytes(), each)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_workspace_of_a_prompt(dtype: torch.dtype) -> None:
    config, positions = DEMO.model, 400
    model = DualAR(config, 259, 256).to(dtype)
    lay_out_for_cpu_(model)
    cache = KVCache(config.slow, dtype, CPU)
    cache.open(0, positions)
    cache.extend([0], positions)
    tokens = torch.zeros(positions, dtype=torch.long)
    codes = torch.zeros(positions, config.num_codebooks, dtype=torch.long)
    measured = peak_bytes(lambda: model.prefill(tokens, codes, cache, 0))
    assert_close(config.prefill_workspace_bytes(positions, dtype.itemsize), measured)
