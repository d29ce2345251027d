"""Codes of a recording, piece by piece."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from backend.codec.reference import encode_reference
from backend.model.config import ENCODE_FRAMES
from tests.engines import tiny


def noise(samples: int) -> NDArray[np.float32]:
    return np.random.default_rng(samples).normal(0, 0.1, samples).astype(np.float32)


@pytest.mark.parametrize("samples", [1, 80, 80 * ENCODE_FRAMES, 80 * ENCODE_FRAMES + 1, 12_345])
def test_codes_are_those_of_the_whole(samples: int) -> None:
    codec, audio = tiny().codec, noise(samples)
    codes = encode_reference(codec, audio)
    with torch.inference_mode():
        assert torch.equal(codes, codec.encode(torch.from_numpy(audio)[None])[0])
    assert codes.shape == (4, -(-samples // 80))


def test_it_can_be_ended_between_two_pieces() -> None:
    pieces = 0

    def before_piece() -> None:
        nonlocal pieces
        pieces += 1
        if pieces == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        encode_reference(tiny().codec, noise(80 * ENCODE_FRAMES * 5), before_piece)
    assert pieces == 3
