"""How often something is tried again that a worker died under."""

import pytest

from backend.errors import EngineDown, WorkerKilled
from backend.serving.lives import KILLS, Lives

DIED, KILLED = EngineDown("died"), EngineDown("killed", is_from_outside=True)


def test_what_may_be_what_kills_workers_is_given_up() -> None:
    lives = Lives(3)
    lives.lose(DIED)
    lives.lose(WorkerKilled("out of memory"))
    with pytest.raises(EngineDown, match="died"):
        lives.lose(DIED)


def test_what_somebody_else_does_is_no_fault_of_it() -> None:
    lives = Lives(3)
    for _ in range(KILLS - 1):
        lives.lose(KILLED)
    lives.lose(DIED)
    lives.lose(DIED)
    assert lives.deaths == KILLS + 1
    with pytest.raises(EngineDown, match="killed"):
        lives.lose(KILLED)
