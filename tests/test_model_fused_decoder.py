"""Triton's kernels of the decoder, through its interpreter."""

import importlib.util
import os
import subprocess
import sys

import pytest

from tests.documents import ROOT


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not there")
def test_the_fused_decoder_is_the_plain_one() -> None:
    """In a process of its own: Triton decides to interpret where a kernel is defined."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.interpreted_decoder"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert 0 < float(done.stdout) < 1e-5
