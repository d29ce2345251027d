"""MDs/CLIENTS.md is of the clients that are tried now."""

import pytest

from tests.clients.environments import PROGRAMS
from tests.clients.roster import CLIENTS, Client
from tests.clients.scenarios import SCENARIOS
from tests.documents import table

COLUMNS = ("client", "version", "works", "does not", "first audio of a stream, s")


def test_the_page_has_every_client() -> None:
    rows = table("CLIENTS.md", *COLUMNS).rows
    assert [row[0] for row in rows] == [client.name for client in CLIENTS]


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.program)
def test_the_page_tells_all_that_is_tried(client: Client) -> None:
    (row,) = (row for row in table("CLIENTS.md", *COLUMNS).rows if row[0] == client.name)
    if row[2] == "not tried":
        return
    works = row[2].split(", ")
    for name in client.does:
        title = SCENARIOS[name].title
        assert title in works or f"{title}: " in row[3], title


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.program)
def test_every_client_has_its_program(client: Client) -> None:
    ending = {"python": "py", "node": "mjs"}[client.runs_on]
    assert (PROGRAMS / f"{client.program}.{ending}").is_file()
    assert set(dict(client.faults)) <= set(client.does) <= set(SCENARIOS)
