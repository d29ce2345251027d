"""Real clients against a real server: each does what its users do, in an environment of its own."""

import pytest

from tests.clients.roster import CLIENTS, Client
from tests.clients.scenarios import SCENARIOS, Trial

pytestmark = pytest.mark.timeout(900)
"""The first test of a client waits for pip or npm."""


def marked(client: Client, name: str) -> list[pytest.MarkDecorator]:
    marks = [] if client.small else [pytest.mark.clients]
    if fault := dict(client.faults).get(name):
        # Not strict: what comes while such a client does not wait is a matter of moments.
        marks.append(pytest.mark.xfail(reason=fault, strict=False))
    return marks


@pytest.mark.parametrize(
    ("client", "name"),
    [
        pytest.param(client, name, marks=marked(client, name), id=f"{client.program}-{name}")
        for client in CLIENTS
        for name in client.does
    ],
)
def test_client(client: Client, name: str, trial: Trial) -> None:
    SCENARIOS[name].does(trial)
