"""What a replica may take of the machine that it lands on, as the plan is made for it."""

import math

from backend.settings import Settings


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
