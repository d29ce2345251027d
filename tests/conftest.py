"""For all tests."""

import signal
from typing import Any

import pytest
import torch
from xdist.scheduler import LoadFileScheduling

# The models of the tests are tiny: a second thread has nothing to do but to be waited for, and on a
# machine that others use as well made such tests ten times slower.
torch.set_num_threads(1)

_PARITY = "tests/parity/"
_FIRST = (
    *("tests/parity/", "tests/clients/", "tests/e2e/test_cluster.py", "tests/e2e/test_tune.py"),
    *("tests/e2e/test_heat.py", "tests/e2e/test_voice.py", "tests/browser/"),
    *("tests/test_bench.py", "tests/test_engine_fused.py", "tests/test_engine_fused_compiled.py"),
    *("tests/test_faults.py", "tests/test_faces.py", "tests/test_audio_container.py"),
    *("tests/test_codec_cpu_way.py", "tests/test_native.py"),
)
"""What takes long, however few its tests: begun last, it would leave the other processes idle."""


class _Together(LoadFileScheduling):  # type: ignore[misc] # has no types
    """A file of tests in one process, and all of parity in one: what its tests ask the oracle
    takes minutes, and is answered once a process."""

    def _split_scope(self, nodeid: str) -> str:
        return _PARITY if nodeid.startswith(_PARITY) else str(super()._split_scope(nodeid))


def pytest_configure(config: pytest.Config) -> None:
    # Whoever runs the tests in the background of a shell has Ctrl-C ignored, and so have all
    # children of theirs; what is handled here is theirs to handle.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.option.loadscopereorder = False  # xdist would begin with the files of most tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        found = (at for at, name in enumerate(_FIRST) if item.nodeid.startswith(name))
        return next(found, len(_FIRST))

    items.sort(key=rank)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """What `--dist loadfile` means here."""
    return _Together(config, log) if config.getvalue("dist") == "loadfile" else None
