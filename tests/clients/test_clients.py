"""Real clients against a real server: each does what its users do, in an environment of its own."""

import pytest

from tests.clients.roster import CLIENTS, Client
from tests.clients.scenarios import SCENARIOS, Trial

pytestmark = pytest.mark.timeout(900)
"""The first test of a client waits for pip or npm."""


@pytest.mark.parametrize(
    ("client", "name"),
    [
        pytest.param(
            *(client, name),
            marks=() if client.small else pytest.mark.clients,
            id=f"{client.program}-{name}",
        )
        for client in CLIENTS
        for name in client.does
    ],
)
def test_client(client: Client, name: str, trial: Trial) -> None:
    SCENARIOS[name].does(trial)
