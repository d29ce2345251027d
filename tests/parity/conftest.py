"""The session's checkpoints and the oracle's answers about them, made once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from backend.model.checkpoint import Checkpoint, load_checkpoint
from tests.parity import cases
from tests.parity.oracle import Arrays, ask
from tests.parity.texts import ranks

FIRST_TEST_S = 1200
"""The first test waits for the oracle's environment, which pip may have to download."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(FIRST_TEST_S))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Small matrices gain nothing by a second thread, and on a busy machine it costs tenfold."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Official checkpoint folders by name."""
    root = tmp_path_factory.mktemp("official")
    return {c.name: c.write(root / c.name, ranks()) for c in cases.CHECKPOINTS}


@pytest.fixture(scope="session")
def answers(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Arrays:
    """The oracle's answers to all questions but the full-size codec's, inputs among them."""
    asked = cases.Questions([], {})
    cases.shared_questions(asked, folders["tiny"])
    for official in cases.CHECKPOINTS:
        cases.transformer_questions(asked, official, folders[official.name])
        cases.codec_question(asked, official, folders[official.name], seconds=1.5)
    return asked.arrays | ask(asked.jobs, asked.arrays, tmp_path_factory.mktemp("oracle"))


@pytest.fixture(scope="session")
def loaded(folders: dict[str, Path]) -> dict[str, Checkpoint]:
    """The same folders, read by us."""
    return {name: load_checkpoint(folder) for name, folder in folders.items()}


@pytest.fixture(params=cases.NAMES)
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each checkpoint's name."""
    yield request.param
