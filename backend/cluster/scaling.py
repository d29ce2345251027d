"""How many replicas there are to be: as many as the queue needs."""

import math
from collections.abc import Mapping
from typing import Any, Protocol

FULL_SHARE = 0.75
"""Of the rows that there are: fuller than this, another replica is started before anybody waits."""
WAIT_S = 1.0
"""A newcomer that would wait longer for its first sentence is worth another replica."""


class Context(Protocol):
    """What Serve knows of the deployment: its `AutoscalingContext`."""

    current_num_replicas: int
    target_num_replicas: int

    @property
    def aggregated_metrics(self) -> Mapping[str, Mapping[Any, float]] | None:
        """Of each replica what `Engine.stats` says, by its name."""


def replicas(context: Context) -> tuple[int, dict[str, Any]]:
    """The policy of Serve's autoscaler; `policy_function` of a config file names it.

    It goes by what the ingress says is inside and how long a newcomer would wait: sentences wait in
    its queue, which Serve does not see. Bounds and delays are the config's.
    """
    told = context.aggregated_metrics or {}
    rows = _largest(told, "rows")
    if not rows:  # none has told yet
        return context.target_num_replicas, {}
    inside, wait_s = _largest(told, "inside"), _largest(told, "wait_s")
    return wanted(context.current_num_replicas, rows, inside, wait_s), {}


def wanted(running: int, rows: float, inside: float, wait_s: float) -> int:
    """Replicas of `rows` each for so many requests inside, of which `running` are there."""
    needed = math.ceil(inside / (FULL_SHARE * rows))
    if wait_s > WAIT_S:
        needed = max(needed, running + 1)
    return needed


def _largest(told: Mapping[str, Mapping[Any, float]], name: str) -> float:
    """Each replica tells what its ingress has told it last, some a moment earlier."""
    return max((float(value) for value in told.get(name, {}).values()), default=0.0)
