from collections.abc import Iterator

import pytest

from tests.e2e.serving import Served, serving


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    """One server a module: other modules count the children of this process."""
    with serving() as served:
        yield served
