"""The application that Serve builds, from a command or from a config file."""

from pydantic import BaseModel, ConfigDict
from ray.serve import Application

from backend.api.guard import refuse_open
from backend.cluster.allotted import Kind, kinds_in
from backend.cluster.deployments import engines, ingress
from backend.hardware.deployment import Deployment
from backend.settings import Settings, load_settings

MOST_REPLICAS = 8
"""Of each kind, where no config file says how many."""


class Asked(BaseModel):
    """`args` of the application in a config file, or `key=value` after `serve run`."""

    model_config = ConfigDict(extra="forbid")

    kinds: str = ""
    """Comma-separated: cpu, gpu, or both side by side, the first being what is started where there
    is none. Not given, what the machine has that builds the application."""


def app(asked: Asked) -> Application:
    """The whole of Shoal: an ingress with the HTTP API, and replicas that speak.

    SHOAL_* in the environment of the process that builds it are the settings of all of it.
    """
    settings = load_settings()
    refuse_open(settings)
    bound = [kind_of(settings, kind) for kind in kinds_in(asked.kinds)] or [this_kind(settings)]
    return ingress(settings, *bound)


def kind_of(settings: Settings, kind: Kind) -> Application:
    """Replicas of one kind, whatever the machine is that builds this."""
    if kind == "gpu":
        actor = {"num_gpus": 1, "num_cpus": 1}
        return engines("EngineGpu", settings, actor, MOST_REPLICAS)
    there = settings.model_copy(update={"device": "cpu"})
    actor = {"num_cpus": settings.num_threads or 1}
    return engines("EngineCpu", there, actor, MOST_REPLICAS)


def this_kind(settings: Settings) -> Application:
    """Replicas as the plan for this machine has them, were one alone on it."""
    return kind_on(Deployment.look(settings.model_copy(update={"workers": "1"})), settings)


def kind_on(here: Deployment, settings: Settings) -> Application:
    """Replicas as the first plan `here` has them."""
    actor = {"num_cpus": here.plan.num_threads.value}
    if here.plan.device_uuid:
        actor = {"num_gpus": 1, "num_cpus": 1}
    return engines("Engine", settings, actor, MOST_REPLICAS)
