"""Speech decoded piece by piece is the speech decoded whole."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from backend.model.codec_layout import lay_out_decoder_
from backend.model.config import CodecConfig, WindowConfig
from backend.model.dac import DAC
from backend.model.stream import CausalConv, Stream
from tests.tiny import TINY_CODEC, randomize_

TOLERANCE = 1e-4


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def _codec(**changes: Any) -> DAC:
    codec = DAC(CodecConfig(**{**TINY_CODEC, **changes})).eval()
    randomize_(codec, 3)
    return codec


def _codes(codec: DAC, frames: int, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(frames)
    return torch.randint(0, 64, (batch, codec.config.num_codebooks, frames), generator=generator)


def _pieces(codec: DAC, codes: Tensor, sizes: list[int]) -> Tensor:
    stream = Stream(codes.shape[0])
    assert sum(sizes) == codes.shape[-1]
    return torch.cat(
        [codec.decode(piece, stream) for piece in torch.split(codes, sizes, -1)], dim=-1
    )


def _random_sizes(total: int, seed: int) -> list[int]:
    chance = random.Random(seed)
    sizes: list[int] = []
    while sum(sizes) < total:
        sizes.append(min(chance.choice((1, 1, 2, 3, 7, 20, 64)), total - sum(sizes)))
    return sizes


WIDE = {"pre": WindowConfig(48, 1, 3, 16, 64, window=5), "post": WindowConfig(48, 2, 3, 16, 64, 9)}
ODD = {"encoder_rates": (3, 4), "decoder_rates": (4, 3), "downsample_factor": (2, 3)}


@pytest.mark.parametrize("changes", [{}, WIDE, ODD], ids=["tiny", "projected", "odd rates"])
@pytest.mark.parametrize("seed", range(4))
def test_any_chunking_equals_the_whole(changes: dict[str, Any], seed: int) -> None:
    codec = _codec(**changes)
    codes = _codes(codec, 90)
    whole = codec.decode(codes)
    assert whole.std() > 0.02
    pieces = _pieces(codec, codes, _random_sizes(90, seed))
    assert pieces.shape == whole.shape == (1, 90 * codec.config.frame_samples)
    assert (pieces - whole).abs().max() <= TOLERANCE


@pytest.mark.parametrize("changes", [{}, WIDE, ODD], ids=["tiny", "projected", "odd rates"])
def test_channels_last_compute_the_same(changes: dict[str, Any]) -> None:
    codec, laid_out = _codec(**changes), _codec(**changes)
    lay_out_decoder_(laid_out, torch.float32, "channels last")
    codes = _codes(codec, 60, batch=2)
    whole = codec.decode(codes)
    assert (laid_out.decode(codes) - whole).abs().max() <= TOLERANCE
    assert (_pieces(laid_out, codes, _random_sizes(60, 0)) - whole).abs().max() <= TOLERANCE


def test_rows_of_slots_in_any_order() -> None:
    """Slots are used again, rows come and go, and each goes on where it was."""
    codec, stream = _codec(), Stream(4)
    codes = _codes(codec, 24, batch=3)
    whole = codec.decode(codes)
    places, begun = [2, 0, 3], [0, 0, 0]
    stream.select(torch.tensor([1, 2, 0, 3]))
    codec.decode(_codes(codec, 5, batch=4), stream)  # what was there before
    for row in range(3):
        stream.clear(torch.tensor([places[row]]))
    for rows in ([0], [2, 1], [1, 0, 2], [2], [0, 1]) * 6:
        stream.select(torch.tensor([places[row] for row in rows]))
        piece = torch.stack([codes[row, :, begun[row] : begun[row] + 1] for row in rows])
        for row, heard in zip(rows, codec.decode(piece, stream), strict=True):
            begin = begun[row] * codec.config.frame_samples
            wanted = whole[row, begin : begin + codec.config.frame_samples]
            assert (heard - wanted).abs().max() <= TOLERANCE
            begun[row] += 1
    assert min(begun) >= 17


def test_single_frames_of_several_rows() -> None:
    codec = _codec()
    codes = _codes(codec, 40, batch=3)
    whole = codec.decode(codes)
    assert (_pieces(codec, codes, [1] * 40) - whole).abs().max() <= TOLERANCE
    for row in range(3):
        assert (codec.decode(codes[row, None]) - whole[row]).abs().max() <= TOLERANCE


def test_past_4096_positions() -> None:
    """Where the package's tables end. The whole decode also meets our query blocks."""
    codec = _codec()
    codes = _codes(codec, 4500)
    whole = codec.decode(codes)
    pieces = _pieces(codec, codes, _random_sizes(4500, 1))
    late = (pieces - whole)[:, 4096 * codec.config.frame_samples :]
    assert late.numel()
    assert (pieces - whole).abs().max() <= TOLERANCE


def test_position_matters_past_4096() -> None:
    """A stream that forgot where it is would differ: the test above can fail."""
    codec = _codec()
    codes = _codes(codec, 300)
    stream = Stream()
    first = codec.decode(codes[..., :200], stream)
    for positions in stream._positions.values():
        positions.fill_(7)
    second = codec.decode(codes[..., 200:], stream)
    assert (torch.cat((first, second), -1) - codec.decode(codes)).abs().max() > TOLERANCE


def test_memory_of_a_stream_does_not_grow() -> None:
    codec = _codec()
    stream = Stream()

    codec.decode(_codes(codec, 1), stream)
    after_one = stream.stored_bytes
    for _ in range(20):
        codec.decode(_codes(codec, 1), stream)
    assert stream.stored_bytes == after_one


def test_two_streams_do_not_meet() -> None:
    codec = _codec()
    codes = _codes(codec, 20, batch=2)
    streams = Stream(), Stream()
    parts: tuple[list[Tensor], list[Tensor]] = ([], [])
    for begin in range(0, 20, 5):
        for row in range(2):
            piece = codes[row, None, :, begin : begin + 5]
            parts[row].append(codec.decode(piece, streams[row]))
    for row in range(2):
        whole = codec.decode(codes[row, None])
        assert (torch.cat(parts[row], -1) - whole).abs().max() <= TOLERANCE


def test_the_future_changes_nothing() -> None:
    codec = _codec()
    codes = _codes(codec, 30)
    other = codes.clone()
    other[..., 20:] = (other[..., 20:] + 1) % 64
    samples = 20 * codec.config.frame_samples
    difference = (codec.decode(codes) - codec.decode(other)).abs()
    assert difference[:, :samples].max() <= 1e-6
    assert difference[:, samples:].max() > 1e-3


def test_a_piece_that_is_no_multiple_of_the_stride_is_refused() -> None:
    conv = CausalConv(2, 2, 4, stride=2)
    with pytest.raises(ValueError, match="no multiple of 2"):
        conv(torch.zeros(1, 2, 3), Stream())


def test_audio_is_padded_to_whole_frames() -> None:
    codec = _codec()
    size = codec.config.frame_samples
    audio = torch.randn(1, 3 * size + 1)
    codes = codec.encode(audio)
    assert codes.shape == (1, codec.config.num_codebooks, 4)
    padded = torch.nn.functional.pad(audio, (0, size - 1))
    assert torch.equal(codec.encode(padded), codes)
