"""What the shared nouns work out by themselves."""

import numpy as np
import pytest

from backend.core import ReferenceCodes


@pytest.mark.parametrize("frames", [1, 2, 14, 15, 16, 10**9])
def test_codes_have_a_beginning(frames: int) -> None:
    grid = np.arange(60, dtype="<u2").reshape(4, 15)
    codes = ReferenceCodes(grid.tobytes(), 4, "codec", 1.5, ("trimmed",))
    first = codes.beginning(frames)
    kept = min(frames, 15)
    assert first.codes == grid[:, :kept].tobytes()
    assert (first.frames, first.num_codebooks, first.codec_id) == (kept, 4, "codec")
    assert first.audio_s == pytest.approx(kept / 10)
