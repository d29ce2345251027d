"""The teacher's kernels, by Triton's interpreter, against PyTorch's own operations.

Run in a process of its own, for whether Triton compiles or interprets is settled on its import.
"""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

_SCRIPT = """
import torch
from training.demo_voice import teacher_kernels as fast, teacher_plain as plain

generator = torch.Generator().manual_seed(0)
draw = lambda *shape: torch.randn(shape, generator=generator)
for dtype, close in ((torch.float32, 1e-4), (torch.bfloat16, 0.03)):
    values, added = draw(2, 530, 136).to(dtype), draw(2, 530, 136).to(dtype)
    frames, bias = torch.tensor([530, 77]), draw(136)
    values[1, 77:] = torch.nan  # what is past the end counts for nothing
    clean = torch.nan_to_num(values)
    scale, shift, alpha = draw(2, 136), draw(2, 136), draw(136).abs() + 0.5
    same = lambda a, b: torch.testing.assert_close(a.float(), b.float(), atol=close, rtol=close)
    def near(a, b):
        assert (a - b).abs().max() <= close * b.abs().max(), (a - b).abs().max()
    near(fast.sums(values, frames), plain.sums(clean, frames))
    made, sums = fast.add(values, added, bias, frames)
    wanted, wanted_sums = plain.add(clean, added, bias, frames)
    same(made, wanted)
    near(sums, wanted_sums)
    for rate in (alpha, None):
        same(
            fast.activate(values, scale, shift, rate, frames),
            plain.activate(clean, scale, shift, rate, frames),
        )
print("alike")
"""


def test_the_kernels_do_what_the_plain_operations_do() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _SCRIPT],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "alike", done.stderr
