"""Which kinds of replicas there are to be, and what each may take of the machine it lands on."""

import math
from typing import Literal, cast, get_args

from backend.errors import BadSetting
from backend.settings import Settings

Kind = Literal["cpu", "gpu"]


def kinds_in(told: str) -> list[Kind]:
    """The kinds of replicas that `told` names, by commas; `BadSetting` where another is named."""
    kinds = [part.strip() for part in told.split(",") if part.strip()]
    for kind in kinds:
        if kind not in get_args(Kind):
            raise BadSetting(f"kinds: {kind} is neither cpu nor gpu.")
    return cast(list[Kind], kinds)


def settings_for(settings: Settings, cpus: float, cpus_of_node: float) -> Settings:
    """`settings` for a replica that Ray has given `cpus` of its node's.

    One that has not all of them computes with as many threads, wherever the system puts them: other
    replicas may have the rest. Of GPUs it sees those that Ray gave it.
    """
    if not cpus or cpus >= cpus_of_node:
        return settings
    told: dict[str, object] = {}
    if settings.num_threads is None:
        told["num_threads"] = max(1, math.floor(cpus))
    if settings.cpu_affinity == "auto":
        told["cpu_affinity"] = "off"
    return settings.model_copy(update=told)
