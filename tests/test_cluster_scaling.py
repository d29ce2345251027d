"""How many replicas there are to be."""

import pytest

from backend.cluster.scaling import wanted


@pytest.mark.parametrize(
    ("running", "inside", "wait_s", "replicas"),
    [
        (1, 5, 0.0, 1),
        (1, 6, 0.0, 2),  # more than 0.35 of 16 rows are at work
        (1, 40, 0.0, 8),  # at once, not one by one
        (4, 13, 1.5, 5),  # somebody waits all the same
        (1, 0, 0.0, 0),  # where the config lets it
        (8, 0, 0.0, 7),  # one less at a time
        (3, 6, 0.0, 3),  # two would be more than half as full as calls for a third
        (3, 5, 0.0, 2),
    ],
)
def test_replicas_follow_what_is_inside(
    running: int, inside: float, wait_s: float, replicas: int
) -> None:
    assert wanted(running, 16, inside, wait_s) == replicas
