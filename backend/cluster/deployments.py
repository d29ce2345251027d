"""The deployments of Serve: replicas that speak, and the ingress with the whole of the HTTP API."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any

import ray
from fastapi import FastAPI
from loguru import logger
from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig
from ray.serve.handle import DeploymentHandle

from backend.api.rates import tell_apart
from backend.app import create_app
from backend.cluster.allotted import settings_for
from backend.cluster.engine import Engine
from backend.cluster.fleet import ClusterFleet
from backend.cluster.handles import RayReplicas, expositions
from backend.cluster.nodes import ray_metrics
from backend.cluster.scaling import DOWNSCALE_S, UPSCALE_S
from backend.cluster.told import Described, Pressure, Report
from backend.logs import log_to_stderr
from backend.settings import Settings

_CALLS = 10_000
"""Calls of one replica together: its rows are the queue's affair."""
DRAIN_S = 600.0
"""A replica that is to end may finish what it speaks for so long."""
LOOK_BACK_S = 4.0
"""What was told in so long is averaged."""
QUIET = {"log_level": "WARNING", "enable_access_log": False}
"""Of Serve's log: what becomes of requests, the app logs."""
ROUTER = "backend.cluster.router.NamedReplica"
POLICY = "backend.cluster.scaling:replicas"


class EngineReplica:
    """`Engine` as Serve calls it."""

    async def __init__(  # type: ignore[misc] # as Serve has it
        self, settings: Settings, command: tuple[str, ...] | None = None
    ) -> None:
        log_to_stderr(settings.log_level)
        context, runtime = serve.get_replica_context(), ray.get_runtime_context()
        self._name = context.replica_id.unique_id
        node = runtime.get_node_id()
        cpus = float(runtime.get_assigned_resources().get("CPU", 0.0))
        settings = settings_for(settings, cpus, _cpus_of(node))
        self._engine = Engine(settings, self._name, node, command)
        try:
            await self._engine.start()
        except BaseException:
            await self._engine.close()
            raise

    async def ask(self, message: bytes, by: str, *, to: str) -> AsyncGenerator[bytes, None]:
        """Speak, encode or decode for the ingress `by`; nothing where another replica is meant,
        which is gone."""
        if self._is_meant(to):
            async with aclosing(self._engine.ask(message, by)) as answer:
                async for block in answer:
                    yield block

    async def tell(self, message: bytes, *, to: str) -> bytes | None:
        """Answer what is no request; None where another is meant."""
        return await self._engine.tell(message) if self._is_meant(to) else None

    async def describe(self, *, to: str) -> Described | None:
        """What it is; None where another is meant."""
        return self._engine.describe() if self._is_meant(to) else None

    async def report(self, pressure: Pressure, *, to: str) -> Report | None:
        """How it is; None where another is meant."""
        if not self._is_meant(to):
            return None
        self._engine.take(pressure)
        return self._engine.report(pressure.ingress)

    def record_autoscaling_stats(self) -> dict[str, float]:
        """For Serve's autoscaler."""
        return self._engine.stats()

    async def check_health(self) -> None:
        """For Serve, which starts another in its place."""
        self._engine.check_health()

    async def __del__(self) -> None:
        if hasattr(self, "_engine"):
            await self._engine.close()

    def _is_meant(self, to: str) -> bool:
        return to in ("", self._name)


@serve.ingress()
class Ingress:
    """The app of the plain server, whose workers are the replicas of `engines`."""

    async def __init__(  # type: ignore[misc] # as Serve has it
        self, settings: Settings, *engines: DeploymentHandle
    ) -> None:
        log_to_stderr(settings.log_level)
        context = serve.get_replica_context()
        ingresses = context.world_size
        if ingresses > 1 and settings.rate_limit_per_minute and not settings.rate_store:
            tell_apart(f"Of {ingresses} ingresses")
        if ingresses > 1 and not settings.shared_dir:
            logger.warning(
                "Of {} ingresses those on other machines know none of the voices that are saved at "
                "one, and a name may be taken twice: SHOAL_SHARED_DIR names a place for all.",
                ingresses,
            )
        self._settings = settings
        self._name = context.replica_id.unique_id
        self._kinds = [RayReplicas(handle, self._name) for handle in engines]
        self._described = await self._kinds[0].describe("")
        self._peers = serve.get_deployment_handle(context.deployment, context.app_name)

    def __serve_build_asgi_app__(self) -> FastAPI:
        told = (self._settings, self._described, self._kinds, self._name)
        self._app = app_of(*told, partial(expositions, self._peers))
        return self._app

    async def exposition(self) -> tuple[str, bytes]:
        """Its name, and what it alone tells Prometheus: for the ingress that is asked."""
        text, _ = self._app.state.backend.exposition()
        return self._name, text


def app_of(
    settings: Settings,
    described: Described,
    kinds: list[RayReplicas],
    ingress: str,
    others: Callable[[], Awaitable[dict[str, bytes]]] | None = None,
) -> FastAPI:
    """The whole of the HTTP API in front of replicas, one of which is `described`.

    `ingress` is the name of who asks them, `others` what others of its application tell Prometheus.
    """
    fleet = ClusterFleet(settings, described, kinds, ingress, ray_metrics, others)
    return create_app(settings, deployment=described.deployment, fleet=fleet)


def engines(
    name: str,
    settings: Settings,
    actor: Mapping[str, Any],
    most: int,
    command: tuple[str, ...] | None = None,
) -> Any:
    """The deployment of replicas called `name`, each with what `actor` says of its machine.

    SHOAL_WORKERS says how many there are; by default as many as the queue needs, up to `most`.
    `command` starts another program in the place of each one's worker.
    """
    number = settings.worker_count
    return (
        serve.deployment(EngineReplica)
        .options(
            name=name,
            num_replicas=number if number is not None else "auto",
            autoscaling_config=None if number is not None else _scaling(settings, most),
            ray_actor_options=dict(actor),
            max_ongoing_requests=_CALLS,
            graceful_shutdown_wait_loop_s=0.5,
            graceful_shutdown_timeout_s=DRAIN_S,
            health_check_period_s=5.0,
            logging_config=QUIET,
            request_router_config=RequestRouterConfig(request_router_class=ROUTER),
        )
        .bind(settings, command)
    )


def _scaling(settings: Settings, most: int) -> AutoscalingConfig:
    """By the queue; to none at all where SHOAL_UNLOAD_AFTER_S lets a worker end."""
    rest_s = settings.unload_after_s
    return AutoscalingConfig(
        min_replicas=0 if rest_s else 1,
        initial_replicas=1,
        max_replicas=most,
        upscale_delay_s=UPSCALE_S,
        downscale_delay_s=min(DOWNSCALE_S, rest_s or DOWNSCALE_S),
        downscale_to_zero_delay_s=rest_s or None,
        metrics_interval_s=1.0,
        look_back_period_s=LOOK_BACK_S,
        policy=AutoscalingPolicy(policy_function=POLICY),
    )


def ingress(settings: Settings, *bound: Any) -> Any:
    """The deployment that answers HTTP with the replicas of `bound`."""
    return (
        serve.deployment(Ingress)
        .options(
            name="Ingress",
            num_replicas=1,
            max_surge_percent=100,  # in an update the next one is there before this one ends
            max_ongoing_requests=_CALLS,
            graceful_shutdown_timeout_s=DRAIN_S,
            ray_actor_options={"num_cpus": 0},
            logging_config=QUIET,
        )
        .bind(settings, *bound)
    )


def _cpus_of(node_id: str) -> float:
    nodes = {str(each["NodeID"]): each for each in ray.nodes()}
    return float(nodes[node_id]["Resources"].get("CPU", 0.0))
