import pytest
import torch

from backend.codec.stream import FIRST_FRAMES, MOST_FRAMES, FrameDecoder, decode_codes
from backend.model.dac import DAC
from backend.model.stream import Stream
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


@pytest.mark.parametrize("frames", [1, 3, MOST_FRAMES, MOST_FRAMES + 1, 150])
def test_codes_that_are_kept_sound_as_they_did(
    frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, sizes, decode = tiny().codec, set(), DAC.decode

    def seen(codec: DAC, codes: torch.Tensor, stream: Stream | None = None) -> torch.Tensor:
        sizes.add(codes.shape[-1])
        return decode(codec, codes, stream)

    monkeypatch.setattr(DAC, "decode", seen)
    codes = torch.randint(0, 64, (4, frames), generator=torch.Generator().manual_seed(frames))
    asked: list[int] = []
    pieces = list(decode_codes(codec, codes, lambda: asked.append(1)))
    with torch.inference_mode():
        whole = decode(codec, codes[None])[0]
    assert torch.allclose(torch.cat(pieces), whole, atol=1e-5)
    assert len(asked) == len(pieces) == -(-frames // MOST_FRAMES)
    assert sizes <= {2, 4, 8, 16, MOST_FRAMES}, "oneDNN compiles code for every other size"


def test_what_is_raised_before_a_piece_ends_the_decoding() -> None:
    codes = torch.zeros(4, 3 * MOST_FRAMES, dtype=torch.int64)
    allowed = [1]

    def check() -> None:
        allowed.pop()

    pieces = decode_codes(tiny().codec, codes, check)
    assert len(next(pieces)) == MOST_FRAMES * tiny().codec.config.frame_samples
    with pytest.raises(IndexError):
        next(pieces)
