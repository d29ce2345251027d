"""For all tests."""

from typing import Any

import pytest
import torch
from xdist.scheduler import LoadFileScheduling

# The models of the tests are tiny: a second thread has nothing to do but to be waited for, and on a
# machine that others use as well made such tests ten times slower.
torch.set_num_threads(1)

_PARITY = "tests/parity/"


class _Together(LoadFileScheduling):  # type: ignore[misc] # has no types
    """A file of tests in one process, and all of parity in one: what its tests ask the oracle
    takes minutes, and is answered once a process."""

    def _split_scope(self, nodeid: str) -> str:
        return _PARITY if nodeid.startswith(_PARITY) else str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """What `--dist loadfile` means here."""
    return _Together(config, log) if config.getvalue("dist") == "loadfile" else None
