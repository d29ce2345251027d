import numpy as np
import pytest
import torch
from torch import Tensor

from backend.codec.reference import ReferenceEncoder
from backend.codec.stream import FIRST_FRAMES, MOST_FRAMES, FrameDecoder
from backend.model.dac import DAC
from tests.engines import tiny


@pytest.mark.parametrize("frames", [1, FIRST_FRAMES, 37, 150])
def test_pcm_piece_by_piece_is_that_of_the_whole(frames: int) -> None:
    codec = tiny().codec
    codes = torch.randint(0, 64, (4, frames), generator=torch.Generator().manual_seed(frames))
    decoder = FrameDecoder(codec)
    pieces = [decoder.push(frame) for frame in codes.t()] + [decoder.flush()]
    heard = [piece for piece in pieces if piece is not None]
    with torch.inference_mode():
        whole = codec.decode(codes[None])[0]
    assert torch.allclose(torch.cat(heard), whole, atol=1e-5)
    assert max(len(piece) for piece in heard) <= MOST_FRAMES * codec.config.frame_samples
    assert decoder.flush() is None


def test_something_is_heard_after_a_few_frames() -> None:
    decoder = FrameDecoder(tiny().codec)
    frame = torch.zeros(4, dtype=torch.int64)
    assert [decoder.push(frame) is None for _ in range(FIRST_FRAMES)] == [True] * 3 + [False]


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    count = int(seconds * 8000)
    return np.random.default_rng(seed).normal(0, 0.1, count).astype(np.float32)


def test_a_reference_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    encode = DAC.encode

    def counted(codec: DAC, audio: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return encode(codec, audio)

    monkeypatch.setattr(DAC, "encode", counted)
    encoder = ReferenceEncoder(tiny().codec, 60.0)
    first = encoder.encode(noise(1.5))
    assert first.shape == (4, 150)
    assert encoder.encode(noise(1.5)) is first
    encoder.encode(noise(1.5, seed=1))
    assert calls == 2


def test_the_longest_reference_and_the_room_for_codes_are_kept() -> None:
    encoder = ReferenceEncoder(tiny().codec, 2.0, cache_bytes=4 * 200 * 8 * 2)
    assert encoder.encode(noise(3.0)).shape == (4, 200)
    for seed in range(1, 5):
        encoder.encode(noise(2.0, seed))
    assert encoder.held_bytes == 4 * 200 * 8 * 2
