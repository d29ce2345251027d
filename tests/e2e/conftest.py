from collections.abc import Iterator

import pytest

from tests.e2e.serving import Served, serving


@pytest.fixture(scope="session")
def server() -> Iterator[Served]:
    """One server for all that do not harm it."""
    with serving() as served:
        yield served
