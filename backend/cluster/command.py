"""`shoal serve --cluster`: the plain server's door, before replicas of Ray Serve."""

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from fastapi import FastAPI
from ray import serve

from backend.cluster.application import kind_on, this_kind
from backend.cluster.deployments import QUIET, app_of
from backend.cluster.handles import RayReplicas
from backend.core import MIB
from backend.hardware.deployment import Deployment
from backend.hardware.workers import computing_cores
from backend.settings import Settings

OBJECTS_BYTES = 256 * MIB
"""Of Ray's store on this machine, which it takes from /dev/shm: pieces of audio pass through."""
APPLICATION = "shoal"


@contextmanager
def cluster_app(settings: Settings) -> Iterator[FastAPI]:
    """The app in front of replicas, of the Ray cluster that RAY_ADDRESS names or else of one that
    is started here, and ended with it.

    Ray's processes listen on every address of the machine, whatever `_node_ip_address` says (seen
    of Ray 2.60), and ask whoever comes for Ray's token.

    On a cluster whose replicas speak for another server already they are replaced, one after the
    other, and speak for both from then on; they end with the last server that is there.

    Serve's own proxies are not started: each connection is held to the bounds of the plain server.
    Raises what `Deployment.look` raises, as for the workers of a plain server where Ray is started
    here: more replicas than this machine has room for would be waited for in vain.
    """
    is_ours = not os.environ.get("RAY_ADDRESS")
    if is_ours:
        here = Deployment.look(settings)
        kind = kind_on(here, settings)
        _start_ray(here)
    else:
        kind = this_kind(settings)
        ray.init(logging_level=logging.WARNING)
    stand_in = None if is_ours else _stand_in()  # held: Ray ends it when nobody does
    try:
        serve.start(proxy_location="Disabled", logging_config=QUIET)
        handle = serve.run(kind, name=APPLICATION, route_prefix=None)
        described = handle.describe.remote(to="").result()
        name = f"server-{secrets.token_hex(4)}"
        yield app_of(settings, described, [RayReplicas(handle, name)], name)
    finally:
        if ray.is_initialized():
            if is_ours or len(_servers()) <= 1:
                serve.delete(APPLICATION)
            if is_ours:
                serve.shutdown()
            del stand_in
            ray.shutdown()


class _StandIn:
    """In the cluster for a server, as long as that lives."""


def _stand_in() -> object:
    """One for this server: Ray ends it with this process, or once nobody holds what is returned."""
    named = {"name": secrets.token_hex(8), "namespace": APPLICATION}
    return ray.remote(_StandIn).options(num_cpus=0, **named).remote()


def _servers() -> list[str]:
    """Those that the replicas speak for."""
    actors = ray.util.list_named_actors(all_namespaces=True)
    return [each["name"] for each in actors if each["namespace"] == APPLICATION]


def _start_ray(here: Deployment) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # who wants to tell Ray, says so
    cores = computing_cores(here.hardware, here.plan)
    ray.init(
        include_dashboard=False,
        # Ray itself counts every CPU of the machine, whichever of them it may run on.
        num_cpus=max(cores, here.plan.num_threads.value),
        object_store_memory=OBJECTS_BYTES,
        logging_level=logging.WARNING,
        _node_ip_address="127.0.0.1",
    )
