"""How many replicas there are to be: as many as the queue needs."""

import math
from collections.abc import Mapping
from typing import Any, Protocol

FULL_SHARE = 0.35
"""Of the rows that there are: fuller than this, another replica is started before anybody waits.
Rows are not what runs short: an H100 with a quarter of them at work makes 78 % of its frames."""
WAIT_S = 1.0
"""A newcomer that would wait longer for its first sentence is worth another replica."""
UPSCALE_S, DOWNSCALE_S = 2.0, 60.0
"""For so long the queue must need another replica, or one less: to start one takes seconds."""


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


def wanted(
    running: int, rows: float, inside: float, wait_s: float, full_share: float = FULL_SHARE
) -> int:
    """Replicas of `rows` each for so many requests inside, of which `running` are there.

    One less at a time, and only where the others stay half as full as calls for another: with one
    less each is slower, and more are inside.
    """
    needed = inside / (full_share * rows)
    if wait_s > WAIT_S:
        return max(math.ceil(needed), running + 1)
    if needed <= running:
        return running - 1 if 2 * needed <= running - 1 else running
    return math.ceil(needed)


def _largest(told: Mapping[str, Mapping[Any, float]], name: str) -> float:
    """Each replica tells what its ingress has told it last, some a moment earlier."""
    return max((float(value) for value in told.get(name, {}).values()), default=0.0)
