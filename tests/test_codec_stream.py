import pytest
import torch

from backend.codec.stream import FIRST_FRAMES, MOST_FRAMES, FrameDecoder
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
    assert [decoder.push(frame) is not None for _ in range(6)] == [False, True, *[False] * 3, True]
