"""The fused way through Triton's interpreter, on the CPU."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.timeout(900)
@pytest.mark.skipif(find_spec("triton") is None, reason="there is no Triton for this system")
def test_interpreted_kernels_compute_what_the_eager_way_does() -> None:
    command = [sys.executable, "-m", "pytest", "tests/fused_interpreted.py", "-q", "-x"]
    answer = subprocess.run(
        [*command, "-p", "no:cacheprovider", "--timeout", "800"],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert " passed" in answer.stdout
