"""What all connections share: limits made of settings and of this process's, and a quiet log."""

import asyncio
import errno

import pytest

from backend.api.arrival import FIELDS_BYTES
from backend.connections.limits import limits_of
from backend.connections.quota import Holding, Quota
from backend.connections.server import Server
from tests.scripted import settings
from tests.wire import greet, logged

MIB = 1024 * 1024
KIB = 1024


@pytest.mark.parametrize(
    ("soft", "hard", "connections", "of_one_address"),
    [(256, 256, 64, 32), (1024, 1024, 448, 224), (1024, 1 << 20, 1000, 256), (64, 64, 4, 2)],
)
def test_descriptors_are_kept_back(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, connections: int, of_one_address: int
) -> None:
    resource = pytest.importorskip("resource")
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    limits = limits_of(settings())
    assert limits.connections == connections
    assert limits.connections_per_address == of_one_address
    assert asked == [(min(hard, 2128), hard)]


def test_the_budget_of_uploads_holds_the_largest_request() -> None:
    limits = limits_of(settings(uploads_mb=1, max_upload_bytes=20 * MIB))
    assert limits.uploads_bytes == limits.uploads_bytes_per_address == FIELDS_BYTES + 80 * MIB
    limits = limits_of(settings(uploads_mb=256))
    assert (limits.uploads_bytes, limits.uploads_bytes_per_address) == (256 * MIB, 128 * MIB)


def test_nobody_gets_more_than_a_share_and_all_no_more_than_the_whole() -> None:
    quota = Quota(whole=5, share=3)
    assert quota.take("a", 3) and not quota.take("a")
    assert not quota.take("b", 3) and quota.take("b", 2) and not quota.take("c")
    quota.give_back("a", 3)
    assert quota.take("c", 3) and quota.taken == 5


def test_an_upload_counts_past_its_first_bytes() -> None:
    quota = Quota(whole=1000, share=1000)
    holding = Holding(quota, "a")
    assert holding.grow_to(64 * KIB) and quota.taken == 0
    assert holding.grow_to(64 * KIB + 600) and quota.taken == 600
    assert not Holding(quota, "b").grow_to(64 * KIB + 401)
    assert holding.grow_to(64 * KIB + 500) and quota.taken == 600  # never less, until it ends
    holding.release()
    assert quota.taken == 0


def test_what_cannot_be_accepted_is_logged_seldom() -> None:
    server = Server(greet, settings())
    loop = asyncio.new_event_loop()
    context = {"message": "socket.accept()", "exception": OSError(errno.EMFILE, "Too many")}
    with logged() as said:
        for _ in range(1000):
            server._report(loop, context)
    loop.close()
    assert len(said) == 1
