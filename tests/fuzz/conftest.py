import gc
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from backend.smart_backend import SmartBackend
from tests.scripted import make_app

LIVE_IDLE_S = 2.0
"""A live connection that is not ended by what is sent is ended by this."""


@pytest.fixture(scope="package", autouse=True)
def _what_others_left() -> Iterator[None]:
    """The garbage collector takes a second to walk what thousands of tests left, which
    `in_proportion` would count as the fuzzed code's own."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client of an app with a scripted worker, which runs on a loop in another thread."""
    app = make_app(
        None,
        data_dir=tmp_path_factory.mktemp("data"),
        live_idle_s=LIVE_IDLE_S,
        log_level="WARNING",
    )
    url = "http://127.0.0.1:8000"  # no other host is served
    with TestClient(app, url, raise_server_exceptions=False) as client:
        assert client.portal is not None
        client.portal.call(backend_of(app).ready)
        yield client


def backend_of(app: FastAPI) -> SmartBackend:
    backend: SmartBackend = app.state.backend
    return backend
