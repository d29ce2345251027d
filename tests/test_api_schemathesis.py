"""Every route is asked for what its OpenAPI allows, and for what it does not: 0 server errors."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import CheckFunction
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from backend.connections.server import Server
from backend.smart_backend import SmartBackend
from tests.scripted import make_app
from tests.scripted import settings as settings_of

schema = schemathesis.openapi.from_dict(make_app().openapi())


@schemathesis.serializer("application/msgpack")
def serialize_msgpack(_: schemathesis.SerializationContext, value: Any) -> bytes:
    try:
        return msgspec.msgpack.encode(value)
    except OverflowError:  # msgpack has no integer of more than 64 bits
        return b"\xc1"  # what no message begins with


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a real server with a scripted worker."""
    chosen: dict[str, Any] = {
        "data_dir": tmp_path_factory.mktemp("data"),
        "log_level": "WARNING",
        "port": 0,
    }
    app = make_app(**chosen)
    server = Server(app, settings_of(**chosen))
    has_worker = threading.Event()

    async def serve() -> None:
        async def wait() -> None:
            backend: SmartBackend = app.state.backend
            while not server.started:
                await asyncio.sleep(0.01)
            await backend.ready()
            has_worker.set()

        await asyncio.gather(server.serve(), wait())

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert has_worker.wait(30)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@schema.parametrize()
@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_no_route_fails_or_answers_what_it_does_not_document(
    case: schemathesis.Case[Any], url: str
) -> None:
    # What a schema allows may still be refused: blank text, a recording that is none.
    excluded: list[CheckFunction] = [positive_data_acceptance]
    if "form" in (case.media_type or ""):
        excluded.append(negative_data_rejection)  # all is text in a form, and 5 is one, too
    case.call_and_validate(base_url=url, excluded_checks=excluded)
