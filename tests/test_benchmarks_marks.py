"""Times in samples outlive 16 bits, and nothing else is taken for one."""

import numpy as np
import pytest

from backend.audio.pcm import int16_samples, samples_of
from benchmarks.marks import Mark, read_mark, write_mark


@pytest.mark.parametrize("now_s", [0.5, 1073.0, 1074.5, 123_456.789])
def test_a_mark_is_read_from_sixteen_bit_samples(now_s: float) -> None:
    frames = np.full((3, 2048), 0.25, "<f4")
    mark = Mark(sent_s=now_s - 0.25, received_s=now_s - 300.0)
    write_mark(frames, mark)
    sent = int16_samples(samples_of(frames.tobytes())).tobytes()
    for start in range(0, len(sent), 2 * 2048):
        found = read_mark(sent[start : start + 10], now_s)
        assert found is not None
        assert found.sent_s == pytest.approx(mark.sent_s, abs=1e-5)
        assert found.received_s == pytest.approx(mark.received_s, abs=1e-5)


@pytest.mark.parametrize("samples", [b"", bytes(9), bytes(10), b"\xff" * 64])
def test_speech_has_none(samples: bytes) -> None:
    assert read_mark(samples, 1.0) is None
