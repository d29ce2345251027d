"""`shoal serve --cluster`: the plain server's door, before replicas of Ray Serve."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from fastapi import FastAPI
from ray import serve

from backend.cluster.application import this_kind
from backend.cluster.deployments import QUIET, app_of
from backend.cluster.handles import RayReplicas
from backend.core import MIB
from backend.settings import Settings

OBJECTS_BYTES = 256 * MIB
"""Of Ray's store on this machine, which it takes from /dev/shm: pieces of audio pass through."""
APPLICATION = "shoal"


@contextmanager
def cluster_app(settings: Settings) -> Iterator[FastAPI]:
    """The app in front of replicas, of the Ray cluster that RAY_ADDRESS names or else of one that
    is started here, on 127.0.0.1 alone, and ended with it.

    Serve's own proxies are not started: each connection is held to the bounds of the plain server.
    """
    _join_ray()
    try:
        serve.start(proxy_location="Disabled", logging_config=QUIET)
        handle = serve.run(this_kind(settings), name=APPLICATION, route_prefix=None)
        described = handle.describe.remote(to="").result()
        yield app_of(settings, described, [RayReplicas(handle)])
    finally:
        if ray.is_initialized():
            serve.delete(APPLICATION)
            if not os.environ.get("RAY_ADDRESS"):
                serve.shutdown()
            ray.shutdown()


def _join_ray() -> None:
    if os.environ.get("RAY_ADDRESS"):
        ray.init(logging_level=logging.WARNING)
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # who wants to tell Ray, says so
    ray.init(
        include_dashboard=False,
        object_store_memory=OBJECTS_BYTES,
        logging_level=logging.WARNING,
        _node_ip_address="127.0.0.1",
    )
